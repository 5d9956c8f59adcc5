"""What ends a sweep: Katib's counts and goal, and the limits that Katib has no field for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesight.sweep.progress import stalled
from kubesight.tune.records import FAILED, Trial, best_of

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment


@dataclass(frozen=True)
class Ending:
    """Why a sweep is over.

    Attributes:
        reason: one word, as in the Experiment's last condition: Katib's own, or `ExperimentTimeout`,
            `ExperimentNotImproving` for the limits that Katib has no field for.
        message: a sentence.
        succeeded: whether the Experiment is Succeeded; it is Failed otherwise.
    """

    reason: str
    message: str
    succeeded: bool = True


SUGGESTION_END = Ending(
    "ExperimentSuggestionEndReached", "Experiment has succeeded because suggestion service has reached the end"
)
"""The space is exhausted, and every trial has ended."""


def ending_of(experiment: "Experiment", ended: Sequence[Trial], *, seconds: float = 0.0) -> Ending | None:
    """Why the sweep is over, or None while it goes on.

    As in Katib the goal comes first, then the failures, then the number of trials, in which every ended trial counts
    however it ended. Two things are by Katib's code rather than its words: trials without metrics count as failed, and
    a maximum of 0 failures fails the sweep at the first one, like a maximum of 1.

    Args:
        experiment: whose limits.
        ended: trials that have ended, in the order in which they did.
        seconds: how long the sweep has been running.
    """
    failed = sum(trial.condition in FAILED for trial in ended)
    limits, best = experiment.limits, best_of(ended, maximize=experiment.maximize)
    if best is not None and best.value is not None and _reached(experiment, best.value):
        return Ending("ExperimentGoalReached", f"{best.name} has reached the goal of {experiment.goal:g}")
    if experiment.max_failed is not None and failed >= max(1, experiment.max_failed):
        message = f"{failed} trials have failed; maxFailedTrialCount is {experiment.max_failed}"
        return Ending("ExperimentFailed", message, succeeded=False)
    if experiment.max_trials is not None and len(ended) >= experiment.max_trials:
        return Ending("ExperimentMaxTrialsReached", f"{len(ended)} trials have ended")
    if limits.timeout_seconds is not None and seconds >= limits.timeout_seconds:
        return Ending("ExperimentTimeout", f"the sweep has had its {limits.timeout_seconds:g} seconds")
    why = stalled(
        [trial.value for trial in ended],
        maximize=experiment.maximize,
        no_improvement_trials=limits.no_improvement_trials,
        convergence=limits.convergence,
    )
    return Ending("ExperimentNotImproving", why) if why else None


def _reached(experiment: "Experiment", value: float) -> bool:
    if experiment.goal is None:
        return False
    return value >= experiment.goal if experiment.maximize else value <= experiment.goal
