"""Outlines of masks: few points, holes kept, and filled again nearly the mask."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from kubesight.dataset.objects import polygon_rle
from kubesight.serving.polygons import mask_outline


def overlap(mask: np.ndarray, limit: int) -> float:
    """The IoU of a mask and its outline, filled by COCO's tools."""
    height, width = mask.shape
    rings = mask_outline(mask, limit)
    assert sum(map(len, rings)) <= limit
    assert all(len(ring) >= 3 for ring in rings)
    filled = polygon_rle([(ring / (width, height)).ravel().tolist() for ring in rings], height, width)
    return float(coco_mask.iou([filled], [coco_mask.encode(np.asfortranarray(mask, np.uint8))], [0])[0, 0])


def ellipse(size: int, across: int, down: int, angle: float = 30) -> np.ndarray:
    canvas = np.zeros((size, size), np.uint8)
    cv2.ellipse(canvas, (size // 2, size // 2), (across, down), angle, 0, 360, 1, cv2.FILLED)
    return canvas.astype(bool)


@pytest.mark.parametrize("limit", [3, 4, 100])
def test_one_pixel_has_an_outline(limit) -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    (ring,) = mask_outline(mask, limit)
    assert len(ring) == min(limit, 4)
    assert set(map(tuple, ring.tolist())) <= {(3, 2), (4, 2), (4, 3), (3, 3)}


def test_an_empty_mask_has_none() -> None:
    assert mask_outline(np.zeros((4, 4), bool), 10) == []
    assert mask_outline(np.zeros((0, 0), bool), 10) == []


def test_a_small_mask_keeps_its_exact_outline() -> None:
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    mask[2:4, 2:4] = False
    outer, inner = mask_outline(mask, 8)
    assert sorted(outer.tolist()) == [[1, 1], [1, 5], [5, 1], [5, 5]]
    assert sorted(inner.tolist()) == [[2, 2], [2, 4], [4, 2], [4, 4]]
    assert overlap(mask, 8) == 1


def test_holes_are_kept_when_points_are_few() -> None:
    mask = ellipse(400, 180, 140) & ~ellipse(400, 90, 60)
    rings = mask_outline(mask, 40)
    assert len(rings) == 2
    assert overlap(mask, 40) > 0.97
    filled = ellipse(400, 180, 140)
    assert (
        coco_mask.iou(
            [coco_mask.encode(np.asfortranarray(mask, np.uint8))],
            [coco_mask.encode(np.asfortranarray(filled, np.uint8))],
            [0],
        )[0, 0]
        < 0.8
    )  # so that a lost hole would show


def test_specks_go_before_the_object_loses_its_shape() -> None:
    rng = np.random.default_rng(0)
    mask = ellipse(300, 120, 80) | (rng.random((300, 300)) < 0.002)
    assert len(mask_outline(mask, 10_000)) > 50
    assert len(mask_outline(mask, 50)) <= 3
    assert overlap(mask, 50) > 0.95


def test_parts_that_meet_at_a_corner_do_not_cancel() -> None:
    # Two squares of 50 pixels that touch in one point: one ring, which crosses itself there, and specks around it.
    mask = np.zeros((120, 120), bool)
    mask[10:60, 10:60] = mask[60:110, 60:110] = True
    mask[5:115:10, 0] = True
    assert overlap(mask, 100) == 1
    assert overlap(mask, 16) > 0.98


@pytest.mark.parametrize(("limit", "least"), [(100, 0.985), (40, 0.97), (16, 0.94), (8, 0.85), (4, 0.6), (3, 0.3)])
def test_a_large_smooth_object(limit, least) -> None:
    assert overlap(ellipse(1000, 420, 250), limit) > least


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.floats(0.02, 0.98), st.integers(3, 60))
def test_any_mask_gets_rings_within_the_limit(seed, height, width, share, limit) -> None:
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    mask = cv2.blur(noise, (3, 3)) < share
    rings = mask_outline(mask, limit)
    assert sum(map(len, rings)) <= limit
    assert all(len(ring) >= 3 for ring in rings)
    assert bool(rings) == bool(mask.any())
    if rings:
        points = np.concatenate(rings)
        assert (points >= 0).all()
        assert (points <= (width, height)).all()


def test_real_nuclei(real_data) -> None:
    labels = json.loads(Path(real_data / "nuclei_coco" / "val" / "instances_rle.json").read_text())
    masks = [coco_mask.decode(one["segmentation"]).astype(bool) for one in labels["annotations"][::3]]
    assert len(masks) > 200
    for limit, mean, worst in ((100, 0.9999, 0.99), (30, 0.98, 0.9), (12, 0.95, 0.7)):
        overlaps = [overlap(mask, limit) for mask in masks]
        assert np.mean(overlaps) > mean
        assert np.quantile(overlaps, 0.01) > worst
