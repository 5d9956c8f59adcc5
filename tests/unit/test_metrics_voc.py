"""Average precision by VOC's rules: hand-worked cases, the rules one by one, and a slow account of the kit's loop."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import CLASSES, founds, rectangle, scenes, truths

from kubesight.errors import HyperparameterError
from kubesight.metrics.voc import average_precision, voc_metrics

BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def ap(truth, found, classes=("a",), **settings):
    return voc_metrics(truth, found, list(classes), **settings).per_class[0].average_precision


def test_a_ranking_worked_by_hand():
    # Four objects, ranking hit, miss, hit, hit, miss:
    #   recall    1/4  1/4  2/4  3/4  3/4
    #   precision 1    1/2  2/3  3/4  3/5
    # Made monotonous from the right: 1, 3/4, 3/4, 3/4, 3/5. The area: 1/4 * 1 + 1/4 * 3/4 + 1/4 * 3/4 = 0.625.
    # Eleven points: recall 0, .1, .2 -> 1; .3, .4, .5, .6, .7 -> 3/4; .8, .9, 1 -> 0: (3 + 3.75) / 11.
    boxes = [(20 * k, 0, 20 * k + 10, 10) for k in range(4)]
    truth = truths(*((0, 0, box) for box in boxes))
    found = founds(
        (0, 0, boxes[0], 0.9), (0, 0, FAR, 0.8), (0, 0, boxes[1], 0.7), (0, 0, boxes[2], 0.6), (0, 0, FAR, 0.5)
    )
    result = voc_metrics(truth, found, ["a"])
    curve = result.per_class[0]
    assert result.mean == curve.average_precision == 0.625
    assert curve.recall.tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 3 / 5])
    assert curve.score.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert (curve.ground_truths, curve.detections) == (4, 5)
    assert ap(truth, found, eleven_points=True) == pytest.approx(6.75 / 11, abs=1e-15)


def test_eleven_points_include_a_recall_that_is_exactly_a_tenth():
    # 3 of 10 objects, all three hits first: precision 1 at recall 0, .1, .2, .3 - four of eleven points. In binary
    # 3/10 is less than 3 * 0.1.
    assert average_precision(np.array([True] * 3), 10, eleven_points=True) == pytest.approx(4 / 11)
    for hits in range(11):
        assert average_precision(np.ones(hits, bool), 10, eleven_points=True) == pytest.approx(
            (hits + 1) / 11 if hits else 0
        )


def test_the_second_best_object_is_not_taken_in_its_place():
    # Two equal boxes apart by 2 pixels; both detections overlap the first object most (IoU 1 and 90 / 110), the
    # second by 80 / 120 and 70 / 130. VOC: the second detection looks at the first object only, which is taken.
    truth = truths((0, 0, BOX), (0, 0, (2, 0, 12, 10)))
    found = founds((0, 0, BOX, 0.9), (0, 0, (-1, 0, 9, 10), 0.8))
    curve = voc_metrics(truth, found, ["a"]).per_class[0]
    assert curve.hit.tolist() == [True, False]
    assert curve.average_precision == 0.5


def test_the_first_object_is_taken_of_equal_overlaps():
    truth = truths((0, 0, BOX, {"difficult": True}), (0, 0, BOX))
    assert voc_metrics(truth, founds((0, 0, BOX, 0.9)), ["a"]).per_class[0].detections == 0
    truth = truths((0, 0, BOX), (0, 0, BOX, {"difficult": True}))
    assert ap(truth, founds((0, 0, BOX, 0.9))) == 1.0


def test_equal_scores_keep_their_order():
    truth = truths((0, 0, BOX))
    right, wrong = (0, 0, BOX, 0.5), (0, 0, FAR, 0.5)
    assert ap(truth, founds(right, wrong)) == 1.0
    assert ap(truth, founds(wrong, right)) == 0.5


def test_the_order_in_which_pictures_were_handed_in_does_not_matter():
    truth = truths((0, 0, BOX), (1, 0, BOX))
    right, wrong = (0, 0, BOX, 0.5), (1, 0, FAR, 0.5)
    assert ap(truth, founds(right, wrong)) == ap(truth, founds(wrong, right)) == 0.5


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 1.0), (np.nextafter(0.5, 1), 0.0)])
def test_an_overlap_equal_to_the_threshold_is_enough(threshold, expected):
    assert ap(truths((0, 0, BOX)), founds((0, 0, (0, 0, 10, 5), 0.9)), iou_threshold=threshold) == expected


def test_inclusive_pixels_make_small_boxes_overlap_more():
    # 4 x 4 boxes shifted by 2 in x: continuous 2 * 4 / (16 + 16 - 8) = 1/3; inclusive 5 x 5 boxes share 3 * 5 of
    # 25 + 25 - 15 = 35: 3/7.
    truth, found = truths((0, 0, (0, 0, 4, 4))), founds((0, 0, (2, 0, 6, 4), 0.9))
    assert ap(truth, found, iou_threshold=0.34) == 0.0
    assert ap(truth, found, iou_threshold=0.42, inclusive_pixels=True) == 1.0
    assert ap(truth, found, iou_threshold=0.43, inclusive_pixels=True) == 0.0
    square = [rectangle(0, 0, 4, 4)], [rectangle(2, 0, 6, 4)]
    masked = truths((0, 0, BOX), masks=square[0]), founds((0, 0, BOX, 0.9), masks=square[1])
    assert ap(*masked, iou_threshold=0.34, inclusive_pixels=True, masks=True) == 0.0


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_difficult_objects_and_crowds_are_ignored_both_ways(kind):
    truth = truths((0, 0, BOX), (0, 0, FAR, {kind: True}))
    both = founds((0, 0, FAR, 0.9), (0, 0, FAR, 0.8), (0, 0, BOX, 0.7))
    curve = voc_metrics(truth, both, ["a"]).per_class[0]
    assert (curve.ground_truths, curve.detections, curve.average_precision) == (1, 1, 1.0)
    assert ap(truth, founds((0, 0, BOX, 0.7))) == 1.0


def test_an_overlap_with_a_crowd_is_that_of_any_object():
    # COCO would call it 1, for the detection lies inside the crowd; its share of the union is 1 / 4.
    truth = truths((0, 0, (0, 0, 20, 20), {"crowd": True}), (0, 0, FAR))
    found = founds((0, 0, BOX, 0.9), (0, 0, FAR, 0.8))
    assert voc_metrics(truth, found, ["a"]).per_class[0].hit.tolist() == [False, True]


def test_classes_without_objects_are_left_out_of_the_mean_and_those_never_found_are_not():
    truth = truths((0, 0, BOX), (0, 1, FAR))
    found = founds((0, 0, BOX, 0.9), (0, 2, FAR, 0.8))
    result = voc_metrics(truth, found, CLASSES)
    assert [curve.average_precision for curve in result.per_class] == [1.0, 0.0, None]
    assert result.mean == 0.5
    assert (result.per_class[2].ground_truths, result.per_class[2].detections) == (0, 1)
    assert result.per_class[2].recall.tolist() == result.per_class[2].precision.tolist() == [0.0]


def test_without_objects_to_find_there_is_no_mean():
    nothing, some = truths(pictures=2), founds((0, 0, BOX, 0.9))
    for truth in (nothing, truths((0, 0, BOX, {"crowd": True})), truths((0, 0, BOX, {"difficult": True}))):
        for found in (some, founds()):
            assert voc_metrics(truth, found, ["a"]).mean is None
    assert voc_metrics(nothing, founds(), []).per_class == []
    assert voc_metrics(truths((0, 0, BOX)), founds(), ["a"]).mean == 0.0


def test_every_detection_counts_not_a_hundred_a_picture():
    truth = truths((0, 0, BOX))
    found = founds(*((0, 0, FAR, 0.9) for _ in range(100)), (0, 0, BOX, 0.1))
    assert ap(truth, found) == pytest.approx(1 / 101)


def test_an_object_without_area_counts_as_missed():
    assert ap(truths((0, 0, BOX), (0, 0, (5, 5, 5, 5))), founds((0, 0, BOX, 0.9), (0, 0, (5, 5, 5, 5), 0.8))) == 0.5


@pytest.mark.parametrize("threshold", [0.0, 0.0999, 1.01, -1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(HyperparameterError, match=r"out of range. Choose one from 0.1 to 1"):
        ap(truths((0, 0, BOX)), founds(), iou_threshold=threshold)


def test_the_thresholds_at_both_ends_are_allowed():
    truth, found = truths((0, 0, BOX)), founds((0, 0, BOX, 0.9))
    assert ap(truth, found, iou_threshold=0.1) == ap(truth, found, iou_threshold=1.0) == 1.0


def kit(truth, found, k, threshold, inclusive):
    """Hits of class `k` by falling score, as the development kit's loop finds them, and the number to find."""
    one = 1 if inclusive else 0
    taken, hits = set(), []
    rows = sorted(range(len(found)), key=lambda f: (-found.score[f], found.image[f], f))
    for f in (f for f in rows if found.label[f] == k):
        best, place = -1.0, None
        for t in range(len(truth)):
            if truth.label[t] != k or truth.image[t] != found.image[f]:
                continue
            a, b = found.box[f], truth.box[t]
            width, height = min(a[2], b[2]) - max(a[0], b[0]) + one, min(a[3], b[3]) - max(a[1], b[1]) + one
            if width <= 0 or height <= 0:
                continue
            areas = [(box[2] - box[0] + one) * (box[3] - box[1] + one) for box in (a, b)]
            iou = width * height / (sum(areas) - width * height)
            if iou > best:
                best, place = iou, t
        if best < threshold:
            hits.append(False)
        elif not (truth.difficult[place] or truth.crowd[place]):
            hits.append(place not in taken)
            taken.add(place)
    to_find = sum(1 for t in range(len(truth)) if truth.label[t] == k and not truth.difficult[t] | truth.crowd[t])
    return hits, to_find


def area_in_fractions(hits, to_find):
    """The area under the monotonous curve: over every hit, the best precision from there on."""
    precision = [Fraction(sum(hits[: k + 1]), k + 1) for k in range(len(hits))]
    return float(sum((max(precision[k:]) for k in range(len(hits)) if hits[k]), Fraction(0)) / to_find)


def eleven_in_fractions(hits, to_find):
    """The mean of the best precision at recall 0, 1/10, ..., 1."""
    points = [(Fraction(sum(hits[: k + 1]), to_find), Fraction(sum(hits[: k + 1]), k + 1)) for k in range(len(hits))]
    best = [max([p for recall, p in points if recall >= Fraction(tenth, 10)], default=0) for tenth in range(11)]
    return float(sum(best) / Fraction(11))


@settings(max_examples=200, deadline=None)
@given(scenes(), st.sampled_from([0.1, 0.5, 0.75, 1.0]), st.booleans())
def test_equals_a_slow_account_of_the_kit(scene, threshold, inclusive):
    truth, found = scene
    area = voc_metrics(truth, found, CLASSES, iou_threshold=threshold, inclusive_pixels=inclusive)
    eleven = voc_metrics(truth, found, CLASSES, iou_threshold=threshold, inclusive_pixels=inclusive, eleven_points=True)
    defined = []
    for k, curve in enumerate(area.per_class):
        hits, to_find = kit(truth, found, k, threshold, inclusive)
        assert curve.hit.tolist() == hits
        assert curve.ground_truths == to_find
        if not to_find:
            assert curve.average_precision is None
            continue
        assert curve.average_precision == pytest.approx(area_in_fractions(hits, to_find), abs=1e-12)
        assert eleven.per_class[k].average_precision == pytest.approx(eleven_in_fractions(hits, to_find), abs=1e-12)
        assert type(curve.average_precision) is float
        defined.append(curve.average_precision)
    assert area.mean == (pytest.approx(sum(defined) / len(defined)) if defined else None)


@settings(max_examples=40, deadline=None)
@given(scenes(masks=True))
def test_masks_that_fill_their_boxes_are_judged_as_the_boxes(scene):
    truth, found = scene
    corners = [[rectangle(*map(int, box)) for box in objects.box] for objects in (truth, found)]
    masked = voc_metrics(
        truths(*_rows(truth), pictures=4, masks=corners[0]),
        founds(*_rows(found), masks=corners[1]),
        CLASSES,
        masks=True,
    )
    boxed = voc_metrics(truths(*_rows(truth), pictures=4), founds(*_rows(found)), CLASSES)
    for a, b in zip(masked.per_class, boxed.per_class, strict=True):
        assert a.hit.tolist() == b.hit.tolist()
        assert a.average_precision == b.average_precision


def _rows(objects):
    ends = objects.score.tolist() if hasattr(objects, "score") else [{"crowd": bool(c)} for c in objects.crowd]
    return list(zip(objects.image.tolist(), objects.label.tolist(), objects.box.tolist(), ends, strict=True))
