"""From the objects of one picture to its row."""

import math
from collections.abc import Sequence
from typing import Any

from kubesight.convert.geometry import Frame, fit_box, fit_rings
from kubesight.convert.pictures import Picture
from kubesight.convert.reading import Problem
from kubesight.dataset.outlines import crosses_itself, encode_mask, mask_rings, turn_mask
from kubesight.dataset.rle import rle_mask
from kubesight.dataset.rows import ROW_TYPES, Box, ImageDetails, Instance, Part, Rle, Row, Task
from kubesight.errors import DatasetError

_SAME_ASPECT = 0.01


def make_row(
    task: Task,
    url: str,
    details: ImageDetails | None,
    label: str | Sequence[str | Box | Instance],
    *,
    split: Part | None = None,
    group: str | None = None,
    image_id: int | str | None = None,
) -> Row:
    """The row of one picture; objects become the sorted set of their classes when the task is multilabel."""
    if task is Task.MULTILABEL and not isinstance(label, str):
        label = sorted({item if isinstance(item, str) else item.label for item in label})
    what: dict[str, Any] = {"image_url": url, "image_id": image_id, "image_details": details, "label": label}
    return ROW_TYPES[task](**what, split=split, group=group)


def make_box(
    label: str, corners: tuple[float, float, float, float], frame: Frame, **flags: Any
) -> tuple[Box | None, list[Problem]]:
    """A box from its corners in the frame's units, by the rules of `fit_box`."""
    fitted, problem = fit_box(*corners, frame)
    box = Box(label, *fitted, **flags) if fitted else None
    return box, [problem] if problem else []


def make_outlined(
    label: str, rings: Sequence[Sequence[float | None]], frame: Frame, **flags: Any
) -> tuple[Instance | None, list[Problem]]:
    """An instance from its rings in the frame's units, by the rules of `fit_rings`."""
    polygon, problems = fit_rings(rings, frame)
    if not polygon:
        return None, problems
    if any(crosses_itself(ring) for ring in polygon):
        message = "its outline crosses itself; where it runs around a part twice, that part may be left out of the mask"
        problems.append(Problem("warning", "self_crossing", message))
    return Instance(label, polygon, None, **flags), problems


def make_masked(label: str, rle: Rle, frame: Frame, **flags: Any) -> tuple[Instance | None, list[Problem]]:
    """An instance from a run-length mask, kept as it is, with its exact outline beside it.

    The mask may be at another scale than the picture, not of another shape.
    """
    try:
        mask = rle_mask(rle)
    except DatasetError as error:
        return None, [Problem("dropped", "bad_rle", error.message)]
    height, width = rle.size
    if abs(width * frame.height / (height * frame.width) - 1) > _SAME_ASPECT:
        message = f"a mask of {width} x {height} for a picture of {frame.width:g} x {frame.height:g}"
        return None, [Problem("dropped", "mask_size", message)]
    if not mask.any():
        return None, [Problem("dropped", "empty_mask", "the run-length mask has no pixel set")]
    if frame.orientation != 1:
        mask = turn_mask(mask, frame.orientation)
        rle = encode_mask(mask)
    height, width = mask.shape
    rings = [list(_fractions(ring, width, height)) for ring in mask_rings(mask)]
    return Instance(label, rings, rle=rle, **flags), []


def shown_area(area: Any, picture: Picture) -> float | None:
    """An object's area in pixels of the picture, from that in the units of its annotations; None when that is none."""
    details, frame = picture.details, picture.frame
    if type(area) not in (int, float) or not 0 <= area < math.inf:  # the exact types: a boolean is no area
        return None
    if details is None or frame is None or not details.width or not details.height:
        return float(area)
    drawn, shown = frame.width * frame.height, details.width * details.height
    return float(area) if drawn == shown else float(area) * shown / drawn


def _fractions(ring: list[int], width: int, height: int) -> list[float]:
    fractions = [0.0] * len(ring)
    fractions[0::2] = [x / width for x in ring[0::2]]
    fractions[1::2] = [y / height for y in ring[1::2]]
    return fractions
