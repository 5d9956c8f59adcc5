"""Outlines of masks along the edges of their pixels, so that nothing is lost between mask and polygon."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from kubesight.dataset.rows import Rle


def mask_rings(mask: np.ndarray) -> list[list[int]]:
    """The outline of a mask as flat x, y rings of pixel corners.

    Filled by XOR (even-odd), the rings give back exactly the mask: holes are rings too. A corner of the outline is
    where an odd number of the four pixels around it are set. In every column of corners each two neighbours bound one
    vertical edge, in every row each two bound one horizontal edge; following them in turn closes the rings.

    Args:
        mask: bool [height, width].

    Returns:
        Rings in pixels, 0 <= x <= width and 0 <= y <= height; none for an empty mask.
    """
    padded = np.pad(mask.astype(bool), 1)
    odd = padded[1:, 1:] ^ padded[1:, :-1] ^ padded[:-1, 1:] ^ padded[:-1, :-1]
    ys, xs = np.nonzero(odd)  # row by row, left to right: neighbours in a row are 2k and 2k + 1
    down = np.lexsort((ys, xs))
    vertical = np.empty(len(xs), np.int64)
    vertical[down[0::2]], vertical[down[1::2]] = down[1::2], down[0::2]
    partner = vertical.tolist()
    x_of, y_of = xs.tolist(), ys.tolist()
    seen = bytearray(len(partner))
    rings = []
    for start in range(0, len(partner), 2):
        if seen[start]:
            continue
        ring: list[int] = []
        corner = start
        while not seen[corner]:
            across = corner ^ 1
            seen[corner] = seen[across] = 1
            ring += (x_of[corner], y_of[corner], x_of[across], y_of[across])
            corner = partner[across]
        rings.append(ring)
    return rings


def rings_cross(rings: Sequence[Sequence[float]], resolution: int = 256) -> bool:
    """Whether two rings overlap without one lying inside the other, seen on a grid of `resolution` cells a side.

    Args:
        rings: flat x, y lists in one unit.
        resolution: the cells over the longer side of all rings.
    """
    points = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]
    low, high = [ring.min(0) for ring in points], [ring.max(0) for ring in points]
    near = [
        (a, b)
        for a, b in itertools.combinations(range(len(points)), 2)
        if (low[a] < high[b]).all() and (low[b] < high[a]).all()
    ]
    if not near:
        return False
    origin = np.min(low, axis=0)
    scale = (resolution - 1) / max(float((np.max(high, axis=0) - origin).max()), 1e-12)
    masks: dict[int, np.ndarray] = {}
    for number in {number for pair in near for number in pair}:
        canvas = np.zeros((resolution, resolution), np.uint8)
        cv2.fillPoly(canvas, [np.rint((points[number] - origin) * scale).astype(np.int32)], 1)
        masks[number] = canvas
    for a, b in near:
        # A ring of one cell's width around each outline is the grid's doubt, not an overlap.
        core = cv2.erode(masks[a] & masks[b], np.ones((3, 3), np.uint8))
        only_a = cv2.erode(masks[a] & (1 - masks[b]), np.ones((3, 3), np.uint8))
        only_b = cv2.erode(masks[b] & (1 - masks[a]), np.ones((3, 3), np.uint8))
        if core.any() and only_a.any() and only_b.any():
            return True
    return False


def crosses_itself(ring: Sequence[float]) -> bool:
    """Whether two edges of a ring cross, so that it is no simple outline: a bow tie, points in the wrong order.

    Edges that only touch, as where an outline runs out and back along a thin part, do not cross.

    Args:
        ring: flat x, y list; the last point is joined with the first. Time grows with the square of its length.
    """
    start = np.asarray(ring, np.float64).reshape(-1, 2)
    edge = np.roll(start, -1, axis=0) - start
    # On which side of each edge (row) each point (column) lies; an edge with ends on both sides cuts its line.
    own = edge[:, 0] * start[:, 1] - edge[:, 1] * start[:, 0]
    side = np.sign(np.outer(edge[:, 0], start[:, 1]) - np.outer(edge[:, 1], start[:, 0]) - own[:, None])
    cuts = side * np.roll(side, -1, axis=1) < 0
    return bool((cuts & cuts.T).any())


def encode_mask(mask: np.ndarray) -> Rle:
    """A mask, bool [height, width], as run lengths down the columns (listed, the first run background)."""
    flat = np.concatenate([[False], mask.T.reshape(-1).astype(bool)])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return Rle(size=(int(mask.shape[0]), int(mask.shape[1])), counts=runs.tolist())


def turn_mask(mask: np.ndarray, orientation: int) -> np.ndarray:
    """A mask drawn on the stored picture, as the EXIF orientation (5 to 8) shows it."""
    turned = mask.T
    if orientation in (6, 7):
        turned = turned[:, ::-1]
    if orientation in (7, 8):
        turned = turned[::-1]
    return turned
