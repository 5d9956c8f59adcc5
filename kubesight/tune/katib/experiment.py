"""Reading any Katib Experiment, strictly: what Katib would drop, refuse or trip over is an error with its place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from kubesight.section import Section
from kubesight.sweep.names import CONDITIONS_ANNOTATION, GROUP_PARAMETER, LIMITS_ANNOTATION
from kubesight.tune.katib.checks import check_counts, check_name, check_objective, check_resume, check_template
from kubesight.tune.katib.collectors import read_collector
from kubesight.tune.katib.objects import Collector, Experiment, ExtraLimits, Parameter
from kubesight.tune.katib.parameters import read_parameters
from kubesight.tune.katib.schema import check_experiment_fields
from kubesight.tune.katib.settings import check_algorithm, check_early_stopping, read_settings
from kubesight.tune.katib.source import Source, read_source
from kubesight.tune.katib.template import Template

__all__ = ["Collector", "Experiment", "ExtraLimits", "Parameter", "Template", "read_experiment"]


def read_experiment(source: Path | str | Mapping[str, Any]) -> Experiment:
    """Read and check an Experiment.

    Args:
        source: a YAML or JSON file (of several documents, the first Experiment counts; a ConfigMap with the trial
            template may be another), or the Experiment itself.

    Raises:
        JobError: the file is no Experiment, has a field that Katib does not know, a value of a wrong type, or anything
            that Katib's webhook, its suggestion service or its early-stopping service would refuse; with file and line.
    """
    found = read_source(source)
    check_experiment_fields(found)
    experiment = _experiment(found)
    check_algorithm(found, experiment)
    check_early_stopping(found, experiment)
    return experiment


def _experiment(source: Source) -> Experiment:
    name = check_name(source)
    parallel, max_trials, max_failed = check_counts(source)
    strategies = check_objective(source)
    check_resume(source)
    parameters = read_parameters(source)
    algorithm, settings = read_settings(source, ("spec", "algorithm"))
    stops = source.get(("spec", "earlyStopping")) is not None
    objective = source.get(("spec", "objective"))
    return Experiment(
        name=name,
        namespace=source.get(("metadata", "namespace")),
        parameters=parameters,
        metric=objective["objectiveMetricName"],
        maximize=objective["type"] == "maximize",
        goal=objective.get("goal"),
        additional_metrics=tuple(objective.get("additionalMetricNames") or ()),
        strategies=strategies,
        algorithm=algorithm,
        settings=settings,
        early_stopping=read_settings(source, ("spec", "earlyStopping")) if stops else None,
        parallel=parallel,
        max_trials=max_trials,
        max_failed=max_failed,
        collector=read_collector(source),
        template=check_template(source, [parameter.name for parameter in parameters]),
        limits=_limits(source),
        conditions=_conditions(source, parameters),
        document=source.document,
    )


class _Limits(Section):
    """The annotation's JSON."""

    timeout_seconds: float | None = Field(default=None, gt=0)
    no_improvement_trials: int | None = Field(default=None, ge=1)
    convergence: bool = False


def _annotation(source: Source, name: str) -> Any:
    text = source.get(("metadata", "annotations", name))
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise source.error(("metadata", "annotations", name), f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise source.error(("metadata", "annotations", name), f"{text!r} is not a mapping in JSON")
    return value


def _limits(source: Source) -> ExtraLimits:
    value = _annotation(source, LIMITS_ANNOTATION)
    if value is None:
        return ExtraLimits()
    try:
        return ExtraLimits(**_Limits.model_validate(value).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = f"{key}: {first['msg']}" if key else first["msg"]
        raise source.error(
            ("metadata", "annotations", LIMITS_ANNOTATION), said, (first.get("ctx") or {}).get("hint")
        ) from error


def _conditions(source: Source, parameters: tuple[Parameter, ...]) -> dict[str, tuple[str, ...]]:
    value = _annotation(source, CONDITIONS_ANNOTATION)
    keys = ("metadata", "annotations", CONDITIONS_ANNOTATION)
    known = {parameter.name: parameter for parameter in parameters}
    group = known.get(GROUP_PARAMETER)
    if value and (group is None or group.kind != "categorical"):
        raise source.error(keys, f"conditions need a categorical parameter {GROUP_PARAMETER}")
    conditions: dict[str, tuple[str, ...]] = {}
    for name, values in (value or {}).items():
        if name not in known or name == GROUP_PARAMETER:
            raise source.error(keys, f"{name!r} is not a parameter that can have a condition")
        if not isinstance(values, list) or not values or not set(values) <= set(group.values if group else ()):
            raise source.error(keys, f"{name}: {values!r} are not values of {GROUP_PARAMETER}")
        conditions[name] = tuple(values)
    return conditions
