"""The inference settings of a detector's card, some of them overridden."""

from collections.abc import Mapping
from typing import Any

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters import TABLE, resolve
from kubesight.hyperparameters.table import find, is_known
from kubesight.modelcard import ModelCard

Settings = dict[str, Any]

LEAST_POINTS = 3
"""An outline of fewer points encloses nothing."""


def inference_settings(card: ModelCard, overrides: Mapping[str, Any]) -> Settings:
    """What a detector is run with: the card's settings, and those given now in their place.

    Args:
        card: the model's card; what its `inference` holds may be overridden.
        overrides: hyperparameters in any of their spellings, values native or as text.

    Returns:
        Canonical names and typed values.

    Raises:
        HyperparameterError: an unknown name, a setting of training, one that this model does not have or that the
            other settings leave without effect, or a value out of its range.
    """
    names = {spelling: find(spelling).name for spelling in overrides if is_known(spelling)}
    # What other settings need to have an effect comes from the card, unless it is overridden too.
    needed = {need.setting for name in names.values() for need in TABLE[name].needs} - set(names.values())
    context = {name: card.inference[name] for name in needed if card.inference.get(name) is not None}
    resolved = resolve(card.model_name, card.task, {**context, **overrides})
    for spelling, name in names.items():
        if name not in card.inference:
            raise HyperparameterError(
                f"{spelling} is a setting of training, which a trained model keeps",
                hint=f"At prediction {', '.join(card.inference) or 'nothing'} may be set.",
            )
    settings = card.inference | {name: resolved[name] for name in names.values()}
    points = settings.get("max_number_of_polygon_points", LEAST_POINTS)
    if points < LEAST_POINTS:
        raise HyperparameterError(
            f"max_number_of_polygon_points is {points}, but an outline has {LEAST_POINTS} points at least",
            hint=f"Give {LEAST_POINTS} or more.",
        )
    return settings
