"""A sweep's folder, read for people: trials with their settings, the best one, what stopping early has saved."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from kubesight.errors import JobError, KubesightError
from kubesight.hyperparameters.table import find
from kubesight.models.names import find_model
from kubesight.sweep.names import DECISIONS_FILE
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.objects import Experiment
from kubesight.tune.records import (
    EXPERIMENT_FILE,
    STATUS_FILE,
    SUGGESTIONS_FILE,
    TRIALS_FOLDER,
    Condition,
    Suggestion,
    Trial,
    best_of,
    read_records,
    read_trials,
)
from kubesight.tune.report.settings import MODEL, Setting, Settings

_EPOCHS = "number_of_epochs"
_FREQUENCY = "evaluation_frequency"
_LISTED: tuple[tuple[str, Condition], ...] = (("runningTrialList", "Running"), ("pendingTrialList", "Created"))


@dataclass(frozen=True)
class Epochs:
    """Epochs of the trials that succeeded or were stopped early.

    Attributes:
        planned: what they would have taken, each run to its end.
        run: what they took.
        by_policy: what ending trials early has saved.
        by_themselves: what trials that ended before their planned end, without the policy, have saved.
        basis: where the planned number comes from, in words.
    """

    planned: int
    run: int
    by_policy: int
    by_themselves: int
    basis: str

    @property
    def share(self) -> float:
        """What ending trials early has saved, of what was planned."""
        return self.by_policy / self.planned if self.planned else 0.0


@dataclass(frozen=True)
class SweepRecord:
    """What is in a sweep's folder.

    Attributes:
        path: the folder.
        experiment: what ran.
        trials: the ended ones by number, then those that status.json lists as running or pending.
        status: in Katib's shape.
        settings: how to read assignments.
    """

    path: Path
    experiment: Experiment
    trials: list[Trial]
    status: dict[str, Any]
    settings: Settings
    columns: list[dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        """Read what every trial's assignments mean."""
        rows = [self.settings.of(trial.name, trial.assignments) if trial.assignments else {} for trial in self.trials]
        object.__setattr__(self, "columns", rows)

    @cached_property
    def best(self) -> Trial | None:
        """The trial with the best objective."""
        return best_of(self.trials, maximize=self.experiment.maximize)

    @property
    def swept(self) -> tuple[Setting, ...]:
        """The settings that differ between trials."""
        return self.settings.swept

    def column(self, setting: Setting) -> list[float | str | None]:
        """A setting of every trial: numbers where it has a range, else texts; None where a trial does not have it."""
        raw = [row.get(setting.name) for row in self.columns]
        numbers = [None if value is None else _number(value) for value in raw]
        whole = all((number is None) == (value is None) for number, value in zip(numbers, raw, strict=True))
        if setting.ranged and whole and not (setting.log and any(n is not None and n <= 0 for n in numbers)):
            return list(numbers)
        return list(raw)

    @cached_property
    def counts(self) -> Counter[str]:
        """Trials by condition."""
        return Counter(trial.condition for trial in self.trials)

    @property
    def state(self) -> tuple[str, str]:
        """The sweep's last condition and the reason for it: `Succeeded`, `ExperimentGoalReached`."""
        held = [each for each in self.status.get("conditions") or [] if str(each.get("status", "True")) == "True"]
        return (str(held[-1].get("type", "")), str(held[-1].get("reason") or "")) if held else ("", "")

    @property
    def wall_seconds(self) -> float | None:
        """From the start to the end of the sweep, or to the last thing that is known of it."""
        starts = [self.status.get("startTime"), *(trial.started for trial in self.trials)]
        ends = [self.status.get("completionTime"), *(trial.ended for trial in self.trials)]
        begun, done = [_time(t) for t in starts if t], [_time(t) for t in ends if t]
        return (max(done) - min(begun)).total_seconds() if begun and done else None

    @cached_property
    def epochs(self) -> Epochs | None:
        """What was run and saved; None when no trial that ended well has reported anything."""
        counted = [
            (trial, row)
            for trial, row in zip(self.trials, self.columns, strict=True)
            if trial.condition in ("Succeeded", "EarlyStopped") and trial.epochs
        ]
        if not counted:
            return None
        longest = max(trial.epochs for trial, _ in counted)
        plans = [_planned(row) if self.settings.ours else None for _, row in counted]
        run = planned = by_policy = by_themselves = 0
        for (trial, row), plan in zip(counted, plans, strict=True):
            whole = plan or longest
            done = min(whole, trial.epochs * (_whole(row.get(_FREQUENCY)) or 1)) if plan else trial.epochs
            run, planned = run + done, planned + whole
            if trial.condition == "EarlyStopped":
                by_policy += whole - done
            else:
                by_themselves += whole - done
        return Epochs(planned, run, by_policy, by_themselves, _basis(plans, longest))


def decisions_of(sweep: SweepRecord, trial: Trial) -> list[dict[str, Any]]:
    """What a policy decided on a trial: in its record when the runner judged, else in the file of its own training."""
    if trial.decisions:
        return trial.decisions
    found = []
    try:
        for line in (results_of(sweep, trial) / DECISIONS_FILE).read_bytes().splitlines():
            found.append(dict(orjson.loads(line)))
    except (OSError, ValueError, TypeError):
        return found  # no file, or a last line that a killed process left
    return found


def results_of(sweep: SweepRecord, trial: Trial) -> Path:
    """Where a trial's training left its files."""
    return Path(trial.output) if trial.output else folder_of(sweep, trial)


def folder_of(sweep: SweepRecord, trial: Trial) -> Path:
    """Where a trial's own files are: what it printed."""
    return Path(trial.folder) if trial.folder else sweep.path / TRIALS_FOLDER / trial.name


def read_sweep(path: Path) -> SweepRecord:
    """Read a sweep's folder, finished or not.

    Raises:
        JobError: there is no sweep, or its Experiment or status cannot be read.
        StorageError: a line of its trials is broken.
    """
    if not (path / EXPERIMENT_FILE).is_file():
        raise JobError("not a sweep's folder: it has no experiment.yaml", where=str(path))
    experiment = read_experiment(path / EXPERIMENT_FILE)
    status = _status(path / STATUS_FILE)
    trials = sorted(read_trials(path), key=lambda trial: trial.number)
    return SweepRecord(path, experiment, [*trials, *_unfinished(path, trials, status)], status, Settings(experiment))


def _unfinished(path: Path, trials: Sequence[Trial], status: dict[str, Any]) -> list[Trial]:
    """The trials that the status lists as running or pending, with what was drawn for them."""
    known = {trial.name for trial in trials}
    drawn = {each.name: each for each in read_records(path / SUGGESTIONS_FILE, Suggestion)}
    found: list[Trial] = []
    for key, condition in _LISTED:
        for name in status.get(key) or []:
            if name not in known:
                each = drawn.get(name, Suggestion(len(known) + len(found), str(name), {}, 0))
                folder = str(path / TRIALS_FOLDER / each.name)
                found.append(Trial(each.name, each.number, each.assignments, condition, folder=folder))
    return found


def _status(path: Path) -> dict[str, Any]:
    try:
        return dict(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise JobError(f"not a status: {error}", where=str(path)) from error


def _planned(row: dict[str, str]) -> int | None:
    """The epochs that a trial of ours was to take: as set, else its model's default."""
    if _EPOCHS in row:
        return _whole(row[_EPOCHS])
    try:
        spec = find_model(row[MODEL])
        return int(find(_EPOCHS).for_model(spec, sorted(spec.tasks)[0]).default)
    except (KubesightError, KeyError):
        return None


def _basis(plans: Sequence[int | None], longest: int) -> str:
    if all(plans):
        sizes = sorted({plan for plan in plans if plan})
        said = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        return f"planned are the {said} epochs of each trial's number_of_epochs"
    return (
        f"the command does not say how many epochs were planned: the longest curve, {longest}, is taken for what every "
        "trial was to report"
    )


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _whole(value: str | None) -> int | None:
    number = None if value is None else _number(value)
    return int(number) if number is not None and number >= 1 else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
