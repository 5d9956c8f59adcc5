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
from kubesight.metrics.overlap import Overlaps, best_of_each, overlaps

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
    """What became of each detection of a ranking.

    Attributes:
        match: [n] the labelled object that each true positive found, else -1.
        left_out: [n] detections that count neither way.
    """

    match: Ints
    left_out: Bools

    @property
    def hit(self) -> Bools:
        """[n] true positives."""
        return self.match >= 0


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
    check_iou_threshold(iou_threshold)
    check_labels(truth, found, classes)
    ranked = found.select(found.ranking())
    pairs = overlaps(truth, ranked, masks=masks, inclusive_pixels=inclusive_pixels)
    matching = voc_matching(truth, len(ranked), pairs, iou_threshold)
    to_find = np.bincount(truth.label[~truth.ignored], minlength=len(classes)).tolist()
    curves = []
    for k, members in enumerate(members_of_classes(ranked.label, ~matching.left_out, len(classes))):
        hit = matching.hit[members]
        precision = average_precision(hit, to_find[k], eleven_points=eleven_points)
        curves.append(ClassCurve(classes[k], to_find[k], ranked.score[members], hit, precision))
    defined = [curve.average_precision for curve in curves if curve.average_precision is not None]
    return VocResult(float(np.mean(defined)) if defined else None, curves)


def check_iou_threshold(iou_threshold: float) -> None:
    """Refuse an overlap threshold outside [0.1, 1].

    Raises:
        HyperparameterError: it is outside.
    """
    if not SMALLEST_IOU <= iou_threshold <= LARGEST_IOU:
        raise HyperparameterError(
            f"an overlap threshold of {iou_threshold} is out of range",
            hint=f"Choose one from {SMALLEST_IOU} to {LARGEST_IOU}.",
        )


def voc_matching(truth: TrueObjects, detections: int, pairs: Overlaps, iou_threshold: float) -> Matching:
    """Which detections are right by the development kit's rule.

    Args:
        truth: the labelled objects.
        detections: how many there are; pairs number them by rank.
        pairs: overlaps of objects and detections of one class.
        iou_threshold: the overlap from which a detection is right.
    """
    best = best_of_each(pairs)
    best = best.select(best.iou >= iou_threshold)
    ignored = truth.ignored[best.true]
    left_out = np.zeros(detections, bool)
    left_out[best.found[ignored]] = True
    best = best.select(~ignored)
    # The first detection of the ranking that looks at an object gets it.
    objects, first = np.unique(best.true, return_index=True)
    match = np.full(detections, -1, np.int64)
    match[best.found[first]] = objects
    return Matching(match, left_out)


def members_of_classes(label: Ints, keep: Bools, classes: int) -> list[Ints]:
    """Indices of the kept members of each class, in their order."""
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(label[kept], kind="stable")]
    return np.split(kept, np.searchsorted(label[kept], np.arange(1, classes)))[:classes]


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
