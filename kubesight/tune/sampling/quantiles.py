"""One parameter's values as shares of its distribution, and back.

Every sampler that draws numbers draws a share from 0 to 1, and the value is the distribution's quantile at that
share. So uniform shares have the declared distribution, whoever draws them, and a model of good shares starts from it.

Where this differs from Katib's services, on purpose (Katib 0.19 with hyperopt 0.2.5 and optuna 3.3):

- `normal` and `logNormal` are cut at min and max, as if draws outside were drawn again. Katib leaves the range.
- A step counts from min: min, min + step, ... up to max, as in Katib's grid, and with `uniform` all of them are
  equally likely. hyperopt rounds to multiples of the step, which can leave the range, and its end points have half
  the weight.
"""

import math
from decimal import Decimal
from statistics import NormalDist

from kubesight.tune.katib.objects import Parameter
from kubesight.tune.katib.settings import grid_size


def quantile(parameter: Parameter, share: float) -> str:
    """The value below which `share` of the distribution lies.

    Args:
        parameter: with a range or a list. A discrete list counts in the order of its numbers.
        share: from 0 to 1.

    Returns:
        As a command's argument: an int without a point, a double as Python writes it, a list's value as it was written.
    """
    if parameter.low is None or parameter.high is None:
        values = ordered(parameter)
        return values[min(int(share * len(values)), len(values) - 1)]
    count = grid_size(parameter) if parameter.step else 0
    if count == 1 or parameter.low == parameter.high:
        return grid_value(parameter, 0)
    value = _inverse(parameter, share)
    if parameter.step:
        index = math.floor((value - parameter.low) / parameter.step + 0.5)
        return grid_value(parameter, min(max(index, 0), count - 1))
    return repr(min(max(value, parameter.low), parameter.high))


def share(parameter: Parameter, text: str) -> float | None:
    """Where a value lies in its distribution; `quantile` at that share is the value again.

    Returns:
        None when the parameter cannot have the value.
    """
    if parameter.low is None or parameter.high is None:
        values = ordered(parameter)
        return (values.index(text) + 0.5) / len(values) if text in values else None
    try:
        value = float(text)
    except ValueError:
        return None
    if not parameter.low <= value <= parameter.high:
        return None
    if parameter.step:
        index = (value - parameter.low) / parameter.step
        if abs(index - round(index)) > 1e-6:
            return None
    return _forward(parameter, value)


def ordered(parameter: Parameter) -> tuple[str, ...]:
    """A list's values: numbers in their order, texts in the list's."""
    return tuple(sorted(parameter.values, key=float)) if parameter.kind == "discrete" else parameter.values


def grid_value(parameter: Parameter, index: int) -> str:
    """The value number `index`, from 0, of a parameter with a list or a step (or of a single value)."""
    if parameter.low is None:
        return parameter.values[index]
    if parameter.kind == "int":
        return str(int(parameter.low) + index * int(parameter.step or 1))
    # In decimals, as they were written: 0.01 + 2 * 0.01 is 0.03.
    return repr(float(Decimal(repr(parameter.low)) + index * Decimal(repr(parameter.step or 0.0))))


def _bounds(parameter: Parameter) -> tuple[float, float, float, float]:
    """Ends of the declared range and of what is drawn from, in the scale of the distribution.

    With a step, half a step more is drawn from on either side, so that rounding gives the end points their share.
    """
    assert parameter.low is not None
    assert parameter.high is not None
    low, high = parameter.low, parameter.high
    first, last = low, high
    if parameter.step:
        first = low - parameter.step / 2
        last = low + (grid_size(parameter) - 0.5) * parameter.step
    if parameter.distribution.startswith("log"):
        first = max(first, low / 2)  # the logarithm of what is left of a large step
        return math.log(low), math.log(high), math.log(first), math.log(last)
    return low, high, first, last


def _normal(low: float, high: float) -> NormalDist:
    return NormalDist((low + high) / 2, (high - low) / 6)


def _inverse(parameter: Parameter, share: float) -> float:
    low, high, first, last = _bounds(parameter)
    if parameter.distribution.lower().endswith("normal"):
        normal = _normal(low, high)
        below, above = normal.cdf(first), normal.cdf(last)
        value = normal.inv_cdf(min(max(below + share * (above - below), 1e-16), 1 - 1e-16))
    else:
        value = first + share * (last - first)
    return math.exp(value) if parameter.distribution.startswith("log") else value


def _forward(parameter: Parameter, value: float) -> float:
    low, high, first, last = _bounds(parameter)
    if first == last or low == high:
        return 0.5
    scaled = math.log(value) if parameter.distribution.startswith("log") else value
    if parameter.distribution.lower().endswith("normal"):
        normal = _normal(low, high)
        below, above = normal.cdf(first), normal.cdf(last)
        return min(max((normal.cdf(scaled) - below) / (above - below), 0.0), 1.0)
    return min(max((scaled - first) / (last - first), 0.0), 1.0)
