"""A sweep's folder: one runner at a time, one Experiment for ever."""

import copy
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import orjson
import yaml

from kubesight.errors import JobError, StorageError
from kubesight.storage.files import atomic_file, read_json, write_json
from kubesight.sweep.names import CONDITIONS_ANNOTATION
from kubesight.tune.records import BEST_LINK, EXPERIMENT_FILE, STATUS_FILE, SUGGESTIONS_FILE, TRIALS_FOLDER, Trial

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment

log = logging.getLogger("kubesight")

LOCK_FILE = ".lock"
CLOCK_FILE = "clock.json"

_MAY_CHANGE = ("parallelTrialCount", "maxTrialCount", "maxFailedTrialCount")


class SweepFolder:
    """The folder of one sweep, held while the block runs.

    Attributes:
        path: absolute.
        started: when the sweep was started first; None before that.
        completed: when it was over, should it have been; None otherwise.
        is_new: whether nothing was run here yet.
    """

    def __init__(self, path: Path, experiment: "Experiment") -> None:
        """Nothing is touched before the block is entered."""
        self.path = path.absolute()
        self._experiment = experiment
        self._lock: IO[bytes] | None = None
        self._before = 0.0
        self._since = time.monotonic()
        self.started: str | None = None
        self.completed: str | None = None
        self.is_new = True

    def __enter__(self) -> Self:
        """Hold the folder, and see that it is this Experiment's.

        Raises:
            JobError: another runner is at work here, the Experiment is another one, or the folder is something else.
            StorageError: it cannot be read or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / LOCK_FILE, "ab")
        except OSError as error:
            raise StorageError(error.strerror or str(error), where=str(error.filename)) from error
        try:
            self._take_lock()
            self._check_same()
            self._read_clock()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.close()

    @property
    def seconds(self) -> float:
        """How long the sweep has been running, earlier runs of it included, pauses between them not."""
        return self._before + time.monotonic() - self._since

    def trial_folder(self, name: str) -> Path:
        """A trial's own folder; it need not exist."""
        return self.path / TRIALS_FOLDER / name

    def write_status(self, status: dict[str, Any], best: Trial | None) -> None:
        """Put `status.json`, the clock and the link to the best trial in place.

        Raises:
            StorageError: the disk is full.
        """
        write_json(self.path / STATUS_FILE, status)
        write_json(self.path / CLOCK_FILE, {"seconds": round(self.seconds, 3)})
        if best is not None:
            self._link(best)

    def _take_lock(self) -> None:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JobError(
                "another sweep is running in this folder",
                where=str(self.path),
                hint="Wait for it or end it; or name another --output.",
            ) from error

    def _check_same(self) -> None:
        path = self.path / EXPERIMENT_FILE
        self.is_new = not (path.exists() and (self.path / SUGGESTIONS_FILE).exists())
        if self.is_new:  # or nothing was started, since the Experiment could not be run
            self._write_experiment(path)
            return
        try:
            earlier = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise StorageError(f"cannot be read: {error}", where=str(path)) from error
        differing = list(differences(_identity(earlier), _identity(self._experiment.document)))
        if differing:
            more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise JobError(
                f"this folder holds a sweep of another Experiment: {'; '.join(differing[:3])}{more}",
                where=str(self.path),
                hint="Name another --output. Only the counts and the limits of a sweep may change while it goes on.",
            )
        if earlier != self._experiment.document:
            self._write_experiment(path)

    def _write_experiment(self, path: Path) -> None:
        # Through JSON, since YAML would write a text that occurs twice as a reference.
        document = orjson.loads(orjson.dumps(self._experiment.document))
        with atomic_file(path, "w") as stream:
            yaml.safe_dump(document, stream, sort_keys=False, width=120, allow_unicode=True)

    def _read_clock(self) -> None:
        if (self.path / STATUS_FILE).exists():
            status = read_json(self.path / STATUS_FILE)
            self.started, self.completed = status.get("startTime"), status.get("completionTime")
        if (self.path / CLOCK_FILE).exists():
            self._before = read_json(self.path / CLOCK_FILE)["seconds"]

    def _link(self, best: Trial) -> None:
        """Point `best` at what a training left; relative inside the sweep's folder, so that the whole can be moved."""
        place = best.results if best.results.is_dir() else self.trial_folder(best.name)
        inside = place.is_relative_to(self.path)
        target, link = str(place.relative_to(self.path) if inside else place), self.path / BEST_LINK
        try:
            if link.is_symlink() and os.readlink(link) == target:
                return
            temporary = self.path / f".{BEST_LINK}.partial"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            temporary.replace(link)
        except OSError as error:  # a file system without links; status.json names the best trial too
            log.warning("%s cannot be a link to %s: %s", link, target, error.strerror)


def differences(earlier: Any, now: Any, where: str = "") -> Iterator[str]:
    """The fields in which two documents differ, as `spec.objective.goal: was 0.9, now 0.95`."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in {**earlier, **now}:
            yield from differences(earlier.get(key), now.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        for index, (one, other) in enumerate(zip(earlier, now, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif earlier != now:
        yield f"{where}: was {_short(earlier)}, now {_short(now)}"


def _identity(document: dict[str, Any]) -> dict[str, Any]:
    """What must stay as it is while a sweep goes on: all that the sampler and the trials see."""
    metadata = document.get("metadata") or {}
    conditions = (metadata.get("annotations") or {}).get(CONDITIONS_ANNOTATION)
    spec = copy.deepcopy(document.get("spec") or {})
    for key in _MAY_CHANGE:
        spec.pop(key, None)
    return {
        "metadata": {"name": metadata.get("name"), "annotations": {CONDITIONS_ANNOTATION: conditions}},
        "spec": spec,
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
