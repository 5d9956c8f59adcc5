"""What a detector says of one picture, and its small masks laid onto the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pycocotools import mask as coco_mask

MASK_SIDE = 28
"""Cells a side of the grid of probabilities that a Mask R-CNN lays over each box."""


@dataclass(frozen=True)
class Detections:
    """What a detector says of one picture.

    Attributes:
        boxes: float32 [n, 4], x0, y0, x1, y1 as fractions of the picture's width and height.
        labels: int64 [n], class indices from 0.
        scores: float32 [n], in descending order.
        masks: float32 [n, side, side], the probability of each cell of a grid laid over the box that it is the
            object; None when the model makes no masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        """How many objects were found."""
        return len(self.scores)

    def select(self, which: np.ndarray | slice) -> Self:
        """Some of them: by indices (in their order), a mask of booleans, or a slice."""
        masks = None if self.masks is None else self.masks[which]
        return type(self)(self.boxes[which], self.labels[which], self.scores[which], masks)

    @classmethod
    def empty(cls, masks: bool) -> Self:
        """Nothing found; `masks` says whether the model makes masks."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32),
            np.zeros((0, MASK_SIDE, MASK_SIDE), np.float32) if masks else None,
        )  # fmt: skip

    def pixel_boxes(self, height: int, width: int) -> np.ndarray:
        """The boxes in pixels of a picture of this size, float64 [n, 4]."""
        return self.boxes.astype(np.float64) * (width, height, width, height)


def paste_mask(
    mask: np.ndarray, box: Sequence[float] | np.ndarray, height: int, width: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Lay a mask's probabilities onto the picture, sampled bilinearly at the pixels' centres.

    The centre of pixel x is x + 0.5; it lies at u = (x + 0.5 - x0) / (x1 - x0) * side - 0.5 on the grid, whose cells
    have their centres at 0, 1 ... side - 1. Beyond the grid all is zero. So a pixel up to half a cell outside the box
    still has a probability, of less than a half. Only the pixels that may have one are computed.

    Args:
        mask: float32 [side, side].
        box: x0, y0, x1, y1 in pixels; it may reach beyond the picture.
        height: the picture's height in pixels.
        width: the picture's width in pixels.

    Returns:
        float32 [rows, columns] and the place (x, y) of its first pixel in the picture. It is empty when the box has no
        area or lies outside.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x1 > x0 and y1 > y0):
        return np.zeros((0, 0), np.float32), (0, 0)
    left, across = _weights(x0, x1, width, mask.shape[1])
    top, down = _weights(y0, y1, height, mask.shape[0])
    return down @ mask.astype(np.float32, copy=False) @ across.T, (left, top)


def _weights(start: float, end: float, limit: int, side: int) -> tuple[int, np.ndarray]:
    """The first pixel near an interval, and how much each cell counts for each pixel from there, [pixels, side].

    Bilinear interpolation is linear interpolation along each axis, whose weights are hats around the cells' centres.
    """
    margin = (end - start) / side / 2
    first = max(0, int(np.floor(max(start - margin, -1.0) - 0.5)))
    last = min(limit, int(np.ceil(min(end + margin, limit + 1.0) + 0.5)))
    places = (np.arange(first, max(first, last)) + 0.5 - start) / (end - start) * side - 0.5
    return first, np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side))).astype(np.float32)


def object_region(
    mask: np.ndarray, box: Sequence[float] | np.ndarray, height: int, width: int, threshold: float
) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of an object: as `paste_mask`, but bool [rows, columns], true from the threshold on.

    A pixel of probability 0 is never one of the object's, not even with a threshold of 0.
    """
    region, place = paste_mask(mask, box, height, width)
    return (region >= threshold) & (region > 0), place


def full_mask(
    mask: np.ndarray, box: Sequence[float] | np.ndarray, height: int, width: int, threshold: float
) -> np.ndarray:
    """The pixels of an object in the whole picture, bool [height, width]; see `paste_mask` and `object_region`."""
    region, (x, y) = object_region(mask, box, height, width, threshold)
    whole = np.zeros((height, width), bool)
    whole[y : y + region.shape[0], x : x + region.shape[1]] = region
    return whole


def mask_rles(detections: Detections, height: int, width: int, threshold: float) -> list[dict[str, Any]]:
    """The masks as COCO's compressed run lengths, `{"size": [height, width], "counts": bytes}`, one an object.

    They are made from the boxes' regions alone: memory and time do not grow with the picture.

    Args:
        detections: with masks.
        height: the picture's height in pixels.
        width: the picture's width in pixels.
        threshold: the probability from which a pixel belongs to the object.

    Raises:
        ValueError: the detections have no masks.
    """
    if detections.masks is None:
        raise ValueError("these detections have no masks")
    result = []
    for mask, box in zip(detections.masks, detections.pixel_boxes(height, width), strict=True):
        region, place = object_region(mask, box, height, width, threshold)
        result.append(region_rle(region, place, height, width))
    return result


def region_rle(region: np.ndarray, place: tuple[int, int], height: int, width: int) -> dict[str, Any]:
    """The compressed run lengths of a picture's mask of which only a region is given.

    Args:
        region: bool [rows, columns].
        place: x, y of its first pixel in the picture.
        height: the picture's height in pixels.
        width: the picture's width in pixels.
    """
    rows, columns = region.shape
    edges = np.zeros((columns, rows + 2), np.int8)
    edges[:, 1:-1] = region.T
    column, row = np.nonzero(np.diff(edges, axis=1))  # starts and ends of runs in turn, down the columns
    places = (column + place[0]) * height + row + place[1]
    # A run that ends with one column goes on where the next one's begins with it.
    joined = np.flatnonzero(places[1:-1:2] == places[2::2]) * 2 + 1
    places = np.delete(places, np.concatenate([joined, joined + 1]))
    counts = np.diff(np.concatenate([[0], places, [height * width]])).tolist()
    if counts[-1] == 0:
        counts.pop()  # as COCO's own encoder leaves it: equal masks have equal codes
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
