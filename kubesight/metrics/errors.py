"""What is wrong with a detector's mistakes, and how much average precision each kind costs.

The kinds are those of TIDE (Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020, section 2.2), with a foreground overlap of 0.5 and a background overlap of 0.1. A detection that
is no true positive has the first kind that fits, in the order of TIDE's own tool:

- localisation: it overlaps an object of its class, by the background overlap or more, but less than the foreground's;
- class: it overlaps an object of another class by the foreground overlap or more;
- duplicate: it overlaps an object of its class enough, but a detection of a higher score has found that;
- both: it overlaps an object of another class by the background overlap or more;
- background: none of these.

An object is missed when no detection found it and no localisation or class error has it for its target.
An overlap equal to a limit is on the upper side of it, as in the matching, which is VOC's (`kubesight.metrics.voc`):
the average precision without errors mended is VOC's at the foreground overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kubesight.metrics.objects import Bools, FoundObjects, Ints, TrueObjects, check_labels
from kubesight.metrics.overlap import Overlaps, best_of_each, overlaps
from kubesight.metrics.voc import Matching, average_precision, check_iou_threshold, members_of_classes, voc_matching

KINDS = ("localisation", "class", "both", "duplicate", "background", "missed")
LOCALISATION, CLASS, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
RIGHT, LEFT_OUT = -1, -2
"""What stands for a true positive, and for what counts neither way, in `ErrorBreakdown.found_kind`."""


@dataclass(frozen=True)
class ErrorBreakdown:
    """The mistakes at a score threshold, and what they cost over all detections.

    Attributes:
        counts: kind to number of mistakes.
        per_picture: [pictures, 6] the same for each picture, in the order of `KINDS`.
        cost: kind to the rise of average precision if it were mended, in [-1, 1]; empty without objects to find.
            A mended error makes others count more or less, so that costs do not add up.
        average_precision: as it is, None without objects to find.
        found_kind: [detections] the kind of each detection, an index of `KINDS`, or `RIGHT` or `LEFT_OUT`; in the
            order given, below the score threshold too.
        target: [detections] the object that each true positive found, or that a localisation or class error is
            about; else -1.
        missed: [objects] whether each is missed at the score threshold.
    """

    counts: dict[str, int]
    per_picture: Ints
    cost: dict[str, float]
    average_precision: float | None
    found_kind: Ints
    target: Ints
    missed: Bools


@dataclass(frozen=True)
class _Ranking:
    """The ranked detections, what became of them, and the object that each error is about (-1: none)."""

    found: FoundObjects
    matching: Matching
    kind: Ints
    target: Ints


def error_breakdown(
    truth: TrueObjects,
    found: FoundObjects,
    classes: Sequence[str],
    *,
    score_threshold: float,
    iou_threshold: float = 0.5,
    background_iou: float = 0.1,
    masks: bool = False,
) -> ErrorBreakdown:
    """Count the mistakes of each kind, and work out what they cost.

    Costs are those of section 2.3 of the paper: a localisation or class error is mended by making it a true positive
    of its target, and of several for one object only that of the highest score stays; the false positives of the
    other kinds are removed; missed objects are taken from the number to find.

    Args:
        truth: the labelled objects; difficult ones and crowds count neither way.
        found: all detections, whatever their score.
        classes: the class names in index order.
        score_threshold: counts are of detections with a score no smaller; costs are of all detections.
        iou_threshold: the foreground overlap, in [0.1, 1].
        background_iou: the background overlap, in (0, iou_threshold].
        masks: compare masks, else boxes.

    Raises:
        HyperparameterError: the foreground overlap is out of range.
        ValueError: the background overlap is, or an index is that of no class or picture.
    """
    check_iou_threshold(iou_threshold)
    if not 0 < background_iou <= iou_threshold:
        raise ValueError(f"a background overlap of {background_iou} does not lie in (0, {iou_threshold}]")
    check_labels(truth, found, classes)
    order = found.ranking()
    ranking = _classify(truth, found.select(order), iou_threshold, background_iou, masks)
    shown = ranking.found.score >= score_threshold
    missed = _missed(truth, ranking, shown)
    wrong = shown & (ranking.kind >= 0)
    picture = np.concatenate([ranking.found.image[wrong], truth.image[missed]])
    kind = np.concatenate([ranking.kind[wrong], np.full(int(missed.sum()), MISSED)])
    cells = np.bincount(picture * len(KINDS) + kind, minlength=len(truth.sizes) * len(KINDS))
    per_picture = cells.reshape(-1, len(KINDS))
    found_kind, target = np.empty((2, len(found)), np.int64)
    found_kind[order] = ranking.kind
    target[order] = np.maximum(ranking.matching.match, ranking.target)  # at most one of the two is an object
    precision, cost = _costs(truth, ranking, len(classes))
    counts = dict(zip(KINDS, per_picture.sum(axis=0).tolist(), strict=True))
    return ErrorBreakdown(counts, per_picture, cost, precision, found_kind, target, missed)


def _classify(
    truth: TrueObjects, ranked: FoundObjects, iou_threshold: float, background_iou: float, masks: bool
) -> _Ranking:
    """The kind of each ranked detection, and the object it is about."""
    pairs = overlaps(truth, ranked, masks=masks, same_class=False)
    pairs = pairs.select(pairs.iou >= background_iou)
    same = truth.label[pairs.true] == ranked.label[pairs.found]
    matching = voc_matching(truth, len(ranked), pairs.select(same), iou_threshold)
    to_find = ~truth.ignored[pairs.true]
    of_class, of_class_iou = _best(pairs.select(same & to_find), len(ranked))
    of_other, of_other_iou = _best(pairs.select(~same & to_find), len(ranked))
    near = (of_class >= 0) & (of_class_iou < iou_threshold)
    choices = {
        RIGHT: matching.hit,
        LEFT_OUT: matching.left_out,
        LOCALISATION: near,
        CLASS: of_other_iou >= iou_threshold,
        DUPLICATE: of_class_iou >= iou_threshold,
        BOTH: of_other >= 0,
    }
    kind = np.select(list(choices.values()), list(choices), default=BACKGROUND)
    target = np.select([kind == LOCALISATION, kind == CLASS], [of_class, of_other], default=-1)
    return _Ranking(ranked, matching, kind, target)


def _best(pairs: Overlaps, detections: int) -> tuple[Ints, np.ndarray]:
    """[n] the object that each detection overlaps most, else -1, and [n] the overlap, else 0."""
    best = best_of_each(pairs)
    objects, iou = np.full(detections, -1, np.int64), np.zeros(detections)
    objects[best.found], iou[best.found] = best.true, best.iou
    return objects, iou


def _missed(truth: TrueObjects, ranking: _Ranking, shown: Bools) -> Bools:
    """[n] objects that the shown detections neither found nor have for a target."""
    missed = ~truth.ignored
    for objects in (ranking.matching.match, ranking.target):
        missed[objects[shown & (objects >= 0)]] = False
    return missed


def _costs(truth: TrueObjects, ranking: _Ranking, classes: int) -> tuple[float | None, dict[str, float]]:
    """The average precision, and by how much it would rise with each kind mended."""
    to_find = np.bincount(truth.label[~truth.ignored], minlength=classes)
    if not to_find.any():
        return None, {}
    counted = ranking.kind != LEFT_OUT
    label, hit = ranking.found.label, ranking.matching.hit
    base = _mean_precision(label, hit, counted, to_find, to_find)
    cost = {}
    for kind, name in enumerate(KINDS):
        if kind == MISSED:
            missed = _missed(truth, ranking, np.ones(len(label), bool))
            left = to_find - np.bincount(truth.label[missed], minlength=classes)
            mended = _mean_precision(label, hit, counted, left, to_find)
        elif kind in (LOCALISATION, CLASS):
            mended = _mean_precision(*_retargeted(truth, ranking, kind), to_find, to_find)
        else:
            mended = _mean_precision(label, hit, counted & (ranking.kind != kind), to_find, to_find)
        cost[name] = mended - base
    return base, cost


def _retargeted(truth: TrueObjects, ranking: _Ranking, kind: int) -> tuple[Ints, Bools, Bools]:
    """Labels, true positives and what is kept once the errors of a kind have found their targets."""
    mended = ranking.kind == kind
    claim = np.where(mended, ranking.target, ranking.matching.match)
    claimants = np.flatnonzero(claim >= 0)
    _, first = np.unique(claim[claimants], return_index=True)
    hit = np.zeros(len(claim), bool)
    hit[claimants[first]] = True
    label = ranking.found.label.copy()
    label[mended] = truth.label[claim[mended]]
    return label, hit, (ranking.kind != LEFT_OUT) & (hit | (claim < 0))


def _mean_precision(label: Ints, hit: Bools, kept: Bools, left: Ints, to_find: Ints) -> float:
    """The mean over the classes that had objects to find; `left` is what of them there is to find now.

    TIDE gives a class 0 of which nothing is left to find; here a class without false detections has 1 then.
    """
    values = []
    for k, members in enumerate(members_of_classes(label, kept, len(to_find))):
        if to_find[k]:
            value = average_precision(hit[members], int(left[k]))
            values.append(float(not len(members)) if value is None else value)
    return float(np.mean(values))
