"""What a classifier's logits are worth, and what its classes weigh, in NumPy alone."""

from collections.abc import Sequence

import numpy as np

from kubesight.metrics.classification import multiclass_metrics, multilabel_metrics

_RANKED_EVERY_EPOCH = 5_000_000


def class_weights(labels: np.ndarray, classes: int, weighted_loss: int) -> np.ndarray | None:
    """Weights of the loss, one a class, or None.

    Multi-class: 1 / n_c. Multilabel, as the weight of the positive term: (N - n_c) / n_c. A class without pictures
    weighs 0. `weighted_loss` 1 takes the square root, 2 takes the weights as they are, 0 none; none either while the
    largest class has less than 3 times the pictures of the smallest. These are Azure AutoML's rules.

    Args:
        labels: [n] indices or [n, classes] of 0 and 1.
        classes: the number of classes.
        weighted_loss: 0, 1 or 2.

    Returns:
        float64 [classes], or None.
    """
    counts = labels.sum(0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    if not weighted_loss or counts.max() // max(1, counts.min()) <= 2:
        return None
    numerator = len(labels) - counts if labels.ndim == 2 else np.ones_like(counts)
    weights = np.divide(numerator, counts, out=np.zeros(classes), where=counts > 0)
    return np.sqrt(weights) if weighted_loss == 1 else weights


def validation_scores(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, multilabel: bool, primary_metric: str
) -> dict[str, float]:
    """All metrics, and the plain `validation_loss`: cross-entropy, neither weighted nor smoothed.

    A network of one logit z that tells two classes apart is judged by the logits (0, z).

    Args:
        logits: [n, classes].
        labels: [n] indices, or [n, classes] of 0 and 1 for multilabel.
        classes: names in index order.
        multilabel: whether a picture has any number of classes, each with a probability of its own.
        primary_metric: what judges an epoch; see `kubesight.metrics.names`.

    Raises:
        ModelError: a logit is not finite.
    """
    # Ranking metrics sort all scores: on very large sets they are left to `kubesight evaluate`, unless they judge.
    ranking = logits.size <= _RANKED_EVERY_EPOCH or primary_metric.startswith(("AUC", "average_precision"))
    with np.errstate(invalid="ignore"):  # the metrics refuse what is not finite, in words
        measure = _sigmoid if multilabel else _softmax
        probabilities, loss = measure(logits.astype(np.float64), labels)
    metrics = multilabel_metrics if multilabel else multiclass_metrics
    return {**metrics(labels, probabilities, classes, ranking=ranking), "validation_loss": loss}


def _softmax(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities [n, classes], and the mean of -ln p(true class)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    of_truth = np.take_along_axis(shifted, labels[:, None], axis=1)
    return powers / sums, float((np.log(sums) - of_truth).mean())


def _sigmoid(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities [n, classes], and the mean binary cross-entropy over all (picture, class) pairs."""
    powers = np.exp(-np.abs(logits))
    probabilities = np.where(logits >= 0, 1.0, powers) / (1 + powers)
    return probabilities, float((np.maximum(logits, 0) - logits * labels + np.log1p(powers)).mean())
