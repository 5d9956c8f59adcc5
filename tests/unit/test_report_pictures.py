"""Thumbnails and drawings, judged by their pixels."""

import base64

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from kubesight.report.pictures import (
    draw_boxes,
    draw_masks,
    draw_polygons,
    label_colours,
    shrink,
    thumbnail,
)

RED = {"a": (255, 0, 0), "b": (0, 255, 0)}


def decode(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return cv2.cvtColor(
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )


def test_thumbnail_keeps_aspect_and_colour():
    image = np.zeros((300, 600, 3), np.uint8)
    image[:] = (200, 40, 10)
    small = decode(thumbnail(image, 128))
    assert small.shape == (64, 128, 3)
    assert np.abs(small.mean((0, 1)) - [200, 40, 10]).max() < 6


def test_thumbnail_of_a_small_or_thin_or_flipped_picture():
    assert decode(thumbnail(np.zeros((10, 20, 3), np.uint8), 128)).shape == (10, 20, 3)
    assert decode(thumbnail(np.zeros((5000, 3, 3), np.uint8), 100)).shape == (100, 1, 3)
    flipped = np.zeros((20, 30, 3), np.uint8)[:, ::-1]
    assert decode(thumbnail(flipped)).shape == (20, 30, 3)


def test_boxes_are_drawn_where_the_fractions_say_on_a_copy():
    image = np.full((101, 201, 3), 128, np.uint8)
    drawn = draw_boxes(image, [(0.1, 0.2, 0.9, 0.8, "a")], colours=RED, tags=False)
    assert (image == 128).all()
    assert tuple(drawn[20, 100]) == (255, 0, 0)
    assert tuple(drawn[80, 100]) == (255, 0, 0)
    assert tuple(drawn[50, 20]) == (255, 0, 0)
    assert tuple(drawn[50, 180]) == (255, 0, 0)
    assert tuple(drawn[50, 100]) == (128, 128, 128)
    assert tuple(drawn[5, 5]) == (128, 128, 128)


def test_box_tags_are_written_where_there_is_room():
    image = np.full((200, 200, 3), 128, np.uint8)
    wide = [(0.1, 0.5, 0.9, 0.9, "a")]
    assert (draw_boxes(image, wide, colours=RED) != draw_boxes(image, wide, colours=RED, tags=False)).any()
    long = [(0.1, 0.5, 0.2, 0.9, "a name too long for the box")]
    assert (draw_boxes(image, long) == draw_boxes(image, long, tags=False)).all()
    foreign = [(0.1, 0.5, 0.9, 0.9, "苹果")]
    assert (draw_boxes(image, foreign) == draw_boxes(image, foreign, tags=False)).all()


def test_polygon_with_a_hole_is_tinted_only_between_its_rings():
    image = np.full((100, 100, 3), 100, np.uint8)
    outer, inner = [0.1, 0.1, 0.9, 0.1, 0.9, 0.9, 0.1, 0.9], [0.4, 0.4, 0.6, 0.4, 0.6, 0.6, 0.4, 0.6]
    drawn = draw_polygons(image, [([outer, inner], "a")], colours=RED)
    assert tuple(drawn[50, 50]) == (100, 100, 100)
    assert tuple(drawn[25, 25]) == (162, 60, 60)  # 0.6 of the picture, 0.4 of the colour
    assert tuple(drawn[5, 5]) == (100, 100, 100)


def test_polygon_covers_what_coco_says():
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(20):
        centre, angles = rng.uniform(0.3, 0.7, 2), np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(0.1, 0.28, 9)
        ring = (centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]).ravel()
        drawn = draw_polygons(np.zeros((200, 200, 3), np.uint8), [([ring.tolist()], "a")], colours=RED)
        ours = drawn[..., 0] > 0
        truth = coco.decode(coco.merge(coco.frPyObjects([(ring * 200).tolist()], 200, 200))).astype(bool)
        overlaps.append((ours & truth).sum() / (ours | truth).sum())
    # The outline is drawn over the boundary's pixels, which costs thin spikes a little.
    assert min(overlaps) > 0.9
    assert np.mean(overlaps) > 0.95


def test_masks_of_another_size_are_scaled_to_the_picture():
    mask = np.zeros((400, 800), bool)
    mask[:200, :400] = True
    drawn = draw_masks(np.full((100, 200, 3), 100, np.uint8), [(mask, "a"), (~mask, "b")], colours=RED)
    assert tuple(drawn[20, 20]) == (162, 60, 60)
    assert tuple(drawn[80, 150]) == (60, 162, 60)
    assert tuple(drawn[49, 50]) == (255, 0, 0)  # the outline


def test_empty_labels_change_nothing():
    image = np.full((20, 20, 3), 7, np.uint8)
    assert (draw_boxes(image, []) == image).all()
    assert (draw_polygons(image, [([], "a"), ([[0.1, 0.1], [0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.5]], "a")]) == image).all()
    assert (draw_masks(image, [(np.zeros((20, 20)), "a")]) == image).all()


def test_colours_go_by_order_and_come_round():
    colours = label_colours([f"c{i}" for i in range(20)] + ["c0"])
    assert len(colours) == 20
    assert len(set(colours.values())) == 16
    assert colours["c0"] == colours["c16"] != colours["c1"]


def test_shrink_leaves_small_pictures_alone():
    image = np.zeros((10, 20, 3), np.uint8)
    assert shrink(image, 20) is image
    assert shrink(image, 10).shape == (5, 10, 3)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match="without pixels"):
        thumbnail(np.zeros((0, 0, 3), np.uint8))
