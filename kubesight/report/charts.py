"""Charts as inline SVG: bars, histograms and lines; heat maps are in `heatmap`."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from kubesight.report.axis import (
    WIDTH,
    Scale,
    chart,
    frame,
    horizontal,
    legend,
    log_ticks,
    round_ticks,
    text,
    text_width,
    tick_text,
    vertical,
)
from kubesight.report.heatmap import heatmap
from kubesight.report.markup import Html, escape, join, number, shorten, whole
from kubesight.report.style import series_colour

__all__ = ["bars", "heatmap", "histogram", "lines"]

_ROW = 22
_NAME_LENGTH = 26
_MARKED_POINTS = 40


def bars(
    labels: Sequence[str],
    values: Sequence[float] | Mapping[str, Sequence[float]],
    *,
    title: str = "",
    limit: int = 40,
) -> Html:
    """Horizontal bars, one a label, with the value beside each.

    Args:
        labels: the names, in the order to show.
        values: one number (0 or more) a label; or several named series of them, which are stacked, with a legend.
        title: the heading over the chart.
        limit: how many labels are drawn; a line under the chart says how many more there are.
    """
    series = dict(values) if isinstance(values, Mapping) else {"": values}
    if any(len(numbers) != len(labels) for numbers in series.values()):
        raise ValueError(f"every series must have {len(labels)} values")
    shown = list(labels)[:limit]
    totals = [sum(float(numbers[i]) for numbers in series.values()) for i in range(len(shown))]
    names = [shorten(str(name), _NAME_LENGTH) for name in shown]
    left = 12 + max((text_width(name) for name in names), default=0)
    right = 12 + max((text_width(number(whole(total))) for total in totals), default=0)
    scale = Scale(0, max(totals, default=0) or 1, left, WIDTH - right)
    parts: list[str] = []
    for row, (label, name, total) in enumerate(zip(shown, names, totals, strict=True)):
        top = row * _ROW + 3
        parts.append(text(left - 8, top + 13, name, "end", "v"))
        parts.append(_stack(str(label), {key: float(v[row]) for key, v in series.items()}, scale, top))
        parts.append(text(scale(total) + 6, top + 13, number(whole(total))))
    colours = [series_colour(i) for i in range(len(series))]
    below = legend(list(series), colours) if isinstance(values, Mapping) else Html()
    if len(labels) > limit:
        below = Html(f'<div class="key">and {len(labels) - limit:,} more</div>{below}')
    height = max(1, len(shown)) * _ROW + 4
    return chart(join(parts), title=title, label=f"bars of {len(labels)} labels", height=height, below=below)


def histogram(
    values: Sequence[float] | np.ndarray,
    bins: int | Sequence[float] | None = None,
    x_label: str = "",
    *,
    title: str = "",
    y_label: str = "",
    log: bool = False,
) -> Html:
    """How often values fall into each of a row of ranges.

    Args:
        values: numbers; those that are not finite are left out.
        bins: the edges, or about how many ranges between round numbers; by default whole numbers get a bar each
            when there are few of them.
        x_label: what the values are, with the unit.
        title: the heading over the chart.
        y_label: what is counted.
        log: a logarithmic x axis; values must be above 0.
    """
    numbers = np.asarray(values, np.float64).ravel()
    numbers = numbers[np.isfinite(numbers) & (numbers > 0 if log else True)]
    if not numbers.size:
        return _sentence("nothing to count", title)
    if bins is None and float(numbers.min()) == float(numbers.max()):
        return _sentence(f"{x_label}: all {numbers.size:,} are {number(whole(float(numbers[0])))}", title)
    edges, single = _edges(numbers, bins, log)
    counts, _ = np.histogram(numbers, edges)
    y_ticks = round_ticks(0, float(counts.max()), 5, whole=True)
    x, y = horizontal(edges[0], edges[-1], log=log), vertical(0, y_ticks[-1])
    gap = 1.0 if len(counts) <= 60 else 0.0
    parts: list[str] = []
    for count, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        if count:
            name = tick_text((low + high) / 2) if single else f"{tick_text(low)} to {tick_text(high)}"
            width, top = max(0.5, x(high) - x(low) - gap), min(y(count), y.start - 1)
            place = f'x="{x(low):g}" y="{top:g}" width="{width:g}" height="{y.start - top:g}"'
            parts.append(f'<rect class="c" {place}><title>{name}: {count:,}</title></rect>')
    body = frame(x, y, _histogram_ticks(edges, single, log), y_ticks, x_label, y_label) + join(parts)
    return chart(body, title=title, label=f"histogram of {numbers.size:,} values of {x_label}")


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str = "",
    y_label: str = "",
    *,
    diagonal: bool = False,
    marks: Mapping[str, tuple[float, float]] | None = None,
    shares: bool = False,
    title: str = "",
) -> Html:
    """Lines through points.

    Args:
        series: name to (xs, ys); pairs that are not finite are left out. A series of few points shows each of them,
            where no points are ringed.
        x_label: name and unit of the x axis.
        y_label: name and unit of the y axis.
        diagonal: draw y = x, for a reader to compare with (chance in a ROC curve, perfect calibration).
        marks: name of a series to one point of it that is ringed.
        shares: both axes go from 0 to 1, whatever the points.
        title: the heading over the chart.
    """
    curves = {name: _points(xs, ys) for name, (xs, ys) in series.items()}
    every = np.concatenate([*curves.values(), np.zeros((0, 2))])
    if not every.size:
        return _sentence("nothing to draw", title)
    (x_low, y_low), (x_high, y_high) = ((0, 0), (1, 1)) if shares else (every.min(0), every.max(0))
    x_ticks, y_ticks = _line_ticks(x_low, x_high), _line_ticks(y_low, y_high)
    x, y = horizontal(x_ticks[0], x_ticks[-1]), vertical(y_ticks[0], y_ticks[-1])
    parts: list[str] = [frame(x, y, x_ticks, y_ticks, x_label, y_label)]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.append(f'<path class="d" d="M{x(low):g} {y(low):g}L{x(high):g} {y(high):g}"/>')
    for index, (name, points) in enumerate(curves.items()):
        dots = marks is None and len(points) <= _MARKED_POINTS
        parts.append(_curve(name, points, x, y, series_colour(index), dots=dots))
    parts += [
        _mark(name, point, x, y, series_colour(list(curves).index(name))) for name, point in (marks or {}).items()
    ]
    named = [name for name in curves if name]
    below = legend(named, [series_colour(list(curves).index(name)) for name in named]) if named else Html()
    return chart(join(parts), title=title, label=f"{y_label} against {x_label}", below=below)


def _stack(label: str, values: Mapping[str, float], scale: Scale, top: int) -> Html:
    parts: list[str] = []
    start = 0.0
    for index, (name, value) in enumerate(values.items()):
        if value > 0:
            width = max(1.0, scale(start + value) - scale(start))
            said = f"{label}, {name}" if name else label
            parts.append(
                f'<rect x="{scale(start):g}" y="{top}" width="{width:g}" height="{_ROW - 6}" rx="2" '
                f'style="fill:{series_colour(index)}"><title>{escape(said)}: {number(whole(value))}</title></rect>'
            )
            start += value
    return join(parts)


def _edges(values: np.ndarray, bins: int | Sequence[float] | None, log: bool) -> tuple[list[float], bool]:
    """The edges, and whether each range holds a single whole number."""
    low, high = float(values.min()), float(values.max())
    if bins is not None and not isinstance(bins, int):
        return [float(edge) for edge in bins], False
    if log:
        high = max(high, low * 1.5)
        return [float(edge) for edge in np.geomspace(low, high, (bins or 24) + 1)], False
    if bins is None and high - low <= 50 and bool((values == np.round(values)).all()):
        return [float(edge) - 0.5 for edge in range(int(low), int(high) + 2)], True
    edges = round_ticks(low, high, (bins or 24) + 1)
    # A tick may lie above the smallest value by a rounding error; that value belongs to the first range all the same.
    return [min(edges[0], low), *edges[1:-1], max(edges[-1], high)], False


def _histogram_ticks(edges: Sequence[float], single: bool, log: bool) -> list[float]:
    low, high = edges[0], edges[-1]
    if single:
        ticks = round_ticks(math.ceil(low), math.floor(high), 9, whole=True)
    else:
        ticks = log_ticks(low, high) if log else round_ticks(low, high, 7)
    slack = 1e-9 * (high - low)
    return [tick for tick in ticks if low - slack <= tick <= high + slack]


def _sentence(words: str, title: str) -> Html:
    return chart(text(4, 18, words), title=title, label=words, height=28)


def _line_ticks(low: float, high: float) -> list[float]:
    # Shares are shown on the whole of [0, 1] when they fill a good part of it, so that charts compare at a glance.
    if low >= 0 and high <= 1 and (high > 0.5 or high == low) and low < 0.5:
        low, high = 0.0, 1.0
    elif 0 < low < 0.3 * high:
        low = 0.0
    return round_ticks(low, high, 6)


def _points(xs: Sequence[float], ys: Sequence[float]) -> np.ndarray:
    points = np.stack([np.asarray(xs, np.float64), np.asarray(ys, np.float64)], axis=1)
    return points[np.isfinite(points).all(axis=1)]


def _curve(name: str, points: np.ndarray, x: Scale, y: Scale, colour: str, *, dots: bool) -> Html:
    if not len(points):
        return Html()
    pixels = np.array([[x(px), y(py)] for px, py in points.tolist()])
    kept = np.concatenate([[True], (np.diff(pixels, axis=0) != 0).any(axis=1)])
    # A curve of a million points looks the same with the few hundred that lie a quarter of a pixel off a straight line.
    path = cv2.approxPolyDP(pixels[kept].astype(np.float32), 0.25, closed=False).reshape(-1, 2)
    place = "L".join(f"{px:.1f} {py:.1f}" for px, py in path.tolist())
    title = f"<title>{escape(name)}</title>" if name else ""
    parts = [f'<path class="l" style="stroke:{colour}" d="M{place}">{title}</path>']
    if dots:
        for (px, py), (vx, vy) in zip(pixels.tolist(), points.tolist(), strict=True):
            said = f"{name}: " if name else ""
            parts.append(
                f'<circle cx="{px:g}" cy="{py:g}" r="3" style="fill:{colour}">'
                f"<title>{escape(said)}{number(whole(vx))}, {number(whole(vy))}</title></circle>"
            )
    return join(parts)


def _mark(name: str, point: tuple[float, float], x: Scale, y: Scale, colour: str) -> Html:
    place = f'cx="{x(point[0]):g}" cy="{y(point[1]):g}" r="5"'
    said = escape(f"{name}: {number(whole(point[0]))}, {number(whole(point[1]))}")
    return Html(f'<circle class="m" {place} style="stroke:{colour}"><title>{said}</title></circle>')
