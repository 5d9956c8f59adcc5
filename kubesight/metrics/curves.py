"""Curves of one class against the rest (ROC, precision and recall), and calibration."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

MAX_POINTS = 200
CALIBRATION_BINS = 15

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Areas(NamedTuple):
    """Areas under the two curves, each None when it is undefined."""

    auc: float | None
    average_precision: float | None


def areas(truth: Bools, scores: Floats) -> Areas:
    """The area under the ROC curve, and the average precision, from one sorting of the scores.

    The area under the ROC curve needs a positive and a negative. The average precision is the step sum
    of (recall_i - recall_{i-1}) * precision_i, as scikit-learn's, and needs a positive. Equal scores count as one step.

    Args:
        truth: which of n are positive.
        scores: finite, shape [n]; higher means more likely positive.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives:
        return Areas(None, None)
    if not negatives:
        return Areas(None, 1.0)
    # Called for each class of each epoch: a tenth of the time that scikit-learn's checks take on small sets.
    order = np.argsort(-scores, kind="stable")
    steps = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.concatenate([[0], np.cumsum(truth[order])[steps]])
    taken = np.concatenate([[0], steps + 1])
    recall, false_positive_rate = hits / positives, (taken - hits) / negatives
    area = np.sum(np.diff(false_positive_rate) * (recall[1:] + recall[:-1]) / 2)
    return Areas(float(area), float(np.sum(np.diff(recall) * hits[1:] / taken[1:])))


@dataclass(frozen=True)
class RocCurve:
    """Points from (0, 0) to (1, 1). At a threshold, all scores no smaller than it count as positive; all are finite."""

    fpr: list[float]
    tpr: list[float]
    thresholds: list[float]


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Points in order of rising recall, from recall 0 to 1."""

    recall: list[float]
    precision: list[float]


def roc(truth: Bools, scores: Floats, max_points: int = MAX_POINTS) -> RocCurve | None:
    """The ROC curve of one class, thinned to `max_points`; None without a positive or without a negative."""
    if truth.all() or not truth.any():
        return None
    fpr, tpr, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    # scikit-learn starts at an infinite threshold, which neither JSON nor KFP's metrics can hold.
    thresholds[0] = np.nextafter(np.float64(scores.max()), np.inf)
    keep = _thin(fpr, tpr, max_points)
    return RocCurve(fpr[keep].tolist(), tpr[keep].tolist(), thresholds[keep].tolist())


def macro_roc(truth: Bools, scores: Floats, max_points: int = MAX_POINTS) -> tuple[list[float], list[float]] | None:
    """The mean over classes of the true positive rate at each false positive rate: lists (fpr, tpr).

    Args:
        truth: shape [n, c].
        scores: shape [n, c].
        max_points: how many false positive rates, evenly spaced.

    Returns:
        None when no class has both positives and negatives.
    """
    grid = np.linspace(0, 1, max_points - 1)
    rates = []
    for k in np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)):
        fpr, tpr, _ = roc_curve(truth[:, k], scores[:, k])
        rates.append(np.interp(grid, fpr, tpr))
    if not rates:
        return None
    return [0.0, *grid.tolist()], [0.0, *np.mean(rates, axis=0).tolist()]


def precision_recall(truth: Bools, scores: Floats, max_points: int = MAX_POINTS) -> PrecisionRecallCurve | None:
    """The precision-recall curve of one class, thinned to `max_points`; None without a positive."""
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, scores, drop_intermediate=True)
    precision, recall = precision[::-1], recall[::-1]
    keep = _thin(recall, precision, max_points)
    return PrecisionRecallCurve(recall[keep].tolist(), precision[keep].tolist())


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions with a confidence in (lower, upper]: how many, their mean confidence, the share that is right.

    `confidence` and `accuracy` are None in an empty bin.
    """

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


def calibration_bins(confidence: Floats, correct: Bools, bins: int = CALIBRATION_BINS) -> list[CalibrationBin]:
    """Group predictions by confidence into bins of equal width over [0, 1], closed on the right.

    Args:
        confidence: in [0, 1], shape [n]; 0 falls into the first bin.
        correct: whether each was right, shape [n].
        bins: how many.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    confidences = np.bincount(place, weights=confidence, minlength=bins)
    rights = np.bincount(place, weights=correct.astype(float), minlength=bins)
    return [
        CalibrationBin(
            lower=k / bins,
            upper=(k + 1) / bins,
            count=int(counts[k]),
            confidence=float(confidences[k] / counts[k]) if counts[k] else None,
            accuracy=float(rights[k] / counts[k]) if counts[k] else None,
        )
        for k in range(bins)
    ]


def expected_calibration_error(confidence: Floats, correct: Bools, bins: int = CALIBRATION_BINS) -> float:
    """The mean over bins of |accuracy - confidence|, weighted by count, in [0, 1].

    Formula 3 of Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, with 15 bins.
    """
    rows = [row for row in calibration_bins(confidence, correct, bins) if row.count]
    gaps = [row.count * abs((row.accuracy or 0.0) - (row.confidence or 0.0)) for row in rows]
    return float(sum(gaps) / len(confidence))


def _thin(x: Floats, y: Floats, max_points: int) -> NDArray[np.int64]:
    """Indices of at most `max_points` points, evenly spread along the curve, both ends among them."""
    if len(x) <= max_points:
        return np.arange(len(x))
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    return np.unique(np.searchsorted(way, np.linspace(0, way[-1], max_points)).clip(0, len(x) - 1))
