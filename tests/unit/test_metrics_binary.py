"""Metrics of binary mode against scikit-learn and counts made by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from kubesight.metrics.binary import binary_metrics


def test_values_are_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 200)
    scores = np.round(np.clip(labels * 0.3 + generator.random(200) * 0.7, 0, 1), 2)  # with ties
    found = binary_metrics(labels, scores)
    assert found["precision"] == pytest.approx(precision_score(labels, scores > 0.5))
    assert found["recall"] == pytest.approx(recall_score(labels, scores > 0.5))
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["prc"] == pytest.approx(average_precision_score(labels, scores))


def test_counts_made_by_hand() -> None:
    found = binary_metrics([1, 1, 1, 0, 0], [0.9, 0.5, 0.6, 0.7, 0.1])  # 0.5 itself is not above the threshold
    assert (found["true_positives"], found["false_negatives"]) == (2, 1)
    assert (found["false_positives"], found["true_negatives"]) == (1, 1)
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_what_nothing_defines_is_left_out() -> None:
    only = binary_metrics([0, 0], [0.2, 0.3])
    assert "auc" not in only
    assert "prc" not in only
    assert (only["precision"], only["recall"]) == (0.0, 0.0)
    assert binary_metrics([], []) == {}
