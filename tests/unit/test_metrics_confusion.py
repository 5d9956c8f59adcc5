"""The confusion matrix of a detector."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import CLASSES, founds, rectangle, scenes, truths
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from kubesight.errors import HyperparameterError
from kubesight.metrics.confusion import detection_confusion
from kubesight.metrics.overlap import overlaps

BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def cells(truth, found, score_threshold=0.0, **settings):
    """The cells that are not 0, with 3 for the background."""
    matrix = detection_confusion(truth, found, CLASSES, score_threshold=score_threshold, **settings)
    assert matrix.shape == (4, 4)
    assert matrix.dtype == np.int64
    return {(int(i), int(j)): int(matrix[i, j]) for i, j in np.argwhere(matrix)}


def test_every_kind_of_cell():
    truth = truths((0, 0, BOX), (0, 1, FAR), (1, 2, BOX))
    found = founds((0, 0, BOX, 0.9), (0, 2, FAR, 0.9), (1, 1, FAR, 0.9))
    assert cells(truth, found) == {(0, 0): 1, (1, 2): 1, (2, 3): 1, (3, 1): 1}


def test_an_object_is_found_once():
    assert cells(truths((0, 0, BOX)), founds((0, 0, BOX, 0.9), (0, 0, BOX, 0.8))) == {(0, 0): 1, (3, 0): 1}


def test_the_greater_overlap_goes_before_class_and_score():
    truth = truths((0, 0, BOX))
    found = founds((0, 0, (0, 0, 10, 8), 0.9), (0, 1, BOX, 0.1))
    assert cells(truth, found) == {(0, 1): 1, (3, 0): 1}


def test_of_equal_overlaps_the_right_class_goes_first_then_the_score():
    truth = truths((0, 0, BOX))
    assert cells(truth, founds((0, 1, BOX, 0.9), (0, 0, BOX, 0.1))) == {(0, 0): 1, (3, 1): 1}
    assert cells(truth, founds((0, 1, BOX, 0.1), (0, 2, BOX, 0.9))) == {(0, 2): 1, (3, 1): 1}
    assert cells(truths((0, 1, BOX), (0, 0, BOX)), founds((0, 0, BOX, 0.9))) == {(0, 0): 1, (1, 3): 1}


def test_a_detection_takes_another_object_when_the_best_is_taken():
    truth = truths((0, 0, BOX), (0, 1, (2, 0, 12, 10)))
    assert cells(truth, founds((0, 0, BOX, 0.9), (0, 1, (-1, 0, 9, 10), 0.8))) == {(0, 0): 1, (1, 1): 1}


def test_both_thresholds_include_their_limit():
    truth, found = truths((0, 0, BOX)), founds((0, 0, (0, 0, 10, 5), 0.5))
    assert cells(truth, found, 0.5) == {(0, 0): 1}
    assert cells(truth, found, np.nextafter(0.5, 1)) == {(0, 3): 1}
    assert cells(truth, found, iou_threshold=np.nextafter(0.5, 1)) == {(0, 3): 1, (3, 0): 1}
    with pytest.raises(HyperparameterError):
        cells(truth, found, iou_threshold=0.05)


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_ignored_objects_and_what_finds_them_are_left_out(kind):
    truth = truths((0, 0, BOX, {kind: True}), (0, 0, FAR))
    assert cells(truth, founds((0, 0, BOX, 0.9), (0, 1, BOX, 0.8), (0, 0, FAR, 0.7))) == {(0, 0): 1}
    beside = truths((0, 0, BOX, {kind: True}), (0, 0, (0, 0, 10, 9)))
    assert cells(beside, founds((0, 0, BOX, 0.9))) == {(0, 0): 1}


def test_pictures_without_anything():
    assert cells(truths(pictures=2), founds()) == {}
    assert cells(truths(pictures=2), founds((1, 2, BOX, 0.9))) == {(3, 2): 1}
    assert cells(truths((0, 2, BOX)), founds()) == {(2, 3): 1}


def test_masks_are_compared_by_masks():
    truth = truths((0, 0, BOX), masks=[rectangle(*BOX)])
    found = founds((0, 0, BOX, 0.9), masks=[rectangle(0, 0, 10, 4)])
    assert cells(truth, found, masks=True) == {(0, 3): 1, (3, 0): 1}
    assert cells(truth, found) == {(0, 0): 1}


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.5]), st.sampled_from([0.1, 0.5]))
def test_rows_and_columns_add_up_and_no_possible_pair_is_left(scene, score_threshold, iou_threshold):
    truth, found = scene
    matrix = detection_confusion(truth, found, CLASSES, score_threshold=score_threshold, iou_threshold=iou_threshold)
    to_find = ~truth.ignored
    assert matrix[:3].sum(axis=1).tolist() == np.bincount(truth.label[to_find], minlength=3).tolist()
    kept = found.select(found.score >= score_threshold)
    every = overlaps(truth, kept, same_class=False)
    touching = every.select(every.iou >= iou_threshold)
    beside = np.zeros(len(kept), bool)
    beside[touching.found[~to_find[touching.true]]] = True
    shown = np.bincount(kept.label, minlength=3)
    columns = matrix[:, :3].sum(axis=0)
    assert (columns <= shown).all()
    assert (columns >= shown - np.bincount(kept.label[beside], minlength=3)).all()
    # A pairing that leaves no possible pair is at least half as large as the largest one.
    possible = touching.select(to_find[touching.true])
    graph = csr_array((np.ones(len(possible.true)), (possible.true, possible.found)), (len(truth), len(kept)))
    largest = (maximum_bipartite_matching(graph, perm_type="column") >= 0).sum() if len(possible.true) else 0
    assert largest / 2 <= matrix[:3, :3].sum() <= largest
    assert matrix[3, 3] == 0
