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


class MetricLog:
    """Appends evaluations to `metrics.jsonl`, and lines to the metrics file.

    Args:
        history: `metrics.jsonl`.
        lines: the metrics file; None is standard output.
        past: the evaluations that the checkpoint knows of; the history is cut back to them, so that an evaluation
            made just before the process was killed is not listed twice.
    """

    def __init__(self, history: Path, lines: Path | None, past: list[dict[str, Any]]) -> None:
        """Write the history anew from what the checkpoint knows."""
        self.history = history
        self.lines = lines
        with atomic_file(history) as stream:
            stream.writelines(orjson.dumps(record) + b"\n" for record in past)

    def append(self, record: dict[str, Any], metrics: dict[str, float]) -> None:
        """Add one evaluation.

        Args:
            record: what goes into `metrics.jsonl`; `epoch` among it.
            metrics: what goes on the metric line.
        """
        with open(self.history, "ab") as stream:
            stream.write(orjson.dumps(record) + b"\n")
        line = metric_line(record["epoch"], metrics) + "\n"
        if self.lines is None:
            sys.stdout.write(line)
            sys.stdout.flush()
        else:
            self.lines.parent.mkdir(parents=True, exist_ok=True)
            with open(self.lines, "a", encoding="utf-8") as text:
                text.write(line)
