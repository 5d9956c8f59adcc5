"""Classification metrics against scikit-learn, called in the plain way, and against cases worked by hand."""

import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.metrics.classification import (
    averaged_over,
    confusion_matrix,
    multiclass_label_metrics,
    multiclass_metrics,
    multilabel_label_metrics,
    multilabel_metrics,
    per_class,
)
from kubesight.metrics.names import primary_metric

AVERAGES = ("macro", "micro", "weighted")
FAMILIES = {
    "precision_score": sk.precision_score,
    "recall_score": sk.recall_score,
    "f1_score": sk.f1_score,
}


def names(count):
    return [f"class{k:02}" for k in range(count)]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def random_multiclass(seed, n=300, c=8):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(c), rng.integers(0, c, n - c)])
    logits = rng.normal(size=(n, c))
    logits[np.arange(n), labels] += 1.5
    return labels, softmax(logits)


def random_multilabel(seed, n=300, c=6):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, c)) < 0.3).astype(int)
    labels[:2] = [[0] * c, [1] * c]
    return labels, 1 / (1 + np.exp(-(rng.normal(size=(n, c)) + 2 * labels - 1)))


def test_multiclass_equals_scikit_learn():
    labels, probabilities = random_multiclass(0)
    found = multiclass_metrics(labels, probabilities, names(8))
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "top_5_accuracy": sk.top_k_accuracy_score(labels, probabilities, k=5),
        "log_loss": sk.log_loss(labels, probabilities),
    }
    one_hot = np.eye(8)[labels]
    for average in AVERAGES:
        expected[f"AUC_{average}"] = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average=average)
        expected[f"average_precision_score_{average}"] = sk.average_precision_score(
            one_hot, probabilities, average=average
        )
        for family, function in FAMILIES.items():
            expected[f"{family}_{average}"] = function(labels, predicted, average=average)
    calibration = found.pop("expected_calibration_error")
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 <= calibration <= 1


def test_multilabel_equals_scikit_learn():
    labels, probabilities = random_multilabel(1)
    found = multilabel_metrics(labels, probabilities, names(6))
    predicted = (probabilities > 0.5).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "hamming_loss": sk.hamming_loss(labels, predicted),
        "iou": sk.jaccard_score(labels, predicted, average="samples", zero_division=1),
        "log_loss": sk.log_loss(labels.ravel(), probabilities.ravel()),
    }
    for average in AVERAGES:
        expected[f"iou_{average}"] = sk.jaccard_score(labels, predicted, average=average)
        expected[f"AUC_{average}"] = sk.roc_auc_score(labels, probabilities, average=average)
        expected[f"average_precision_score_{average}"] = sk.average_precision_score(
            labels, probabilities, average=average
        )
        for family, function in FAMILIES.items():
            expected[f"{family}_{average}"] = function(labels, predicted, average=average)
    found.pop("expected_calibration_error")
    assert found == pytest.approx(expected, abs=1e-12)


def test_two_classes_are_both_judged():
    labels, p = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.35, 0.8, 0.9])
    found = multiclass_metrics(labels, np.stack([1 - p, p], axis=1), ["no", "yes"])
    assert found["AUC_macro"] == pytest.approx(sk.roc_auc_score(labels, p))
    assert found["average_precision_score_macro"] == pytest.approx(
        (sk.average_precision_score(labels, p) + sk.average_precision_score(1 - labels, 1 - p)) / 2
    )
    assert "top_5_accuracy" not in found


def test_multiclass_by_hand():
    labels = [0, 0, 1, 2]
    probabilities = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.7, 0.2], [0.25, 0.25, 0.5]]
    found = multiclass_metrics(labels, probabilities, ["a", "b", "c"])
    assert found["accuracy"] == 0.75
    assert found["precision_score_macro"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["recall_score_macro"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["f1_score_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["recall_score_weighted"] == pytest.approx((2 * 0.5 + 1 + 1) / 4)
    assert found["log_loss"] == pytest.approx(-math.log(0.8 * 0.3 * 0.7 * 0.5) / 4)
    # Confidences .8, .6, .7, .5 lie in four bins, closed on the right: .6 is the end of the 9th, .8 of the 12th.
    assert found["expected_calibration_error"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.5) / 4)


def test_multilabel_by_hand_with_the_threshold_strict_and_empty_pictures_right():
    labels = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    probabilities = [[0.9, 0.5, 0.1], [0.51, 0.2, 0.7], [0.5, 0.5, 0.5], [0.9, 0.0, 0.0]]
    found = multilabel_metrics(labels, probabilities, ["a", "b", "c"])
    assert found["iou"] == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)
    assert found["accuracy"] == 0.5
    assert found["hamming_loss"] == pytest.approx(3 / 12)
    assert found["iou_micro"] == pytest.approx(2 / 5)
    assert found["iou_macro"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert found["iou_weighted"] == pytest.approx((2 * (2 / 3) + 1 * 0) / 3)


def test_classes_without_pictures_are_left_out_of_the_means():
    labels, probabilities = random_multiclass(3, c=4)
    wider = np.concatenate([probabilities, np.zeros((300, 3))], axis=1)
    narrow = multiclass_metrics(labels, probabilities, names(4))
    wide = multiclass_metrics(labels, wider, names(7))
    for name in narrow:
        if name not in ("AUC_micro", "average_precision_score_micro"):  # those count all pairs
            assert wide[name] == pytest.approx(narrow[name]), name
    rows = per_class(labels, wider.argmax(axis=1), names(7), wider)
    assert averaged_over(rows) == dict.fromkeys(
        ("precision", "recall", "f1_score", "iou", "AUC", "average_precision_score"), 4
    )
    assert [row.f1_score for row in rows[4:]] == [None] * 3


def test_class_that_is_predicted_but_never_there_counts_as_zero():
    found = multiclass_label_metrics([0, 0], [0, 1], ["a", "b", "c"])
    assert found["precision_score_macro"] == 0.5
    assert found["recall_score_macro"] == 0.25
    assert found["recall_score_macro"] == sk.recall_score([0, 0], [0, 1], average="macro", zero_division=0)


def test_undefined_values_are_left_out():
    single = multiclass_metrics([1, 1], [[0.4, 0.6], [0.3, 0.7]], ["a", "b"])
    assert not {"AUC_macro", "AUC_weighted"} & single.keys()
    assert single["average_precision_score_macro"] == 1.0
    assert single["AUC_micro"] == 1.0
    empty = multilabel_metrics([[0, 0]], [[0.1, 0.2]], ["a", "b"])
    assert empty["iou"] == 1.0
    assert empty["accuracy"] == 1.0
    assert not [name for name in empty if name.startswith(("AUC", "f1", "iou_", "average"))]
    spurious = multilabel_metrics([[0, 0]], [[0.9, 0.2]], ["a", "b"])
    assert spurious["precision_score_micro"] == 0.0
    assert "precision_score_weighted" not in spurious
    assert multiclass_metrics(np.zeros(0, int), np.zeros((0, 2)), ["a", "b"]) == {}
    assert multilabel_metrics(np.zeros((0, 2)), np.zeros((0, 2)), ["a", "b"]) == {}


def test_without_probabilities_the_other_metrics_are_the_same():
    labels, probabilities = random_multiclass(4)
    whole = multiclass_metrics(labels, probabilities, names(8))
    part = multiclass_label_metrics(labels, probabilities.argmax(axis=1), names(8))
    assert part == {name: whole[name] for name in part}
    assert len(part) == 10
    truth, scores = random_multilabel(5)
    whole = multilabel_metrics(truth, scores, names(6))
    part = multilabel_label_metrics(truth, scores > 0.5, names(6))
    assert part == {name: whole[name] for name in part}
    assert len(part) == 15


def test_ranking_metrics_can_be_left_out_where_they_cost_too_much():
    labels, probabilities = random_multiclass(9)
    whole = multiclass_metrics(labels, probabilities, names(8))
    light = multiclass_metrics(labels, probabilities, names(8), ranking=False)
    assert whole.keys() - light.keys() == {
        f"{family}_{average}" for family in ("AUC", "average_precision_score") for average in AVERAGES
    }
    assert light == {name: whole[name] for name in light}
    truth, scores = random_multilabel(9)
    light = multilabel_metrics(truth, scores, names(6), ranking=False)
    assert not [name for name in light if name.startswith(("AUC", "average"))]


def test_per_class_equals_scikit_learn_and_its_means_are_the_macro_metrics():
    labels, probabilities = random_multilabel(6)
    predicted = probabilities > 0.5
    rows = per_class(labels, predicted, names(6), probabilities)
    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, predicted)
    assert [row.precision for row in rows] == pytest.approx(precision)
    assert [row.recall for row in rows] == pytest.approx(recall)
    assert [row.f1_score for row in rows] == pytest.approx(f1)
    assert [row.support for row in rows] == list(support)
    assert [row.predicted for row in rows] == list(predicted.sum(axis=0))
    assert [row.iou for row in rows] == pytest.approx(sk.jaccard_score(labels, predicted, average=None))
    assert [row.AUC for row in rows] == pytest.approx(sk.roc_auc_score(labels, probabilities, average=None))
    assert [row.average_precision_score for row in rows] == pytest.approx(
        sk.average_precision_score(labels, probabilities, average=None)
    )
    whole = multilabel_metrics(labels, probabilities, names(6))
    assert np.mean([row.f1_score for row in rows]) == pytest.approx(whole["f1_score_macro"])
    assert np.mean([row.AUC for row in rows]) == pytest.approx(whole["AUC_macro"])
    assert per_class(labels, predicted, names(6))[0].AUC is None


def test_confusion_matrix_has_a_row_and_a_column_for_every_class():
    matrix = confusion_matrix([0, 0, 2], [0, 2, 2], 4)
    assert matrix.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    labels, probabilities = random_multiclass(8)
    predicted = probabilities.argmax(axis=1)
    assert confusion_matrix(labels, predicted, 8).tolist() == sk.confusion_matrix(labels, predicted).tolist()
    assert confusion_matrix([0, 0], [0, 0], 1).tolist() == [[2]]
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


def test_primary_metrics_are_the_contract_s():
    assert primary_metric(Task.CLASSIFICATION) == "accuracy"
    assert primary_metric("image_classification_multilabel") == "iou"
    assert primary_metric(Task.DETECTION) == primary_metric(Task.SEGMENTATION) == "mean_average_precision"


def test_diverged_model_is_named_as_such():
    with pytest.raises(ModelError, match=r"not a number for 1 of 2 pictures.*learning rate"):
        multiclass_metrics([0, 1], [[np.nan, 0.5], [0.5, 0.5]], ["a", "b"])
    with pytest.raises(ModelError, match="diverged"):
        multilabel_metrics([[0, 1]], [[np.inf, 0.5]], ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [([2], [[0.5, 0.5]]), ([-1], [[0.5, 0.5]]), ([0, 1], [[0.5, 0.5]]), ([0], [[0.2, 0.3, 0.5]]), ([[0]], [[1.0, 0]])],
)
def test_shapes_that_do_not_fit_are_refused(labels, probabilities):
    with pytest.raises(ValueError, match=r"class indices|labels for|shape"):
        multiclass_metrics(labels, probabilities, ["a", "b"])


def test_multilabel_labels_must_be_indicators():
    with pytest.raises(ValueError, match="0 or 1"):
        multilabel_metrics([[0, 2]], [[0.5, 0.5]], ["a", "b"])
    with pytest.raises(ValueError, match="shape"):
        multilabel_metrics([[0, 1]], [[0.5, 0.5], [0.5, 0.5]], ["a", "b"])


@st.composite
def _cases(draw):
    n, c = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    # Few distinct values, so that ties, certainty and single classes are common.
    levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    scores = np.array(draw(st.lists(levels, min_size=n * c, max_size=n * c))).reshape(n, c)
    labels = np.array(draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)))
    indicators = np.array(draw(st.lists(st.integers(0, 1), min_size=n * c, max_size=n * c))).reshape(n, c)
    return scores, labels, indicators


def _check(metrics):
    for name, value in metrics.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        assert type(value) is float
        assert math.isfinite(value)
        assert -1e-12 <= value <= (math.inf if name == "log_loss" else 1 + 1e-12), name


@settings(max_examples=80, deadline=None)
@given(_cases())
def test_any_multiclass_input_gives_finite_values_equal_to_scikit_learn(case):
    scores, labels, _ = case
    c = scores.shape[1]
    sums = scores.sum(axis=1, keepdims=True)
    probabilities = np.where(sums > 0, scores / np.where(sums > 0, sums, 1), 1 / c)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = multiclass_metrics(labels, probabilities, names(c))
    _check(found)
    predicted = probabilities.argmax(axis=1)
    assert found["f1_score_macro"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    present = [k for k in range(c) if (labels == k).any()]
    areas = [sk.average_precision_score(labels == k, probabilities[:, k]) for k in present]
    assert found["average_precision_score_macro"] == pytest.approx(np.mean(areas))
    both = [k for k in present if (labels != k).any()]
    if both:
        areas = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in both]
        assert found["AUC_macro"] == pytest.approx(np.mean(areas))
    else:
        assert "AUC_macro" not in found
    if c > 1:
        loss = sk.log_loss(labels, probabilities, labels=range(c))
        assert found["log_loss"] == pytest.approx(loss)


@settings(max_examples=80, deadline=None)
@given(_cases())
def test_any_multilabel_input_gives_finite_values_equal_to_scikit_learn(case):
    scores, _, labels = case
    c = scores.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = multilabel_metrics(labels, scores, names(c))
    _check(found)
    predicted = scores > 0.5
    union, both = (labels | predicted).sum(axis=1), (labels & predicted).sum(axis=1)
    assert found["iou"] == pytest.approx(np.mean([1 if not u else b / u for u, b in zip(union, both, strict=True)]))
    present = np.flatnonzero(labels.any(axis=0) | predicted.any(axis=0))
    if len(present) and c > 1:
        expected = sk.f1_score(labels, predicted, average="macro", labels=present, zero_division=0)
        assert found["f1_score_macro"] == pytest.approx(expected)
    for row in per_class(labels, predicted, names(c), scores):
        assert (row.f1_score is None) == (row.support + row.predicted == 0)
