"""What a sweep may draw a setting from: Azure's expressions, as text or as mappings, checked when they are read."""

import difflib
import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.spec import Hyperparameter

# exp of these is the least normal and about the greatest of a computer's numbers.
_LEAST_LOG, _GREATEST_LOG = -708.0, 709.0


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """There must be one at least."""
        if not self.values:
            raise ValueError("choice has no values")

    def endpoints(self) -> tuple[Any, ...]:
        """All values that may be drawn."""
        return self.values

    def size(self) -> int:
        """How many different values may be drawn."""
        return len(self.values)


@dataclass(frozen=True)
class RandInt:
    """A whole number from 0 up to, not including, `upper`."""

    upper: int

    def __post_init__(self) -> None:
        """It must be able to draw something."""
        if self.upper != int(self.upper) or self.upper < 1:
            raise ValueError(f"upper is {self.upper:g}, but must be a whole number >= 1")
        object.__setattr__(self, "upper", int(self.upper))

    def endpoints(self) -> tuple[int, int]:
        """The least and the greatest number that may be drawn."""
        return 0, self.upper - 1

    def size(self) -> int:
        """How many different values may be drawn."""
        return self.upper


@dataclass(frozen=True)
class _Interval:
    """Two ends in order, and with `step` only multiples of it."""

    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        """The ends must be in order and the step positive."""
        if self.low > self.high:
            raise ValueError(f"the lower end {self.low:g} is above the upper end {self.high:g}")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"q is {self.step:g}, but must be > 0")

    def _rounded(self, value: float) -> float:
        return value if self.step is None else round(value / self.step) * self.step

    @abstractmethod
    def endpoints(self) -> tuple[float, float]:
        """The least and the greatest number that may be drawn."""

    def size(self) -> float:
        """How many different values may be drawn; infinity for a range without steps."""
        low, high = self.endpoints()
        if low == high:
            return 1
        return math.inf if self.step is None else round((high - low) / self.step) + 1


@dataclass(frozen=True)
class Uniform(_Interval):
    """Evenly between two numbers; with a step, rounded to its multiples (Azure's `quniform`)."""

    def endpoints(self) -> tuple[float, float]:
        """The least and the greatest number that may be drawn."""
        return self._rounded(self.low), self._rounded(self.high)


@dataclass(frozen=True)
class LogUniform(_Interval):
    """exp of an even draw: `low` and `high` are logarithms, as in Azure."""

    def __post_init__(self) -> None:
        """Nothing may be drawn that is 0 for a computer, or infinite: a logarithmic range has no such ends."""
        super().__post_init__()
        for end in (self.low, self.high):
            if not _LEAST_LOG <= end <= _GREATEST_LOG:
                number = "0" if end < 0 else "too large a number"
                raise ValueError(f"exp({end:g}) is {number}; the ends of a logarithmic range are logarithms")

    def endpoints(self) -> tuple[float, float]:
        """The least and the greatest number that may be drawn."""
        return self._rounded(math.exp(self.low)), self._rounded(math.exp(self.high))


@dataclass(frozen=True)
class ReverseLogUniform(_Interval):
    """Evenly in log(1 - x), for numbers close to 1 (SageMaker's `ReverseLogarithmic`): 0 <= low <= x <= high < 1."""

    def __post_init__(self) -> None:
        """Both ends must be in [0, 1)."""
        super().__post_init__()
        if self.low < 0 or self.high >= 1:
            raise ValueError("a reverse logarithmic range must lie in [0, 1)")

    def endpoints(self) -> tuple[float, float]:
        """The least and the greatest number that may be drawn."""
        return self.low, self.high


@dataclass(frozen=True)
class Normal:
    """A normal draw. It has no ends: `share_outside` tells how often it leaves a setting's range."""

    mu: float
    sigma: float
    step: float | None = None

    def __post_init__(self) -> None:
        """Spread and step must be positive."""
        if self.sigma <= 0:
            raise ValueError(f"sigma is {self.sigma:g}, but must be > 0")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"q is {self.step:g}, but must be > 0")

    def endpoints(self) -> tuple[float, ...]:
        """The middle: there is no least and no greatest number."""
        return (self.mu if self.step is None else round(self.mu / self.step) * self.step,)

    def size(self) -> float:
        """Without end."""
        return math.inf

    def share_outside(self, low: float | None, high: float | None) -> float:
        """The share of draws below `low` or above `high`, from 0 to 1; an end that is None is never passed.

        With steps, draws that round to an end count as inside.
        """
        margin = (self.step or 0.0) / 2
        below = 0.0 if low is None else _normal_share((self._drawn(low - margin) - self.mu) / self.sigma)
        above = 0.0 if high is None else _normal_share((self.mu - self._drawn(high + margin)) / self.sigma)
        return below + above

    def _drawn(self, value: float) -> float:
        """What the normal draw is where the setting has a value."""
        return value


@dataclass(frozen=True)
class LogNormal(Normal):
    """exp of a normal draw."""

    def __post_init__(self) -> None:
        """Three spreads to both sides of the middle must be numbers of a computer, and not 0."""
        super().__post_init__()
        if self.mu - 3 * self.sigma < _LEAST_LOG or self.mu + 3 * self.sigma > _GREATEST_LOG:
            raise ValueError(f"exp({self.mu:g} +- 3 * {self.sigma:g}) are 0 or too large; mu and sigma are logarithms")

    def endpoints(self) -> tuple[float, ...]:
        """The median."""
        middle = math.exp(self.mu)
        return (middle if self.step is None else round(middle / self.step) * self.step,)

    def _drawn(self, value: float) -> float:
        return math.log(value) if value > 0 else -math.inf


def _normal_share(end: float) -> float:
    """The share of a standard normal draw below `end`."""
    return 0.5 * math.erfc(-end / math.sqrt(2))


Distribution = Choice | RandInt | Uniform | LogUniform | ReverseLogUniform | Normal | LogNormal

MOST_OUTSIDE = 0.05
"""The largest share of a normal distribution that may be outside a setting's range."""

_BOUNDS, _BELL = ("min_value", "max_value"), ("mu", "sigma")
_KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "choice": (Choice, ("values",)),
    "randint": (RandInt, ("upper",)),
    "uniform": (Uniform, _BOUNDS),
    "quniform": (Uniform, (*_BOUNDS, "q")),
    "loguniform": (LogUniform, _BOUNDS),
    "qloguniform": (LogUniform, (*_BOUNDS, "q")),
    "reverseloguniform": (ReverseLogUniform, _BOUNDS),
    "normal": (Normal, _BELL),
    "qnormal": (Normal, (*_BELL, "q")),
    "lognormal": (LogNormal, _BELL),
    "qlognormal": (LogNormal, (*_BELL, "q")),
}
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)


def parse(expression: Any) -> Distribution:
    """Read one entry of a search space.

    Args:
        expression: `uniform(0.001, 0.01)`, `choice('sgd', 'adam')`,
            `{type: uniform, min_value: 0.001, max_value: 0.01}`, `{type: choice, values: [sgd, adam]}`,
            or a plain value, which is then the only one.

    Returns:
        The distribution; values of a choice are as written, `typed` reads them.

    Raises:
        HyperparameterError: an unknown distribution, wrong arguments, or ends out of order.
    """
    if isinstance(expression, Mapping):
        return _from_mapping(expression)
    if isinstance(expression, str) and (call := _CALL.fullmatch(expression)):
        return _from_call(call[1], call[2])
    if isinstance(expression, list):
        raise HyperparameterError(
            f"{expression!r} is a list", hint="Write {type: choice, values: [...]}, or choice(...)."
        )
    return Choice((expression,))


def _from_mapping(expression: Mapping[str, Any]) -> Distribution:
    arguments = dict(expression)
    kind = _kind(str(arguments.pop("type", "")))
    names = _KINDS[kind][1]
    if set(arguments) != set(names):
        wanted = ", ".join(names)
        raise HyperparameterError(f"{kind} has {', '.join(arguments) or 'nothing'}, but needs {wanted}")
    if kind == "choice":
        values = arguments["values"]
        if isinstance(values, str) and (call := _CALL.fullmatch(values)):
            return _from_call(call[1], call[2])
        if not isinstance(values, list):
            raise HyperparameterError(f"values of choice are {values!r}, but must be a list")
        return _made(kind, [tuple(values)])
    return _made(kind, [_finite(kind, name, arguments[name]) for name in names])


def _from_call(kind: str, text: str) -> Distribution:
    kind = _kind(kind)
    parts = _parts(text)
    names = _KINDS[kind][1]
    if kind == "choice":
        if len(parts) == 1 and parts[0].startswith("[") and parts[0].endswith("]"):
            parts = _parts(parts[0][1:-1])
        return _made(kind, [tuple(_unquoted(part) for part in parts)])
    if len(parts) != len(names):
        raise HyperparameterError(f"{kind}({text}) has {len(parts)} arguments, but needs {', '.join(names)}")
    return _made(kind, [_finite(kind, name, part) for name, part in zip(names, parts, strict=True)])


def _kind(name: str) -> str:
    if name.lower() in _KINDS:
        return name.lower()
    near = difflib.get_close_matches(name.lower(), _KINDS, 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(_KINDS)}."
    raise HyperparameterError(f"unknown distribution {name!r}", hint=hint)


def _parts(text: str) -> list[str]:
    """Split at commas that are in no quotes and no brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    last = text[start:].strip()
    return [*parts, last] if last or parts else []


def _unquoted(part: str) -> str:
    return part[1:-1] if len(part) >= 2 and part[0] == part[-1] and part[0] in "'\"" else part


def _finite(kind: str, name: str, value: Any) -> float:
    return coerce(Hyperparameter(f"{name} of {kind}", "float", "", default=0.0), value)


def _made(kind: str, arguments: list[Any]) -> Distribution:
    try:
        return _KINDS[kind][0](*arguments)
    except ValueError as error:
        raise HyperparameterError(f"{kind}: {error}") from None


def in_base(distribution: Distribution, base: float) -> Distribution:
    """A distribution whose ends, middle and spread were written as logarithms to another base than e."""
    scale = math.log(base)
    if isinstance(distribution, LogUniform):
        return replace(distribution, low=distribution.low * scale, high=distribution.high * scale)
    if isinstance(distribution, LogNormal):
        return replace(distribution, mu=distribution.mu * scale, sigma=distribution.sigma * scale)
    return distribution


def typed(distribution: Distribution, row: Hyperparameter, *, written: str | None = None) -> Distribution:
    """Check a distribution against its row, and give the values of a choice their type.

    Args:
        distribution: what was read.
        row: the row as it is for the model.
        written: the name that the user wrote, for messages.

    Raises:
        HyperparameterError: a value that may be drawn is not one that the row allows.
    """
    name = written or row.name
    if isinstance(distribution, Choice):
        return _typed_choice(distribution, row, name)
    kind = type(distribution).__name__.lower()
    if row.kind not in ("int", "float"):
        raise HyperparameterError(
            f"{name} cannot be drawn from {kind}: it must be {row.allowed()}", hint="Use choice(...)."
        )
    step = getattr(distribution, "step", None)
    if row.kind == "int" and not isinstance(distribution, RandInt) and (step is None or step != int(step)):
        raise HyperparameterError(
            f"{name} is a whole number, which {kind} does not draw",
            hint=f"Use q{kind}(..., 1), randint(...) or choice(...).",
        )
    try:
        for end in distribution.endpoints():
            coerce(row, end, written=written)
    except HyperparameterError as error:
        if isinstance(distribution, LogUniform | LogNormal):
            error.hint = f"What {kind} is given are logarithms: from 0.001 to 0.1 is loguniform(-6.91, -2.30)."
        raise
    if row.kind == "int" and max(map(abs, distribution.endpoints())) > _EXACT:
        raise HyperparameterError(f"{name}: {kind} draws numbers up to {max(distribution.endpoints()):g}")
    _check_spread(distribution, row, name)
    return distribution


_EXACT = 2**53  # from here on floating-point numbers skip whole ones


def _typed_choice(distribution: Choice, row: Hyperparameter, name: str) -> Choice:
    values = tuple(coerce(row, value, written=name) for value in distribution.values)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise HyperparameterError(
                f"{name}: {value!r} stands twice in choice", hint="Keep one: all values have the same chance."
            )
    return Choice(values)


def _check_spread(distribution: Distribution, row: Hyperparameter, name: str) -> None:
    """Refuse a normal distribution that would often leave the setting's range: such trials can only fail."""
    if not isinstance(distribution, Normal):
        return
    share = distribution.share_outside(row.range.low, row.range.high)
    if share > MOST_OUTSIDE:
        raise HyperparameterError(
            f"{name}: {share:.0%} of {type(distribution).__name__.lower()}({distribution.mu:g}, "
            f"{distribution.sigma:g}) is not {row.range}",
            hint="Give it less spread, or use uniform(...) or loguniform(...).",
        )
