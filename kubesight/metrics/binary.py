"""Metrics of two classes with one output, by the names that Keras and SageMaker have for them."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from kubesight.metrics.classification import THRESHOLD

BINARY_METRICS = ("precision", "recall", "auc", "prc")
"""Those that may choose the best epoch; all are better when greater."""


def binary_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """The metrics of the positive class, which is the second in alphabetical order.

    `precision` and `recall` are those of the pictures with a probability strictly above 0.5; without such pictures the
    precision is 0, and without positive ones the recall is. `auc` is the area under the ROC curve and `prc` the average
    precision, both exact (Keras estimates them at 200 thresholds); they are left out where one class alone occurs.
    Values are scikit-learn's.

    Args:
        labels: 0 or 1, shape [n].
        scores: the probability of the positive class, shape [n].

    Returns:
        Metric name to value; empty when there are no pictures.
    """
    truth, found = np.asarray(labels).astype(bool), np.asarray(scores, dtype=np.float64)
    if not len(truth):
        return {}
    counts = confusion_matrix(truth, found > THRESHOLD, labels=[False, True]).ravel()
    right_no, wrong_yes, wrong_no, right_yes = (float(count) for count in counts)
    metrics = {
        "precision": right_yes / max(right_yes + wrong_yes, 1.0),
        "recall": right_yes / max(right_yes + wrong_no, 1.0),
        "true_positives": right_yes,
        "false_positives": wrong_yes,
        "true_negatives": right_no,
        "false_negatives": wrong_no,
    }
    if 0 < truth.sum() < len(truth):
        metrics["auc"] = float(roc_auc_score(truth, found))
        metrics["prc"] = float(average_precision_score(truth, found))
    return metrics
