"""ROC and precision-recall points, areas and calibration bins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kubesight.metrics.curves import (
    areas,
    calibration_bins,
    expected_calibration_error,
    macro_roc,
    precision_recall,
    roc,
)


def noisy(seed, n=5000, share=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    return truth, 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * truth)))


@pytest.mark.parametrize("share", [0.3, 0.01, 0.99])
def test_thinned_curves_keep_ends_limit_and_area(share):
    truth, scores = noisy(0, share=share)
    curve = roc(truth, scores)
    assert len(curve.fpr) == len(curve.tpr) == len(curve.thresholds) <= 200
    assert (curve.fpr[0], curve.tpr[0]) == (0, 0)
    assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)
    assert np.isfinite(curve.thresholds).all()
    assert sorted(curve.thresholds, reverse=True) == curve.thresholds
    assert sk.auc(curve.fpr, curve.tpr) == pytest.approx(sk.roc_auc_score(truth, scores), abs=0.01)
    line = precision_recall(truth, scores)
    assert len(line.recall) == len(line.precision) <= 200
    assert (line.recall[0], line.recall[-1]) == (0, 1)
    assert sorted(line.recall) == line.recall


def test_a_roc_point_is_what_its_threshold_gives():
    truth, scores = noisy(1, n=400)
    curve = roc(truth, scores, 20)
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.thresholds, strict=True):
        positive = scores >= threshold
        assert positive[truth].mean() == pytest.approx(tpr)
        assert positive[~truth].mean() == pytest.approx(fpr)


def test_curves_by_hand():
    truth = np.array([True, False, True, False])
    curve = roc(truth, np.array([0.9, 0.8, 0.7, 0.1]))
    assert curve.tpr == [0, 0.5, 0.5, 1, 1]
    assert curve.fpr == [0, 0, 0.5, 0.5, 1]
    assert curve.thresholds[1:] == [0.9, 0.8, 0.7, 0.1]
    assert 0.9 < curve.thresholds[0] < 0.91
    assert areas(truth, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((0.75, (1 + 2 / 3) / 2))


def test_undefined_curves_are_none():
    ones, zeros, scores = np.ones(3, bool), np.zeros(3, bool), np.array([0.1, 0.2, 0.3])
    assert roc(ones, scores) is None
    assert roc(zeros, scores) is None
    assert precision_recall(zeros, scores) is None
    assert areas(zeros, scores) == (None, None)
    assert areas(ones, scores) == (None, 1.0)
    assert macro_roc(np.stack([ones, zeros], axis=1), np.stack([scores, scores], axis=1)) is None


def test_macro_roc_is_the_mean_over_defined_classes():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    scores = np.array([[0.9, 0.6, 0.1], [0.8, 0.5, 0.2], [0.2, 0.4, 0.3], [0.1, 0.7, 0.4]])
    fpr, tpr = macro_roc(truth, scores)
    assert len(fpr) <= 200
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    # Class 0 is perfect. Class 1 finds one of its two before the first false positive, both before the second.
    expected = {0.0: (1 + 0.5) / 2, 0.25: (1 + 0.5) / 2, 0.75: 1.0}
    for x, y in expected.items():
        assert np.interp(x, fpr[1:], tpr[1:]) == pytest.approx(y)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])), min_size=1, max_size=15))
def test_areas_equal_scikit_learn_with_ties(pairs):
    truth, scores = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs])
    auc, average_precision = areas(truth, scores)
    if truth.any():
        assert average_precision == pytest.approx(sk.average_precision_score(truth, scores))
    if truth.any() and not truth.all():
        assert auc == pytest.approx(sk.roc_auc_score(truth, scores))
        assert np.isfinite(roc(truth, scores).thresholds).all()


def test_calibration_bins_by_hand():
    rows = calibration_bins(np.array([0.0, 0.5, 0.51, 1.0, 0.9]), np.array([False, True, False, True, True]), bins=2)
    assert [(row.lower, row.upper, row.count) for row in rows] == [(0.0, 0.5, 2), (0.5, 1.0, 3)]
    assert rows[0].confidence == pytest.approx(0.25)
    assert rows[0].accuracy == 0.5
    assert rows[1].accuracy == pytest.approx(2 / 3)
    error = expected_calibration_error(
        np.array([0.0, 0.5, 0.51, 1.0, 0.9]), np.array([False, True, False, True, True]), bins=2
    )
    assert error == pytest.approx((2 * 0.25 + 3 * (2.41 / 3 - 2 / 3)) / 5)
    empty = calibration_bins(np.array([0.9]), np.array([True]))
    assert len(empty) == 15
    assert empty[0].confidence is None
    assert empty[0].accuracy is None


def test_calibrated_answers_have_a_small_error_and_overconfident_ones_a_large_one():
    rng = np.random.default_rng(2)
    confidence = rng.random(50_000)
    assert expected_calibration_error(confidence, rng.random(50_000) < confidence) < 0.01
    assert expected_calibration_error(np.full(1000, 0.99), rng.random(1000) < 0.5) == pytest.approx(0.49, abs=0.05)
