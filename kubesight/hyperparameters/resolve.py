"""From what the user wrote to a full set of settings, or to one clear error."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError, ModelError
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.keras_rules import check_keras, substitution
from kubesight.hyperparameters.rules import augmentations_off, check_needs, check_together
from kubesight.hyperparameters.search_space import Choice, Distribution, typed
from kubesight.hyperparameters.spec import Hyperparameter
from kubesight.hyperparameters.table import INJECTED, TABLE, find
from kubesight.models.names import ModelSpec, find_model

log = logging.getLogger("kubesight")

Places = Mapping[str, str]


def rows_for(model_name: str, task: Task) -> list[Hyperparameter]:
    """The rows that apply to a model and task, each with its one default, choices and range.

    Raises:
        ModelError: the model is unknown or does not do the task.
    """
    return list(_rows(_model(model_name, task), task))


@lru_cache(maxsize=256)
def _rows(spec: ModelSpec, task: Task) -> tuple[Hyperparameter, ...]:
    """Kept, since a search space is settled once for each of its models and values."""
    return tuple(row.for_model(spec, task) for row in TABLE.values() if row.applies.holds(spec, task))


def resolve(model_name: str, task: Task, given: Mapping[str, Any], *, places: Places | None = None) -> dict[str, Any]:
    """Every hyperparameter that applies to a model and task: what was given, and defaults for the rest.

    What this returns may be given again and comes back unchanged.

    Args:
        model_name: a name that `find_model` knows.
        task: what the model is trained for.
        given: names in any spelling, values native or as text.
        places: where each name of `given` was written (`job.yaml, line 9`), for messages.

    Returns:
        Canonical names and typed values, in the order of the table.

    Raises:
        HyperparameterError: an unknown name, the same setting under two names, a value of a wrong type or out of range,
            a setting that does not apply to the model or task, or one that the other settings leave without effect.
        ModelError: the model is unknown, does not do the task, or has no equivalent and none is allowed in its place.
    """
    settings = settle(model_name, task, given, {}, places=places)[0]
    if substitute := substitution(find_model(model_name)):
        log.warning("%s", substitute)
    return settings


def settle(
    model_name: str,
    task: Task,
    given: Mapping[str, Any],
    swept: Mapping[str, Distribution],
    *,
    places: Places | None = None,
) -> tuple[dict[str, Any], dict[str, Distribution]]:
    """`resolve` for a sweep: some settings are given, others vary.

    Args:
        model_name: as in `resolve`.
        task: as in `resolve`.
        given: settings that all trials share.
        swept: settings that vary, by name in any spelling.
        places: where each name was written.

    Returns:
        All settings that do not vary, with defaults; and the varying ones by canonical name, their values typed.

    Raises:
        HyperparameterError: as in `resolve`; of a varying setting, every value that may be drawn is checked.
        ModelError: as in `resolve`.
    """
    places = places or {}
    rows = {row.name: row for row in rows_for(model_name, task)}
    written = _by_canonical_name(rows, [*given, *swept], model_name, task, places)
    fixed, varying = {}, {}
    for name, spelling in written.items():
        try:
            if spelling in swept:
                varying[name] = typed(swept[spelling], rows[name], written=spelling)
            else:
                fixed[name] = coerce(rows[name], given[spelling], written=spelling)
        except HyperparameterError as error:
            error.where = error.where or places.get(spelling)
            raise
    _check_model_name(model_name, fixed, varying, places.get(written.get("model_name", "")))
    settings = {name: fixed.get(name, row.default) for name, row in rows.items() if name not in varying}
    settings["model_name"] = model_name
    places_by_name = {name: places[spelling] for name, spelling in written.items() if spelling in places}
    settings |= augmentations_off(settings, list(written), places_by_name)
    possible: dict[str, tuple[Any, ...]] = {name: (value,) for name, value in settings.items()}
    possible |= {name: distribution.endpoints() for name, distribution in varying.items()}
    check_needs(rows, possible, list(written), places_by_name)
    check_together(rows, possible, list(written), places_by_name)
    check_keras(find_model(model_name), task, possible, places_by_name)
    return settings, varying


def _model(model_name: str, task: Task) -> ModelSpec:
    spec = find_model(model_name)
    if task not in spec.tasks:
        raise ModelError(
            f"{model_name} does {' and '.join(sorted(spec.tasks))}, not {task}",
            where="model_name",
            hint="`kubesight models` lists the names for each task.",
        )
    return spec


def _by_canonical_name(
    rows: Mapping[str, Hyperparameter], names: list[str], model_name: str, task: Task, places: Places
) -> dict[str, str]:
    """The spelling that was used of each canonical name."""
    written: dict[str, str] = {}
    for spelling in names:
        if spelling in INJECTED:
            log.debug("%s is the service's own note and no setting; left out", spelling)
            continue
        row = find(spelling, place=places.get(spelling), preferred=rows)
        if row.name not in rows:
            raise HyperparameterError(
                f"{spelling} does not apply to {model_name} ({task}): it is for {row.applies}",
                where=places.get(spelling),
                hint=f"Remove it; `kubesight hyperparameters {model_name}` lists what applies.",
            )
        if row.name in written:
            raise HyperparameterError(
                f"{row.name} is given twice, as {written[row.name]} and as {spelling}",
                where=places.get(spelling),
                hint="Keep one of them.",
            )
        written[row.name] = spelling
    return written


def _check_model_name(
    model_name: str, fixed: Mapping[str, Any], varying: Mapping[str, Distribution], place: str | None
) -> None:
    named = varying.get("model_name") or Choice((fixed.get("model_name", model_name),))
    if not isinstance(named, Choice) or model_name not in named.values:
        raise HyperparameterError(
            f"model_name is {', '.join(map(str, named.endpoints()))}, but {model_name} is trained", where=place
        )
