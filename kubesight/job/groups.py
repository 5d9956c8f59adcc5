"""From a job's search space to the groups of its sweep: constants, settings that count only at times, labels."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.resolve import settle
from kubesight.hyperparameters.search_space import Choice, Distribution
from kubesight.job.space import SearchGroup
from kubesight.sweep.plan import Group


@dataclass(frozen=True)
class _Part:
    """A group in the making: its models, what all its trials share, what varies, and what sets it apart from others."""

    models: tuple[str, ...]
    fixed: dict[str, Any]
    varying: dict[str, Distribution]
    case: tuple[str, ...] = ()


def groups_of(
    task: Task, given: Mapping[str, Any], found: Sequence[SearchGroup]
) -> tuple[dict[str, Any], tuple[Group, ...]]:
    """The groups of a sweep.

    What can take only one value becomes a constant. Where a value of one setting leaves another without effect
    (`optimizer` adamw and `momentum`), a trial that has both would be refused, and one that ignored it would be wasted
    on what makes no difference: the space then becomes one group for each value of the first setting, with only what
    counts there, so that each of its values keeps its chance.

    Args:
        task: what is trained for.
        given: settings of all trials, by canonical name, typed, without the model's name.
        found: the space, checked.

    Returns:
        The settings that all groups share, and the groups.
    """
    parts = [part for group in found for part in _split(task, _start(given, group))]
    common = [name for name in given if all(name in part.fixed for part in parts)]
    shared = {name: given[name] for name in common}
    groups = []
    for label, part in zip(_labels(parts), parts, strict=True):
        own = {name: value for name, value in part.fixed.items() if name not in shared}
        if len(part.models) == 1:
            own = {"model_name": part.models[0], **own}
            varying = {name: values for name, values in part.varying.items() if name != "model_name"}
        else:
            varying = part.varying
        groups.append(Group(label, own, varying))
    if len(groups) == 1:
        return {**groups[0].fixed, **shared}, (Group(groups[0].label, {}, groups[0].parameters),)
    return shared, tuple(groups)


def _start(given: Mapping[str, Any], group: SearchGroup) -> _Part:
    constants = {name: values.endpoints()[0] for name, values in group.parameters.items() if values.size() == 1}
    varying = {name: values for name, values in group.parameters.items() if name not in constants}
    constants.pop("model_name", None)
    return _Part(group.model_names, {**given, **constants}, varying)


def _split(task: Task, part: _Part) -> list[_Part]:
    """One part for each value of the first setting that decides over others; the same again for each of them."""
    for name, values in part.varying.items():
        if name == "model_name" or not isinstance(values, Choice):
            continue
        cases = [_with_value(part, name, value) for value in values.values]
        if any(_refusal(task, case) for case in cases):
            return [deeper for case in cases for deeper in _split(task, _with_what_counts(task, case, name))]
    return [part]


def _with_value(part: _Part, name: str, value: Any) -> _Part:
    word = f"{name}_{value}" if isinstance(value, bool | int) else str(value)
    return _Part(part.models, {**part.fixed, name: value}, _without(part, name).varying, (*part.case, word))


def _with_what_counts(task: Task, part: _Part, switch: str) -> _Part:
    """A part without the settings that the value of `switch` leaves without effect.

    Raises:
        HyperparameterError: no setting is to blame but the value itself.
    """
    while error := _refusal(task, part):
        names = [name for name in (*part.fixed, *part.varying) if name not in (switch, "model_name")]
        names.sort(key=lambda name: not error.message.startswith(f"{name} "))
        without = (_without(part, name) for name in names)
        better = next((each for each in without if str(_refusal(task, each)) != str(error)), None)
        if better is None:
            raise error
        part = better
    return part


def _without(part: _Part, left_out: str) -> _Part:
    return _Part(
        part.models,
        {name: value for name, value in part.fixed.items() if name != left_out},
        {name: values for name, values in part.varying.items() if name != left_out},
        part.case,
    )


def _refusal(task: Task, part: _Part) -> HyperparameterError | None:
    """Why some model of a part would not train with it."""
    for model in part.models:
        try:
            settle(model, task, part.fixed, part.varying)
        except HyperparameterError as error:
            return error
    return None


def _labels(parts: Sequence[_Part]) -> list[str]:
    """One name for each part, fit for the names of Katib's parameters: its model, what sets it apart, or its number."""
    models = [part.models[0] if len(part.models) == 1 else "" for part in parts]
    cases = ["_".join(part.case) for part in parts]
    labels = [f"group{index}" for index in range(len(parts))]
    for names in (models, cases):
        names = [re.sub("[^a-z0-9_-]", "_", name.lower()) for name in names]
        count = Counter([*names, *labels])
        labels = [
            name if name and label.startswith("group") and count[name] == 1 else label
            for name, label in zip(names, labels, strict=True)
        ]
    return labels
