"""What ends a sweep, and its status; by hand."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from kubeflow_katib_api.models.v1beta1_experiment_status import V1beta1ExperimentStatus

from kubesight.tune.katib.experiment import ExtraLimits
from kubesight.tune.limits import Ending, ending_of
from kubesight.tune.records import Trial
from kubesight.tune.status import status_of


@dataclass
class Sweep:
    metric: str = "accuracy"
    maximize: bool = True
    goal: float | None = None
    additional_metrics: tuple[str, ...] = ()
    max_trials: int | None = None
    max_failed: int | None = None
    limits: ExtraLimits = field(default_factory=ExtraLimits)


def trials(*ends: Any) -> list[Trial]:
    """A number is a success with that value, a word a condition."""
    found = []
    for number, end in enumerate(ends):
        condition, value = (end, None) if isinstance(end, str) else ("Succeeded", end)
        found.append(Trial(f"t{number}", number, {"x": str(number)}, condition, value=value))
    return found


def reason(sweep: Sweep, *ends: Any, seconds: float = 0.0) -> str | None:
    ending = ending_of(sweep, trials(*ends), seconds=seconds)
    return ending and ending.reason


def test_nothing_ends_without_limits() -> None:
    assert reason(Sweep(), *[0.5, "Failed", "MetricsUnavailable", "Killed"] * 50, seconds=1e9) is None


@pytest.mark.parametrize(
    ("maximize", "values", "reached"),
    [(True, [0.5, 0.79], False), (True, [0.8, 0.1], True), (True, [0.9], True),
     (False, [0.81], False), (False, [0.9, 0.8], True), (False, [0.1], True)],
)  # fmt: skip
def test_goal(maximize: bool, values: list[float], reached: bool) -> None:
    found = reason(Sweep(goal=0.8, maximize=maximize), *values)
    assert found == ("ExperimentGoalReached" if reached else None)


@pytest.mark.parametrize(
    ("most", "ends", "failed"),
    [
        (2, ["Failed"], False),
        (2, ["Failed", "Failed"], True),
        (2, ["Failed", "MetricsUnavailable"], True),
        (2, ["Failed", "Killed", "EarlyStopped"], False),
        (0, [0.5, 0.5], False),
        (0, ["Failed"], True),
        (1, ["MetricsUnavailable"], True),
        (None, ["Failed"] * 100, False),
    ],
)
def test_failures(most: int | None, ends: list[Any], failed: bool) -> None:
    assert (reason(Sweep(max_failed=most), *ends) == "ExperimentFailed") is failed


def test_every_ended_trial_counts() -> None:
    ends = [0.5, "Failed", "Killed", "EarlyStopped", "MetricsUnavailable"]
    assert reason(Sweep(max_trials=6), *ends) is None
    assert reason(Sweep(max_trials=5), *ends) == "ExperimentMaxTrialsReached"


def test_the_goal_comes_before_failures_and_those_before_the_count() -> None:
    ends = (0.9, "Failed")
    assert reason(Sweep(goal=0.9, max_failed=1, max_trials=2), *ends) == "ExperimentGoalReached"
    assert reason(Sweep(goal=0.95, max_failed=1, max_trials=2), *ends) == "ExperimentFailed"
    assert reason(Sweep(goal=0.95, max_failed=2, max_trials=2), *ends) == "ExperimentMaxTrialsReached"


def test_time() -> None:
    sweep = Sweep(limits=ExtraLimits(timeout_seconds=60))
    assert reason(sweep, seconds=59.9) is None
    assert reason(sweep, seconds=60) == "ExperimentTimeout"


def test_no_improvement() -> None:
    sweep = Sweep(limits=ExtraLimits(no_improvement_trials=3))
    assert reason(sweep, 0.5, 0.6, 0.6, "Failed") is None
    assert reason(sweep, 0.5, 0.6, 0.6, "Failed", 0.5) == "ExperimentNotImproving"
    assert reason(sweep, 0.5, 0.6, 0.6, "Failed", 0.7) is None


def test_only_too_many_failures_fail_the_sweep() -> None:
    for sweep in (Sweep(goal=0.1), Sweep(max_trials=1), Sweep(limits=ExtraLimits(timeout_seconds=1))):
        ending = ending_of(sweep, trials(0.5), seconds=2)
        assert ending is not None
        assert ending.succeeded
    ending = ending_of(Sweep(max_failed=1), trials("Failed"))
    assert ending is not None
    assert not ending.succeeded
    assert "maxFailedTrialCount is 1" in ending.message


def test_status_of_every_condition() -> None:
    some = trials(0.5, "Failed", "Killed", "EarlyStopped", "MetricsUnavailable", "Running", "Created", 0.9, 0.9)
    for trial in some:
        trial.started = "2026-01-02T15:04:05.5Z"
    some[7].metrics = {"accuracy": {"min": 0.1, "max": 0.9, "latest": None}}
    status = status_of(Sweep(additional_metrics=("loss",)), some, now="2026-01-02T16:00:00Z")
    assert status["currentOptimalTrial"] == {
        "bestTrialName": "t7",  # of equals the first
        "parameterAssignments": [{"name": "x", "value": "7"}],
        "observation": {
            "metrics": [
                {"name": "accuracy", "min": "0.1", "max": "0.9", "latest": "unavailable"},
                {"name": "loss", "min": "unavailable", "max": "unavailable", "latest": "unavailable"},
            ]
        },
    }
    lists = {key: value for key, value in status.items() if key.endswith("List")}
    assert lists == {
        "succeededTrialList": ["t0", "t7", "t8"],
        "failedTrialList": ["t1"],
        "killedTrialList": ["t2"],
        "earlyStoppedTrialList": ["t3"],
        "metricsUnavailableTrialList": ["t4"],
        "runningTrialList": ["t5"],
        "pendingTrialList": ["t6"],
    }
    assert (status["trials"], status["trialsSucceeded"], status["trialsPending"]) == (9, 3, 1)
    assert status["startTime"] == "2026-01-02T15:04:05.5Z"
    assert "completionTime" not in status


@pytest.mark.parametrize(("succeeded", "kind"), [(True, "Succeeded"), (False, "Failed")])
def test_status_of_a_sweep_that_is_over(succeeded: bool, kind: str) -> None:
    ending = Ending("ExperimentTimeout", "why", succeeded)
    status = status_of(Sweep(), trials(0.5), started="2026-01-02T15:00:00Z", now="2026-01-02T16:00:00Z", ending=ending)
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [
        *(("Created", "True"), ("Running", "False"), (kind, "True"))
    ]
    last = status["conditions"][-1]
    assert (last["reason"], last["message"], last["lastTransitionTime"]) == (
        "ExperimentTimeout",
        "why",
        "2026-01-02T16:00:00Z",
    )
    assert status["completionTime"] == "2026-01-02T16:00:00Z"
    # Katib's own model knows every field and loses none.
    again = V1beta1ExperimentStatus.from_dict(status).to_dict()
    assert set(again) == set(status)
    assert again["currentOptimalTrial"] == status["currentOptimalTrial"]
