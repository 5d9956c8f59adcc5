"""Nested choices of a search space, written out flat: one branch for each way through them."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.table import INJECTED, find, is_known
from kubesight.job.yaml_lines import Keys

Place = Callable[[Keys], str | None]

MOST_BRANCHES = 1000
"""As many as a sweep may have trials: more could not all be tried."""


@dataclass(frozen=True)
class Branch:
    """One flat space.

    Attributes:
        expressions: what each setting is drawn from, by name as written.
        places: file and line of each name.
    """

    expressions: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def branches(spaces: Sequence[Mapping[str, Any]], place: Place) -> list[Branch]:
    """Every flat space that the entries of `search_space` hold.

    An entry of a space may be a choice of spaces, under any name that no hyperparameter has, as HyperDrive writes
    conditional spaces; in these spaces there may be others:

        optimizer_settings:
          type: choice
          values:
            - {optimizer: sgd, momentum: "uniform(0.8, 0.99)"}
            - {optimizer: adamw, beta1: "uniform(0.8, 0.95)"}

    Of independent choices every combination is a branch. All branches have the same chance, however deep they stand.

    Args:
        spaces: the entries of `search_space`.
        place: the line of a key.

    Raises:
        HyperparameterError: an unknown name, a name twice in one branch, something other than spaces in a nested
            choice, or more than 1,000 branches.
    """
    found: list[Branch] = []
    for index, space in enumerate(spaces):
        found += _flat(space, ("search_space", index), place)
        if len(found) > MOST_BRANCHES:
            raise _too_many(place(("search_space",)))
    return found


def _flat(space: Mapping[str, Any], above: Keys, place: Place) -> list[Branch]:
    base = Branch()
    nested: list[list[Branch]] = []
    for name, expression in space.items():
        keys = (*above, name)
        if name in INJECTED:
            continue
        if (spaces := _nested(expression)) is not None and not _is_json(name):
            if is_known(name):
                raise HyperparameterError(
                    f"{name} is a hyperparameter, and spaces are no values of it",
                    where=place(keys),
                    hint="Put nested spaces under a name of your own, such as case, and the setting into each of them.",
                )
            nested.append(_choice(spaces, (*keys, "values"), place))
            continue
        base.expressions[name] = expression
        if where := place(keys):
            base.places[name] = where
    if math.prod(map(len, nested)) > MOST_BRANCHES:
        raise _too_many(place(above))
    return [_merged([base, *parts]) for parts in itertools.product(*nested)]


def _nested(expression: Any) -> list[Any] | None:
    """The spaces of a nested choice; None for anything else."""
    if not isinstance(expression, Mapping) or set(expression) != {"type", "values"}:
        return None
    values = expression["values"]
    some = isinstance(values, list) and any(isinstance(value, Mapping) for value in values)
    return values if some and str(expression["type"]).lower() == "choice" else None


def _is_json(name: str) -> bool:
    """Whether mappings are values of a setting."""
    return is_known(name) and find(name).kind == "json"


def _choice(spaces: Sequence[Any], above: Keys, place: Place) -> list[Branch]:
    found = []
    for index, space in enumerate(spaces):
        if not isinstance(space, Mapping):
            raise HyperparameterError(
                f"{space!r} stands among nested spaces, but is none",
                where=place((*above, index)),
                hint="Write {name: value}, or {} for a space that sets nothing.",
            )
        found += _flat(space, (*above, index), place)
    return found


def _merged(parts: Sequence[Branch]) -> Branch:
    merged = Branch()
    for part in parts:
        for name, expression in part.expressions.items():
            if name in merged.expressions:
                raise HyperparameterError(
                    f"{name} is given twice in one branch of the space",
                    where=part.places.get(name),
                    hint="Keep one of them.",
                )
            merged.expressions[name] = expression
        merged.places.update(part.places)
    return merged


def _too_many(where: str | None) -> HyperparameterError:
    return HyperparameterError(
        f"the nested choices have more than {MOST_BRANCHES:,} branches",
        where=where,
        hint="Let independent settings vary by themselves instead of in nested choices.",
    )
