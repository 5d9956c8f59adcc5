"""Which class is taken for which, and what is found where nothing is or missed: the confusion matrix of a detector."""

from collections.abc import Sequence

import numpy as np

from kubesight.metrics.objects import Bools, FoundObjects, Ints, TrueObjects, check_labels
from kubesight.metrics.overlap import Overlaps, overlaps
from kubesight.metrics.voc import check_iou_threshold


def detection_confusion(
    truth: TrueObjects,
    found: FoundObjects,
    classes: Sequence[str],
    *,
    iou_threshold: float = 0.5,
    score_threshold: float,
    masks: bool = False,
) -> Ints:
    """Numbers of objects by true class (row) and found class (column), the background last in both.

    Detections whose score is no smaller than the threshold are paired with the objects of their picture without
    regard to class, one to one, by falling overlap from the threshold on; of equal overlaps that of the right class is
    taken first, then the higher score. A detection left without an object is in the background's row, an object left
    without a detection in the background's column. Difficult objects and crowds are left out, and so is a detection
    that found no other object and overlaps one of them enough.

    Args:
        truth: the labelled objects.
        found: the detections.
        classes: the class names in index order.
        iou_threshold: the overlap from which a detection may belong to an object, in [0.1, 1].
        score_threshold: the deployment threshold.
        masks: compare masks, else boxes.

    Returns:
        Shape [classes + 1, classes + 1]; the last number of the diagonal is 0.

    Raises:
        HyperparameterError: the overlap threshold is out of range.
        ValueError: an index is that of no class or picture, or masks are asked for where there are none.
    """
    check_iou_threshold(iou_threshold)
    check_labels(truth, found, classes)
    order = found.ranking()
    kept = found.select(order[found.score[order] >= score_threshold])
    pairs = overlaps(truth, kept, masks=masks, same_class=False)
    pairs = pairs.select(pairs.iou >= iou_threshold)
    ignored = truth.ignored
    to_find = pairs.select(~ignored[pairs.true])
    right = truth.label[to_find.true] == kept.label[to_find.found]
    taken = _one_to_one(to_find, right)

    matched_true, matched_found = np.zeros(len(truth), bool), np.zeros(len(kept), bool)
    matched_true[taken.true] = True
    matched_found[taken.found] = True
    beside_ignored = np.zeros(len(kept), bool)
    beside_ignored[pairs.found[ignored[pairs.true]]] = True

    background = len(classes)
    missed = truth.label[~matched_true & ~ignored]
    false = kept.label[~matched_found & ~beside_ignored]
    rows = np.concatenate([truth.label[taken.true], missed, np.full(len(false), background)])
    columns = np.concatenate([kept.label[taken.found], np.full(len(missed), background), false])
    side = len(classes) + 1
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def _one_to_one(pairs: Overlaps, right: Bools) -> Overlaps:
    """Pairs chosen greedily by falling overlap, right class, rank; each object and each detection once."""
    ordered = pairs.select(np.lexsort((pairs.true, pairs.found, ~right, -pairs.iou)))
    used_true: set[int] = set()
    used_found: set[int] = set()
    chosen = []
    for position, (true, found) in enumerate(zip(ordered.true.tolist(), ordered.found.tolist(), strict=True)):
        if true not in used_true and found not in used_found:
            used_true.add(true)
            used_found.add(found)
            chosen.append(position)
    return ordered.select(np.array(chosen, np.int64))
