"""What every reader is given: the source, the user's options, and a place for findings."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from kubesight.dataset.report import Finding, Report, Severity
from kubesight.errors import DatasetError

T = TypeVar("T")

COMMON_OPTIONS: Mapping[str, str] = {
    "images": "folder or URL prefix that picture names are relative to",
    "trust_sizes": "true: take picture sizes from the annotations and open no picture, nor check that it exists",
    "classes": "comma-separated names of the only classes to accept; other labels are dropped and reported",
}

# All that msgspec raises for bytes that are not JSON: also for bytes that are not UTF-8, and for a million brackets.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Problem(NamedTuple):
    """What is wrong with one annotation, before its file and line are known."""

    severity: Severity
    reason: str
    message: str


@dataclass(frozen=True)
class Reading:
    """One source to read, what the user asked for, and where findings go.

    `url_prefixes` maps the beginning of a picture's name to what it is replaced with; `check_images` decodes every
    picture; `progress` draws a bar on standard error.
    """

    source: Path
    report: Report
    options: Mapping[str, str] = field(default_factory=dict)
    url_prefixes: Mapping[str, str] = field(default_factory=dict)
    check_images: bool = False
    progress: bool = False

    def flag(self, name: str, default: bool = False) -> bool:
        """The truth of an option.

        Raises:
            DatasetError: it is neither true nor false.
        """
        value = self.options.get(name)
        if value is None:
            return default
        if value.strip().lower() not in _FLAGS:
            raise DatasetError(f"the option {name} is {value!r}", hint="Write true or false.")
        return _FLAGS[value.strip().lower()]

    @property
    def accepted(self) -> frozenset[str] | None:
        """The only classes that the user wants, or None for any."""
        names = self.options.get("classes")
        return frozenset(name.strip() for name in names.split(",")) if names else None

    def note(
        self,
        problem: Problem,
        file: Path | str,
        line: int | None = None,
        *,
        subject: Literal["annotation", "image"] = "annotation",
        count: int = 1,
    ) -> None:
        """Keep a finding about `count` annotations or images, at its place."""
        self.report.add(Finding(*problem, file=str(file), line=line, subject=subject, count=count))

    def track(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """Pass `items` through, drawing a bar on standard error when progress was asked for."""
        if not self.progress:
            yield from items
            return
        from rich.console import Console
        from rich.progress import track

        yield from track(items, what, total=total, console=Console(stderr=True))


def join_categories(sources: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The class names by id of several sources; an id that means different classes in them is left out."""
    names: dict[str, set[str]] = {}
    for source in sources:
        for key, name in source.items():
            names.setdefault(key, set()).add(name)
    return {key: known.pop() for key, known in names.items() if len(known) == 1}


def unknown_label(label: str, accepted: frozenset[str] | None) -> Problem | None:
    """A problem when `label` is empty or not among the accepted classes."""
    if not label:
        return Problem("dropped", "empty_label", "the label is empty")
    if accepted is not None and label not in accepted:
        return Problem("dropped", "unknown_label", f"the label {label!r} is not among the accepted classes")
    return None
