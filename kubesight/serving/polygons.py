"""Outlines of masks with few points, which filled again give nearly the mask."""

import cv2
import numpy as np

from kubesight.dataset.outlines import mask_rings

PASSES = 25
"""How often an outline is simplified at most; the number is Azure AutoML's."""

_FIRST_EPSILON = 0.5
_GROWTH = 1.3  # 25 passes reach 270 pixels

Rings = list[np.ndarray]  # each float32 [points, 2], x and y in pixels


def mask_outline(mask: np.ndarray, limit: int) -> Rings:
    """The outline of a mask: rings that give it back when filled by XOR (even-odd), so that holes are rings too.

    Where the exact outline, along the edges of pixels, has more points than allowed, it is simplified (Ramer, Douglas
    and Peucker) with a tolerance that grows from half a pixel on, until it fits. Islands and holes that are smaller
    than the tolerance's square go. If no tolerance does it, points are left out evenly.

    Args:
        mask: bool [rows, columns].
        limit: how many points all rings may have together, at least 3.

    Returns:
        The rings, the largest first; none for an empty mask.
    """
    exact = [np.array(ring, np.float32).reshape(-1, 2) for ring in mask_rings(mask)]
    exact.sort(key=_size, reverse=True)
    kept = exact
    epsilon = _FIRST_EPSILON
    for _ in range(PASSES):
        if _points(kept) <= limit:
            return kept
        simpler = _simplified(exact, epsilon)
        if not simpler:  # coarser than the object itself
            break
        kept = simpler
        epsilon *= _GROWTH
    return kept if _points(kept) <= limit else _thinned(kept, limit)


def _simplified(rings: Rings, epsilon: float) -> Rings:
    result = []
    for ring in rings:
        if _size(ring) < epsilon * epsilon:
            break  # so are all that follow, smaller ones
        simpler = cv2.approxPolyDP(ring, epsilon, closed=True).reshape(-1, 2)
        if len(simpler) >= 3 and _size(simpler) > 0:
            result.append(simpler)
    return result


def _thinned(rings: Rings, limit: int) -> Rings:
    """The largest rings, as many as can have three points, with points in proportion to what they had."""
    rings = rings[: limit // 3]
    spare, total = limit - 3 * len(rings), _points(rings)
    result = []
    for ring in rings:
        count = min(len(ring), 3 + spare * len(ring) // total)
        result.append(ring[np.arange(count) * len(ring) // count])
    return result


def _points(rings: Rings) -> int:
    return sum(map(len, rings))


def _size(ring: np.ndarray) -> float:
    """The area of the ring's bounding box: a ring may cross itself, and the parts of its own area cancel then."""
    return float(np.ptp(ring, axis=0).prod())
