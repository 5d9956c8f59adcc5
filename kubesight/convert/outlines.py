"""Outlines of masks along the edges of their pixels, so that nothing is lost between mask and polygon."""

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
