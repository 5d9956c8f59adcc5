"""Distributions as Katib's parameters.

What Katib does with them is what its hyperopt service does (`random` and `tpe`, the two that honour distributions):

- A range with `step` gives round(draw / step) * step, as Azure's `q...` do.
- `normal` draws around the middle of min and max with a sixth of their distance as standard deviation, so that
  mu - 3 sigma and mu + 3 sigma say Azure's `normal` exactly; `logNormal` the same in the logarithm. Neither is clipped:
  0.3 % of the draws lie outside, and a draw outside the setting's own range fails its trial, for nobody draws again.
- An int always has a step (1), which gives both its ends half the weight of the others. Azure's `randint` weighs all
  numbers alike, so for random sampling it becomes a list, while that is short.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kubesight.hyperparameters.search_space import (
    Choice,
    Distribution,
    LogNormal,
    LogUniform,
    Normal,
    RandInt,
    ReverseLogUniform,
    Uniform,
)
from kubesight.tune.katib.texts import check_substitutable, number, text_of

_LONGEST_LIST = 100


@dataclass(frozen=True)
class Setting:
    """What one hyperparameter of a sweep becomes.

    Attributes:
        name: canonical.
        text: its value; with a `${trialParameters.NAME}` in it when it varies.
        parameter: Katib's parameter behind it; None for a constant.
    """

    name: str
    text: str
    parameter: dict[str, Any] | None = None

    @property
    def values(self) -> Sequence[str]:
        """The texts that may be put in; empty for a constant, and for a range, whose numbers need no quotes."""
        return self.parameter["feasibleSpace"].get("list", ()) if self.parameter else ()


def setting_of(name: str, distribution: Distribution, *, label: str = "", listed: bool = True) -> Setting:
    """What a hyperparameter becomes that varies over a distribution.

    Args:
        name: canonical.
        distribution: its values typed.
        label: of its group, which goes before the parameter's name; empty in a sweep of one group.
        listed: write short ranges of whole numbers as lists (for random sampling).

    Returns:
        a constant, when the distribution has only one value.

    Raises:
        JobError: a value that Katib cannot put in.
    """
    if isinstance(distribution, Choice):
        return _choice(name, distribution, label)
    if isinstance(distribution, ReverseLogUniform):
        return _reverse(name, distribution, label)
    if isinstance(distribution, RandInt):
        return _randint(name, distribution, label, listed)
    if isinstance(distribution, Normal):
        low, high = distribution.mu - 3 * distribution.sigma, distribution.mu + 3 * distribution.sigma
        if isinstance(distribution, LogNormal):
            return _range(name, label, math.exp(low), math.exp(high), distribution.step, "logNormal")
        return _range(name, label, low, high, distribution.step, "normal")
    if isinstance(distribution, LogUniform):
        ends = distribution.endpoints()
        if ends[0] == ends[1]:
            return Setting(name, number(ends[0]))
        return _range(name, label, _exp(distribution.low), _exp(distribution.high), distribution.step, "logUniform")
    return _uniform(name, distribution, label)


def _choice(name: str, distribution: Choice, label: str) -> Setting:
    texts = list(dict.fromkeys(map(text_of, distribution.values)))
    if len(texts) == 1:
        return Setting(name, texts[0])
    for text in texts:
        check_substitutable(name, text)
    return _varying(name, label, "categorical", {"list": texts})


def _randint(name: str, distribution: RandInt, label: str, listed: bool) -> Setting:
    if distribution.upper == 1:
        return Setting(name, "0")
    if listed and distribution.upper <= _LONGEST_LIST:
        return _varying(name, label, "discrete", {"list": [str(value) for value in range(distribution.upper)]})
    return _varying(name, label, "int", {"min": "0", "max": str(distribution.upper - 1), "step": "1"})


def _reverse(name: str, distribution: ReverseLogUniform, label: str) -> Setting:
    """Evenly in log(1 - x) is `1-` something evenly in its logarithm; `kubesight train` reads `1-0.05` as 0.95."""
    low, high = Decimal(str(distribution.low)), Decimal(str(distribution.high))
    if low == high:
        return Setting(name, number(low))
    found = _range(f"one_minus_{name}", label, 1 - high, 1 - low, None, "logUniform")
    return Setting(name, f"1-{found.text}", found.parameter)


def _uniform(name: str, distribution: Uniform, label: str) -> Setting:
    if distribution.step is None:
        if distribution.low == distribution.high:
            return Setting(name, number(distribution.low))
        return _range(name, label, distribution.low, distribution.high, None, "uniform")
    # The multiples of the step that may be drawn, so that engines which count from `min` draw only those too.
    step = Decimal(str(distribution.step))
    low = round(distribution.low / distribution.step) * step
    high = round(distribution.high / distribution.step) * step
    if low == high:
        return Setting(name, number(low))
    if all(each == each.to_integral_value() for each in (low, step)):
        space = {key: str(int(each)) for key, each in (("min", low), ("max", high), ("step", step))}
        return _varying(name, label, "int", space)
    return _range(name, label, low, high, distribution.step, "uniform")


def _range(
    name: str, label: str, low: float | Decimal, high: float | Decimal, step: float | None, distribution: str
) -> Setting:
    space = {"min": number(low), "max": number(high)}
    if step is not None:
        space["step"] = number(step)
    if distribution != "uniform":
        space["distribution"] = distribution
    return _varying(name, label, "double", space)


def _exp(logarithm: float) -> float:
    """exp, to 12 digits: who writes the logarithm of 0.001 means 0.001, not 0.0010000000000000002."""
    return float(f"{math.exp(logarithm):.12g}")


def _varying(name: str, label: str, kind: str, space: dict[str, Any]) -> Setting:
    full = f"{label}_{name}" if label else name
    parameter = {"name": full, "parameterType": kind, "feasibleSpace": space}
    return Setting(name, f"${{trialParameters.{full}}}", parameter)
