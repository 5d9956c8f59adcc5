"""From the rows of a data set, and from what a detector answers, to the objects that metrics compare.

Everything is in pixels of the labelled picture. Masks are COCO's compressed run lengths, as `pycocotools.mask` makes
them: dictionaries of `size` [height, width] and `counts`.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from kubesight.dataset.detections import Detections, mask_rles
from kubesight.dataset.images import read_details
from kubesight.dataset.object_checks import object_corners
from kubesight.dataset.rle import run_lengths
from kubesight.dataset.rows import Box, DetectionRow, Instance, Row, SegmentationRow
from kubesight.dataset.urls import local_path
from kubesight.errors import DatasetError
from kubesight.metrics.objects import FoundObjects, TrueObjects

DECIMALS = 6
"""Pixel coordinates are rounded to so many decimals.

Fractions of a picture times its size are then exactly the numbers that an annotation file had in pixels: no overlap
that lies exactly at a threshold falls on the other side, and no pixel of a mask changes.
"""

MaskRle = dict[str, Any]


def picture_size(row: Row) -> tuple[int, int]:
    """Width and height in pixels as the row tells them, else as the picture's header does.

    Raises:
        DatasetError: the picture cannot be read, or is on another machine.
    """
    details = row.image_details
    if details is None or not details.width or not details.height:
        path = local_path(row.image_url)
        if path is None:
            raise DatasetError(
                "the picture's size is not known, and it cannot be opened from here",
                where=row.image_url,
                hint="Give width and height in image_details.",
            )
        details = read_details(path)
    assert details.width
    assert details.height
    return details.width, details.height


def true_objects(rows: Iterable[Row], classes: Sequence[str]) -> TrueObjects:
    """The labelled objects of a detection or segmentation data set.

    A box's area is that of the row, else the box's own; a mask's that of the row, else its number of pixels. The box
    of a mask is the one around its pixels.

    Args:
        rows: one a picture, all of one task; also those without objects.
        classes: the class names in index order.

    Raises:
        DatasetError: a label is none of the classes, a box or outline is none (see `object_corners`), a picture's size
            is not known, or the rows are for classification.
    """
    index = {name: k for k, name in enumerate(classes)}
    sizes: list[tuple[int, int]] = []
    image: list[int] = []
    objects: list[Box | Instance] = []
    boxes: list[NDArray[np.float64]] = []
    masks: list[MaskRle] = []
    outlined = False
    for number, row in enumerate(rows):
        if not isinstance(row, DetectionRow | SegmentationRow):
            raise DatasetError("the row has no boxes and no outlines", where=row.image_url)
        outlined |= isinstance(row, SegmentationRow)
        width, height = picture_size(row)
        sizes.append((width, height))
        for item in row.label:
            corners = _checked_corners(item, row.image_url, width, height, index)
            image.append(number)
            objects.append(item)
            if isinstance(item, Instance):
                masks.append(instance_rle(item, height, width))
                boxes.append(rle_corners(masks[-1]))
            else:
                boxes.append(box_pixels(corners, width, height))
    box = np.array(boxes, np.float64).reshape(-1, 4)
    own = [mask_area(mask) for mask in masks] if outlined else ((box[:, 2:] - box[:, :2]).prod(axis=1)).tolist()
    given = [item.area for item in objects]
    area = [mine if value is None else value for mine, value in zip(own, given, strict=True)]
    return TrueObjects(
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        image=np.array(image, np.int64),
        label=np.array([index[item.label] for item in objects], np.int64),
        box=box,
        area=np.array(area, np.float64),
        crowd=np.array([bool(item.isCrowd) for item in objects], bool),
        difficult=np.array([bool(item.difficult) for item in objects], bool),
        masks=masks if outlined else None,
    )


def _checked_corners(
    item: Box | Instance, url: str, width: int, height: int, classes: Collection[str]
) -> tuple[float, float, float, float]:
    if item.label not in classes:
        raise DatasetError(f"the class {item.label!r} is none of the known ones", where=url)
    try:
        return object_corners(item, width, height)
    except DatasetError as error:
        raise DatasetError(error.message, where=url, hint=error.hint) from None


def found_objects(
    detections: Sequence[Detections], sizes: NDArray[np.int64], mask_threshold: float | None
) -> FoundObjects:
    """What a detector found, in pixels of the labelled pictures.

    Args:
        detections: one a picture, in the pictures' order.
        sizes: [pictures, 2] their widths and heights in pixels.
        mask_threshold: the probability from which a pixel belongs to an object; None leaves masks out.
    """
    return join_found(
        [
            _found_in_one(each, width, height, mask_threshold)
            for each, (width, height) in zip(detections, sizes.tolist(), strict=True)
        ],
        masks=mask_threshold is not None,
    )


def join_found(parts: Sequence[FoundObjects], *, masks: bool) -> FoundObjects:
    """What was found in each of the pictures, all together; each part is of one picture.

    Args:
        parts: one a picture, in the pictures' order.
        masks: whether they have masks; known even where there are no pictures.
    """
    empty = FoundObjects(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), [] if masks else None
    )
    parts = [*parts, empty]
    counts = [len(part) for part in parts]
    return FoundObjects(
        image=np.repeat(np.arange(len(parts)), counts),
        label=np.concatenate([part.label for part in parts]),
        box=np.concatenate([part.box for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        masks=[mask for part in parts for mask in part.masks or []] if masks else None,
    )


def _found_in_one(found: Detections, width: int, height: int, mask_threshold: float | None) -> FoundObjects:
    return FoundObjects(
        image=np.zeros(len(found), np.int64),
        label=found.labels.astype(np.int64),
        box=box_pixels(found.boxes, width, height),
        score=found.scores.astype(np.float64),
        masks=None if mask_threshold is None else mask_rles(found, height, width, mask_threshold),
    )


def box_pixels(corners: Sequence[float] | NDArray[Any], width: int, height: int) -> NDArray[np.float64]:
    """Left, top, right and bottom in pixels from fractions of the picture, rounded to a millionth of a pixel.

    Args:
        corners: [4] or [n, 4].
        width: the picture's width in pixels.
        height: its height.
    """
    return np.round(np.asarray(corners, np.float64) * (width, height, width, height), DECIMALS)


def instance_mask(instance: Instance, height: int, width: int) -> NDArray[np.uint8]:
    """An object's mask at any size, uint8 [height, width] of 0 and 1; see `instance_rle`."""
    mask: NDArray[np.uint8] = coco_mask.decode(instance_rle(instance, height, width))
    return mask


def instance_rle(instance: Instance, height: int, width: int) -> MaskRle:
    """An object's mask at any size, in compressed run lengths.

    Run lengths are taken as they are, and resized (nearest pixel) when the size is another. A ring is filled as COCO's
    own tools do; of several rings a pixel belongs to the object when an odd number of them covers it.

    Raises:
        DatasetError: the run lengths are not those of a whole mask.
    """
    if instance.rle is None:
        return polygon_rle(instance.polygon, height, width)
    runs = run_lengths(instance.rle)
    own_height, own_width = instance.rle.size
    rle = compress(runs.tolist(), own_height, own_width)
    if (own_height, own_width) == (height, width):
        return rle
    resized = cv2.resize(coco_mask.decode(rle), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return encode(resized)


def polygon_rle(rings: Sequence[Sequence[float]], height: int, width: int) -> MaskRle:
    """Rings of fractions filled by XOR, in compressed run lengths."""
    scale = np.array([width, height], np.float64)
    filled: list[MaskRle] = coco_mask.frPyObjects(
        [np.round(np.reshape(ring, (-1, 2)) * scale, DECIMALS).ravel().tolist() for ring in rings], height, width
    )
    if len(filled) == 1:
        return filled[0]
    return encode(np.bitwise_xor.reduce(coco_mask.decode(filled), axis=2))


def encode(mask: NDArray[np.uint8]) -> MaskRle:
    """A mask of 0 and 1, [height, width], in compressed run lengths."""
    rle: MaskRle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return rle


def compress(runs: list[int], height: int, width: int) -> MaskRle:
    """Listed run lengths, down the columns, in compressed form."""
    rle: MaskRle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return rle


def mask_area(rle: MaskRle) -> float:
    """The number of pixels of a mask; of a list of more than 255 pycocotools cannot count them."""
    return float(coco_mask.area(rle))


def rle_corners(rle: MaskRle) -> NDArray[np.float64]:
    """Left, top, right and bottom of a mask in pixels."""
    x, y, width, height = coco_mask.toBbox(rle)
    return np.array([x, y, x + width, y + height])
