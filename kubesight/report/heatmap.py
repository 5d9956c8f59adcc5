"""Heat maps: a matrix of numbers, with its cells labelled while they are few enough to read."""

import base64
import math
from collections.abc import Sequence

import cv2
import numpy as np

from kubesight.report.axis import chart, text, text_width
from kubesight.report.markup import Html, escape, join, number, shorten, whole

LABELLED_SIDE = 45
"""Up to so many rows and columns, each cell is named and tells its value; larger ones are drawn as one picture."""

_PICTURE_SIDE = 180
_NAMED_TICKS = 30
_NAME_LENGTH = 20
_BLUE = (90, 130, 230)


def heatmap(
    matrix: Sequence[Sequence[float]] | np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    title: str = "",
    row_label: str = "",
    column_label: str = "",
    by_row: bool = True,
) -> Html:
    """A matrix as coloured cells.

    Args:
        matrix: numbers of 0 or more, [rows, columns].
        row_names: one a row, shown at the left.
        column_names: one a column, shown at the top.
        title: the heading over the chart.
        row_label: what the rows are ("true class").
        column_label: what the columns are ("predicted class").
        by_row: shade a cell by its share of the row's sum, as suits a confusion matrix; else of the largest cell.
    """
    cells = np.nan_to_num(np.asarray(matrix, np.float64))
    if cells.shape != (len(row_names), len(column_names)):
        raise ValueError(f"a matrix of {cells.shape} with {len(row_names)} row and {len(column_names)} column names")
    if not cells.size:
        return Html()
    rows, columns = [str(name) for name in row_names], [str(name) for name in column_names]
    if max(cells.shape) <= LABELLED_SIDE:
        body, width, height = _labelled(cells, rows, columns, row_label, column_label, by_row)
    else:
        body, width, height = _picture(cells, rows, columns, row_label, column_label, by_row)
    drawn = chart(body, title=title, label=f"{row_label} by {column_label}", width=width, height=height)
    return Html(f'<div class="wide">{drawn}</div>')


def _shares(cells: np.ndarray, by_row: bool) -> np.ndarray:
    whole = cells.sum(axis=1, keepdims=True) if by_row else np.full((1, 1), cells.max())
    return np.divide(cells, whole, out=np.zeros_like(cells), where=whole > 0)


def _labelled(
    cells: np.ndarray, rows: list[str], columns: list[str], row_label: str, column_label: str, by_row: bool
) -> tuple[Html, int, int]:
    texts = [[_short(value) for value in line] for line in cells.tolist()]
    longest = max(len(value) for line in texts for value in line)
    side = max(30 if max(cells.shape) <= 24 else 22, 7 * longest + 8)
    low = min(side, 30 if max(cells.shape) <= 24 else 22)
    left, top = _name_room(rows, row_label), _name_room(columns, column_label)
    parts: list[str] = [_names(rows, columns, left, top, low, side, row_label, column_label, 1)]
    shares = _shares(cells, by_row)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            place = f'x="{left + j * side}" y="{top + i * low}" width="{side - 1}" height="{low - 1}"'
            share = float(shares[i, j])
            if cells[i, j] == 0:
                parts.append(f'<rect class="e" {place}/>')
                continue
            tip = f"{escape(row)} → {escape(column)}: {number(whole(cells[i, j]))}"
            tip += f" ({share:.1%} of the row)" if by_row else ""
            kind = "k i" if share > 0.55 else "k"
            middle = f'x="{left + j * side + side / 2 - 0.5:g}" y="{top + i * low + low / 2 + 3.5:g}"'
            parts.append(
                f'<g><title>{tip}</title><rect class="c" {place} fill-opacity="{0.06 + 0.94 * share:.2f}"/>'
                f'<text class="{kind}" {middle}>{texts[i][j]}</text></g>'
            )
    return join(parts), left + side * len(columns) + 8, top + low * len(rows) + 4


def _picture(
    cells: np.ndarray, rows: list[str], columns: list[str], row_label: str, column_label: str, by_row: bool
) -> tuple[Html, int, int]:
    """Neighbouring classes are pooled (the mean of their shares), and the whole is one small PNG."""
    shares = _shares(cells, by_row)
    pool = math.ceil(max(shares.shape) / _PICTURE_SIDE)
    high, wide = (math.ceil(n / pool) for n in shares.shape)
    padded = np.zeros((high * pool, wide * pool))
    padded[: shares.shape[0], : shares.shape[1]] = shares
    pooled = padded.reshape(high, pool, wide, pool).mean(axis=(1, 3)) * pool
    pixels = np.zeros((high, wide, 4), np.uint8)
    pixels[..., :3] = _BLUE[::-1]
    # The square root lifts small shares: one confusion in ten should be seen from afar.
    pixels[..., 3] = np.round(np.sqrt(np.clip(pooled, 0, 1)) * 255)
    data = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    step = max(2, 720 // max(high, wide))
    left, top = _name_room(rows, row_label), _name_room(columns, column_label)
    place = f'x="{left}" y="{top}" width="{wide * step}" height="{high * step}"'
    image = f'<image {place} preserveAspectRatio="none" style="image-rendering:pixelated" '
    edge = f'<rect class="g" {place}/>'
    every = math.ceil(max(shares.shape) / _NAMED_TICKS)
    names = _names(rows, columns, left, top, step / pool, step / pool, row_label, column_label, every)
    body = join([names, f'{image}href="data:image/png;base64,{data}"/>', edge])
    return body, left + wide * step + 8, top + high * step + 4


def _names(
    rows: list[str],
    columns: list[str],
    left: int,
    top: int,
    low: float,
    side: float,
    row_label: str,
    column_label: str,
    every: int,
) -> Html:
    """The names at the left and, turned, at the top: each `every`-th one."""
    parts: list[str] = []
    for i in range(0, len(rows), every):
        parts.append(text(left - 6, top + (i + 0.5) * low + 4, shorten(rows[i], _NAME_LENGTH), "end", "v"))
    for j in range(0, len(columns), every):
        x = left + (j + 0.5) * side + 4
        turn = f'transform="translate({x:g} {top - 6}) rotate(-90)"'
        parts.append(f'<text class="v" {turn}>{escape(shorten(columns[j], _NAME_LENGTH))}</text>')
    if row_label:
        middle = top + low * len(rows) / 2
        turn = f'transform="rotate(-90 12 {middle:g})" x="12" y="{middle:g}" text-anchor="middle"'
        parts.append(f"<text {turn}>{escape(row_label)}</text>")
    if column_label:
        parts.append(text(left + side * len(columns) / 2, 12, column_label, "middle"))
    return join(parts)


def _name_room(names: list[str], label: str) -> int:
    return round(14 + max(text_width(shorten(name, _NAME_LENGTH)) for name in names) + (18 if label else 0))


def _short(value: float) -> str:
    """The value in at most about five characters."""
    if value == int(value):
        return f"{int(value)}" if value < 1e5 else f"{value / 1e3:.0f}k"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
