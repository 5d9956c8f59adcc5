"""What a score threshold does, sizes, and the numbers that training prints."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import CLASSES, founds, rectangle, scenes, truths

from kubesight.errors import HyperparameterError
from kubesight.metrics.coco import coco_metrics
from kubesight.metrics.detection import (
    Figures,
    best_f1,
    by_size,
    figures,
    per_class_at,
    pooled_at,
    threshold_table,
)
from kubesight.metrics.summary import detection_metrics
from kubesight.metrics.voc import voc_metrics

BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)
BOXES = [(20 * k, 0, 20 * k + 10, 10) for k in range(4)]


def curves(truth, found, classes=("a",), **settings):
    return voc_metrics(truth, found, list(classes), **settings).per_class


def ranking():
    """Four objects; hit at .9, miss at .8, hit and miss at .7, hit at .3."""
    return truths(*((0, 0, box) for box in BOXES)), founds(
        (0, 0, BOXES[0], 0.9), (0, 0, FAR, 0.8), (0, 0, BOXES[1], 0.7), (0, 0, FAR, 0.7), (0, 0, BOXES[2], 0.3)
    )


def test_figures_of_three_numbers():
    assert figures(3, 4, 5) == Figures(3 / 4, 3 / 5, 6 / 9)
    assert figures(0, 0, 5) == Figures(0.0, 0.0, 0.0)
    assert figures(0, 2, 0) == Figures(0.0, None, 0.0)
    assert figures(0, 0, 0).defined() == {}
    assert figures(0, 2, 0).defined() == {"precision": 0.0, "f1": 0.0}


def test_a_class_at_the_deployment_threshold():
    # From 0.7 on: 2 hits of 4 kept, 4 objects.
    row = per_class_at(curves(*ranking()), 0.7)[0]
    assert (row.hits, row.false, row.missed, row.detections, row.ground_truths) == (2, 2, 2, 5, 4)
    assert row.figures == Figures(0.5, 0.5, 0.5)
    assert row.average_precision == curves(*ranking())[0].average_precision


@pytest.mark.parametrize(("threshold", "kept"), [(0.7, 4), (np.nextafter(0.7, 1), 2), (0.9, 1), (0.91, 0), (-1, 5)])
def test_a_score_equal_to_the_threshold_is_kept(threshold, kept):
    row = per_class_at(curves(*ranking()), threshold)[0]
    assert row.hits + row.false == kept


def test_the_best_f1_by_hand():
    # F1 = 2 * hits / (kept + 4): at .9 2/5, at .8 2/6, at .7 (both) 4/8, at .3 6/9.
    threshold, best = best_f1(curves(*ranking())[0])
    assert threshold == 0.3
    assert best == Figures(3 / 5, 3 / 4, 6 / 9)


def test_equal_scores_are_kept_together_for_the_best_f1():
    # Taken one by one the first of two at .5 would have F1 1; together they have 2/3.
    truth, found = truths((0, 0, BOX)), founds((0, 0, BOX, 0.5), (0, 0, FAR, 0.5))
    assert best_f1(curves(truth, found)[0]) == (0.5, Figures(0.5, 1.0, 2 / 3))


def test_of_equal_f1_the_greatest_threshold_is_best():
    # Two objects: .9 hit: 2/3; .8 miss, .7 miss, .6 hit: 4/6.
    truth = truths((0, 0, BOXES[0]), (0, 0, BOXES[1]))
    found = founds((0, 0, BOXES[0], 0.9), (0, 0, FAR, 0.8), (0, 0, FAR, 0.7), (0, 0, BOXES[1], 0.6))
    assert best_f1(curves(truth, found)[0])[0] == 0.9


def test_without_a_hit_there_is_no_best_threshold():
    for truth, found in ((truths((0, 0, BOX)), founds((0, 0, FAR, 0.9))), (truths(pictures=1), founds())):
        row = per_class_at(curves(truth, found), 0.5)[0]
        assert (row.best_threshold, row.best) == (None, None)


@settings(max_examples=100, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_figures_are_those_of_the_kept_detections_alone(scene, threshold):
    truth, found = scene
    everything = voc_metrics(truth, found, CLASSES).per_class
    kept = voc_metrics(truth, found.select(found.score >= threshold), CLASSES).per_class
    for row, alone in zip(per_class_at(everything, threshold), kept, strict=True):
        hits = int(alone.hit.sum())
        assert (row.hits, row.false, row.missed) == (hits, alone.detections - hits, alone.ground_truths - hits)
    pooled = pooled_at(everything, threshold)
    hits, number = sum(int(curve.hit.sum()) for curve in kept), sum(curve.detections for curve in kept)
    assert pooled == figures(hits, number, sum(curve.ground_truths for curve in kept))
    assert all(type(value) is float for value in pooled.defined().values())


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_no_threshold_beats_the_best(scene):
    for curve in curves(*scene, CLASSES):
        threshold, best = best_f1(curve)
        tried = [per_class_at([curve], score)[0].figures.f1 for score in curve.score.tolist()]
        if best is None:
            assert not any(tried)
            continue
        assert best.f1 == max(tried)
        assert per_class_at([curve], threshold)[0].figures == best


def test_what_each_threshold_costs():
    truth, found = ranking()
    rows = threshold_table(curves(truth, found), [0.0, 0.7, 0.75, 1.0])
    assert [(row.threshold, row.found, row.false, row.missed) for row in rows] == [
        (0.0, 3, 2, 1),
        (0.7, 2, 2, 2),
        (0.75, 1, 1, 3),
        (1.0, 0, 0, 4),
    ]
    assert rows[1].figures == Figures(0.5, 0.5, 0.5)
    assert [row.threshold for row in threshold_table(curves(truth, found))] == [k / 20 for k in range(20)]


def test_objects_by_size():
    # Areas 100 (small), 1024 (small and medium), 10000 (large), and a crowd; the one of 1024 is not found.
    truth = truths(
        (0, 0, BOX), (0, 0, (20, 20, 52, 52)), (1, 0, (0, 0, 100, 100)), (1, 0, (0, 0, 5, 5), {"crowd": True})
    )
    found = founds((0, 0, BOX, 0.9), (1, 0, (0, 0, 100, 100), 0.8))
    rows = {row.name: row for row in by_size(truth, coco_metrics(truth, found, ["a"], masks=False))}
    assert {name: row.ground_truths for name, row in rows.items()} == {"small": 2, "medium": 1, "large": 1}
    assert {name: row.recall for name, row in rows.items()} == {"small": 0.5, "medium": 0.0, "large": 1.0}
    # Half of the small ones are found: precision 1 at the recalls 0, .01, ..., .5, 51 of 101.
    assert rows["small"].average_precision == pytest.approx(51 / 101)
    assert (rows["medium"].smallest, rows["medium"].largest) == (1024, 9216)
    without = by_size(truths((0, 0, BOX)), coco_metrics(truths((0, 0, BOX)), founds(), ["a"], masks=False))
    assert (without[2].ground_truths, without[2].average_precision, without[2].recall) == (0, None, None)


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from(["voc", "coco", "coco_voc"]))
def test_the_metrics_of_training(scene, metric_type):
    truth, found = scene
    metrics = detection_metrics(truth, found, CLASSES, masks=False, metric_type=metric_type, score_threshold=0.5)
    voc, coco = voc_metrics(truth, found, CLASSES), coco_metrics(truth, found, CLASSES, masks=False)
    mean = coco.summary.get("AP50") if metric_type == "coco" else voc.mean
    expected = {} if mean is None else {"mean_average_precision": mean}
    expected |= pooled_at(voc.per_class, 0.5).defined()
    if metric_type != "voc":
        expected |= {f"coco_{name}": value for name, value in coco.summary.items()}
    assert metrics == expected
    assert all(type(value) is float and 0 <= value <= 1 for value in metrics.values())


def test_average_precision_does_not_know_the_deployment_threshold():
    truth, found = ranking()
    low, high = (detection_metrics(truth, found, ["a"], masks=False, score_threshold=cut) for cut in (0.0, 0.85))
    assert low["mean_average_precision"] == high["mean_average_precision"]
    assert (low["recall"], high["recall"], high["precision"]) == (0.75, 0.25, 1.0)


def test_masks_are_judged_by_masks():
    boxed = truths((0, 0, BOX)), founds((0, 0, BOX, 0.9))
    masked = replace(boxed[0], masks=[rectangle(*BOX)]), replace(boxed[1], masks=[rectangle(0, 0, 10, 4)])
    for masks, expected in ((False, 1.0), (True, 0.0)):
        metrics = detection_metrics(
            *masked, ["a"], masks=masks, metric_type="coco_voc", score_threshold=0.5, iou_threshold=0.5
        )
        assert metrics["mean_average_precision"] == metrics["recall"] == expected
        assert metrics["coco_AP50"] == pytest.approx(expected)


def test_the_overlap_threshold_is_heeded():
    truth, found = truths((0, 0, BOX)), founds((0, 0, (0, 0, 10, 6), 0.9))
    for threshold, expected in ((0.6, 1.0), (0.7, 0.0)):
        metrics = detection_metrics(truth, found, ["a"], masks=False, iou_threshold=threshold, score_threshold=0.5)
        assert metrics == dict.fromkeys(("mean_average_precision", "precision", "recall", "f1"), expected)
    with pytest.raises(HyperparameterError):
        detection_metrics(truth, found, ["a"], masks=False, iou_threshold=0.05, score_threshold=0.5)


def test_the_metric_type_is_one_of_four():
    arguments = {"masks": False, "score_threshold": 0.5}
    assert detection_metrics(*ranking(), ["a"], metric_type="none", **arguments) == {}
    with pytest.raises(ValueError, match="the metric type 'VOC' is none of none, coco, voc, coco_voc"):
        detection_metrics(*ranking(), ["a"], metric_type="VOC", **arguments)
