"""What settings of keras/* models must be to each other, to the task, and to the model."""

from collections.abc import Collection, Mapping
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError, ModelError
from kubesight.models.names import ModelSpec

Possible = Mapping[str, tuple[Any, ...]]
Places = Mapping[str, str]


def check_keras(spec: ModelSpec, task: Task, possible: Possible, places: Places) -> None:
    """Refuse what a keras/* model cannot be trained with, whichever of the possible values are drawn.

    Args:
        spec: the model; one of another framework has nothing to check.
        task: what it is trained for.
        possible: the values that each setting may take; one, unless it is swept.
        places: where they were written.

    Raises:
        HyperparameterError: naming the setting and the one that forbids it.
        ModelError: the model has no equivalent, and no substitute is allowed.
    """
    if spec.framework != "tensorflow":
        return
    _check_substitute(spec, possible["allow_substitute"], places.get("allow_substitute"))
    _check_binary(task, possible, places)
    _check_views(possible, places)


def substitution(spec: ModelSpec) -> str | None:
    """One sentence on the network that is trained in place of the named one; None where it is the named one."""
    if spec.match != "none":
        return None
    return f"{spec.name} has no equivalent in keras.applications: {spec.nearest} is trained in its place"


def _check_substitute(spec: ModelSpec, allowed: Collection[bool], place: str | None) -> None:
    if spec.match == "none" and False in allowed:
        hint = f"Set allow_substitute to true to train the nearest, {spec.nearest}, or name that model."
        if spec.timm:
            hint += f" {spec.timm} is the same architecture in torch."
        raise ModelError(f"{spec.name} has no equivalent in keras.applications", where="model_name", hint=hint)
    if spec.match != "none" and True in allowed:
        raise HyperparameterError(
            f"allow_substitute is true, but it has no effect, because keras.applications has {spec.name} itself",
            where=place,
            hint="Remove it.",
        )


def _check_binary(task: Task, possible: Possible, places: Places) -> None:
    if task is Task.MULTILABEL and True in possible["binary_mode"]:
        raise HyperparameterError(
            f"binary_mode is true, but {task} has one output for each label already",
            where=places.get("binary_mode"),
            hint="Set binary_mode to false; it is for image_classification with two classes.",
        )
    metrics = [metric for metric in possible["eval_metric"] if metric != "accuracy"]
    if metrics and False in possible["binary_mode"]:
        raise HyperparameterError(
            f"eval_metric is {' or '.join(metrics)}, which is computed in binary mode alone",
            where=places.get("eval_metric"),
            hint="Set binary_mode to true, or eval_metric to accuracy.",
        )


def _check_views(possible: Possible, places: Places) -> None:
    """Of a frozen backbone the features of augmented views are cached; without augmentation all views are one."""
    views = max(possible["feature_views"])
    if views > 1 and True not in possible["augmentation"]:
        raise HyperparameterError(
            f"feature_views is {views}, but it has no effect, because augmentation is false",
            where=places.get("feature_views"),
            hint="Remove it, or set augmentation to true.",
        )
