"""Boxes and polygons: from pixels to fractions of the picture, by stated rules for those that do not fit.

The rules: corners in the wrong order are put right; less than one square pixel is degenerate and dropped; what
reaches over the edge by up to one pixel (the rounding of exporters) is cut without a word, by more is cut and
reported, and what lies wholly outside is dropped.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from kubesight.convert.reading import Problem

Corners = tuple[float, float, float, float]


class Frame(NamedTuple):
    """The coordinate frame of annotations: `width` x `height` units over the whole picture.

    `orientation` is the EXIF orientation (1 or 5 to 8) that leads from the frame to the picture as a viewer shows it.
    `tolerance` and `least_area` are one pixel and one square pixel in the frame's units.
    """

    width: float
    height: float
    orientation: int = 1
    tolerance: float = 1.0
    least_area: float = 1.0

    @classmethod
    def fractions(cls, width: int | None, height: int | None) -> "Frame":
        """A frame of width and height 1 over a picture of this many pixels, when they are known.

        A box of exactly one pixel stays one after its corners were divided: hence the 0.99.
        """
        if not width or not height:
            return cls(1.0, 1.0, tolerance=0.002, least_area=1e-12)
        return cls(1.0, 1.0, tolerance=1 / min(width, height), least_area=0.99 / (width * height))


def pixel_size(width: float | None, height: float | None) -> tuple[int, int] | None:
    """A declared size as whole pixels; None when either is missing, below 1 or not finite."""
    sides = [int(side) for side in (width, height) if side is not None and math.isfinite(side) and side >= 1]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def fit_box(x0: float, y0: float, x1: float, y1: float, frame: Frame) -> tuple[Corners | None, Problem | None]:
    """Corners as fractions of the shown picture, and what was wrong with them.

    Args:
        x0: left edge in the frame's units; `y0`, `x1`, `y1` are top, right and bottom.
        y0: top edge.
        x1: right edge, exclusive (continuous coordinates).
        y1: bottom edge, exclusive.
        frame: the units.

    Returns:
        (left, top, right, bottom) in [0, 1] with left < right and top < bottom, or None when the box is dropped;
        and the problem, or None when the box is kept as it was.
    """
    width, height = frame.width, frame.height
    if 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and (x1 - x0) * (y1 - y0) >= frame.least_area:
        corners = (x0 / width, y0 / height, x1 / width, y1 / height)
        return (corners if frame.orientation == 1 else _turn_box(corners, frame.orientation)), None
    text = f"box {_number(x0)}, {_number(y0)}, {_number(x1)}, {_number(y1)}"
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        return None, Problem("dropped", "not_a_number", f"{text} is not made of finite numbers")
    problem = None
    if x1 < x0 or y1 < y0:
        problem = Problem("repaired", "reversed_box", f"{text} has its corners in the wrong order; they were swapped")
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if x0 == x1 or y0 == y1 or (x1 - x0) * (y1 - y0) < frame.least_area:
        return None, Problem("dropped", "degenerate_box", f"{text} has no area to speak of")
    inside = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return None, Problem("dropped", "box_outside", f"{text} lies outside the picture of {_size(frame)}")
    if (inside[2] - inside[0]) * (inside[3] - inside[1]) < frame.least_area:
        return None, Problem("dropped", "box_outside", f"{text} leaves next to nothing inside {_size(frame)}")
    if max(-x0, -y0, x1 - width, y1 - height) > frame.tolerance:
        problem = Problem("repaired", "box_clipped", f"{text} reaches over the edge of {_size(frame)}; it was cut")
    corners = (inside[0] / width, inside[1] / height, inside[2] / width, inside[3] / height)
    return (corners if frame.orientation == 1 else _turn_box(corners, frame.orientation)), problem


def fit_rings(rings: Sequence[Sequence[float | None]], frame: Frame) -> tuple[list[list[float]], list[Problem]]:
    """Rings as fractions of the shown picture, and what was wrong with them.

    Args:
        rings: flat x, y lists in the frame's units.
        frame: the units.

    Returns:
        The usable rings; none when the object is dropped, and then the last problem says `dropped`.
    """
    fitted: list[list[float]] = []
    problems: list[Problem] = []
    for ring in rings:
        result, problem = _fit_ring(ring, frame)
        if result is not None:
            fitted.append(result)
        if problem is not None:
            problems.append(problem)
    if not fitted:
        reason = problems[-1] if problems else Problem("dropped", "no_outline", "the object has no outline")
        return [], [*problems[:-1], reason._replace(severity="dropped")]
    return fitted, problems


def ring_bounds(rings: Sequence[Sequence[float]]) -> Corners:
    """Left, top, right and bottom of all rings, in their own units."""
    return (
        min(min(ring[0::2]) for ring in rings),
        min(min(ring[1::2]) for ring in rings),
        max(max(ring[0::2]) for ring in rings),
        max(max(ring[1::2]) for ring in rings),
    )


def _fit_ring(ring: Sequence[float | None], frame: Frame) -> tuple[list[float] | None, Problem | None]:
    """One ring; a ring that is left out counts as a repair of its object."""
    if len(ring) % 2:
        return None, Problem("repaired", "odd_polygon", f"a ring of {len(ring)} numbers, which are not pairs")
    if len(ring) < 6:
        return None, Problem("repaired", "short_polygon", f"a ring of {len(ring) // 2} points, fewer than 3")
    numbers: Sequence[float] = [math.nan if value is None else value for value in ring] if None in ring else ring  # type: ignore[misc, assignment]
    xs, ys = numbers[0::2], numbers[1::2]
    if not math.isfinite(sum(numbers)):
        return None, Problem("repaired", "not_a_number", f"a ring of {len(xs)} points with numbers that are not finite")
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    width, height, problem = frame.width, frame.height, None
    if left < 0 or top < 0 or right > width or bottom > height:
        text = f"a ring from {_number(left)}, {_number(top)} to {_number(right)}, {_number(bottom)}"
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            return None, Problem("repaired", "polygon_outside", f"{text} lies outside the picture of {_size(frame)}")
        if max(-left, -top, right - width, bottom - height) > frame.tolerance:
            problem = Problem("repaired", "polygon_clipped", f"{text} reaches over the edge of {_size(frame)}")
        xs = [min(max(x, 0.0), width) for x in xs]
        ys = [min(max(y, 0.0), height) for y in ys]
    if _is_flat(xs, ys):
        return None, Problem("repaired", "degenerate_polygon", f"a ring of {len(xs)} points on one line")
    fitted = [0.0] * len(ring)
    u, v = [x / width for x in xs], [y / height for y in ys]
    fitted[0::2], fitted[1::2] = (u, v) if frame.orientation == 1 else _turn_points(u, v, frame.orientation)
    return fitted, problem


def _is_flat(xs: Sequence[float], ys: Sequence[float]) -> bool:
    """Whether all points lie on one line: a zero area alone may be a bow tie, whose halves cancel out."""
    if sum(map(mul, xs, [*ys[1:], ys[0]])) != sum(map(mul, [*xs[1:], xs[0]], ys)):
        return False
    x, y = xs[0], ys[0]
    far = max(range(len(xs)), key=lambda k: (xs[k] - x) ** 2 + (ys[k] - y) ** 2)
    dx, dy = xs[far] - x, ys[far] - y
    return all(dx * (b - y) == dy * (a - x) for a, b in zip(xs, ys, strict=True))


def _turn_points(u: list[float], v: list[float], orientation: int) -> tuple[list[float], list[float]]:
    """Fractions of the stored picture to fractions of the shown one (EXIF 2.32, table of orientations)."""
    across = v if orientation in (5, 8) else [1 - y for y in v]
    down = u if orientation in (5, 6) else [1 - x for x in u]
    return across, down


def _turn_box(corners: Corners, orientation: int) -> Corners:
    xs, ys = _turn_points([corners[0], corners[2]], [corners[1], corners[3]], orientation)
    return min(xs), min(ys), max(xs), max(ys)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _size(frame: Frame) -> str:
    return f"{_number(frame.width)} x {_number(frame.height)}"
