"""What training minimises: cross-entropy of one class a picture, of two classes by one output, or of several labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tensorflow as tf

Kind = Literal["categorical", "binary", "multilabel"]


@dataclass(frozen=True)
class Loss:
    """Cross-entropy between the network's logits and smoothed targets, by natural logarithms.

    With K classes and smoothing s the target of the true class is 1 - s + s/K and that of the others s/K. In `binary`
    and `multilabel` mode the target y becomes y (1 - s) + s/2.

    Attributes:
        kind: `categorical` (logits [n, K]), `binary` (logits [n, 1], of the second class) or `multilabel`
            (logits [n, K], each class for itself; a picture's loss is the mean over classes).
        classes: K.
        smoothing: s, from 0 to 1.
        weights: one a class, or None. In multilabel mode that of the term of the pictures that have the class.
    """

    kind: Kind
    classes: int
    smoothing: float = 0.0
    weights: np.ndarray | None = None

    def total(self, labels: np.ndarray) -> float:
        """What the sum of the pictures' losses is divided by: their number, or the sum of their weights.

        Args:
            labels: of the whole batch, [n] indices, or [n, K] of 0 and 1.
        """
        if self.weights is None or self.kind == "multilabel":
            return float(len(labels))
        return max(float(self.weights[labels].sum()), float(np.finfo(np.float32).tiny))

    def per_picture(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The weighted losses, float32 [n].

        Weights apply class by class to the smoothed target, as in PyTorch's cross-entropy; those of `binary` mode to
        the whole loss of a picture, by its label.

        Args:
            labels: [n] indices, or [n, K] of 0 and 1.
            logits: [n, K], or [n, 1] in binary mode.
        """
        logits = tf.cast(logits, tf.float32)
        if self.kind == "categorical":
            target = self._smoothed(tf.one_hot(labels, self.classes), self.classes)
            terms = -target * tf.nn.log_softmax(logits)
            return tf.reduce_sum(terms if self.weights is None else terms * self._weights, axis=1)
        if self.kind == "binary":
            target = self._smoothed(tf.cast(labels, tf.float32), 2)
            terms = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits[:, 0])
            return terms if self.weights is None else terms * tf.gather(self._weights, labels)
        target = self._smoothed(tf.cast(labels, tf.float32), 2)
        weight = 1.0 if self.weights is None else self._weights
        return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(target, logits, weight), axis=1)

    def right(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """How many pictures are predicted right, with all their labels; int32 scalar."""
        if self.kind == "categorical":
            right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), tf.cast(labels, tf.int32))
        elif self.kind == "binary":
            right = tf.equal(logits[:, 0] > 0, labels > 0)
        else:
            right = tf.reduce_all(tf.equal(logits > 0, labels > 0), axis=1)
        return tf.reduce_sum(tf.cast(right, tf.int32))

    def _smoothed(self, target: tf.Tensor, classes: int) -> tf.Tensor:
        return target * (1 - self.smoothing) + self.smoothing / classes

    @property
    def _weights(self) -> tf.Tensor:
        return tf.constant(self.weights, tf.float32)
