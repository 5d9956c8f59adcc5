"""Shapes drawn as lines over a picture: sharp at any size, each with a tip, in layers that a reader can hide.

Nothing is painted into the picture itself: boxes and outlines are SVG paths, so that a hundred objects stay readable
when the reader zooms, and class names of any script can be written. Layers are switched by check boxes and style rules
alone, without scripts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kubesight.report.axis import text_width
from kubesight.report.markup import Html, escape, join
from kubesight.report.pictures import Rgb
from kubesight.report.style import LAYERS

UNITS = 1000
"""The long side of a drawing in units of its view box; corners are rounded to whole units."""

FONT = 22.0
"""Height of a tag in units; twelve pixels or so where two pictures stand side by side."""

_WIDE = 1.15 / 12.0  # tags are bold, and `text_width` counts for letters of 12 pixels
_GAP = 5


@dataclass(frozen=True)
class Layer:
    """One kind of shape.

    Attributes:
        name: what the key calls it.
        colour: a bright one, since every line has a dark edge.
        sign: a character before the tags, so that colour is not all that tells kinds apart.
        dashed: whether lines are broken.
        note: one sentence for the key's tip.
    """

    name: str
    colour: Rgb
    sign: str = ""
    dashed: bool = False
    note: str = ""


@dataclass(frozen=True)
class Shape:
    """One box or outline on a picture.

    Attributes:
        layer: index into the layers.
        box: left, top, right, bottom as fractions of the picture's width and height.
        rings: closed outlines to draw instead of the box, each [points, 2] as fractions.
        tags: what may be written at the box, the longest first; the first one that finds room is.
        tip: what is shown when the pointer rests on it.
    """

    layer: int
    box: tuple[float, float, float, float]
    rings: Sequence[np.ndarray] = ()
    tags: tuple[str, ...] = ()
    tip: str = ""


def overlay(
    picture: str | None,
    size: tuple[int, int],
    shapes: Iterable[Shape],
    layers: Sequence[Layer],
    *,
    label: str = "",
    thin: bool = False,
) -> Html:
    """A picture with shapes over it, as one SVG.

    Args:
        picture: a data URI, or None for an empty ground.
        size: width and height of the picture; only their ratio matters.
        shapes: tags are written while there is room for them, those of earlier shapes first.
        layers: at most `LAYERS`.
        label: what it shows, for screen readers.
        thin: thinner lines, for crowds.
    """
    if len(layers) > LAYERS:
        raise ValueError(f"{len(layers)} layers, of which the style sheet knows {LAYERS}")
    given = list(shapes)
    scale = UNITS / max(size)
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    parts = _lines(given, layers, width, height) + _tags(given, width, height)
    ground = f'<image href="{escape(picture)}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
    colours = ";".join(f"--k{index}:rgb{layer.colour}" for index, layer in enumerate(layers))
    name = f'class="over{" thin" * thin}" role="img" aria-label="{escape(label)}"'
    return Html(
        f'<svg {name} viewBox="0 0 {width} {height}" style="{colours}">{ground if picture else ""}{join(parts)}</svg>'
    )


def switches(layers: Sequence[Layer], counts: Mapping[int, int]) -> Html:
    """The key of a section's drawings: a check box for each layer that occurs, which shows and hides it there."""
    cells = []
    for index, layer in enumerate(layers):
        if counts.get(index):
            line = "dashed" if layer.dashed else "solid"
            mark = f'<i style="border-color:rgb{layer.colour};border-style:{line}"></i>'
            sign = f"<b>{escape(layer.sign)}</b> " if layer.sign else ""
            cells.append(
                f'<label title="{escape(layer.note)}"><input type="checkbox" class="w{index}" checked>{mark}'
                f"<span>{sign}{escape(layer.name)} ({counts[index]:,})</span></label>"
            )
    return Html(f'<div class="switches">{join(cells)}</div>')


def scenes(items: Iterable[tuple[str, str]]) -> Html:
    """A grid of drawings, two to a row where the page is wide, each (drawing, caption), both markup.

    A check box in each caption gives its picture the whole width.
    """
    cells = (
        f'<figure>{drawing}<figcaption>{caption}<label class="zoom"><input type="checkbox">larger</label>'
        "</figcaption></figure>"
        for drawing, caption in items
    )
    return Html(f'<div class="scenes">{join(cells)}</div>')


def _lines(shapes: Sequence[Shape], layers: Sequence[Layer], width: int, height: int) -> list[str]:
    """The dark edges of all lines, a path a layer, and over them each shape's own line with its tip."""
    paths = [_path(shape, width, height) for shape in shapes]
    edges: dict[int, list[str]] = {}
    for shape, path in zip(shapes, paths, strict=True):
        edges.setdefault(shape.layer, []).append(path)
    kinds = [f"k{index} dash" if layer.dashed else f"k{index}" for index, layer in enumerate(layers)]
    parts = [f'<path class="o {kinds[layer]}" d="{"".join(each)}"/>' for layer, each in sorted(edges.items())]
    # Small shapes lie over large ones, so that the pointer finds each.
    for index in sorted(range(len(shapes)), key=lambda index: -_area(shapes[index].box)):
        shape = shapes[index]
        tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
        parts.append(f'<path class="{kinds[shape.layer]}" d="{paths[index]}">{tip}</path>')
    return parts


def _path(shape: Shape, width: int, height: int) -> str:
    parts = []
    for ring in shape.rings:
        points = np.rint(np.asarray(ring) * (width, height)).astype(np.int64)
        steps = np.diff(points, axis=0)
        moved = steps[(steps != 0).any(axis=1)].tolist()
        if moved:  # a ring of less than a unit is nothing to see
            parts.append(f"M{points[0, 0]} {points[0, 1]}l{' '.join(f'{x} {y}' for x, y in moved)}z")
    if parts:
        return "".join(parts).replace(" -", "-")
    left, top, right, bottom = _units(shape.box, width, height)
    return f"M{left} {top}H{right}V{bottom}H{left}z"


def _units(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _tags(shapes: Sequence[Shape], width: int, height: int) -> list[str]:
    """The tags that find room beside their boxes without covering another one."""
    taken = np.zeros((0, 4))
    found = []
    for shape in shapes:
        place = next(
            (
                (tag, where)
                for tag in shape.tags
                for where in _places(tag, shape.box, width, height)
                if not _touches(where, taken)
            ),
            None,
        )
        if place:
            tag, (left, top, right, bottom) = place
            taken = np.vstack([taken, [left, top, right, bottom]])
            found.append(f'<text class="k{shape.layer}" x="{left:.0f}" y="{bottom - _GAP:.0f}">{escape(tag)}</text>')
    return found


def _places(
    tag: str, box: tuple[float, float, float, float], width: int, height: int
) -> list[tuple[float, float, float, float]]:
    """Where a tag may stand, inside the picture: over the box, under it, or inside where the box is large enough."""
    left, top, right, bottom = _units(box, width, height)
    long, high = text_width(tag) * FONT * _WIDE, FONT + _GAP
    start = min(max(0.0, left), max(0.0, width - long))
    corners = [(start, top - high), (max(0.0, right - long), top - high), (start, bottom)]
    if right - left > long and bottom - top > high:
        corners.insert(1, (left + _GAP, top + 1))
    return [(x, y, x + long, y + high) for x, y in corners if y >= 0 and y + high <= height and x + long <= width + 1]


def _touches(where: tuple[float, float, float, float], taken: np.ndarray) -> bool:
    left, top, right, bottom = where
    return bool(((taken[:, 0] < right) & (taken[:, 2] > left) & (taken[:, 1] < bottom) & (taken[:, 3] > top)).any())
