"""Run-length masks against pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco

from kubesight.dataset.rle import rle_box, rle_mask, run_lengths
from kubesight.dataset.rows import Rle
from kubesight.errors import DatasetError

masks = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 1))


@given(masks)
def test_compressed_masks_equal_pycocotools(mask):
    encoded = coco.encode(np.asfortranarray(mask))
    rle = Rle(size=mask.shape, counts=encoded["counts"].decode())
    assert (rle_mask(rle) == mask.astype(bool)).all()
    assert run_lengths(rle)[1::2].sum() == int(coco.area(encoded))
    x, y, width, height = coco.toBbox(encoded)
    high, wide = mask.shape
    expected = (x / wide, y / high, (x + width) / wide, (y + height) / high) if mask.any() else (0, 0, 0, 0)
    assert rle_box(rle) == pytest.approx(expected)


@given(masks)
def test_listed_runs_are_the_same_mask(mask):
    encoded = coco.encode(np.asfortranarray(mask))
    runs = run_lengths(Rle(size=mask.shape, counts=encoded["counts"].decode())).tolist()
    assert (rle_mask(Rle(size=mask.shape, counts=runs)) == mask.astype(bool)).all()


def test_long_runs_need_several_characters():
    mask = np.zeros((2000, 3000), np.uint8)
    mask[700:1500, 1000:2900] = 1
    rle = Rle(size=mask.shape, counts=coco.encode(np.asfortranarray(mask))["counts"].decode())
    assert run_lengths(rle)[1::2].sum() == 800 * 1900
    assert rle_box(rle) == pytest.approx((1000 / 3000, 700 / 2000, 2900 / 3000, 1500 / 2000))


@pytest.mark.parametrize(
    ("size", "counts", "words"),
    [
        ((2, 2), [1, 2], "add up to 3"),
        ((2, 2), [5, -1], "add up to 4"),
        ((0, 2), [], "0x2"),
        ((2, 2), "\x01", "never writes"),
        ((2, 2), "P", "break off"),
    ],
)
def test_broken_masks_are_refused(size, counts, words):
    with pytest.raises(DatasetError, match=words):
        rle_mask(Rle(size=size, counts=counts))
