"""Axes of a chart: round tick marks, their text, and the frame that they stand on."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kubesight.report.markup import Html, escape, join

WIDTH = 520
HEIGHT = 260
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 46


def round_ticks(low: float, high: float, count: int = 6, *, whole: bool = False) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) that cover [low, high].

    The first is at or below `low` and the last at or above `high`. With `whole` they are whole numbers.
    """
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-290):
        high = low + (abs(low) if abs(low) > 1e-290 else 1.0)
    raw = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [0.0 if i == 0 else i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten inside [low, high] (both above 0); powers alone when there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: Sequence[int] = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [m * 10.0**p for p in powers for m in steps]
    return [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]


def tick_text(value: float) -> str:
    """A tick in the fewest characters: `2,000`, `0.25`, `30k`, `1.5M`."""
    size = abs(value)
    for limit, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / {'G': 1e9, 'M': 1e6, 'k': 1e3}[mark]:g}{mark}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.6g}"


@dataclass(frozen=True)
class Scale:
    """Values [low, high] onto pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def horizontal(low: float, high: float, *, log: bool = False) -> Scale:
    """The x axis of a chart of the usual size."""
    return Scale(low, high, LEFT, WIDTH - RIGHT, log)


def vertical(low: float, high: float) -> Scale:
    """The y axis of a chart of the usual size."""
    return Scale(low, high, HEIGHT - BOTTOM, TOP)


def text(
    x: float, y: float, content: object, anchor: Literal["start", "middle", "end"] = "start", kind: str = ""
) -> Html:
    """One line of SVG text; `kind` is a class of the style sheet."""
    mark = f' class="{kind}"' if kind else ""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return Html(f'<text{mark} x="{x:g}" y="{y:g}"{place}>{escape(content)}</text>')


def text_width(content: str) -> float:
    """About how many pixels a line of SVG text takes; Chinese, Japanese and Korean characters are twice as wide."""
    return sum(13.0 if unicodedata.east_asian_width(character) in "WF" else 7.0 for character in content)


def frame(x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str) -> Html:
    """Grid lines, ticks and axis names."""
    parts = []
    for tick in y_ticks:
        parts.append(f'<path class="g" d="M{x.start:g} {y(tick):g}H{x.end:g}"/>')
        parts.append(text(x.start - 7, y(tick) + 4, tick_text(tick), "end"))
    for tick in x_ticks:
        parts.append(f'<path class="a" d="M{x(tick):g} {y.start:g}v4"/>')
        parts.append(text(x(tick), y.start + 17, tick_text(tick), "middle"))
    parts.append(f'<path class="a" d="M{x.start:g} {y.start:g}H{x.end:g}"/>')
    parts.append(text((x.start + x.end) / 2, HEIGHT - 8, x_label, "middle"))
    if y_label:
        middle = (y.start + y.end) / 2
        turn = f'transform="rotate(-90 12 {middle:g})" x="12" y="{middle:g}" text-anchor="middle"'
        parts.append(f"<text {turn}>{escape(y_label)}</text>")
    return join(parts)


def chart(body: str, *, title: str, label: str, width: float = WIDTH, height: float = HEIGHT, below: str = "") -> Html:
    """An SVG in a figure.

    Args:
        body: what is inside the SVG.
        title: the heading over it, or nothing.
        label: what it shows, for screen readers.
        width: of the view box, and the largest width on the page, in CSS pixels.
        height: of the view box.
        below: markup under it (a legend).
    """
    caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    size = f'viewBox="0 0 {width:g} {height:g}" style="--w:{width:g}px"'
    name = escape(f"{title}: {label}" if title else label)
    return Html(
        f'<figure class="chart">{caption}<svg role="img" aria-label="{name}" {size}>{body}</svg>{below}</figure>'
    )


def legend(names: Sequence[str], colours: Sequence[str]) -> Html:
    """Coloured squares with names."""
    cells = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(names, colours, strict=True)
    )
    return Html(f'<div class="key">{join(cells)}</div>')
