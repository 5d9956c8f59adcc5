"""What is known of a trial, and the files of a sweep's folder that keep it.

```
experiment.yaml    what runs
status.json        its status in Katib's shape
suggestions.jsonl  one line a trial that was made: its number, name and assignments
trials.jsonl       one line a trial that has ended
clock.json         how long the sweep has been running, pauses between runs left out
best               a link to what the best trial's training left; status.json names that trial too
trials/NAME/       the trial's own folder: stdout.log, metrics.log, `process` (who it is), and what its command writes
```
A trial whose sweep was interrupted has no line in trials.jsonl, and runs again under its name in its folder.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from kubesight.errors import StorageError

EXPERIMENT_FILE = "experiment.yaml"
STATUS_FILE = "status.json"
SUGGESTIONS_FILE = "suggestions.jsonl"
TRIALS_FILE = "trials.jsonl"
BEST_LINK = "best"
TRIALS_FOLDER = "trials"

STDOUT_FILE = "stdout.log"
METRICS_FILE = "metrics.log"

Condition = Literal["Created", "Running", "Succeeded", "Failed", "Killed", "EarlyStopped", "MetricsUnavailable"]
"""Katib's conditions of a trial."""

ENDED = frozenset({"Succeeded", "Failed", "Killed", "EarlyStopped", "MetricsUnavailable"})
OBSERVED = frozenset({"Succeeded", "EarlyStopped"})
"""Trials whose metrics Katib reads; those of a failed or killed one it never looks at."""

FAILED = frozenset({"Failed", "MetricsUnavailable"})
"""What counts against maxFailedTrialCount."""


class Trial(msgspec.Struct):
    """One trial: what was tried, how it went, what came out.

    Attributes:
        name: `<experiment>-<8 characters>`.
        number: its place in the order of making, from 0.
        assignments: the value of every parameter, as text.
        condition: Katib's condition.
        reason: why it is in that condition, one word: `BackoffLimitExceeded`, `DeadlineExceeded`, the policy that
            stopped it, or what ended the sweep.
        started: when its command was started first, RFC 3339.
        ended: when it ended.
        seconds: how long its command ran, all attempts together; those of interrupted runs of the sweep do not count.
        attempts: how often its command was started, counted likewise.
        exit_code: of the last attempt; minus the signal's number when a signal ended it.
        metrics: for each metric that it printed `min`, `max` and `latest`; None where no finite number was printed.
        value: the objective by its strategy. Only of trials whose metrics Katib reads, so that the best trial is one
            that went well.
        curve: the objective's finite values in the order they were reported.
        epochs: how many those are.
        decisions: what the early-stopping policy said, one mapping an interval.
        cache_hits: how often frozen features or pictures were found ready, as far as the trial tells.
        folder: its own folder, absolute.
        output: the folder that its training writes to, absolute; empty: its own.
    """

    name: str
    number: int
    assignments: dict[str, str]
    condition: Condition = "Created"
    reason: str = ""
    started: str | None = None
    ended: str | None = None
    seconds: float = 0.0
    attempts: int = 0
    exit_code: int | None = None
    metrics: dict[str, dict[str, float | None]] = {}
    value: float | None = None
    curve: list[float] = []
    epochs: int = 0
    decisions: list[dict[str, Any]] = []
    cache_hits: int = 0
    folder: str = ""
    output: str = ""

    @property
    def results(self) -> Path:
        """Where its training leaves its files: the model, its decisions, its cache hits."""
        return Path(self.output or self.folder)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.condition in ENDED


class Suggestion(msgspec.Struct):
    """A trial that was made, and when: all that is needed to draw the same trials again.

    Attributes:
        number: from 0.
        name: the trial's.
        assignments: what the sampler gave.
        told: how many ended trials the sampler knew of.
    """

    number: int
    name: str
    assignments: dict[str, str]
    told: int


Record = TypeVar("Record", Trial, Suggestion)


def append_record(path: Path, record: Trial | Suggestion) -> None:
    """Add one line.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    line = msgspec.json.encode(record) + b"\n"
    try:
        with open(path, "ab") as stream:
            stream.write(line)
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(error.filename or path)) from error


def read_records(path: Path, kind: type[Record], *, repair: bool = False) -> list[Record]:
    """The lines of a file, oldest first; none when there is no file.

    A last line without an end is being written, or what a killed process left; it does not count.

    Args:
        path: the file.
        kind: what its lines are.
        repair: cut such an end off the file; for the one process that writes it.

    Raises:
        StorageError: another line is broken, or the file cannot be read.
    """
    try:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if repair and whole < len(data):
            os.truncate(path, whole)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(path)) from error
    decoder = msgspec.json.Decoder(kind)
    found = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            found.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise StorageError(
                f"not a record of a sweep: {error}",
                where=f"{path}, line {number}",
                hint="Remove that line; a trial that is missing here is run again.",
            ) from error
    return found


def read_trials(output: Path, *, repair: bool = False) -> list[Trial]:
    """The ended trials of a sweep's folder, in the order in which they ended.

    Args:
        output: the folder.
        repair: see `read_records`.

    Raises:
        StorageError: a line is broken, or the file cannot be read.
    """
    return read_records(output / TRIALS_FILE, Trial, repair=repair)


def trial_name(experiment: str, number: int) -> str:
    """`<experiment>-<8 characters>`, the same for a name and number always, and another for every number.

    Katib draws the characters at random; here a sweep that goes on must find its trials again.
    """
    mark = sha256(f"{experiment}/{number}".encode()).hexdigest()[:5]
    return f"{experiment}-{mark}{_base36(number):0>3}"


def best_of(trials: Sequence[Trial], *, maximize: bool) -> Trial | None:
    """The trial with the best objective; of equals the one that was made first. None when none has a value."""
    sign = -1 if maximize else 1
    scored = [trial for trial in trials if trial.value is not None]
    return min(scored, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
