"""The hyperparameters of a job file: those that it fixes and those that its search space varies."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError, KubesightError
from kubesight.hyperparameters.resolve import settle
from kubesight.hyperparameters.search_space import Choice, Distribution, in_base, parse
from kubesight.hyperparameters.table import INJECTED, find
from kubesight.job.branches import Branch, branches
from kubesight.job.yaml_lines import Keys
from kubesight.models.names import DEFAULT_MODEL
from kubesight.sweep.automatic import MODELS, automatic_space

Place = Callable[[Keys], str | None]


@dataclass(frozen=True)
class SearchGroup:
    """One flat part of a search space.

    Attributes:
        model_names: the models that it is for.
        parameters: what settings are drawn from, by canonical name, typed; `model_name` too when the space names it.
        places: file and line of each, by canonical name.
    """

    model_names: tuple[str, ...]
    parameters: dict[str, Distribution]
    places: dict[str, str] = field(default_factory=dict, compare=False)


def read_hyperparameters(
    task: Task,
    parameters: Mapping[str, Any],
    spaces: Sequence[Mapping[str, Any]],
    place: Place,
    *,
    base: float = math.e,
    automatic: bool = False,
) -> tuple[dict[str, Any], tuple[SearchGroup, ...]]:
    """Read and check everything that a job says about hyperparameters.

    Args:
        task: what is trained for.
        parameters: `training_parameters`, names in any spelling.
        spaces: the entries of `search_space`.
        place: the line of a key.
        base: what the ends of loguniform and lognormal are logarithms to.
        automatic: there will be an automatic space, so that any of its models may be what the settings are for.

    Returns:
        The fixed settings by canonical name, typed, without defaults; and the search space.

    Raises:
        HyperparameterError: as `kubesight.hyperparameters.resolve`, with file and line.
        ModelError: a model is unknown or does not do the task, with file and line.
    """
    fixed_places = _places(parameters, ("training_parameters",), place)
    fixed = _canonical(parameters, fixed_places)
    if not spaces:
        settings = _settled_alone(task, parameters, fixed, fixed_places, automatic=automatic)
        return {name: settings[name] for name in fixed}, ()
    given: dict[str, Any] = {}
    groups = []
    for branch in branches(spaces, place):
        settings, group = _read_branch(task, parameters, fixed, branch, fixed_places, base)
        groups.append(group)
        given = {name: settings[name] for name in fixed}
    return given, tuple(groups)


def _read_branch(
    task: Task,
    parameters: Mapping[str, Any],
    fixed: Mapping[str, str],
    branch: Branch,
    fixed_places: Mapping[str, str],
    base: float,
) -> tuple[dict[str, Any], SearchGroup]:
    """One flat space, checked for each of its models; with all settings that do not vary."""
    places = branch.places
    varying = _canonical(branch.expressions, places)
    _check_apart(fixed, varying, places)
    swept = {name: in_base(_parsed(each, name, places), base) for name, each in branch.expressions.items()}
    named = varying.get("model_name", "")
    models = _models(task, parameters.get(fixed.get("model_name", "")), swept.get(named))
    if not models:
        raise HyperparameterError("model_name can only vary by choice(...)", where=places.get(named))
    for model in models:
        spelling = named or fixed.get("model_name")
        settings, typed = _settled(model, task, parameters, swept, {**fixed_places, **places}, spelling)
    own = {name: places[spelling] for name, spelling in varying.items() if spelling in places}
    return settings, SearchGroup(models, typed, own)


def _settled_alone(
    task: Task,
    parameters: Mapping[str, Any],
    fixed: Mapping[str, str],
    places: Mapping[str, str],
    *,
    automatic: bool,
) -> dict[str, Any]:
    """All settings of the named model, of the task's default, or of the first automatic one that takes them."""
    models = [str(parameters.get(fixed.get("model_name", ""), DEFAULT_MODEL[task]))]
    if automatic and "model_name" not in fixed:
        models = list(dict.fromkeys(candidate.model_name for candidate in MODELS[task]))
    refused: HyperparameterError | None = None
    for model in models:
        try:
            return _settled(model, task, parameters, {}, places, fixed.get("model_name"))[0]
        except HyperparameterError as error:
            refused = refused or error
    raise refused or HyperparameterError("no model takes these settings")


def automatic_groups(task: Task, given: Mapping[str, Any], max_trials: int) -> tuple[SearchGroup, ...]:
    """The space of a job that names none but wants several trials (Azure's AutoMode).

    Args:
        task: what is trained for.
        given: what the job fixes, by canonical name, typed, with `model_name` when it does.
        max_trials: how many trials there may be.
    """
    found = []
    for space in automatic_space(task, given, max_trials):
        models = tuple(map(str, space["model_name"].endpoints()))
        found.append(SearchGroup(models, space))
    return tuple(found)


def _places(names: Mapping[str, Any], above: Keys, place: Place) -> dict[str, str]:
    found = {name: place((*above, name)) for name in names}
    return {name: where for name, where in found.items() if where}


def _canonical(names: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, str]:
    """The spelling that was used of each canonical name; `settle` finds what is written twice."""
    return {find(name, place=places.get(name)).name: name for name in names if name not in INJECTED}


def _check_apart(fixed: Mapping[str, str], varying: Mapping[str, str], places: Mapping[str, str]) -> None:
    for name, spelling in varying.items():
        if name in fixed:
            raise HyperparameterError(
                f"{name} is fixed in training_parameters and varies in search_space",
                where=places.get(spelling),
                hint="Keep one of them.",
            )
        if name == "eval_metric":
            raise HyperparameterError(
                "eval_metric cannot vary: trials are compared by it",
                where=places.get(spelling),
                hint="Set it in training_parameters.",
            )
        if find(name).step == "split":
            raise HyperparameterError(
                f"{spelling} cannot vary: all trials share one split",
                where=places.get(spelling),
                hint="Set validation_data_size at the top of the file.",
            )


def _parsed(expression: Any, spelling: str, places: Mapping[str, str]) -> Distribution:
    try:
        return parse(expression)
    except HyperparameterError as error:
        error.message = f"{spelling}: {error.message}"
        error.where = places.get(spelling)
        raise


def _models(task: Task, fixed: Any, swept: Distribution | None) -> tuple[str, ...]:
    """The models that are trained; none when they vary over a range, which names cannot."""
    if swept is None:
        return (str(fixed or DEFAULT_MODEL[task]),)
    return tuple(dict.fromkeys(map(str, swept.values))) if isinstance(swept, Choice) else ()


def _settled(
    model: str,
    task: Task,
    given: Mapping[str, Any],
    swept: Mapping[str, Distribution],
    places: Mapping[str, str],
    model_spelling: str | None,
) -> tuple[dict[str, Any], dict[str, Distribution]]:
    """`settle`, with the line of the model's name in errors about the model."""
    try:
        return settle(model, task, given, swept, places=places)
    except KubesightError as error:
        if error.where == "model_name":
            error.where = places.get(model_spelling or "", error.where)
        raise
