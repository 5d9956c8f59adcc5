"""Mask outlines: filled again they are the mask; run lengths as pycocotools writes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from kubesight.dataset.outlines import crosses_itself, encode_mask, mask_rings, rings_cross, turn_mask
from kubesight.dataset.rle import rle_mask

masks = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def fill_even_odd(rings: list[list[int]], height: int, width: int) -> np.ndarray:
    """XOR of the rings: a pixel is inside when a ray to the left of its centre meets an odd number of edges."""
    inside = np.zeros((height, width), bool)
    for ring in rings:
        points = list(zip(ring[0::2], ring[1::2], strict=True))
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            assert x0 == x1 or y0 == y1
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


@given(masks)
def test_the_rings_of_a_mask_fill_it_again(mask: np.ndarray) -> None:
    assert (fill_even_odd(mask_rings(mask), *mask.shape) == mask).all()


def test_a_square_with_a_hole_has_two_rings_of_four_corners() -> None:
    mask = np.ones((6, 8), bool)
    mask[2:4, 3:5] = False
    rings = mask_rings(mask)
    assert sorted(len(ring) for ring in rings) == [8, 8]
    assert mask_rings(np.zeros((3, 3), bool)) == []


@given(masks)
def test_encoding_agrees_with_pycocotools(mask: np.ndarray) -> None:
    rle = encode_mask(mask)
    assert (rle_mask(rle) == mask).all()
    theirs = coco_mask.frPyObjects({"size": list(rle.size), "counts": rle.counts}, *rle.size)
    assert (coco_mask.decode(theirs).astype(bool) == mask).all()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turning_a_mask_agrees_with_pillow(orientation: int) -> None:
    mask = np.random.default_rng(0).random((5, 9)) > 0.5
    stored = Image.fromarray(mask.astype(np.uint8) * 255)
    stored.getexif()[0x0112] = orientation
    assert (turn_mask(mask, orientation) == (np.asarray(ImageOps.exif_transpose(stored)) > 0)).all()


def test_crossing_rings_are_told_from_holes_and_from_apart() -> None:
    square = [0, 0, 10, 0, 10, 10, 0, 10]
    hole = [3, 3, 6, 3, 6, 6, 3, 6]
    apart = [20, 0, 30, 0, 30, 10, 20, 10]
    touching = [10, 0, 20, 0, 20, 10, 10, 10]
    crossing = [5, 5, 15, 5, 15, 15, 5, 15]
    assert not rings_cross([square, hole])
    assert not rings_cross([square, apart])
    assert not rings_cross([square, touching])
    assert rings_cross([square, crossing])
    assert rings_cross([apart, hole, square, crossing])


@pytest.mark.parametrize(
    ("ring", "crosses"),
    [
        ([0, 0, 2, 0, 2, 2, 0, 2], False),
        ([0, 0, 2, 2, 2, 0, 0, 2], True),  # a bow tie
        ([0, 0, 4, 0, 4, 4, 2, 1, 0, 4], False),  # dented, but simple
        ([0, 0, 4, 0, 4, 4, 2, -1, 0, 4], True),  # the dent reaches through the opposite edge
        ([0, 0, 4, 0, 4, 4, 2, 4, 2, 6, 2, 4, 0, 4], False),  # out and back along one line
        ([0, 0, 1, 0, 0, 1], False),
    ],
)
def test_edges_that_cross_are_told_from_those_that_touch(ring: list[float], crosses: bool) -> None:
    assert crosses_itself(ring) is crosses
    assert crosses_itself([value / 7 for value in ring]) is crosses


@given(st.lists(st.floats(1, 2), min_size=3, max_size=40))
def test_an_outline_seen_whole_from_its_middle_never_crosses_itself(radii: list[float]) -> None:
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    points = np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert not crosses_itself(points.ravel().tolist())
