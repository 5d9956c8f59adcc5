"""What was read, what was repaired, what was dropped and why: one finding a row, with file and line."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import msgspec

from kubesight.errors import DatasetError
from kubesight.storage.files import read_json, write_json

REPORT_FILE = "report.json"

Severity = Literal["dropped", "repaired", "warning"]


class Finding(msgspec.Struct, omit_defaults=True):
    """One thing about the source that a person should know.

    `reason` is a short code (`degenerate_box`); `message` says it in words, with the values met; `count` is the number
    of annotations or images that it speaks of; `subject` says which of the two.
    """

    severity: Severity
    reason: str
    message: str
    file: str
    line: int | None = None
    subject: Literal["annotation", "image"] = "annotation"
    count: int = 1


class Report:
    """The findings of one reading, and the limit that stops it.

    Args:
        max_dropped: the share of images or of annotations, in [0, 1], above which `check` fails.
        strict: fail at the first thing dropped.
    """

    def __init__(self, *, max_dropped: float = 0.05, strict: bool = False) -> None:
        """Start with nothing read."""
        self.max_dropped = max_dropped
        self.strict = strict
        self.images_read = 0
        self.annotations_read = 0
        self.findings: list[Finding] = []
        self._dropped: Counter[str] = Counter()

    def add(self, finding: Finding) -> None:
        """Keep a finding.

        Raises:
            DatasetError: it is a drop, and `strict` was asked for.
        """
        self.findings.append(finding)
        if finding.severity == "dropped":
            self._dropped[finding.subject] += finding.count
            if self.strict:
                raise DatasetError(
                    f"{finding.message} ({finding.reason})",
                    where=f"{finding.file}, line {finding.line}" if finding.line else finding.file,
                    hint="Mend it, or run without --strict to drop it and go on.",
                )

    def dropped(self, subject: Literal["annotation", "image"]) -> int:
        """How many images or annotations were dropped."""
        return self._dropped[subject]

    def reasons(self) -> dict[str, dict[str, int]]:
        """Counts by severity and reason, in falling order."""
        counts: dict[str, Counter[str]] = {}
        for finding in self.findings:
            counts.setdefault(finding.severity, Counter())[finding.reason] += finding.count
        return {severity: dict(counter.most_common()) for severity, counter in counts.items()}

    def check(self) -> None:
        """Fail when more than `max_dropped` of the images or of the annotations were dropped.

        Raises:
            DatasetError: with the most frequent reason and its first place.
        """
        for subject, read in (("image", self.images_read), ("annotation", self.annotations_read)):
            dropped = self._dropped[subject]
            if read and dropped / read > self.max_dropped:
                worst = Counter[str]()
                for finding in self.findings:
                    if finding.severity == "dropped" and finding.subject == subject:
                        worst[finding.reason] += finding.count
                reason = worst.most_common(1)[0][0]
                first = next(f for f in self.findings if f.reason == reason and f.severity == "dropped")
                raise DatasetError(
                    f"{dropped} of {read} {subject}s would be dropped, over the limit of {self.max_dropped:.0%}; "
                    f"most for {reason}: {first.message}",
                    where=f"{first.file}, line {first.line}" if first.line else first.file,
                    hint="Mend the source, or allow more with --max-dropped.",
                )

    def to_dict(self) -> dict[str, Any]:
        """The report as `report.json` holds it."""
        return {
            "images_read": self.images_read,
            "annotations_read": self.annotations_read,
            "images_dropped": self._dropped["image"],
            "annotations_dropped": self._dropped["annotation"],
            "max_dropped": self.max_dropped,
            "reasons": self.reasons(),
            "findings": msgspec.to_builtins(self.findings),
        }

    def save(self, folder: Path) -> None:
        """Write `report.json`."""
        write_json(folder / REPORT_FILE, self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> "Report":
        """Read `report.json` back."""
        value = read_json(folder / REPORT_FILE)
        report = cls(max_dropped=value["max_dropped"])
        report.images_read, report.annotations_read = value["images_read"], value["annotations_read"]
        for finding in msgspec.convert(value["findings"], list[Finding]):
            report.add(finding)
        return report
