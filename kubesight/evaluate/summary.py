"""What `metrics.json` holds."""

from dataclasses import asdict
from typing import Any

import numpy as np

from kubesight.evaluate.answers import Answers
from kubesight.metrics.classification import (
    averaged_over,
    confusion_matrix,
    multiclass_label_metrics,
    multiclass_metrics,
    multilabel_label_metrics,
    multilabel_metrics,
    per_class,
)
from kubesight.metrics.curves import calibration_bins, roc
from kubesight.metrics.names import primary_metric

MATRIX_CLASSES = 45
"""Up to so many classes the whole confusion matrix is kept; KFP draws larger ones as a table that nobody can read."""

CONFUSIONS = 30


def summarise(answers: Answers) -> dict[str, Any]:
    """All figures of one evaluation, ready for JSON; every number is finite, what is undefined is null or left out.

    Returns:
        `task`, `primary_metric`, `metrics` (name to value), `averaged_over` (of how many classes each mean by class was
        taken), `classes`, `images`, `data`, `warnings`, `per_class` (one object a class), and where they apply:
        `confusion_matrix` ({classes, matrix}; rows are true classes; multi-class, at most 45 classes), `confusions`
        (the most frequent: {label, predicted, count, share of the label's pictures}), `roc` (points of the micro
        average: {fpr, tpr, threshold}) and `calibration` (15 bins).
    """
    dataset = answers.truth.dataset
    rows = per_class(answers.labels, answers.predicted, answers.classes, answers.probabilities)
    summary: dict[str, Any] = {
        "task": dataset.task,
        "primary_metric": primary_metric(dataset.task),
        "metrics": _metrics(answers),
        "averaged_over": averaged_over(rows),
        "classes": answers.classes,
        "images": len(answers.truth.urls),
        "data": {
            "path": str(dataset.path),
            "content_hash": dataset.info.content_hash,
            "part": (dataset.info.split or {}).get("part"),
        },
        "warnings": answers.warnings,
        "per_class": [asdict(row) for row in rows],
    }
    if not answers.multilabel:
        matrix = confusion_matrix(answers.labels, answers.predicted, len(answers.classes))
        if len(answers.classes) <= MATRIX_CLASSES:
            summary["confusion_matrix"] = {"classes": answers.classes, "matrix": matrix.tolist()}
        summary["confusions"] = most_confused(matrix, answers.classes)
    if answers.probabilities is not None:
        summary |= _curves(answers)
    return summary


def _metrics(answers: Answers) -> dict[str, float]:
    labels, classes = answers.labels, answers.classes
    if answers.probabilities is None:
        by_label = multilabel_label_metrics if answers.multilabel else multiclass_label_metrics
        return by_label(labels, answers.predicted, classes)
    by_probability = multilabel_metrics if answers.multilabel else multiclass_metrics
    return by_probability(labels, answers.probabilities, classes)


def most_confused(matrix: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """The most frequent confusions of a matrix whose rows are true classes: label, predicted, count, share."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [(int(flat) // len(classes), int(flat) % len(classes)) for flat in order]
    return [
        {
            "label": classes[true],
            "predicted": classes[given],
            "count": int(wrong[true, given]),
            "share": float(wrong[true, given] / matrix[true].sum()),
        }
        for true, given in pairs
        if wrong[true, given]
    ]


def _curves(answers: Answers) -> dict[str, Any]:
    scores = answers.probabilities
    assert scores is not None
    truth = answers.truth_matrix
    found: dict[str, Any] = {}
    points = roc(truth.ravel(), scores.ravel())
    if points is not None:
        found["roc"] = {"fpr": points.fpr, "tpr": points.tpr, "threshold": points.thresholds}
    found["calibration"] = [asdict(row) for row in calibration_bins(*confidence(answers))]
    return found


def confidence(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """What calibration compares: how sure the model was, and whether it was right.

    For one class a picture these are the highest probability and whether it is of the true class, shape [n]; for
    multilabel every (picture, class) pair's probability and whether the picture has the class, shape [n * c].
    """
    assert answers.probabilities is not None
    if answers.multilabel:
        return answers.probabilities.ravel(), answers.truth_matrix.ravel()
    return answers.probabilities.max(axis=1), answers.predicted == answers.labels
