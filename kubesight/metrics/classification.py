"""How right a classifier is, for one class a picture (multi-class) and for any number of them (multilabel).

Rules that all the numbers here follow:

- The predicted class is the one of the highest probability, the first of equals; of a multilabel model the predicted
  classes are those with a probability strictly above 0.5.
- Values are those of scikit-learn wherever it has the metric, one class against the rest. A mean over classes takes
  in only the classes for which the value is defined, and `averaged_over` says how many those are:
  `AUC_*` those that some pictures have and some have not, `average_precision_score_*` those that some pictures have,
  all others those that occur in the labels or in the predictions. `weighted` means weighted by the number of pictures
  that have the class; `micro` counts every (picture, class) pair alike.
- A class that occurs but is never predicted has precision 0, one that is predicted but never occurs has recall 0.
- A value that nothing defines is left out. No value is ever `nan` or infinite.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kubesight.errors import ModelError
from kubesight.metrics.curves import areas, expected_calibration_error

THRESHOLD = 0.5
AVERAGES = ("macro", "micro", "weighted")
TOP_K = 5

Counts = NDArray[np.int64]

_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


def multiclass_metrics(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str], *, ranking: bool = True
) -> dict[str, float]:
    """All metrics of a model that gives each picture one class.

    `log_loss` is the mean of -ln(probability of the true class), with probabilities no smaller than 2.2e-16.
    `expected_calibration_error` is that of Guo et al. 2017 on the highest probability (see `kubesight.metrics.curves`).
    `top_5_accuracy` is given for more than 5 classes.

    Args:
        labels: true class indices, shape [n].
        probabilities: shape [n, c], each row summing to 1.
        classes: the c class names in index order; some may occur in no label.
        ranking: give `AUC_*` and `average_precision_score_*` too. They sort all scores: half a second for 10,000
            pictures of 100 classes, half a minute for 50,000 of 1,000.

    Returns:
        Metric name to finite value; empty when there are no pictures.

    Raises:
        ModelError: a probability is not finite.
        ValueError: shapes that do not fit together, or an index that is no class.
    """
    labels, scores = _labels(labels, len(classes)), _scores(probabilities, len(classes))
    if len(labels) != len(scores):
        raise ValueError(f"{len(labels)} labels for {len(scores)} rows of probabilities")
    if not len(labels):
        return {}
    predicted = scores.argmax(axis=1)
    metrics = multiclass_label_metrics(labels, predicted, classes)
    if len(classes) > TOP_K:
        best = np.argsort(scores, axis=1, kind="stable")[:, -TOP_K:]
        metrics[f"top_{TOP_K}_accuracy"] = float((best == labels[:, None]).any(axis=1).mean())
    if ranking:
        metrics |= _area_metrics(one_hot(labels, len(classes)), scores)
    of_truth = scores[np.arange(len(labels)), labels]
    metrics["log_loss"] = float(-np.log(np.clip(of_truth, _SMALLEST_PROBABILITY, 1.0)).mean())
    metrics["expected_calibration_error"] = expected_calibration_error(scores.max(axis=1), predicted == labels)
    return metrics


def multilabel_metrics(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str], *, ranking: bool = True
) -> dict[str, float]:
    """All metrics of a model that gives each picture any number of classes.

    `log_loss` is the mean binary cross-entropy (natural logarithm) over all (picture, class) pairs, and
    `expected_calibration_error` compares each pair's probability with how often the class was there.

    Args:
        labels: 0 or 1, shape [n, c].
        probabilities: shape [n, c], each in [0, 1] for itself.
        classes: the c class names in index order.
        ranking: give `AUC_*` and `average_precision_score_*` too.

    Returns:
        Metric name to finite value; empty when there are no pictures.

    Raises:
        ModelError: a probability is not finite.
        ValueError: shapes that do not fit together, or labels other than 0 and 1.
    """
    truth, scores = _indicators(labels, len(classes)), _scores(probabilities, len(classes))
    if truth.shape != scores.shape:
        raise ValueError(f"labels of shape {truth.shape} for probabilities of shape {scores.shape}")
    if not truth.size:
        return {}
    metrics = multilabel_label_metrics(truth, scores > THRESHOLD, classes)
    if ranking:
        metrics |= _area_metrics(truth, scores)
    of_truth = np.where(truth, scores, 1 - scores)
    metrics["log_loss"] = float(-np.log(np.clip(of_truth, _SMALLEST_PROBABILITY, 1.0)).mean())
    metrics["expected_calibration_error"] = expected_calibration_error(scores.ravel(), truth.ravel())
    return metrics


def multiclass_label_metrics(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """The metrics that need no probabilities: accuracy, and precision, recall and F1 by the three averages.

    Args:
        labels: true class indices, shape [n].
        predicted: predicted class indices, shape [n].
        classes: the class names in index order.
    """
    labels, predicted = _labels(labels, len(classes)), _labels(predicted, len(classes))
    if not len(labels):
        return {}
    right = labels == predicted
    numbers = (np.bincount(each, minlength=len(classes)) for each in (labels, predicted, labels[right]))
    decisions = _decision_metrics(*numbers)
    return {"accuracy": float(right.mean()), **{name: decisions[name] for name in decisions if "iou" not in name}}


def multilabel_label_metrics(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """The metrics that need no probabilities, for labels and predictions of 0 or 1, shape [n, c].

    `iou`, the primary metric, is the mean over pictures of |labels and predicted| / |labels or predicted|, and 1 for
    a picture that has no label and is given none: scikit-learn's `jaccard_score(average="samples", zero_division=1)`.
    `iou_macro`, `iou_micro` and `iou_weighted` are the same ratio by class. `accuracy` is the share of pictures with
    every class right, `hamming_loss` the share of (picture, class) pairs that are wrong.
    """
    truth, found = _indicators(labels, len(classes)), _indicators(predicted, len(classes))
    if not truth.size:
        return {}
    metrics = {"hamming_loss": float((truth != found).mean())}
    both, either = (truth & found).sum(axis=1), (truth | found).sum(axis=1)
    metrics["iou"] = float(np.where(either, both / np.maximum(either, 1), 1.0).mean())
    metrics["accuracy"] = float((truth == found).all(axis=1).mean())
    return metrics | _decision_metrics(truth.sum(axis=0), found.sum(axis=0), (truth & found).sum(axis=0))


@dataclass(frozen=True)
class ClassFigures:
    """How one class fared against the rest. A value that nothing defines is None.

    `support` and `predicted` are numbers of pictures that have the class and that were given it.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1_score: float | None
    iou: float | None
    AUC: float | None = None
    average_precision_score: float | None = None


def per_class(
    labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str], probabilities: ArrayLike | None = None
) -> list[ClassFigures]:
    """The figures of each class, in index order; the plain mean of a column is the `macro` metric.

    Args:
        labels: true class indices, shape [n], or 0 and 1, shape [n, c].
        predicted: the same for the predictions.
        classes: the c class names in index order.
        probabilities: shape [n, c], or None when unknown; then there is no AUC and no average precision.
    """
    truth, found = _as_indicators(labels, len(classes)), _as_indicators(predicted, len(classes))
    support, given = truth.sum(axis=0), found.sum(axis=0)
    both = (truth & found).sum(axis=0)
    scores = None if probabilities is None else _scores(probabilities, len(classes))
    rows = []
    for k, name in enumerate(classes):
        occurs, hits = bool(support[k] + given[k]), float(both[k])
        auc, precision_area = (None, None) if scores is None else areas(truth[:, k], scores[:, k])
        rows.append(
            ClassFigures(
                name=name,
                support=int(support[k]),
                predicted=int(given[k]),
                precision=hits / max(given[k], 1) if occurs else None,
                recall=hits / max(support[k], 1) if occurs else None,
                f1_score=2 * hits / (support[k] + given[k]) if occurs else None,
                iou=hits / (support[k] + given[k] - hits) if occurs else None,
                AUC=auc,
                average_precision_score=precision_area,
            )
        )
    return rows


def averaged_over(rows: Sequence[ClassFigures]) -> dict[str, int]:
    """Of how many classes the means by class were taken: metric family (`AUC`, `f1_score`, ...) to number."""
    families = ("precision", "recall", "f1_score", "iou", "AUC", "average_precision_score")
    return {family: sum(getattr(row, family) is not None for row in rows) for family in families}


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, n: int) -> NDArray[np.int64]:
    """Numbers of pictures by true class (row) and predicted class (column), shape [n, n].

    Args:
        labels: true class indices.
        predicted: predicted class indices.
        n: the number of classes; every one has its row and column, present or not.
    """
    pairs = _labels(labels, n) * n + _labels(predicted, n)
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def one_hot(labels: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Class indices of shape [m] as booleans of shape [m, n]."""
    return np.asarray(labels)[:, None] == np.arange(n)


def _decision_metrics(support: Counts, given: Counts, both: Counts) -> dict[str, float]:
    """Precision, recall, F1 and IoU by the three averages.

    From counts alone, since training asks for them each epoch: for 1,250 pictures of 10 classes scikit-learn's checks
    of its arguments take five times as long.

    Args:
        support: how many pictures have each class, shape [c].
        given: how many are given it.
        both: how many have it and are given it.
    """
    present = np.flatnonzero(support + given)
    support, given, both = support[present], given[present], both[present]
    metrics = {}
    for average in _defined_averages(bool(support.any()), len(present)):
        pooled = average == "micro"
        has, said, hits = (np.array([each.sum()]) if pooled else each for each in (support, given, both))
        weights = has if average == "weighted" else np.ones(len(has))
        for name, value in (
            ("precision_score", hits / np.maximum(said, 1)),
            ("recall_score", hits / np.maximum(has, 1)),
            ("f1_score", 2 * hits / (has + said)),
            ("iou", hits / (has + said - hits)),
        ):
            metrics[f"{name}_{average}"] = float(np.average(value, weights=weights))
    return metrics


def _defined_averages(any_label: bool, classes_present: int) -> list[str]:
    """Nothing present: no mean at all; no label anywhere: no weights."""
    return [average for average in AVERAGES if classes_present and (any_label or average != "weighted")]


def _area_metrics(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    """The areas under the ROC and precision-recall curves, by the three averages."""
    by_class = [areas(truth[:, k], scores[:, k]) for k in range(truth.shape[1])]
    pooled = areas(truth.ravel(), scores.ravel())
    support = truth.sum(axis=0)
    metrics = {}
    for family, values, micro in (
        ("AUC", [each.auc for each in by_class], pooled.auc),
        ("average_precision_score", [each.average_precision for each in by_class], pooled.average_precision),
    ):
        defined = [k for k, value in enumerate(values) if value is not None]
        known = np.array([values[k] for k in defined], dtype=float)
        if defined:
            metrics[f"{family}_macro"] = float(known.mean())
            metrics[f"{family}_weighted"] = float(np.average(known, weights=support[defined]))
        if micro is not None:
            metrics[f"{family}_micro"] = micro
    return metrics


def _labels(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.ndim != 1 or (len(array) and (array.min() < 0 or array.max() >= n)):
        raise ValueError(f"class indices must be a list of numbers from 0 to {n - 1}")
    return array.astype(np.int64)


def _indicators(labels: ArrayLike, n: int) -> NDArray[np.bool_]:
    array = np.asarray(labels)
    if array.ndim != 2 or array.shape[1] != n or not ((array == 0) | (array == 1)).all():
        raise ValueError(f"multilabel labels must be 0 or 1, {n} to a picture")
    return array.astype(bool)


def _as_indicators(labels: ArrayLike, n: int) -> NDArray[np.bool_]:
    array = np.asarray(labels)
    return one_hot(_labels(array, n), n) if array.ndim == 1 else _indicators(array, n)


def _scores(probabilities: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != n:
        raise ValueError(f"probabilities must have the shape [pictures, {n}], not {list(array.shape)}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ModelError(
            f"the model's output is not a number for {bad.sum()} of {len(array)} pictures",
            hint="The training diverged: lower the learning rate, or set a clipping norm for the gradients.",
        )
    return array
