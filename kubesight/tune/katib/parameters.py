"""The parameters of an Experiment: what Katib's webhook refuses, and what would fail in its suggestion services."""

import math
import re
from typing import Any, get_args

from kubesight.job.yaml_lines import Keys
from kubesight.tune.katib.objects import Distribution, Kind, Parameter
from kubesight.tune.katib.source import Source

_WHOLE = re.compile(r"[+-]?[0-9]+")


def read_parameters(source: Source) -> tuple[Parameter, ...]:
    """`spec.parameters`, with `distribution` and an int's `step` filled in.

    Beside the webhook's rules: names are unique, numbers are numbers, min is not above max, a step is above 0, a list
    has values and none twice, logarithms are of numbers above 0. Katib checks none of these, and its services fail.

    Raises:
        JobError: one of the rules is broken, or the Experiment searches an architecture.
    """
    if source.get(("spec", "nasConfig")) is not None:
        raise source.error(
            ("spec", "nasConfig"), "a search of architectures is not read here", "Apply this Experiment to Katib."
        )
    items = source.get(("spec", "parameters")) or []
    if not items:
        raise source.error(("spec", "parameters"), "an Experiment needs parameters")
    parameters: list[Parameter] = []
    for index, item in enumerate(items):
        keys: Keys = ("spec", "parameters", index)
        parameter = _parameter(source, keys, item)
        if parameter.name in {each.name for each in parameters}:
            raise source.error((*keys, "name"), f"{parameter.name} is given twice")
        parameters.append(parameter)
    return tuple(parameters)


def _parameter(source: Source, keys: Keys, item: dict[str, Any]) -> Parameter:
    name, space = item.get("name"), item.get("feasibleSpace") or {}
    kind: Any = item.get("parameterType")
    if not name:
        raise source.error((*keys, "name"), "a parameter needs a name")
    if kind not in get_args(Kind):
        raise source.error((*keys, "parameterType"), f"{kind!r} is not one of {', '.join(get_args(Kind))}")
    distribution: Any = space.get("distribution") or "uniform"
    if distribution not in get_args(Distribution):
        raise source.error(
            (*keys, "feasibleSpace", "distribution"),
            f"{distribution!r} is not one of {', '.join(get_args(Distribution))}",
        )
    if kind in ("double", "int"):
        return _range(source, (*keys, "feasibleSpace"), name, kind, distribution, space)
    return _list(source, (*keys, "feasibleSpace"), name, kind, distribution, space)


def _range(source: Source, keys: Keys, name: str, kind: Kind, distribution: Distribution, space: Any) -> Parameter:
    if space.get("list"):
        raise source.error((*keys, "list"), f"a parameter of type {kind} has min and max, no list")
    low = _number(source, keys, "min", kind, space)
    high = _number(source, keys, "max", kind, space)
    step = _number(source, keys, "step", kind, space) if space.get("step") else None
    if low > high:
        raise source.error((*keys, "min"), f"{space['min']} is more than max, {space['max']}")
    if step is not None and step <= 0:
        raise source.error((*keys, "step"), f"{space['step']} is not above 0")
    if distribution.startswith("log") and low <= 0:
        raise source.error((*keys, "min"), f"{space['min']} has no logarithm", f"{distribution} needs numbers above 0.")
    return Parameter(name, kind, low, high, 1.0 if step is None and kind == "int" else step, (), distribution)


def _list(source: Source, keys: Keys, name: str, kind: Kind, distribution: Distribution, space: Any) -> Parameter:
    for key in ("min", "max", "step"):
        if space.get(key):
            raise source.error((*keys, key), f"a parameter of type {kind} has a list, no {key}")
    if distribution != "uniform":
        raise source.error((*keys, "distribution"), f"a parameter of type {kind} is drawn uniformly from its list")
    values = space.get("list") or []
    if not values:
        raise source.error((*keys, "list"), f"a parameter of type {kind} needs values")
    for index, value in enumerate(values):
        if value in values[:index]:
            raise source.error((*keys, "list", index), f"{value!r} is given twice")
        if kind == "discrete" and _float(value) is None:
            raise source.error(
                (*keys, "list", index), f"{value!r} is not a number", "Use parameterType: categorical for texts."
            )
    return Parameter(name, kind, values=tuple(values), distribution=distribution)


def _number(source: Source, keys: Keys, key: str, kind: Kind, space: dict[str, Any]) -> float:
    text = space.get(key)
    if not text:
        raise source.error((*keys, key), f"a parameter of type {kind} needs min and max")
    value = _float(text)
    if value is None or (kind == "int" and not _WHOLE.fullmatch(text)):
        raise source.error((*keys, key), f"{text!r} is not {'a whole number' if kind == 'int' else 'a finite number'}")
    return value


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    # Python reads 1_000, Go does not.
    return value if math.isfinite(value) and "_" not in text else None
