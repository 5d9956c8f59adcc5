"""Escaping, and numbers as a person reads them."""

import html
import math
import numbers
import unicodedata
from collections.abc import Iterable


class Html(str):
    """Markup that is safe as it stands; any other value is escaped before it enters a page."""

    __slots__ = ()


def escape(value: object) -> Html:
    """The value as text that is safe in markup and in quoted attributes; `Html` goes through unchanged.

    Control characters (which no page may hold) become the replacement character.
    """
    if isinstance(value, Html):
        return value
    text = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t" else c
        for c in str(value)
    )
    return Html(html.escape(text, quote=True))


def join(parts: Iterable[str]) -> Html:
    """Concatenate markup."""
    return Html("".join(parts))


def shorten(text: str, length: int) -> str:
    """At most `length` characters, with an ellipsis in the middle, so that file names keep their end."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def number(value: object) -> str:
    """A number for a table or a tile: thousands separated, about four significant digits, a dash for none.

    Whole numbers are kept whole. Values that are not numbers are given back as text.
    """
    if value is None:
        return "–"  # noqa: RUF001 (an en dash is what a reader expects in an empty cell)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return str(value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    size = abs(float(value))
    if not math.isfinite(size):
        return "–"  # noqa: RUF001
    if size and size < 1e-4:
        return f"{float(value):.1e}"
    digits = 0 if size >= 1000 else 2 if size >= 10 else 4
    return f"{float(value):,.{digits}f}"


def whole(value: float) -> float | int:
    """An `int` where the value is a whole number, so that `number` shows it without decimals."""
    return int(value) if math.isfinite(value) and value == int(value) else float(value)


def plural(count: int, word: str, words: str | None = None) -> str:
    """`1 picture`, `1,204 pictures`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"
