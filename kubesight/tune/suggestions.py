"""The trials that a sampler gives, written down one by one, so that a sweep that goes on draws the same ones."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubesight.errors import JobError
from kubesight.tune.records import (
    EXPERIMENT_FILE,
    OBSERVED,
    SUGGESTIONS_FILE,
    TRIALS_FILE,
    Suggestion,
    Trial,
    append_record,
    read_records,
    read_trials,
    trial_name,
)
from kubesight.tune.sampling.sampler import Sampler
from kubesight.tune.sampling.space import Observation

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment

log = logging.getLogger("kubesight")


class Suggestions:
    """A sweep's trials, drawn as they are needed.

    A sampler knows what it drew and what came of it, in that order; both are in the folder's files, and are gone
    through again when a sweep goes on. Should the sampler draw otherwise than it did (another version of its library),
    it learns from what is known as from another sweep's trials instead.

    Attributes:
        made: all that were drawn, oldest first.
    """

    def __init__(
        self, experiment: "Experiment", output: Path, ended: Sequence[Trial], history: Sequence[Observation] = ()
    ) -> None:
        """Bring the sampler to where it was.

        Args:
            experiment: whose space and algorithm.
            output: the sweep's folder.
            ended: its ended trials, in the order in which they ended.
            history: what earlier sweeps have found out.
        """
        self._experiment = experiment
        self._path = output / SUGGESTIONS_FILE
        self._told = len(ended)
        self.made = read_records(self._path, Suggestion, repair=True)
        self._sampler = Sampler(experiment, history=history)
        if not self._replay(ended):
            log.warning("the sampler draws other trials than it did before; it goes on from what the ended ones tell")
            self._sampler = Sampler(experiment, history=[*history, *_observations(ended)])

    def next(self) -> Suggestion | None:
        """Draw one more trial; None when the space is exhausted.

        Raises:
            StorageError: it cannot be written down.
        """
        number = len(self.made)
        assignments = self._sampler.ask(number)
        if assignments is None:
            return None
        name = trial_name(self._experiment.name, number)
        suggestion = Suggestion(number, name, dict(assignments), self._told)
        append_record(self._path, suggestion)
        self.made.append(suggestion)
        return suggestion

    def tell(self, trial: Trial) -> None:
        """A trial has ended: what it found out, or None."""
        self._sampler.tell(trial.number, trial.value)
        self._told += 1

    def forget(self) -> None:
        """None of them was ever started: the next run may be another Experiment's."""
        self._path.unlink(missing_ok=True)

    def _replay(self, ended: Sequence[Trial]) -> bool:
        told = 0
        for suggestion in self.made:
            for trial in ended[told : suggestion.told]:
                self._sampler.tell(trial.number, trial.value)
            told = max(told, suggestion.told)
            if self._sampler.ask(suggestion.number) != suggestion.assignments:
                return False
        for trial in ended[told:]:
            self._sampler.tell(trial.number, trial.value)
        return True


def warm_start(experiment: "Experiment", folders: Sequence[Path]) -> list[Observation]:
    """What earlier sweeps have found out.

    Raises:
        JobError: a folder holds no sweep, or one for another objective.
        StorageError: it cannot be read.
    """
    from kubesight.tune.katib.experiment import read_experiment

    found = []
    for folder in folders:
        if not (folder / TRIALS_FILE).is_file() or not (folder / EXPERIMENT_FILE).is_file():
            raise JobError(
                "no sweep was run here",
                where=str(folder),
                hint=f"Name the --output of one: it holds {EXPERIMENT_FILE} and {TRIALS_FILE}.",
            )
        earlier = read_experiment(folder / EXPERIMENT_FILE)
        if (earlier.metric, earlier.maximize) != (experiment.metric, experiment.maximize):
            raise JobError(
                f"this sweep was for {_objective(earlier)}, the new one is for {_objective(experiment)}",
                where=str(folder),
                hint="Warm start from sweeps with the same objective.",
            )
        found += _observations(read_trials(folder))
    return found


def _observations(trials: Sequence[Trial]) -> list[Observation]:
    return [
        Observation(trial.assignments, trial.value)
        for trial in trials
        if trial.condition in OBSERVED and trial.value is not None
    ]


def _objective(experiment: "Experiment") -> str:
    return f"{'greatest' if experiment.maximize else 'least'} {experiment.metric}"
