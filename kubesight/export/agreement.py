"""Whether two runs of one detector found the same.

The same network in another library rounds differently, by some 1e-6 of a value. Boxes and scores mostly show just
that. But where a decision hangs on it, an object comes or goes: two boxes that overlap by all but the suppression's
threshold, two proposals that all but tie for the last place. So one object without a counterpart proves no fault, while
many do. Compared are objects with a score of at least `box_score_threshold`, those that callers see; when a hardly
trained network has fewer than `LEAST` of them, the `LEAST` highest scores. At the low end of a full list of boxes mere
ties decide who is in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kubesight.dataset.detections import Detections

BOX_TOLERANCE = 0.1
"""Pixels, of the picture as the network sees it, that a corner may be off."""

SCORE_TOLERANCE = 1e-3
MASK_TOLERANCE = 1e-2
"""Of the mean probability of the cells of a mask; single cells on an edge may differ by more."""

LEAST_AGREEMENT = 0.95
LEAST = 60
"""Objects that are compared, if there are so many; three of them may have no counterpart."""

_PARTNER_IOU = 0.9


def agreement(
    ours: Sequence[Detections], theirs: Sequence[Detections], sizes: Sequence[tuple[float, float]], threshold: float
) -> dict[str, Any]:
    """How far two runs' answers are apart.

    An object's partner is one of the same class in the other run, with a box that overlaps by an IoU of at least 0.9;
    the largest overlaps are paired first. The object agrees when it has a partner within the tolerances. Objects of
    both runs count, so that what one of them makes up is noticed too.

    Args:
        ours: what one run found in each picture, of any score.
        theirs: what the other one found.
        sizes: height and width of each picture in the pixels that differences are counted in.
        threshold: the score from which objects are compared; see above.

    Returns:
        `detections` that were compared, in both runs together, and the `score_floor` they reach; the shares of them
        that are `matched` (have a partner) and in `agreement`; the largest differences between partners of corners
        (pixels), scores and masks; `samples`, and the tolerances.
    """
    floor = min(threshold, *(_floor(run) for run in (ours, theirs)))
    rows = [_differences(*one, floor) for one in zip(ours, theirs, sizes, strict=True)]
    found = np.concatenate([np.zeros((0, 3)), *rows])
    matched = np.isfinite(found).all(axis=1)
    close = (found <= (BOX_TOLERANCE, SCORE_TOLERANCE, MASK_TOLERANCE)).all(axis=1)
    largest = found[matched].max(axis=0, initial=0).tolist()
    return {
        "samples": len(ours),
        "detections": len(found),
        "score_floor": floor,
        "matched": float(matched.mean()) if len(found) else 1.0,
        "agreement": float(close.mean()) if len(found) else 1.0,
        **dict(zip(("max_box_difference", "max_score_difference", "max_mask_difference"), largest, strict=True)),
        "tolerance": {"box": BOX_TOLERANCE, "score": SCORE_TOLERANCE, "mask": MASK_TOLERANCE},
        "least_agreement": LEAST_AGREEMENT,
    }


def too_far(record: Mapping[str, Any]) -> str | None:
    """What is wrong with answers that `agreement` compared, in words; None when they agree."""
    if record["agreement"] >= LEAST_AGREEMENT:
        return None
    return (
        f"only {record['agreement']:.1%} of {record['detections']} boxes that the exported network and the trained one "
        f"found agree, less than {LEAST_AGREEMENT:.0%} (within {BOX_TOLERANCE:g} pixels, {SCORE_TOLERANCE:g} of score)"
    )


def _floor(run: Sequence[Detections]) -> float:
    """The score that `LEAST` objects reach."""
    scores = np.sort(np.concatenate([found.scores for found in run]))[::-1]
    return float(scores[min(LEAST, len(scores)) - 1]) if len(scores) else 0.0


def _differences(ours: Detections, theirs: Detections, size: tuple[float, float], floor: float) -> np.ndarray:
    """Corner, score and mask difference to the partner, of each object of both runs from the floor on.

    Infinite without a partner; a partner itself may be below the floor.
    """
    pairs = _partners(ours, theirs)
    height, width = size
    corners = np.abs(ours.boxes[pairs[0]] - theirs.boxes[pairs[1]]) * (width, height, width, height)
    scores = np.abs(ours.scores[pairs[0]] - theirs.scores[pairs[1]])
    masks = np.zeros(len(scores))
    if ours.masks is not None and theirs.masks is not None:
        masks = np.abs(ours.masks[pairs[0]] - theirs.masks[pairs[1]]).mean(axis=(1, 2))
    apart = np.stack([corners.max(axis=1, initial=0), scores, masks], axis=1)
    rows = []
    for found, members in zip((ours, theirs), pairs, strict=True):
        each = np.full((len(found), 3), np.inf)
        each[members] = apart
        rows.append(each[found.scores >= floor])
    return np.concatenate(rows)


def _partners(ours: Detections, theirs: Detections) -> tuple[np.ndarray, np.ndarray]:
    low = np.maximum(ours.boxes[:, None, :2], theirs.boxes[None, :, :2])
    high = np.minimum(ours.boxes[:, None, 2:], theirs.boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas = [(one.boxes[:, 2:] - one.boxes[:, :2]).prod(axis=1) for one in (ours, theirs)]
    overlap = shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12)
    overlap[ours.labels[:, None] != theirs.labels] = 0
    pairs: list[tuple[int, int]] = []
    # From the largest overlap down, each box once.
    while overlap.size and overlap.max() >= _PARTNER_IOU:
        first, second = divmod(int(overlap.argmax()), len(theirs))
        pairs.append((first, second))
        overlap[first], overlap[:, second] = 0, 0
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]
