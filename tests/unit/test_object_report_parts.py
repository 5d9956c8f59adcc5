"""Outlines of masks, verdicts and thresholds behind the page on boxes and outlines."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_gallery import gallery, outline, picture_shapes
from kubesight.evaluate.object_thresholds import all_classes, at, round_down
from kubesight.evaluate.object_verdicts import (
    BACKGROUND,
    DUPLICATE,
    HIDDEN,
    IGNORED,
    LABELLED,
    LAYERS,
    LEFT_OUT,
    MISSED,
    OF_ERROR,
    RIGHT,
    judge,
)
from kubesight.metrics import errors
from kubesight.metrics.detection import best_f1
from kubesight.metrics.errors import error_breakdown
from kubesight.metrics.objects import FoundObjects, TrueObjects
from kubesight.metrics.voc import ClassCurve


def rle(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def disc(x, y, radius, side=64):
    rows, columns = np.mgrid[:side, :side]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def masks_of(discs):
    masks = [rle(disc(*each)) for each in discs]
    boxes = np.array([coco_mask.toBbox(mask) for mask in masks]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return masks, boxes


def answers_of(true, found, scores, *, difficult=()):
    """One picture, one class; discs are (x, y, radius)."""
    true_masks, true_boxes = masks_of(true)
    found_masks, found_boxes = masks_of(found)
    zeros, none = np.zeros(len(true), np.int64), np.zeros(len(found), np.int64)
    area = np.array(coco_mask.area(true_masks), np.float64) if true else np.zeros(0)
    no = np.zeros(len(true), bool)
    hard = np.isin(np.arange(len(true)), difficult)
    return ObjectAnswers(
        dataset="data",
        urls=["s3://bucket/one.png"],
        classes=["cell"],
        truth=TrueObjects(np.array([[64, 64]]), zeros, zeros, true_boxes, area, no, hard, true_masks),
        found=FoundObjects(none, none, found_boxes, np.array(scores, np.float64), found_masks),
        masks=True,
        score_threshold=0.5,
        iou_threshold=0.5,
        warnings=[],
    )


def verdicts_of(answers):
    breakdown = error_breakdown(
        answers.truth, answers.found, answers.classes, score_threshold=answers.score_threshold, masks=True
    )
    return judge(answers, breakdown)


def test_a_square_and_its_hole_are_outlined_through_their_outermost_pixels():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:20] = True
    mask[8:12, 13:17] = False
    rings = sorted((ring.min(0).tolist(), ring.max(0).tolist()) for ring in outline(rle(mask), 0.4))
    # Pixels 10 to 19 and 5 to 14; the hole's ring goes through the pixels around it.
    assert rings[0] == ([10.5, 5.5], [19.5, 14.5])
    assert rings[1] == ([12.5, 7.5], [17.5, 12.5])
    assert outline(rle(np.zeros((5, 5), bool)), 0.4) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(10, 50), st.floats(10, 50), st.floats(4, 14)), min_size=1, max_size=4))
def test_outlines_give_their_mask_back(discs):
    mask = np.any([disc(*each) for each in discs], axis=0)
    rings = outline(rle(mask), 0.3)
    drawn = np.zeros((64, 64), np.uint8)
    cv2.fillPoly(drawn, [np.rint((ring - 0.5) * 16).astype(np.int32) for ring in rings], 1, cv2.LINE_8, 4)
    assert (drawn.astype(bool) & mask).sum() / (drawn.astype(bool) | mask).sum() > 0.85


def test_every_kind_of_error_has_a_layer_of_its_own():
    assert set(OF_ERROR) == {errors.RIGHT, errors.LEFT_OUT, *range(len(errors.KINDS))}
    assert len(set(OF_ERROR.values())) == len(OF_ERROR)
    assert len({layer.name for layer in LAYERS}) == len(LAYERS)
    assert len({layer.colour for layer in LAYERS if not layer.dashed}) == sum(not layer.dashed for layer in LAYERS)


def test_verdicts_of_masks():
    answers = answers_of(
        [(15, 15, 8), (45, 15, 8), (15, 45, 8)],
        [(15, 15, 8), (16, 15, 8), (45, 45, 6), (15, 45, 8), (45, 15, 8)],
        [0.9, 0.8, 0.7, 0.6, 0.4],
        difficult=[2],
    )
    verdicts = verdicts_of(answers)
    assert verdicts.found.tolist() == [RIGHT, DUPLICATE, BACKGROUND, LEFT_OUT, HIDDEN]
    assert verdicts.labelled.tolist() == [LABELLED, MISSED, IGNORED]
    assert verdicts.target.tolist()[0] == 0
    assert verdicts.errors.tolist() == [3]
    assert verdicts.worst_pictures(5) == [0]


def test_masks_are_drawn_as_outlines_and_errors_come_first():
    answers = answers_of([(15, 15, 8), (45, 15, 8)], [(15, 15, 8), (45, 45, 6)], [0.9, 0.7])
    shapes = picture_shapes(answers, verdicts_of(answers), 0)
    assert [shape.layer for shape in shapes] == [BACKGROUND, MISSED, RIGHT, LABELLED]
    right = shapes[2]
    assert right.tip == "found cell, score 0.900: right (labelled cell, IoU 1.00)"
    (ring,) = right.rings
    centre = (ring.min(0) + ring.max(0)) / 2 * 64
    assert centre == pytest.approx([15.5, 15.5])
    assert right.tags == (".90",)


def test_a_gallery_keeps_to_its_budget():
    answers = answers_of([(15, 15, 8)], [], [])
    whole = gallery(answers, verdicts_of(answers))
    assert whole.count("<figure>") == 1
    assert gallery(answers, verdicts_of(answers), 300) == ""


CURVES = st.lists(
    st.tuples(st.integers(0, 6), st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()))),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(CURVES, st.floats(0, 1))
def test_all_classes_together_count_what_each_class_counts(given_curves, threshold):
    curves = []
    for k, (more, ranked) in enumerate(given_curves):
        ordered = sorted(ranked, key=lambda pair: -pair[0])
        score = np.array([pair[0] for pair in ordered], np.float64)
        hit = np.array([pair[1] for pair in ordered], bool)
        curves.append(ClassCurve(f"{k}", int(hit.sum()) + more, score, hit, None))
    merged = all_classes(curves)
    row = at(merged, threshold)
    pairs = [(s, h) for curve in curves for s, h in zip(curve.score.tolist(), curve.hit.tolist(), strict=True)]
    assert row.found == sum(h for s, h in pairs if s >= threshold)
    assert row.false == sum(not h for s, h in pairs if s >= threshold)
    assert row.missed == sum(curve.ground_truths for curve in curves) - row.found
    best, figures = best_f1(merged)
    if best is not None:
        assert figures.f1 == pytest.approx(max(at(merged, score).figures.f1 for score, _ in pairs))


@given(st.floats(0, 1))
def test_a_threshold_is_never_shown_higher_than_it_is(score):
    assert score - 0.0001 <= round_down(score) <= score
