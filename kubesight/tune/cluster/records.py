"""What Katib knows of a sweep's trials, as the records that a sweep on this machine keeps."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kubesight.tune.records import ENDED, OBSERVED, Trial

_NUMBERS = ("min", "max", "latest")


def trial_records(trials: Sequence[Mapping[str, Any]], objective: Mapping[str, Any]) -> list[Trial]:
    """Records of Katib's Trials.

    Args:
        trials: Trial objects, in the order they were made.
        objective: `spec.objective` of their Experiment.
    """
    return [_record(number, trial, objective) for number, trial in enumerate(trials)]


def condition_of(item: Mapping[str, Any], kinds: Sequence[str] = ()) -> Mapping[str, Any]:
    """The condition that an object is in: the last one that holds, of `kinds` when some are named; else empty."""
    holding = [each for each in item.get("status", {}).get("conditions", []) if each.get("status") == "True"]
    return next((each for each in reversed(holding) if not kinds or each["type"] in kinds), {})


def _record(number: int, trial: Mapping[str, Any], objective: Mapping[str, Any]) -> Trial:
    status = trial.get("status", {})
    found = condition_of(trial, tuple(ENDED)) or condition_of(trial)
    metrics = {
        each["name"]: {which: _number(each.get(which)) for which in _NUMBERS}
        for each in status.get("observation", {}).get("metrics", [])
    }
    started, ended = status.get("startTime"), status.get("completionTime")
    condition = found.get("type", "Created")
    return Trial(
        name=trial["metadata"]["name"],
        number=number,
        assignments={each["name"]: str(each["value"]) for each in trial["spec"].get("parameterAssignments", [])},
        condition=condition,
        reason=found.get("reason", ""),
        started=started,
        ended=ended,
        seconds=_seconds(started, ended),
        attempts=1 if started else 0,
        metrics=metrics,
        value=_value(metrics, objective) if condition in OBSERVED else None,
    )


def _value(metrics: Mapping[str, Mapping[str, float | None]], objective: Mapping[str, Any]) -> float | None:
    """The objective by its strategy; the greatest or smallest where the Experiment names none, as Katib fills in."""
    name = objective["objectiveMetricName"]
    strategies = {each["name"]: each["value"] for each in objective.get("metricStrategies", [])}
    default = "max" if objective["type"] == "maximize" else "min"
    return metrics.get(name, {}).get(strategies.get(name, default))


def _number(text: Any) -> float | None:
    """Katib's numbers are texts, and `unavailable` where nothing was read."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _seconds(started: str | None, ended: str | None) -> float:
    if not (started and ended):
        return 0.0
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
