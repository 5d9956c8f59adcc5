"""Average precision by the rules of PASCAL VOC, for boxes and for masks.

The rules are those of the development kit (Everingham, Winn, "The PASCAL Visual Object Classes Challenge 2012
Development Kit", section 4.4; `VOCevaldet.m`):

- Detections of a class are taken by falling score. Each looks at one labelled object only, the one of its picture
  and class that it overlaps most, the first of equals; COCO lets it take the next best when that one is taken.
- It is a true positive when that overlap reaches the threshold and the object is still free, a false positive when
  the object is taken or the overlap is less.
- When that object is difficult or a crowd, the detection is left out, as such objects are from the number to find.
- A class without objects to find has no average precision, and is not in the mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kubesight.errors import HyperparameterError
from kubesight.metrics.objects import Bools, Floats, FoundObjects, Ints, TrueObjects, check_labels
from kubesight.metrics.overlap import Overlaps, overlaps

SMALLEST_IOU, LARGEST_IOU = 0.1, 1.0


@dataclass(frozen=True)
class ClassCurve:
    """How the ranking of one class fares; detections that are left out (difficult, crowd) are not in it.

    Attributes:
        name: the class.
        ground_truths: objects to find.
        score: [detections] falling.
        hit: [detections] whether each is a true positive.
        average_precision: in [0, 1], or None when there is nothing to find.
    """

    name: str
    ground_truths: int
    score: Floats
    hit: Bools
    average_precision: float | None

    @property
    def detections(self) -> int:
        """The number of detections in the ranking."""
        return len(self.score)

    @cached_property
    def recall(self) -> Floats:
        """[detections] the share of objects found down to each detection; all 0 when there is nothing to find."""
        return np.cumsum(self.hit) / max(self.ground_truths, 1)

    @cached_property
    def precision(self) -> Floats:
        """[detections] the share of true positives down to each detection."""
        return np.cumsum(self.hit) / np.arange(1, len(self.hit) + 1)


@dataclass(frozen=True)
class VocResult:
    """The mean over classes that have objects to find (None when no class has), and all classes in index order."""

    mean: float | None
    per_class: list[ClassCurve]


@dataclass(frozen=True)
class Matching:
    """What became of each detection, in the order of `found`.

    Attributes:
        found: the detections, ranked (`FoundObjects.ranked`).
        hit: [n] true positives.
        left_out: [n] detections that count neither way.
        match: [n] the labelled object that each true positive found, else -1.
    """

    found: FoundObjects
    hit: Bools
    left_out: Bools
    match: Ints


def voc_metrics(
    truth: TrueObjects,
    found: FoundObjects,
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    eleven_points: bool = False,
    inclusive_pixels: bool = False,
    masks: bool = False,
) -> VocResult:
    """Average precision of each class and their mean.

    Args:
        truth: the labelled objects.
        found: all detections, whatever their score.
        classes: the class names in index order.
        iou_threshold: the overlap from which a detection is right, in [0.1, 1].
        eleven_points: the mean of the best precision at recall 0, 0.1, ..., 1 (VOC 2007), else the area under the
            curve (VOC 2010 and later).
        inclusive_pixels: the development kit's boxes, whose last pixel belongs to them; no effect on masks.
        masks: compare masks, else boxes.

    Raises:
        HyperparameterError: the threshold is out of range.
        ValueError: an index is that of no class or picture, or masks are asked for where there are none.
    """
    matching = voc_matching(
        truth, found, classes, iou_threshold=iou_threshold, inclusive_pixels=inclusive_pixels, masks=masks
    )
    to_find = np.bincount(truth.label[~truth.ignored], minlength=len(classes)).tolist()
    counted = np.flatnonzero(~matching.left_out)
    # A stable sort by class keeps the ranking within each.
    counted = counted[np.argsort(matching.found.label[counted], kind="stable")]
    bounds = np.searchsorted(matching.found.label[counted], np.arange(len(classes) + 1)).tolist()
    curves = []
    for k, name in enumerate(classes):
        members = counted[bounds[k] : bounds[k + 1]]
        hit = matching.hit[members]
        precision = average_precision(hit, to_find[k], eleven_points=eleven_points)
        curves.append(ClassCurve(name, to_find[k], matching.found.score[members], hit, precision))
    defined = [curve.average_precision for curve in curves if curve.average_precision is not None]
    return VocResult(float(np.mean(defined)) if defined else None, curves)


def voc_matching(
    truth: TrueObjects,
    found: FoundObjects,
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    inclusive_pixels: bool = False,
    masks: bool = False,
) -> Matching:
    """Which detections are right by the development kit's rule; arguments and errors as for `voc_metrics`."""
    if not SMALLEST_IOU <= iou_threshold <= LARGEST_IOU:
        raise HyperparameterError(
            f"an overlap threshold of {iou_threshold} is out of range",
            hint=f"Choose one from {SMALLEST_IOU} to {LARGEST_IOU}.",
        )
    check_labels(truth, found, classes)
    ranked = found.ranked()
    best = _best_of_each(overlaps(truth, ranked, masks=masks, inclusive_pixels=inclusive_pixels and not masks))
    best = best.select(best.iou >= iou_threshold)
    ignored = truth.ignored[best.true]
    left_out = np.zeros(len(ranked), bool)
    left_out[best.found[ignored]] = True
    best = best.select(~ignored)
    # The first detection of the ranking that looks at an object gets it.
    objects, first = np.unique(best.true, return_index=True)
    match = np.full(len(ranked), -1, np.int64)
    match[best.found[first]] = objects
    return Matching(ranked, match >= 0, left_out, match)


def average_precision(hit: Bools, ground_truths: int, *, eleven_points: bool = False) -> float | None:
    """Average precision of a ranking.

    The area is the sum over true positives of (rise of recall) * (best precision from there on), that is, under the
    curve made monotonous. With `eleven_points` it is the mean over recall 0, 0.1, ..., 1 of the best precision at a
    recall no smaller, 0 where there is none.

    Args:
        hit: [n] true positives by falling score.
        ground_truths: objects to find.
        eleven_points: the rule of VOC 2007.

    Returns:
        In [0, 1]; None when there is nothing to find.
    """
    if not ground_truths:
        return None
    if not hit.any():
        return 0.0
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if not eleven_points:
        return float(envelope[hit].sum() / ground_truths)
    # Recall >= i / 10 in whole numbers: tenths are no binary fractions.
    places = np.searchsorted(hits * 10, np.arange(11) * ground_truths, side="left")
    return float(np.append(envelope, 0.0)[places].sum() / 11)


def _best_of_each(pairs: Overlaps) -> Overlaps:
    """The pair of the greatest overlap of each detection, the first of equals, by detection."""
    order = np.lexsort((pairs.true, -pairs.iou, pairs.found))
    ordered = pairs.select(order)
    return ordered.select(np.diff(ordered.found, prepend=-1) != 0)
