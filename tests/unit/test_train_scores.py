"""Scores of logits against torch and scikit-learn in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, log_loss
from torch.nn import functional as F

from kubesight.errors import ModelError
from kubesight.train import scores
from kubesight.train.scores import class_weights, validation_scores

CLASSES = ["a", "b", "c", "d"]
LOGITS = arrays(np.float32, (6, 4), elements=st.floats(-2000, 2000, width=32))


def multiclass(logits: np.ndarray, labels: np.ndarray, metric: str = "accuracy") -> dict[str, float]:
    return validation_scores(logits, labels, CLASSES, multilabel=False, primary_metric=metric)


@given(LOGITS, arrays(np.int64, 6, elements=st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_multiclass_scores_are_exact(logits: np.ndarray, labels: np.ndarray) -> None:
    exact = torch.from_numpy(logits).double()
    found = multiclass(logits, labels)
    truth = F.cross_entropy(exact, torch.from_numpy(labels)).item()
    assert found["validation_loss"] == pytest.approx(truth, rel=1e-13, abs=1e-13)
    assert found["accuracy"] == accuracy_score(labels, exact.softmax(1).numpy().argmax(1))
    probabilities, _ = scores._softmax(logits.astype(np.float64), labels)
    np.testing.assert_allclose(probabilities, exact.softmax(1).numpy(), rtol=1e-13, atol=1e-300)


@given(LOGITS, arrays(np.uint8, (6, 4), elements=st.integers(0, 1)))
@settings(max_examples=50, deadline=None)
def test_multilabel_scores_are_exact(logits: np.ndarray, labels: np.ndarray) -> None:
    exact, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels).double()
    found = validation_scores(logits, labels, CLASSES, multilabel=True, primary_metric="iou")
    loss = F.binary_cross_entropy_with_logits(exact, truth).item()
    assert found["validation_loss"] == pytest.approx(loss, rel=1e-13, abs=1e-13)
    probabilities, _ = scores._sigmoid(logits.astype(np.float64), labels)
    np.testing.assert_allclose(probabilities, exact.sigmoid().numpy(), rtol=1e-13, atol=1e-300)
    chosen = probabilities > 0.5
    union = (chosen | labels.astype(bool)).sum(1)
    overlap = np.where(union == 0, 1.0, (chosen & labels.astype(bool)).sum(1) / np.maximum(union, 1))
    assert found["iou"] == pytest.approx(overlap.mean())


def test_the_loss_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    logits, labels = generator.normal(size=(40, 4)), np.arange(40) % 4
    powers = np.exp(logits)
    truth = log_loss(labels, powers / powers.sum(1, keepdims=True))
    found = multiclass(logits, labels)
    assert found["validation_loss"] == pytest.approx(truth, rel=1e-12)
    assert found["log_loss"] == pytest.approx(truth, rel=1e-12)


def test_by_hand() -> None:
    # e^(ln 3) and e^0: probabilities 3/4 and 1/4.
    found = validation_scores(
        np.array([[np.log(3), 0.0], [np.log(3), 0.0]]), np.array([0, 1]), ["x", "y"], multilabel=False,
        primary_metric="accuracy",
    )  # fmt: skip
    assert found["accuracy"] == 0.5
    assert found["validation_loss"] == pytest.approx((np.log(4 / 3) + np.log(4)) / 2)


def test_one_logit_is_judged_as_two() -> None:
    single = np.array([-3.0, 0.25, 2.0, 40.0])
    labels = np.array([0, 1, 0, 1])
    pair = np.stack([np.zeros(4), single], axis=1)
    found = validation_scores(pair, labels, ["no", "yes"], multilabel=False, primary_metric="accuracy")
    truth = F.binary_cross_entropy_with_logits(torch.from_numpy(single), torch.from_numpy(labels).double()).item()
    assert found["validation_loss"] == pytest.approx(truth, rel=1e-13)
    assert found["accuracy"] == 0.75


@pytest.mark.parametrize("multilabel", [False, True])
def test_logits_that_are_no_numbers_are_refused(multilabel: bool) -> None:
    logits = np.zeros((3, 4))
    logits[1, 2] = np.nan
    labels = np.eye(4, dtype=np.uint8)[:3] if multilabel else np.arange(3)
    with pytest.raises(ModelError, match="not a number for 1 of 3 pictures"):
        validation_scores(logits, labels, CLASSES, multilabel=multilabel, primary_metric="accuracy")
    logits[1, 2] = np.inf
    with pytest.raises(ModelError, match="not a number for 1 of 3 pictures"):
        multiclass(logits, np.arange(3))


def test_very_many_scores_are_ranked_only_where_that_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 4
    assert "AUC_macro" in multiclass(logits, labels)
    monkeypatch.setattr(scores, "_RANKED_EVERY_EPOCH", 79)
    assert "AUC_macro" not in multiclass(logits, labels)
    assert "AUC_macro" in multiclass(logits, labels, "AUC_macro")
    assert "AUC_macro" in multiclass(logits, labels, "average_precision_score_macro")


@pytest.mark.parametrize("weighted_loss", [0, 1, 2])
def test_class_weights_follow_the_published_rule(weighted_loss: int) -> None:
    labels = np.array([0] * 12 + [1] * 3 + [2] * 4)
    weights = class_weights(labels, 4, weighted_loss)
    hot = np.eye(4, dtype=np.uint8)[labels]
    positive = class_weights(hot, 4, weighted_loss)
    if weighted_loss == 0:
        assert weights is None
        assert positive is None
        return
    power = {1: 0.5, 2: 1.0}[weighted_loss]
    assert weights is not None
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, np.array([1 / 12, 1 / 3, 1 / 4, 0]) ** power, rtol=1e-15)
    np.testing.assert_allclose(positive, np.array([7 / 12, 16 / 3, 15 / 4, 0]) ** power, rtol=1e-15)


def test_nearly_even_classes_are_not_weighted() -> None:
    assert class_weights(np.array([0] * 8 + [1] * 3), 2, 2) is None
    assert class_weights(np.array([0] * 9 + [1] * 3), 2, 2) is not None
