"""SageMaker's automatic model tuning as a sweep: ranges, strategy, limits, completion criteria."""

import math
from collections.abc import Mapping
from typing import Any

from kubesight.errors import HyperparameterError, JobError
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.spec import POSITIVE, Hyperparameter
from kubesight.hyperparameters.table import find, is_known
from kubesight.job.translation import Place, Translation, check_keys, mapping_at
from kubesight.job.yaml_lines import Keys
from kubesight.sweep.hyperband import factor_for

CONFIG = "HyperParameterTuningJobConfig"
SETTINGS = {
    "objective_metric_name", "objective_type", "strategy", "strategy_config", "max_jobs", "max_parallel_jobs",
    "max_runtime_in_seconds", "early_stopping_type", "completion_criteria_config", "random_seed", "autotune",
    "Autotune", "hyperparameters_to_keep_static", "max_run",
}  # fmt: skip
"""Keys at the top that say how SageMaker tunes: those of its SDK, and `Autotune` of its API.

Under `autotune` the space is the automatic one, which leaves every given hyperparameter static.
"""

_DECAYS = {"beta1", "beta2", "momentum", "rho"}
_METRICS = {"validation:accuracy", "tflow-ic:val-accuracy", "val_accuracy", "accuracy"}
_LIMITS: Keys = (CONFIG, "ResourceLimits")
_CRITERIA: Keys = (CONFIG, "TuningJobCompletionCriteria")
_STRATEGY: Keys = (CONFIG, "StrategyConfig", "HyperbandStrategyConfig")
_STOP: Keys = ("TrainingJobDefinition", "StoppingCondition")
_TIMES: tuple[Keys, ...] = (
    ("max_run",), (*_STOP, "MaxRuntimeInSeconds"), ("StoppingCondition", "MaxRuntimeInSeconds"),
)  # fmt: skip
_KNOWN: dict[Keys, set[str]] = {
    (CONFIG,): {"Strategy", "StrategyConfig", "RandomSeed", "HyperParameterTuningJobObjective", "ResourceLimits",
                "ParameterRanges", "TrainingJobEarlyStoppingType", "TuningJobCompletionCriteria"},
    (CONFIG, "HyperParameterTuningJobObjective"): {"Type", "MetricName"},
    _LIMITS: {"MaxNumberOfTrainingJobs", "MaxParallelTrainingJobs", "MaxRuntimeInSeconds"},
    (CONFIG, "ParameterRanges"): {"IntegerParameterRanges", "ContinuousParameterRanges",
                                  "CategoricalParameterRanges"},
    (CONFIG, "StrategyConfig"): {"HyperbandStrategyConfig"},
    _STRATEGY: {"MinResource", "MaxResource"},
    _CRITERIA: {"TargetObjectiveMetricValue", "BestObjectiveNotImproving", "ConvergenceDetected"},
    (*_CRITERIA, "BestObjectiveNotImproving"): {"MaxNumberOfTrainingJobsNotImproving"},
    (*_CRITERIA, "ConvergenceDetected"): {"CompleteOnConvergence"},
    ("strategy_config",): {"hyperband_strategy_config"},
    ("strategy_config", "hyperband_strategy_config"): {"min_resource", "max_resource"},
    ("completion_criteria_config",): {"max_number_of_training_jobs_not_improving", "complete_on_convergence",
                                      "target_objective_metric_value"},
    ("Autotune",): {"Mode"},
    _STOP: {"MaxRuntimeInSeconds"},
    ("StoppingCondition",): {"MaxRuntimeInSeconds"},
}  # fmt: skip


def put_tuning(job: Translation, value: Mapping[str, Any], place: Place) -> None:
    """Translate what SageMaker's dictionary says about tuning into `limits`, `sweep` and `search_space`.

    Raises:
        JobError: an unknown key, or a setting that cannot be had here.
        HyperparameterError: a range of something that is no hyperparameter.
    """
    for keys, known in _KNOWN.items():
        check_keys(mapping_at(value, keys, place), keys, known, place)
    _check_objective(value, place)
    ranges: Keys = ("hyperparameter_ranges",) if "hyperparameter_ranges" in value else (CONFIG, "ParameterRanges")
    space = _space(job, value, ranges, place)
    automatic = value.get("autotune") is True or mapping_at(value, ("Autotune",), place).get("Mode") == "Enabled"
    if automatic and space:
        raise JobError(
            "autotune chooses the ranges, but there are some",
            where=place(ranges),
            hint="Keep one of them: a space is either yours or automatic here.",
        )
    if not space and not automatic:
        for keys in _TIMES:
            if _found(value, keys)[0] is not None:
                job.note(f"{keys[-1]} has no effect here: one training has no limit of time.", place(keys))
        return
    if space:
        job.value["search_space"] = [space]
    _put_limits(job, value, space, place)
    _put_strategy(job, value, place)
    _put_stopping(job, value, place)
    _put_criteria(job, value, place)


def _found(value: Mapping[str, Any], *ways: Keys) -> tuple[Any, Keys]:
    """The first value that is given, of several places where it may stand, and its place."""
    for keys in ways:
        found: Any = value
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return found, keys
    return None, ways[0]


def _check_objective(value: Mapping[str, Any], place: Place) -> None:
    objective: Keys = (CONFIG, "HyperParameterTuningJobObjective")
    metric, keys = _found(value, ("objective_metric_name",), (*objective, "MetricName"))
    direction, _ = _found(value, ("objective_type",), (*objective, "Type"))
    if (metric and metric not in _METRICS) or (direction or "Maximize") != "Maximize":
        raise JobError(
            f"the objective {direction or 'Maximize'} {metric} is not one",
            where=place(keys),
            hint="It is validation:accuracy.",
        )


def _number(name: str, given: Any, where: str | None) -> int:
    """A whole number of 1 or more, which requests also write as text."""
    try:
        return int(coerce(Hyperparameter(name, "int", "", default=1, range=POSITIVE), given))
    except HyperparameterError as error:
        raise JobError(error.message, where=where) from None


def _put_limits(job: Translation, value: Mapping[str, Any], space: Mapping[str, Any], place: Place) -> None:
    trials, keys = _found(value, ("max_jobs",), (*_LIMITS, "MaxNumberOfTrainingJobs"))
    if trials is None and str(_found(value, ("strategy",), (CONFIG, "Strategy"))[0]).lower() == "grid":
        # The API lets it be left out for grid, which then tries every combination.
        trials = min(1000, math.prod(len(each.get("values", "1")) for each in space.values()))
    job.put(("limits", "max_trials"), 1 if trials is None else _number("max_jobs", trials, place(keys)), keys)
    together, keys = _found(value, ("max_parallel_jobs",), (*_LIMITS, "MaxParallelTrainingJobs"))
    if together is not None:
        job.put(("limits", "max_concurrent_trials"), _number("max_parallel_jobs", together, place(keys)), keys)
    seconds, keys = _found(value, ("max_runtime_in_seconds",), (*_LIMITS, "MaxRuntimeInSeconds"))
    if seconds is not None:
        minutes = math.ceil(_number("max_runtime_in_seconds", seconds, place(keys)) / 60)
        job.put(("limits", "timeout_minutes"), minutes, keys)
    seconds, keys = _found(value, *_TIMES)
    if seconds is not None:
        minutes = math.ceil(_number("max_run", seconds, place(keys)) / 60)
        job.put(("limits", "trial_timeout_minutes"), minutes, keys)


def _put_strategy(job: Translation, value: Mapping[str, Any], place: Place) -> None:
    sampling: Keys = ("sweep", "sampling_algorithm")
    strategy, keys = _found(value, ("strategy",), (CONFIG, "Strategy"))
    kind = str(strategy or "Bayesian").lower()
    if kind not in ("random", "grid", "bayesian", "hyperband"):
        raise JobError(
            f"the strategy is {strategy!r}, but must be Bayesian, Random, Grid or Hyperband", where=place(keys)
        )
    job.put((*sampling, "type"), kind, keys)
    seed, keys = _found(value, ("random_seed",), (CONFIG, "RandomSeed"))
    if seed is not None:
        job.put((*sampling, "seed"), seed, keys)
    ours: Keys = ("strategy_config", "hyperband_strategy_config")
    most, keys = _found(value, (*ours, "max_resource"), (*_STRATEGY, "MaxResource"))
    least, least_keys = _found(value, (*ours, "min_resource"), (*_STRATEGY, "MinResource"))
    if most is not None:
        most = _number("MaxResource", most, place(keys))
        job.put((*sampling, "max_resource"), most, keys)
    if least is not None:
        _put_least(job, most, _number("MinResource", least, place(least_keys)), least_keys, place)


def _put_least(job: Translation, most: int | None, least: int, keys: Keys, place: Place) -> None:
    """Choose hyperband's factor, which SageMaker leaves open, so that its shortest trials are as long as asked."""
    factor = factor_for(most, least) if most else None
    if factor is None:
        job.note(f"MinResource {least} is not kept: hyperband's shortest trials follow from MaxResource.", place(keys))
        return
    job.put(("sweep", "sampling_algorithm", "min_resource"), least, keys)
    job.put(("sweep", "sampling_algorithm", "reduction_factor"), factor, keys)


def _put_stopping(job: Translation, value: Mapping[str, Any], place: Place) -> None:
    """`Auto` is the median rule; Azure's form of it, which compares the best value so far."""
    stopping, keys = _found(value, ("early_stopping_type",), (CONFIG, "TrainingJobEarlyStoppingType"))
    if stopping not in (None, "Off", "Auto"):
        raise JobError(f"early_stopping_type is {stopping!r}, but must be Off or Auto", where=place(keys))
    if stopping == "Auto":
        job.put(("sweep", "early_termination", "type"), "median_stopping", keys)


def _put_criteria(job: Translation, value: Mapping[str, Any], place: Place) -> None:
    ours, sweep = "completion_criteria_config", ("kubesight", "sweep")
    target, keys = _found(value, (ours, "target_objective_metric_value"), (*_CRITERIA, "TargetObjectiveMetricValue"))
    if target is not None:
        row = Hyperparameter("the target", "float", "", default=1.0)
        job.put((*sweep, "target_value"), _located(row, target, place(keys)), keys)
    stale, keys = _found(
        value,
        (ours, "max_number_of_training_jobs_not_improving"),
        (*_CRITERIA, "BestObjectiveNotImproving", "MaxNumberOfTrainingJobsNotImproving"),
    )
    if stale is not None:
        number = _number("MaxNumberOfTrainingJobsNotImproving", stale, place(keys))
        job.put((*sweep, "no_improvement_trials"), number, keys)
    converged, keys = _found(
        value, (ours, "complete_on_convergence"), (*_CRITERIA, "ConvergenceDetected", "CompleteOnConvergence")
    )
    if converged is not None:
        if converged not in (True, False, "Enabled", "Disabled"):
            raise JobError(
                f"CompleteOnConvergence is {converged!r}, but must be Enabled or Disabled", where=place(keys)
            )
        job.put((*sweep, "convergence"), converged in (True, "Enabled"), keys)


def _located(row: Hyperparameter, given: Any, where: str | None) -> Any:
    try:
        return coerce(row, given)
    except HyperparameterError as error:
        error.where = where
        raise


def _space(job: Translation, value: Mapping[str, Any], above: Keys, place: Place) -> dict[str, Any]:
    """Azure's expressions for SageMaker's ranges. A static value of the same name gives way, as in the SDK."""
    ranges = mapping_at(value, above, place)
    entries: dict[str, tuple[Keys, Any]] = {}
    for key, found in ranges.items():
        if key.endswith("ParameterRanges") and isinstance(found, list):
            for index, each in enumerate(found):
                if not isinstance(each, Mapping) or "Name" not in each:
                    raise JobError("a range needs a Name", where=place((*above, key, index)))
                entries[str(each["Name"])] = ((*above, key, index), each)
        else:
            entries[key] = ((*above, key), found)
    space = {}
    for name, (origin, each) in entries.items():
        row = find(name, place=place(origin))
        space[name] = _expression(row, each, place(origin))
        job.origins[("search_space", 0, name)] = origin
        for static in [key for key in job.value["training_parameters"] if is_known(key) and find(key) is row]:
            job.notices.append(f"{static} varies, so that its static value {_popped(job, static)!r} is not used.")
    return space


def _popped(job: Translation, name: str) -> Any:
    return job.value["training_parameters"].pop(name)


def _expression(row: Hyperparameter, given: Any, where: str | None) -> dict[str, Any]:
    """One range.

    `Auto` scaling is reverse-logarithmic for decay rates, whose distance from 1 matters; else logarithmic where the
    ends are a factor of 100 or more apart, else linear.
    """
    values = given.get("Values") if isinstance(given, Mapping) else given
    if values is None and row.kind == "bool":  # SageMaker's page on tuning calls train_only_on_top_layer continuous
        values = [given[end] for end in ("MinValue", "MaxValue") if end in given]
    if isinstance(values, list):
        return {"type": "choice", "values": values}
    number = Hyperparameter(f"an end of {row.name}", "float", "", default=0.0)
    try:
        low, high = (_located(number, given[key], where) for key in ("MinValue", "MaxValue"))
    except (KeyError, TypeError):
        raise JobError(f"{row.name} needs MinValue and MaxValue, or Values", where=where) from None
    scaling = given.get("ScalingType", "Auto")
    if scaling == "Auto" and row.name in _DECAYS and 0 <= low <= high < 1:
        scaling = "ReverseLogarithmic"
    elif scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= 100 else "Linear"
    step = {"q": 1} if row.kind == "int" else {}
    prefix = "q" if step else ""
    if scaling == "Linear":
        return {"type": f"{prefix}uniform", "min_value": low, "max_value": high, **step}
    if scaling == "Logarithmic" and low > 0:
        return {"type": f"{prefix}loguniform", "min_value": math.log(low), "max_value": math.log(high), **step}
    if scaling == "ReverseLogarithmic" and not step:
        return {"type": "reverseloguniform", "min_value": low, "max_value": high}
    raise JobError(
        f"{row.name} from {low:g} to {high:g} cannot be scaled as {scaling}",
        where=where,
        hint="Logarithmic needs ends above 0, ReverseLogarithmic numbers from 0 to less than 1 that are not whole.",
    )
