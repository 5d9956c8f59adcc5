"""A sweep's status in the shape of Katib's `Experiment.status`."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubesight.tune.limits import Ending
from kubesight.tune.records import Trial, best_of

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment

UNAVAILABLE = "unavailable"
"""Katib's text for a metric that has no number."""

# Katib's names: the list's, the number's.
_LISTS = {
    "Created": ("pendingTrialList", "trialsPending"),
    "Running": ("runningTrialList", "trialsRunning"),
    "Succeeded": ("succeededTrialList", "trialsSucceeded"),
    "Failed": ("failedTrialList", "trialsFailed"),
    "Killed": ("killedTrialList", "trialsKilled"),
    "EarlyStopped": ("earlyStoppedTrialList", "trialsEarlyStopped"),
    "MetricsUnavailable": ("metricsUnavailableTrialList", "trialMetricsUnavailable"),
}


def status_of(
    experiment: "Experiment",
    trials: Sequence[Trial],
    *,
    started: str | None = None,
    now: str | None = None,
    ending: Ending | None = None,
) -> dict[str, Any]:
    """The status of an Experiment with these trials.

    Args:
        experiment: whose objective says which trial is the best one.
        trials: all that were made.
        started: when the sweep was started first, RFC 3339; None: when its first trial was.
        now: the present time; None asks the clock.
        ending: why the sweep is over; None while it runs, and after an interruption.
    """
    now = now or rfc3339()
    started = started or min((trial.started for trial in trials if trial.started), default=now)
    status: dict[str, Any] = {
        "startTime": started,
        **({"completionTime": now} if ending else {}),
        "lastReconcileTime": now,
        "conditions": list(_conditions(started, now, ending)),
        "trials": len(trials),
    }
    best = best_of(trials, maximize=experiment.maximize)
    if best is not None:
        status["currentOptimalTrial"] = _optimal(experiment, best)
    for condition, (names, count) in _LISTS.items():
        found = [trial.name for trial in trials if trial.condition == condition]
        status[count] = len(found)
        if found:
            status[names] = found
    return status


def rfc3339(*, microseconds: bool = False) -> str:
    """The present time as Kubernetes writes it, in whole seconds unless microseconds are wanted."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if microseconds else "%Y-%m-%dT%H:%M:%SZ")


def _conditions(started: str, now: str, ending: Ending | None) -> Iterable[dict[str, str]]:
    yield _condition("Created", "True", "ExperimentCreated", "Experiment is created", started)
    running = "False" if ending else "True"
    yield _condition("Running", running, "ExperimentRunning", "Experiment is running", now if ending else started)
    if ending:
        kind = "Succeeded" if ending.succeeded else "Failed"
        yield _condition(kind, "True", ending.reason, ending.message, now)


def _condition(kind: str, status: str, reason: str, message: str, time: str) -> dict[str, str]:
    return {
        **{"type": kind, "status": status, "reason": reason, "message": message},
        **{"lastUpdateTime": time, "lastTransitionTime": time},
    }


def _optimal(experiment: "Experiment", best: Trial) -> dict[str, Any]:
    """The best trial; its metrics are texts, as everywhere in Katib."""
    wanted = [experiment.metric, *experiment.additional_metrics]
    missing: dict[str, float | None] = {}
    return {
        "bestTrialName": best.name,
        "parameterAssignments": [{"name": name, "value": value} for name, value in best.assignments.items()],
        "observation": {
            "metrics": [
                {
                    "name": name,
                    **{key: _text(best.metrics.get(name, missing).get(key)) for key in ("min", "max", "latest")},
                }
                for name in wanted
            ]
        },
    }


def _text(value: float | None) -> str:
    return UNAVAILABLE if value is None else repr(value)
