"""Which labelled objects and detections overlap, and how much: intersection over union of boxes or masks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from kubesight.metrics.objects import Bools, Floats, FoundObjects, Ints, TrueObjects, check_masks

PAIRS_AT_ONCE = 2_000_000
"""Pairs are compared in portions of about so many, which bounds the memory at some 200 MB."""


@dataclass(frozen=True)
class Overlaps:
    """Pairs that overlap at all, ordered by detection, then by labelled object.

    Attributes:
        true: [pairs] index of the labelled object.
        found: [pairs] index of the detection.
        iou: [pairs] intersection over union, in (0, 1].
    """

    true: Ints
    found: Ints
    iou: Floats

    def select(self, keep: Bools | Ints) -> "Overlaps":
        """Some of the pairs."""
        return Overlaps(self.true[keep], self.found[keep], self.iou[keep])


def overlaps(
    truth: TrueObjects,
    found: FoundObjects,
    *,
    masks: bool = False,
    same_class: bool = True,
    inclusive_pixels: bool = False,
) -> Overlaps:
    """All pairs of a labelled object and a detection of one picture whose overlap is not nothing.

    Crowds are objects like others here: COCO's intersection over the detection's area is an affair of COCO's metrics.

    Args:
        truth: the labelled objects.
        found: the detections.
        masks: compare masks, else boxes.
        same_class: only pairs of one class.
        inclusive_pixels: the VOC devkit's boxes: the last pixel belongs to the box, so that a side is x1 - x0 + 1. No
            effect on masks.

    Raises:
        ValueError: masks are asked for where there are none.
    """
    if masks:
        check_masks(truth, found)
    true_key, found_key = truth.image, found.image
    if same_class:
        classes = int(max(truth.label.max(initial=0), found.label.max(initial=0))) + 1
        true_key, found_key = true_key * classes + truth.label, found_key * classes + found.label
    parts: list[Overlaps] = []
    for true, detected in _pairs(true_key, found_key):
        if masks:
            iou = _mask_iou(truth, found, true, detected)
        else:
            iou = box_iou(truth.box[true], found.box[detected], inclusive_pixels=inclusive_pixels)
        parts.append(Overlaps(true, detected, iou).select(iou > 0))
    return Overlaps(
        np.concatenate([np.zeros(0, np.int64), *(part.true for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.found for part in parts)]),
        np.concatenate([np.zeros(0), *(part.iou for part in parts)]),
    )


def best_of_each(pairs: Overlaps) -> Overlaps:
    """The pair of the greatest overlap of each detection, the first of equals, by detection."""
    ordered = pairs.select(np.lexsort((pairs.true, -pairs.iou, pairs.found)))
    return ordered.select(np.diff(ordered.found, prepend=-1) != 0)


def box_iou(a: Floats, b: Floats, *, inclusive_pixels: bool = False) -> Floats:
    """Intersection over union of each box with the box of the same row, in [0, 1]; 0 for two boxes without area.

    Args:
        a: [n, 4] x0, y0, x1, y1.
        b: [n, 4].
        inclusive_pixels: sides are x1 - x0 + 1.
    """
    one = 1.0 if inclusive_pixels else 0.0
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]) + one
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]) + one
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    union = _area(a, one) + _area(b, one) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=(shared > 0) & (union > 0))


def _area(box: Floats, one: float) -> Floats:
    area: Floats = (box[:, 2] - box[:, 0] + one) * (box[:, 3] - box[:, 1] + one)
    return area


def _pairs(true_key: Ints, found_key: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Index pairs of equal keys, in portions: by detection, then by labelled object in the order given."""
    order = np.argsort(true_key, kind="stable")
    keys = true_key[order]
    first = np.searchsorted(keys, found_key, side="left")
    count = np.searchsorted(keys, found_key, side="right") - first
    ends = np.cumsum(count)
    start = 0
    while start < len(found_key):
        done = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")), start + 1)
        n = count[start:stop]
        detected = np.repeat(np.arange(start, stop), n)
        within = np.arange(len(detected)) - np.repeat(np.cumsum(n) - n, n)
        yield order[first[detected] + within], detected
        start = stop


def _mask_iou(truth: TrueObjects, found: FoundObjects, true: Ints, detected: Ints) -> Floats:
    """Intersection over union of the masks of each pair; one call of the C library for each block of pairs."""
    assert truth.masks is not None
    assert found.masks is not None
    # Pairs come as whole blocks: all detections of a picture (and class), each with all its labelled objects. A
    # block ends where the objects change, and they do when the first of a detection is another than before.
    starts = np.flatnonzero(np.diff(detected, prepend=-1))
    blocks = starts[np.diff(true[starts], prepend=-1) != 0].tolist()
    parts = [np.zeros(0)]
    for start, stop in zip(blocks, [*blocks, len(true)][1:], strict=True):
        rows = detected[start:stop]
        objects = true[start:stop][rows == rows[0]]
        finders = rows[:: len(objects)]
        block = coco_mask.iou(
            [found.masks[k] for k in finders.tolist()], [truth.masks[k] for k in objects.tolist()], [0] * len(objects)
        )
        parts.append(np.asarray(block, np.float64).ravel())
    return np.concatenate(parts)
