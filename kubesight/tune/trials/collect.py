"""Metric lines as Katib's StdOut and File collectors read them, while the trial is still writing.

Three things differ from Katib, for whom they are accidents. A value that is not finite (Katib's own filter matches
`loss=nan` with an empty value, which ends its collector when an early-stopping rule looks at it) is a report without a
number. A trial that reported no number at all succeeds, as in Katib, but is never the best one, which there it becomes.
And a line that is not JSON, on which Katib's collector dies for ever, makes the metrics unavailable.
"""

import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kubesight.errors import JobError

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Collector

log = logging.getLogger("kubesight")

DEFAULT_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
"""Katib's own filter: the name is the first group, the value the second."""

_FILTERS_FIELD = "spec.metricsCollectorSpec.source.filter.metricsFormat"
_NOT_HERE = {
    "TensorFlowEvent": "reads TensorFlow's event files",
    "PrometheusMetric": "asks a web server inside the pod",
    "Custom": "is a container of its own",
    "Push": "writes to Katib's data base",
    "None": "collects nothing",
}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_LONGEST_LINE = 2**20
_BLOCK = 2**20

# Python's words for which Go's RE2 has none, and Go's for which Python has none. A character class and an escaped
# character are passed over as a whole, so that a bracket or a plus inside them is not taken for syntax.
_CONSTRUCTS = re.compile(
    r"(?P<named>\(\?<(?=[A-Za-z_]))|(?P<refused>\(\?(?:[=!>#(]|<[=!]|P=)|\\[1-9pPCQzZ]|(?:[*+?]|\{\d+,?\d*\})\+)"
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\\.",
    re.DOTALL,
)


class Report(NamedTuple):
    """One metric on one line; `value` is None when it is no finite number, `time` when the line has none."""

    name: str
    value: float | None
    time: datetime | None = None


class BrokenLog(Exception):
    """A line that a JSON collector cannot read: Katib takes nothing from such a file."""


def check_collector(collector: "Collector") -> None:
    """Refuse what cannot be collected here.

    Raises:
        JobError: another kind than StdOut and File, or a filter that cannot be used.
    """
    if collector.kind not in ("StdOut", "File"):
        how = _NOT_HERE.get(collector.kind, "is not one of Katib's")
        raise JobError(
            f"a {collector.kind} collector {how}, which is not done on this machine",
            where="spec.metricsCollectorSpec.collector.kind",
            hint="Print `name=value` lines and collect by StdOut, or write them to a file and collect by File.",
        )
    for text in collector.filters:
        compile_filter(text)


def compile_filter(text: str) -> re.Pattern[str]:
    r"""A metricsFormat as Go's RE2 means it: `\d`, `\w` and `\s` are ASCII.

    Raises:
        JobError: it does not compile, has no two groups, or uses what only one of Go and Python knows.
    """

    def translated(found: re.Match[str]) -> str:
        if found["refused"]:
            raise JobError(
                f"{found['refused']!r} in the filter {text!r} does not mean the same to Katib and here",
                where=_FILTERS_FIELD,
                hint="Write it without look-around, back references, possessive repeats and Unicode classes.",
            )
        if "[:" in found[0]:
            raise JobError(
                f"the filter {text!r} has a class such as [:alpha:]",
                where=_FILTERS_FIELD,
                hint="Write the characters out, such as [A-Za-z].",
            )
        return "(?P<" if found["named"] else found[0]

    try:
        pattern = re.compile(_CONSTRUCTS.sub(translated, text), re.ASCII)
    except re.error as error:
        raise JobError(f"the filter {text!r} is no regular expression: {error}", where=_FILTERS_FIELD) from error
    if pattern.groups < 2:
        raise JobError(
            f"the filter {text!r} has {pattern.groups} groups",
            where=_FILTERS_FIELD,
            hint="The first group is the metric's name, the second its value.",
        )
    return pattern


class LineReader:
    """Finds the metrics on a line.

    Args:
        collector: whose format and filters.
        metrics: the names that are wanted; others are passed over.
    """

    def __init__(self, collector: "Collector", metrics: Sequence[str]) -> None:
        """Compile the filters.

        Raises:
            JobError: a filter cannot be used.
        """
        self.metrics = tuple(metrics)
        self._json = collector.format == "JSON"
        self._patterns = [compile_filter(text) for text in collector.filters or (DEFAULT_FILTER,)]
        self._warned = False

    def read(self, line: str) -> list[Report]:
        """The reports of one line, in their order.

        Raises:
            BrokenLog: the format is JSON, the line is not.
        """
        return self._read_json(line) if self._json else self._read_text(line)

    def _read_text(self, line: str) -> list[Report]:
        # As in Katib, and because most lines of a log hold no metric.
        if not any(name in line for name in self.metrics):
            return []
        first, space, _ = line.partition(" ")
        time = parse_time(first) if space else None
        return [
            Report(name, number(found[2] or ""), time)
            for pattern in self._patterns
            for found in pattern.finditer(line)
            if (name := (found[1] or "").strip()) in self.metrics
        ]

    def _read_json(self, line: str) -> list[Report]:
        if not line:
            return []
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BrokenLog(line) from error
        if not isinstance(values, dict | None):
            raise BrokenLog(line)
        values = values or {}
        self._warn_of_numbers(values)
        time = _json_time(values.get("timestamp"))
        found = ((name, values.get(name)) for name in self.metrics)
        return [Report(name, number(value), time) for name, value in found if isinstance(value, str)]

    def _warn_of_numbers(self, values: Mapping[str, Any]) -> None:
        """Say once that a number is passed over: Katib takes strings alone."""
        for name in self.metrics:
            if not self._warned and isinstance(values.get(name), int | float):
                self._warned = True
                log.warning(
                    "%s is written as a number (%s): Katib's JSON collector takes strings alone, so it is passed over; "
                    'write {"%s": "%s"}',
                    *(name, values[name], name, values[name]),
                )


@dataclass
class _Summary:
    """One metric of one trial."""

    least: float | None = None
    greatest: float | None = None
    latest: float | None = None
    time: datetime | None = None

    def add(self, report: Report) -> None:
        if report.value is not None:
            self.least = report.value if self.least is None else min(self.least, report.value)
            self.greatest = report.value if self.greatest is None else max(self.greatest, report.value)
        if _order(report.time) >= _order(self.time):
            self.latest, self.time = report.value, report.time


@dataclass
class Observation:
    """What a trial has reported: Katib's min, max and latest of every metric.

    The latest is the one with the latest time, and of equal times (a line without one comes before all) the last.
    """

    _summaries: dict[str, _Summary] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        """Take a report into account."""
        self._summaries.setdefault(report.name, _Summary()).add(report)

    def has(self, name: str) -> bool:
        """Whether a metric was reported, be it as `nan`."""
        return name in self._summaries

    def value(self, name: str, strategy: str) -> float | None:
        """A metric by its strategy (min, max or latest); None when it is no number."""
        return self.metrics().get(name, {}).get(strategy)

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """For each metric `min`, `max` and `latest`."""
        return {
            name: {"min": summary.least, "max": summary.greatest, "latest": summary.latest}
            for name, summary in self._summaries.items()
        }


class Tail:
    """Reads what is added to a file; an unfinished last line waits until it is complete.

    A file that is not there yet is empty, one that was written anew is read from its start.

    Attributes:
        renewals: how often it was written anew; what was read before that stands there no more.

    Args:
        path: the file.
        start: from which byte on.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        """Nothing is opened yet: many trials run at once, and files are few."""
        self.path = path
        self._position = start
        self._inode: int | None = None
        self._rest = b""
        self.renewals = 0

    def lines(self, *, final: bool = False) -> Iterator[str]:
        """The lines added since the last call.

        Args:
            final: nothing more will come, so that a last line without an end is one too.
        """
        try:
            with open(self.path, "rb") as stream:
                state = os.fstat(stream.fileno())
                if state.st_size < self._position or self._inode not in (None, state.st_ino):
                    self._position, self._rest = 0, b""
                    self.renewals += 1
                self._inode = state.st_ino
                stream.seek(self._position)
                yield from self._read(stream, state.st_size)
        except OSError:
            pass  # not there (yet), or its folder is gone: nothing was reported
        if final and self._rest:
            line, self._rest = self._rest, b""
            yield _decoded(line)

    def _read(self, stream: Any, end: int) -> Iterator[str]:
        """Lines up to the size that the file had, so that a fast writer does not hold us here."""
        while self._position < end and (block := stream.read(min(_BLOCK, end - self._position))):
            self._position += len(block)
            *lines, self._rest = (self._rest + block).split(b"\n")
            if len(self._rest) > _LONGEST_LINE:  # a progress bar that never ends its line
                lines, self._rest = [*lines, self._rest], b""
            yield from map(_decoded, lines)


def number(text: str) -> float | None:
    """A finite number, or None. `1_000` is none, as in Go."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def parse_time(text: str) -> datetime | None:
    """A time by RFC 3339 as Go reads it, or None."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # the 31st of February
        return None


def _json_time(value: Any) -> datetime | None:
    """RFC 3339 text, or seconds since 1970."""
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (OverflowError, ValueError, OSError):
            return None
    return None


def _order(time: datetime | None) -> float:
    return -math.inf if time is None else time.timestamp()


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace")
