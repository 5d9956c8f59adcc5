"""COCO run-length masks: runs of background and object in turn, down the columns from the upper left."""

import numpy as np

from kubesight.dataset.rows import Rle
from kubesight.errors import DatasetError


def run_lengths(rle: Rle) -> np.ndarray:
    """The runs as integers, the first one background.

    Compressed counts hold five bits a character (from `0` on, bit 6 says that more follow, the last character's
    bit 5 is the sign); from the fourth run on they are differences to the run two places before.

    Raises:
        DatasetError: the runs are not numbers of 0 or more that fill `size` exactly.
    """
    runs = np.asarray(_uncompressed(rle.counts) if isinstance(rle.counts, str) else rle.counts, np.int64)
    height, width = rle.size
    if height <= 0 or width <= 0 or (runs < 0).any() or int(runs.sum()) != height * width:
        raise DatasetError(f"a run-length mask of size {height}x{width} whose runs add up to {int(runs.sum())}")
    return runs


def rle_mask(rle: Rle) -> np.ndarray:
    """The mask, bool [height, width]."""
    runs = run_lengths(rle)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(rle.size[1], rle.size[0]).T


def rle_box(rle: Rle) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the object as fractions of width and height; four zeros when it is empty."""
    runs = run_lengths(rle)
    height, width = rle.size
    ends = np.cumsum(runs)
    starts, ends = (ends - runs)[1::2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return 0.0, 0.0, 0.0, 0.0
    first, last = starts // height, (ends - 1) // height
    left, right = int(first.min()), int(last.max()) + 1
    if (first != last).any():  # a run that goes on in the next column touches the bottom and the top
        top, bottom = 0, height
    else:
        top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    return left / width, top / height, right / width, bottom / height


def _uncompressed(counts: str) -> list[int]:
    runs: list[int] = []
    value, bits = 0, 0
    for character in counts.encode():
        code = character - 48
        if not 0 <= code < 64:
            raise DatasetError(f"a run-length mask holds {chr(character)!r}, which its compression never writes")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, bits = 0, 0
    if bits:
        raise DatasetError("a run-length mask whose compressed runs break off")
    return runs
