"""What a training process tells of itself: metric lines for Katib's collector, and `metrics.jsonl`."""

import math
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from kubesight.errors import ModelError
from kubesight.storage.files import atomic_file

# Of an evaluation's record, what is no metric.
_NOT_TOLD = ("epoch", "seconds", "images_per_second")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def metric_line(epoch: int, metrics: dict[str, float], *, now: datetime | None = None) -> str:
    """One evaluation as a line: `2026-01-02T15:04:05.123456Z epoch=3 accuracy=0.912 validation_loss=0.31`.

    Values are fixed-point, since some collectors read `9.8e-05` as 9.8; one that is not finite is left out.

    Raises:
        ModelError: a name has a character that Katib's collector does not read.
    """
    stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    words = [stamp, f"epoch={epoch}"]
    for name, value in metrics.items():
        if not _NAME.fullmatch(name):
            raise ModelError(f"metric name {name!r} has characters outside A-Z, a-z, 0-9, _ and -")
        if math.isfinite(value):
            words.append(f"{name}={value:.9f}".rstrip("0").rstrip("."))
    return " ".join(words)


def tell_again(history: Path, lines: Path | None) -> None:
    """Tell of a finished training once more, where its metrics file lacks evaluations that `metrics.jsonl` holds."""
    if lines is not None and history.exists():
        file = _MetricsFile(lines)
        for line in history.read_bytes().splitlines():
            file.write(_line_of(orjson.loads(line)))


class MetricLog:
    """Appends evaluations to `metrics.jsonl`, and lines to the metrics file.

    A metrics file tells of each evaluation exactly once, however often the training was interrupted: collectors count
    lines. What it holds already is not written again, and what it lacks (the file of a new pod) is.

    Args:
        history: `metrics.jsonl`.
        lines: the metrics file; None is standard output.
        past: the evaluations that the checkpoint knows of; the history is cut back to them, so that an evaluation
            made just before the process was killed is not listed twice.
    """

    def __init__(self, history: Path, lines: Path | None, past: list[dict[str, Any]]) -> None:
        """Write the history anew from what the checkpoint knows."""
        self.history = history
        with atomic_file(history) as stream:
            stream.writelines(orjson.dumps(record) + b"\n" for record in past)
        self.lines = None if lines is None else _MetricsFile(lines)
        if self.lines is not None:
            for record in past:
                self.lines.write(_line_of(record))

    def append(self, record: dict[str, Any]) -> None:
        """Add one evaluation.

        Args:
            record: `epoch`, how fast it went, and the metrics, which go on the metric line.
        """
        with open(self.history, "ab") as stream:
            stream.write(orjson.dumps(record) + b"\n")
        line = _line_of(record)
        if self.lines is None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        else:
            self.lines.write(line)


def _line_of(record: dict[str, Any]) -> str:
    told = {name: value for name, value in record.items() if name not in _NOT_TOLD and value is not None}
    return metric_line(record["epoch"], told)


class _MetricsFile:
    """A file of metric lines that holds none twice, whenever it was written."""

    def __init__(self, path: Path) -> None:
        """Read what it holds, when it is there."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of a pipe or a terminal nothing can be read back.
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        self._told = {line.partition(" ")[2] for line in lines}

    def write(self, line: str) -> None:
        """Add a line, unless it is there with another time."""
        what = line.partition(" ")[2]
        if what not in self._told:
            self._told.add(what)
            with open(self.path, "a", encoding="utf-8") as text:
                text.write(line + "\n")
