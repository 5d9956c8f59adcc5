"""Masks laid onto pictures, against torch's sampler and COCO's encoder."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from kubesight.dataset.detections import (
    Detections,
    full_mask,
    mask_rles,
    object_region,
    paste_mask,
    region_rle,
)


def by_grid_sample(mask: np.ndarray, box: tuple[float, ...], height: int, width: int) -> np.ndarray:
    """The probabilities of the whole picture, sampled by torch: grid_sample's -1 and 1 are the box's sides."""
    x0, y0, x1, y1 = box
    xs = (torch.arange(width, dtype=torch.float64) + 0.5 - x0) / (x1 - x0) * 2 - 1
    ys = (torch.arange(height, dtype=torch.float64) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[None]
    source = torch.from_numpy(mask.astype(np.float64))[None, None]
    return torch.nn.functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)[0, 0].numpy()


def whole(mask: np.ndarray, box: tuple[float, ...], height: int, width: int) -> np.ndarray:
    region, (x, y) = paste_mask(mask, box, height, width)
    result = np.zeros((height, width), np.float32)
    result[y : y + region.shape[0], x : x + region.shape[1]] = region
    return result


coordinate = st.floats(-60, 120)
length = st.floats(0.05, 200)


@settings(max_examples=150, deadline=None)
@given(coordinate, coordinate, length, length, st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31))
def test_the_probabilities_are_those_of_torch(x, y, across, down, height, width, seed) -> None:
    mask = np.random.default_rng(seed).random((28, 28), dtype=np.float32)
    box = (x, y, x + across, y + down)
    np.testing.assert_allclose(whole(mask, box, height, width), by_grid_sample(mask, box, height, width), atol=1e-5)


def test_a_case_by_hand() -> None:
    # A grid of 2 x 1 cells over a box of 4 x 2 pixels from (1, 1): the cells' centres are at x = 2 and x = 4. Pixels
    # have theirs at 0.5, 1.5 ...: u = (x + 0.5 - 1) / 4 * 2 - 0.5 = -0.75, -0.25, 0.25, 0.75, 1.25, 1.75. The cells
    # hold 1 and 0.2, beyond them is 0. Down there is one cell, v = (y + 0.5 - 1) / 2 - 0.5 = -0.75, -0.25, 0.25, 0.75.
    across = [0.25 * 1, 0.75 * 1, 0.75 * 1 + 0.25 * 0.2, 0.25 * 1 + 0.75 * 0.2, 0.75 * 0.2, 0.25 * 0.2]
    expected = np.outer([0.25, 0.75, 0.75, 0.25], across)
    mask = np.array([[1.0, 0.2]], np.float32)
    np.testing.assert_allclose(whole(mask, (1, 1, 5, 3), 4, 6), expected, atol=1e-6)
    kept = full_mask(mask, (1, 1, 5, 3), 4, 6, 0.5)
    assert kept.astype(int).tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0] * 6]


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (50, 5, 60, 9), (-9, -9, -2, -2)])
def test_boxes_without_area_or_outside_have_no_pixels(box) -> None:
    ones = np.ones((28, 28), np.float32)
    assert paste_mask(ones, box, 20, 20)[0].size == 0
    assert not full_mask(ones, box, 20, 20, 0.0).any()


def test_a_threshold_of_zero_takes_only_pixels_that_have_a_probability() -> None:
    mask = np.zeros((28, 28), np.float32)
    mask[:, :14] = 0.01
    kept = full_mask(mask, (0, 0, 28, 28), 28, 28, 0.0)
    assert kept[:, :14].all()
    assert not kept[:, 14:].any()


def detections(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2)) * 0.9
    boxes = np.hstack([corner, np.minimum(corner + rng.random((count, 2)) * 0.1, 1)]).astype(np.float32)
    smooth = rng.random((count, 7, 7), dtype=np.float32).repeat(4, axis=1).repeat(4, axis=2)
    return Detections(boxes, rng.integers(0, 5, count), np.sort(rng.random(count, dtype=np.float32))[::-1], smooth)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_regions_are_encoded_as_whole_pictures_are(data) -> None:
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    rows, columns = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    y, x = data.draw(st.integers(0, height - rows)), data.draw(st.integers(0, width - columns))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]))
    region = np.random.default_rng(data.draw(st.integers(0, 999))).random((rows, columns)) < share
    picture = np.zeros((height, width), np.uint8, order="F")
    picture[y : y + rows, x : x + columns] = region
    assert region_rle(region, (x, y), height, width) == coco_mask.encode(picture)


def test_all_masks_of_a_picture_are_encoded() -> None:
    found = detections(40)
    codes = mask_rles(found, 300, 400, 0.5)
    for code, mask, box in zip(codes, found.masks, found.pixel_boxes(300, 400), strict=True):
        expected = by_grid_sample(mask, box, 300, 400)
        differs = coco_mask.decode(code).astype(bool) != (expected >= 0.5)
        assert np.abs(expected[differs] - 0.5).max(initial=0) < 1e-5  # only where rounding decides
    assert sum(coco_mask.area(codes)) > 1000
    with pytest.raises(ValueError, match="no masks"):
        mask_rles(Detections(found.boxes, found.labels, found.scores), 300, 400, 0.5)


def test_memory_does_not_grow_with_the_picture() -> None:
    found = detections(300)
    tracemalloc.start()
    codes = mask_rles(found, 3000, 4000, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(codes) == 300
    assert peak < 12_000_000  # less than one mask of the whole picture, as bytes


def test_regions_are_the_masks_of_the_region() -> None:
    found = detections(5, seed=3)
    for mask, box in zip(found.masks, found.pixel_boxes(90, 120), strict=True):
        region, (x, y) = object_region(mask, box, 90, 120, 0.4)
        picture = full_mask(mask, box, 90, 120, 0.4)
        rows, columns = region.shape
        np.testing.assert_array_equal(picture[y : y + rows, x : x + columns], region)
        assert picture.sum() == region.sum() > 0


def test_choosing() -> None:
    found = detections(6)
    assert found.select(np.array([4, 0])).scores.tolist() == [found.scores[4], found.scores[0]]
    kept = found.select(found.labels == found.labels[0])
    assert len(kept) == len(kept.masks) == len(kept.boxes) == int((found.labels == found.labels[0]).sum())
    assert found.select(slice(2)).labels.tolist() == found.labels[:2].tolist()
    bare = Detections(found.boxes, found.labels, found.scores).select(slice(3))
    assert bare.masks is None
    assert len(bare) == 3


def test_nothing_found() -> None:
    for masks in (True, False):
        none = Detections.empty(masks)
        assert len(none) == len(none.boxes) == 0
        assert (none.masks is not None) is masks
        assert none.pixel_boxes(10, 10).shape == (0, 4)
    assert mask_rles(Detections.empty(masks=True), 10, 10, 0.5) == []
