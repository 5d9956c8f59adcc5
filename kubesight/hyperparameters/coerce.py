"""Reading one value: strict, whether it comes typed from YAML or as text from a flag, Katib, KFP or SageMaker."""

import math
import re
from typing import Any

import orjson

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.spec import Hyperparameter

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMPLEMENT = "1-"
_GRID = re.compile(r"\(?\s*(\d+)\s*[xX,]\s*(\d+)\s*\)?", re.ASCII)
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_NONE = ("none", "null", "")


class _Refused(Exception):
    """The value is not one that the row allows."""


def coerce(row: Hyperparameter, value: Any, *, written: str | None = None) -> Any:
    """Give a value the type of its row.

    Args:
        row: the row as it is for the model (`Hyperparameter.for_model`).
        value: native or text: `True` or `"True"`, `3` or `"3"` or `3.0`, `0.01` or `"1e-2"`, `"3x2"`. A float may be
            its complement to 1, `"1-0.001"`: a sweep draws numbers close to 1 by their distance from it, for which
            Katib, which puts values into commands as they are, knows no distribution.
        written: the name that the user wrote, for the message.

    Returns:
        bool, int, float, str, dict or a list of three floats; None where the row may be unset.

    Raises:
        HyperparameterError: the value is of another type, not finite, or outside the range or the choices.
    """
    try:
        if value is None and row.kind != "choice":
            return _unset(row)
        if row.default is None and isinstance(value, str) and value.lower() in (*_NONE, *_unset_words(row)):
            return None
        return _READERS[row.kind](row, value)
    except _Refused:
        name = row.name if written in (None, row.name) else f"{written} ({row.name})"
        raise HyperparameterError(f"{name} is {_shown(value)}, but must be {row.allowed()}") from None


def _unset(row: Hyperparameter) -> None:
    if row.default is not None:
        raise _Refused


def _unset_words(row: Hyperparameter) -> tuple[str, ...]:
    return ("auto",) if row.name == "number_of_workers" else ()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(value: Any) -> int | float:
    """A finite number; ints stay ints, so that large ones lose nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Refused
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise _Refused
        digits = value.lstrip("+-")
        value = int(value) if digits.isdigit() and len(digits) < 400 else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Refused
    return value


def _in_range(row: Hyperparameter, value: float) -> float:
    if value not in row.range:
        raise _Refused
    return value


def _int(row: Hyperparameter, value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise _Refused
    _in_range(row, number)
    return int(number)


def _float(row: Hyperparameter, value: Any) -> float:
    if isinstance(value, str) and value.startswith(_COMPLEMENT) and value[2:3] not in ("+", "-"):
        value = 1 - float(_number(value.removeprefix(_COMPLEMENT)))
    try:
        return float(_in_range(row, _number(value)))
    except OverflowError:
        raise _Refused from None


def _bool(row: Hyperparameter, value: Any) -> bool:
    if not isinstance(value, bool | int | float | str) or str(value).lower() not in _TRUTH:
        raise _Refused
    return _TRUTH[str(value).lower()]


def _choice(row: Hyperparameter, value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).lower()
    if re.fullmatch(r"\d+\.0+", text, re.ASCII):
        text = text.split(".")[0]
    known = {str(choice).lower(): choice for choice in row.choices} | dict(row.spellings)
    if not isinstance(value, str | int | None) or text not in known:
        raise _Refused
    return known[text]


def _str(row: Hyperparameter, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Refused
    return value


def _json(row: Hyperparameter, value: Any) -> dict[str, bool]:
    """Switches by name; `row.choices` are the names that there are."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise _Refused from None
    if not isinstance(value, dict) or not set(value) <= set(row.choices):
        raise _Refused
    return {key: _bool(row, switch) for key, switch in value.items()}


def _grid(row: Hyperparameter, value: Any) -> str:
    if isinstance(value, list | tuple):
        value = "x".join(map(str, value))
    match = _GRID.fullmatch(value) if isinstance(value, str) else None
    columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(columns, rows) < 1 or columns * rows == 1:
        raise _Refused
    return f"{columns}x{rows}"


def _triple(row: Hyperparameter, value: Any) -> list[float]:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]() ").split(",")]
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise _Refused
    return [_float(row, part) for part in value]


_READERS = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "choice": _choice,
    "str": _str,
    "json": _json,
    "grid": _grid,
    "triple": _triple,
}
