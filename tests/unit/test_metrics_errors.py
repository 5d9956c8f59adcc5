"""The kinds of errors: one scene each, against hotcoco's account of TIDE, and costs by really mending them."""

from dataclasses import replace

import hotcoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import CLASSES, SIZE, founds, rectangle, scenes, truths

from kubesight.errors import HyperparameterError
from kubesight.metrics.errors import BACKGROUND, CLASS, DUPLICATE, KINDS, LEFT_OUT, RIGHT, error_breakdown
from kubesight.metrics.voc import voc_metrics

BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def breakdown(truth, found, score_threshold=0.0, **settings):
    return error_breakdown(truth, found, CLASSES, score_threshold=score_threshold, **settings)


def counts(truth, found, **settings):
    """The counts that are not 0."""
    return {kind: count for kind, count in breakdown(truth, found, **settings).counts.items() if count}


@pytest.mark.parametrize(
    ("label", "box", "expected"),
    [
        (0, BOX, {}),
        (0, (0, 0, 10, 4), {"localisation": 1}),
        (0, (0, 0, 10, 1), {"localisation": 1}),
        (1, BOX, {"class": 1}),
        (1, (0, 0, 10, 5), {"class": 1}),
        (1, (0, 0, 10, 4), {"both": 1, "missed": 1}),
        (1, (0, 0, 10, 1), {"both": 1, "missed": 1}),
        (0, (0, 0, 10, 0.9), {"background": 1, "missed": 1}),
        (1, FAR, {"background": 1, "missed": 1}),
    ],
)
def test_one_object_and_one_detection(label, box, expected):
    assert counts(truths((0, 0, BOX)), founds((0, label, box, 0.9))) == expected


def test_a_duplicate_is_an_enough_overlap_with_what_is_found():
    assert counts(truths((0, 0, BOX)), founds((0, 0, BOX, 0.9), (0, 0, BOX, 0.8))) == {"duplicate": 1}


def test_a_localisation_error_goes_before_a_class_error_and_that_before_a_duplicate():
    near = truths((0, 0, (0, 0, 10, 4)), (0, 1, BOX))
    assert counts(near, founds((0, 0, BOX, 0.9))) == {"localisation": 1, "missed": 1}
    two = truths((0, 0, BOX), (0, 1, BOX))
    assert counts(two, founds((0, 0, BOX, 0.9), (0, 0, BOX, 0.8))) == {"class": 1}


def test_nothing_found_is_all_missed():
    result = breakdown(truths((0, 0, BOX), (2, 1, FAR)), founds())
    assert result.counts["missed"] == 2
    assert result.per_picture[:, KINDS.index("missed")].tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_ignored_objects_are_no_one_s_target(kind):
    truth = truths((0, 0, BOX, {kind: True}), (0, 0, FAR))
    result = breakdown(truth, founds((0, 0, FAR, 0.9), (0, 0, BOX, 0.8), (0, 1, BOX, 0.7)))
    assert result.found_kind.tolist() == [RIGHT, LEFT_OUT, BACKGROUND]
    assert result.counts == dict.fromkeys(KINDS, 0) | {"background": 1}
    assert result.average_precision == 1.0
    # Too little of the ignored object to be left out, and no localisation error of it either.
    assert counts(truth, founds((0, 0, FAR, 0.9), (0, 0, (0, 0, 10, 4), 0.8))) == {"background": 1}


def test_kinds_stand_in_the_order_given_and_counts_begin_at_the_score_threshold():
    truth = truths((0, 0, BOX), (1, 0, BOX))
    found = founds((1, 1, BOX, 0.3), (0, 0, FAR, 0.2), (0, 0, BOX, 0.5), (0, 0, BOX, 0.9))
    result = breakdown(truth, found, score_threshold=0.3)
    assert result.found_kind.tolist() == [CLASS, BACKGROUND, DUPLICATE, RIGHT]
    assert result.counts == dict.fromkeys(KINDS, 0) | {"class": 1, "duplicate": 1}
    assert result.per_picture.tolist() == [[0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]]
    # Above .3 the class error is not shown: its target is missed.
    assert breakdown(truth, found, score_threshold=0.4).per_picture.tolist() == [[0, 0, 0, 1, 0, 0], [0] * 5 + [1]]
    assert breakdown(truth, found, score_threshold=0.4).cost == result.cost


def test_masks_are_compared_by_masks():
    truth = truths((0, 0, BOX), masks=[rectangle(*BOX)])
    found = founds((0, 0, BOX, 0.9), masks=[rectangle(0, 0, 10, 4)])
    assert counts(truth, found, masks=True) == {"localisation": 1}
    assert counts(truth, found) == {}


def test_thresholds():
    truth, found = truths((0, 0, BOX)), founds((0, 0, (0, 0, 10, 7), 0.9))
    assert counts(truth, found, iou_threshold=0.75) == {"localisation": 1}
    assert counts(truth, found, iou_threshold=0.75, background_iou=0.75) == {"background": 1, "missed": 1}
    with pytest.raises(HyperparameterError):
        breakdown(truth, found, iou_threshold=0.05)
    for bad in (0.0, 0.6):
        with pytest.raises(ValueError, match="background overlap of"):
            breakdown(truth, found, background_iou=bad)


def test_without_objects_to_find_nothing_costs():
    for truth in (truths(pictures=2), truths((0, 0, BOX, {"crowd": True}))):
        result = breakdown(truth, founds((0, 0, FAR, 0.9)))
        assert (result.average_precision, result.cost) == (None, {})
        assert result.counts["background"] == 1


def test_costs_by_hand():
    # One class, objects A, B, C. Ranking: localisation error of A, hit of B, duplicate of B, background; C is missed.
    # As it is: hit at rank 2, precision 1/2, of 3 objects: 1/6.
    a, b, c = BOX, (20, 0, 30, 10), (40, 0, 50, 10)
    truth = truths((0, 0, a), (0, 0, b), (0, 0, c))
    found = founds((0, 0, (0, 0, 10, 4), 0.9), (0, 0, b, 0.8), (0, 0, b, 0.7), (0, 0, FAR, 0.6))
    result = breakdown(truth, found)
    assert result.average_precision == pytest.approx(1 / 6)
    assert result.cost == {
        "localisation": pytest.approx(2 / 3 - 1 / 6),  # hits at ranks 1 and 2
        "class": 0.0,
        "both": 0.0,
        "duplicate": 0.0,  # behind the last hit
        "background": 0.0,
        "missed": pytest.approx(1 / 4 - 1 / 6),  # two objects to find
    }


def test_false_detections_of_high_scores_cost():
    # Ranking: background, hit: 1/2 as it is; 1 without the background.
    result = breakdown(truths((0, 0, BOX)), founds((0, 0, FAR, 0.9), (0, 0, BOX, 0.8)))
    assert result.cost["background"] == 0.5
    assert sum(result.cost.values()) == 0.5


def test_a_mended_class_error_takes_the_place_of_a_hit_of_a_lower_score():
    # Class 0: hit at rank 2 of the whole ranking. Mended, the detection of class 1 is the hit, and the other is gone.
    # Class 0 had precision 1 before and has it after: nothing gained, nothing lost.
    truth = truths((0, 0, BOX))
    assert breakdown(truth, founds((0, 1, BOX, 0.9), (0, 0, BOX, 0.8))).cost["class"] == 0.0
    # Two detections of the wrong class: one becomes the hit, the other goes; 0 before, 1 after.
    assert breakdown(truth, founds((0, 1, BOX, 0.9), (0, 1, BOX, 0.8))).cost["class"] == 1.0
    # The one that goes is no false positive before a hit: 1 / 2 before (of two objects one is found), 1 after.
    two = truths((0, 0, BOX), (0, 0, FAR))
    assert breakdown(two, founds((0, 1, BOX, 0.9), (0, 1, BOX, 0.8), (0, 0, FAR, 0.7))).cost["class"] == 0.5


def test_a_class_that_is_wholly_missed_costs_all_of_it_unless_it_has_false_detections():
    truth = truths((0, 0, BOX), (0, 1, FAR))
    assert breakdown(truth, founds((0, 0, BOX, 0.9))).cost["missed"] == 0.5
    false = founds((0, 0, BOX, 0.9), (0, 1, (80, 80, 90, 90), 0.9))
    assert breakdown(truth, false).cost["missed"] == 0.0


@st.composite
def disjoint(draw):
    """Objects apart from each other, so that VOC's matching and COCO's agree; detections of any overlap with them."""
    places = [(12 * column, 12 * row) for column in range(6) for row in range(2)]
    true_rows = [
        (draw(st.integers(0, 1)), draw(st.integers(0, 2)), (x, y, x + 10, y + 10))
        for x, y in draw(st.lists(st.sampled_from(places), unique=True, max_size=8))
    ]
    # No overlap equals a limit: there TIDE's tool takes the lower kind.
    shift = st.sampled_from([0, 1.1, 2.3, 3.7, 5.3, 7.9, 9.7])
    found_rows = []
    for number in range(draw(st.integers(0, 12))):
        x, y = draw(st.sampled_from(places))
        dx, dy = draw(shift), draw(shift)
        box = (x + dx, y + dy, x + dx + 10, y + dy + 10)
        found_rows.append((draw(st.integers(0, 1)), draw(st.integers(0, 2)), box, 0.9 - 0.01 * number))
    return truths(*true_rows, pictures=2), founds(*found_rows)


@settings(max_examples=150, deadline=None)
@given(disjoint())
def test_counts_equal_those_of_another_account_of_tide(scene):
    truth, found = scene
    corners = [np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1) for box in (truth.box, found.box)]
    labelled = hotcoco.COCO(
        {
            "images": [{"id": k, "width": SIZE, "height": SIZE} for k in (1, 2)],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
            "annotations": [
                {
                    "id": k + 1,
                    "image_id": int(truth.image[k]) + 1,
                    "category_id": int(truth.label[k]) + 1,
                    "bbox": corners[0][k].tolist(),
                    "area": 100.0,
                    "iscrowd": 0,
                }
                for k in range(len(truth))
            ],
        }
    )
    rows = np.column_stack([found.image + 1, corners[1], found.score, found.label + 1])
    evaluation = hotcoco.COCOeval(labelled, labelled.load_res(rows), "bbox")
    evaluation.evaluate()
    theirs = evaluation.tide_errors()["counts"]
    names = dict(zip(KINDS, ("Loc", "Cls", "Both", "Dupe", "Bkg", "Miss"), strict=True))
    assert breakdown(truth, found).counts == {kind: theirs[name] for kind, name in names.items()}


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_costs_are_those_of_really_removing_the_errors(scene):
    truth, found = scene
    result = breakdown(truth, found)
    base = voc_metrics(truth, found, CLASSES).mean
    assert result.average_precision == (base if base is None else pytest.approx(base, abs=1e-12))
    if base is None:
        return
    assert set(result.cost) == set(KINDS)
    for kind in ("both", "duplicate", "background"):
        without = found.select(result.found_kind != KINDS.index(kind))
        mended = voc_metrics(truth, without, CLASSES).mean
        assert result.cost[kind] == pytest.approx(mended - base, abs=1e-12)
        assert result.cost[kind] >= -1e-12
    values = [*result.cost.values(), result.average_precision]
    assert all(type(value) is float and -1 <= value <= 1 for value in values)


@settings(max_examples=150, deadline=None)
@given(disjoint())
def test_costs_are_those_of_really_moving_boxes_and_changing_classes(scene):
    truth, found = scene
    result = breakdown(truth, found)
    base = voc_metrics(truth, found, CLASSES).mean
    for kind in ("localisation", "class"):
        if base is None:
            return
        box, label = found.box.copy(), found.label.copy()
        for f in np.flatnonzero(result.found_kind == KINDS.index(kind)):
            here = (truth.image == found.image[f]) & ((truth.label == found.label[f]) == (kind == "localisation"))
            shared = np.prod(np.maximum(0, 10 - np.abs(truth.box[:, :2] - found.box[f, :2])), axis=1)
            t = int(np.argmax(np.where(here, shared, -1)))
            box[f], label[f] = truth.box[t], truth.label[t]
        moved = replace(found, box=box, label=label)
        # Detections that have become a second one of their object go.
        second = breakdown(truth, moved).found_kind == DUPLICATE
        drop = second & (result.found_kind != DUPLICATE)
        mended = voc_metrics(truth, moved.select(~drop), CLASSES).mean
        assert result.cost[kind] == pytest.approx(mended - base, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.5]))
def test_every_detection_and_every_object_is_accounted_for_once(scene, threshold):
    truth, found = scene
    result = breakdown(truth, found, score_threshold=threshold)
    shown = found.score >= threshold
    hits = int(((result.found_kind == RIGHT) & shown).sum())
    left_out = int(((result.found_kind == LEFT_OUT) & shown).sum())
    false = sum(count for kind, count in result.counts.items() if kind != "missed")
    assert hits + left_out + false == shown.sum()
    assert hits + result.counts["missed"] <= (~truth.ignored).sum()
    assert result.per_picture.sum(axis=0).tolist() == list(result.counts.values())
    assert result.per_picture.shape == (4, 6)
    wrong = shown & (result.found_kind >= 0)
    assert result.per_picture[:, :5].sum(axis=1).tolist() == np.bincount(found.image[wrong], minlength=4).tolist()
