"""Which labelled objects can be trained on and judged: those that cannot are errors, never guessed at."""

from collections.abc import Sequence

from kubesight.dataset.rle import rle_box, run_lengths
from kubesight.dataset.rows import Box, Instance
from kubesight.errors import DatasetError

_SAME_ASPECT = 0.01
_CONVERT = "`kubesight convert` puts such annotations right, or drops them and says so."


def object_corners(item: Box | Instance, width: int, height: int) -> tuple[float, float, float, float]:
    """The box of an object, as fractions.

    Args:
        item: the object.
        width: the picture's width in pixels.
        height: the picture's height in pixels.

    Returns:
        x0, y0, x1, y1 in [0, 1] with x0 < x1 and y0 < y1; of an outline, around its rings or its pixels.

    Raises:
        DatasetError: there is no such box, or the outline is none.
    """
    if isinstance(item, Box):
        corners = item.topX, item.topY, item.bottomX, item.bottomY
        what = "a box"
    elif item.rle is not None:
        corners = _mask_corners(item, width, height)
        what = "a mask"
    else:
        corners = _ring_corners(item.polygon)
        what = "a polygon"
    x0, y0, x1, y1 = corners
    text = f"{what} from {x0:.6g}, {y0:.6g} to {x1:.6g}, {y1:.6g}"
    if not (x0 < x1 and y0 < y1):
        raise DatasetError(f"{text} is inverted or empty", hint=_CONVERT)
    if min(corners) < 0 or max(corners) > 1:
        hint = f"Corners are fractions of the picture's width and height, from 0 to 1. {_CONVERT}"
        raise DatasetError(f"{text} reaches out of the picture", hint=hint)
    return corners


def _mask_corners(item: Instance, width: int, height: int) -> tuple[float, float, float, float]:
    assert item.rle is not None
    run_lengths(item.rle)
    own_height, own_width = item.rle.size
    if abs(own_width * height / (own_height * width) - 1) > _SAME_ASPECT:
        raise DatasetError(
            f"a run-length mask of {own_width} x {own_height} for a picture of {width} x {height}", hint=_CONVERT
        )
    return rle_box(item.rle)


def _ring_corners(rings: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    if not rings:
        raise DatasetError("it has no outline", hint=_CONVERT)
    for ring in rings:
        if len(ring) % 2:
            raise DatasetError(f"a ring of {len(ring)} numbers, which are not pairs", hint=_CONVERT)
        if len(ring) < 6:
            raise DatasetError(f"a ring of {len(ring) // 2} points, fewer than 3", hint=_CONVERT)
    return (
        min(min(ring[0::2]) for ring in rings),
        min(min(ring[1::2]) for ring in rings),
        max(max(ring[0::2]) for ring in rings),
        max(max(ring[1::2]) for ring in rings),
    )
