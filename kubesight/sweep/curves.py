"""The curves of a sweep's trials, read from what their trainings keep: `FOLDER/TRIAL/metrics.jsonl`."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

HISTORY_FILE = "metrics.jsonl"
"""One evaluation a line, in the output folder of each training."""


def curve_of(records: Iterable[Mapping[str, Any]], metric: str) -> list[float]:
    """The values of a metric, in order.

    An evaluation without the metric, or with one that is no finite number, is left out: as in the hosted services, an
    interval is a report of the metric, not an epoch.
    """
    return [float(record[metric]) for record in records if _is_finite(record.get(metric))]


def read_curves(folder: Path, metric: str) -> dict[str, list[float]]:
    """Read all curves at once; see `CurveReader.read`."""
    return CurveReader(folder, metric).read()


@dataclass
class _File:
    """How far a trial's file has been read."""

    identity: tuple[int, int] = (0, 0)
    offset: int = 0
    curve: list[float] = field(default_factory=list)
    damaged: bool = False


class CurveReader:
    """Reads the curves of a sweep again and again, each time only what was added.

    Args:
        folder: the folder that holds a folder for each trial; it may be missing yet.
        metric: the metric whose values make the curves.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self.metric = metric
        self._files: dict[str, _File] = {}

    def read(self) -> dict[str, list[float]]:
        """Each trial's values so far, by the name of its folder.

        A last line without an end is still being written and is left for the next time. A trial without a value, or
        whose file has a line that is no JSON object, has no curve: its intervals could not be counted.
        """
        try:
            trials = sorted(entry.name for entry in self.folder.iterdir())
        except OSError:
            trials = []
        self._files = {trial: self._read_on(trial) for trial in trials}
        return {trial: list(file.curve) for trial, file in self._files.items() if file.curve and not file.damaged}

    def _read_on(self, trial: str) -> _File:
        file = self._files.get(trial, _File())
        try:
            with open(self.folder / trial / HISTORY_FILE, "rb") as stream:
                file = self._same(file, stream.fileno())
                stream.seek(file.offset)
                added = stream.read()
        except OSError:
            return _File()
        whole = added[: added.rfind(b"\n") + 1]
        file.offset += len(whole)
        try:
            records = [orjson.loads(line) for line in whole.splitlines()]
            file.curve += curve_of(records, self.metric)
        except (orjson.JSONDecodeError, AttributeError):
            file.damaged = True
        return file

    @staticmethod
    def _same(file: _File, descriptor: int) -> _File:
        """What is known of the file; nothing when it is another one now, as after a training has resumed."""
        now = os.fstat(descriptor)
        identity = (now.st_dev, now.st_ino)
        return file if file.identity == identity and now.st_size >= file.offset else _File(identity)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
