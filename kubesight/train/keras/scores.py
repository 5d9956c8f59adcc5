"""What a network's answers on the validation part are worth, by the kind of its outputs."""

from collections.abc import Sequence

import numpy as np

from kubesight.dataset.rows import Task
from kubesight.metrics.binary import binary_metrics
from kubesight.serving import networks
from kubesight.train.keras.losses import Kind
from kubesight.train.scores import validation_scores

_SMALLEST, _LARGEST = 1e-38, 1 - 2.0**-25  # float32 knows nothing between these and 0 and 1 but denormal numbers


def to_probabilities(logits: np.ndarray, kind: Kind) -> np.ndarray:
    """The classes' probabilities as the SavedModel gives them, float32 [n, classes].

    Args:
        logits: [n, outputs].
        kind: what the outputs are; in binary mode the probabilities are those of both classes.
    """
    exact = logits.astype(np.float64)
    if kind == "binary":
        exact = np.concatenate([np.zeros_like(exact), exact], axis=1)  # softmax of (0, z) is the sigmoid of z
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by the metrics, in words
        return networks.to_probabilities(exact, Task.MULTILABEL if kind == "multilabel" else Task.CLASSIFICATION)


def scores(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, kind: Kind, primary_metric: str
) -> dict[str, float]:
    """All metrics, `validation_loss` (cross-entropy, neither weighted nor smoothed), and those of binary mode.

    They are computed from float32 probabilities, which is what evaluation and services see: of logits beyond 17 or so
    these say 1, and a ranking has ties.

    Args:
        probabilities: [n, classes].
        labels: [n] indices, or [n, classes] of 0 and 1.
        classes: names in index order.
        kind: what the network's outputs are.
        primary_metric: what judges an epoch.

    Raises:
        ModelError: a probability is not a number.
    """
    multilabel = kind == "multilabel"
    exact = np.clip(probabilities.astype(np.float64), _SMALLEST, _LARGEST)
    logits = np.log(exact) - (np.log1p(-exact) if multilabel else 0.0)
    found = validation_scores(logits, labels, classes, multilabel=multilabel, primary_metric=primary_metric)
    return {**found, **binary_metrics(labels, exact[:, 1])} if kind == "binary" else found
