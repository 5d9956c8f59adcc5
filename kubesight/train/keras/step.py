"""One step of training, and one of validation, as TensorFlow functions over all devices."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubesight.train.keras.losses import Loss

Forward = Callable[..., tf.Tensor]
"""From inputs [n, ...], and by keyword whether `training`, to logits [n, outputs]."""


class _AnyBatch:
    """A TensorFlow function of batches, traced at the first of them, with the number of rows left open.

    Tracing takes seconds, and the last batch of an epoch has another size than the others.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._traced: Any = None

    def __call__(self, *arguments: Any) -> Any:
        tensors = [tf.convert_to_tensor(argument) for argument in arguments]
        if self._traced is None:
            shapes = [[None, *one.shape[1:]] if one.shape.rank else [] for one in tensors]
            signature = [tf.TensorSpec(shape, one.dtype) for shape, one in zip(shapes, tensors, strict=True)]
            self._traced = tf.function(self._function, input_signature=signature, autograph=False)
        return self._traced(*tensors)


def _parts(strategy: tf.distribute.Strategy, batch: tf.Tensor) -> Any:
    """A batch as its devices take it: one part each, of sizes that differ by one at most."""
    count = strategy.num_replicas_in_sync
    if count == 1:
        return batch
    parts = tf.split(batch, (tf.shape(batch)[0] + tf.range(count)) // count)
    return strategy.experimental_distribute_values_from_function(lambda place: parts[place.replica_id_in_sync_group])


class TrainingStep:
    """Changes the weights once, unless the loss is no number.

    What it minimises is the batch's mean loss, and `l2` times the sum of the squares of the head's kernel.

    Args:
        forward: runs the network.
        variables: what is trained.
        kernel: of the classifier, [width, outputs].
        loss: of the pictures.
        optimizer: built for `variables`.
        strategy: the devices.
        l2: see above.
        clip_norm: the largest norm that the gradients of a step may have together; 0 is any.
    """

    def __init__(
        self,
        forward: Forward,
        variables: list[keras.Variable],
        kernel: keras.Variable,
        *,
        loss: Loss,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        l2: float,
        clip_norm: float,
    ) -> None:
        """Nothing is traced before the first step."""
        self.forward, self.variables, self.kernel = forward, variables, kernel
        self.loss, self.optimizer, self.strategy = loss, optimizer, strategy
        self.l2, self.clip_norm = l2, clip_norm
        self._run = _AnyBatch(self._everywhere)

    def __call__(self, inputs: Any, labels: np.ndarray) -> tuple[float, int]:
        """Learn from one batch.

        Args:
            inputs: [n, ...]: pixels, or features. At least two rows a device.
            labels: [n] indices, or [n, classes] of 0 and 1.

        Returns:
            the loss before the step, and how many pictures were right. With a loss that is not finite the weights stay
            as they were.
        """
        loss, right = self._run(inputs, labels, np.float32(self.loss.total(labels)))
        return float(loss), int(right)

    def _everywhere(self, inputs: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parts = _parts(self.strategy, inputs), _parts(self.strategy, labels)
        losses, rights, gradients = self.strategy.run(self._gradients, args=(*parts, total))
        loss = self.strategy.reduce("SUM", losses, axis=None)
        # Between the two, since of the devices each knows but its own part of the loss.
        tf.cond(
            tf.math.is_finite(loss),
            lambda: self.strategy.run(lambda g: self.optimizer.apply(g, self.variables), args=(gradients,)),
            lambda: None,
        )
        return loss, self.strategy.reduce("SUM", rights, axis=None)

    def _gradients(
        self, inputs: tf.Tensor, labels: tf.Tensor, total: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """On one device: its part of the loss, what is right of its part, and the part's gradients."""
        devices = self.strategy.num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits = self.forward(inputs, training=True)
            loss = tf.reduce_sum(self.loss.per_picture(labels, logits)) / total
            if self.l2:
                loss += self.l2 * tf.reduce_sum(tf.square(self.kernel)) / devices
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.variables, unconnected_gradients="zero")
        return loss, self.loss.right(labels, logits), self._clipped(gradients, devices)

    def _clipped(self, gradients: list[tf.Tensor], devices: int) -> list[tf.Tensor]:
        """Gradients whose sum over the devices has no greater norm than is allowed.

        The optimiser adds the devices' gradients up. Left to it, each part would be clipped for itself, and each device
        would look for overflow in its own part alone; so where that matters they are added up before.
        """
        scaling = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if devices > 1 and (self.clip_norm or scaling):
            together = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
            gradients = [gradient / devices for gradient in together]
        if self.clip_norm:
            scale = self.optimizer.dynamic_scale if scaling else 1.0
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm / devices * scale)
        return gradients


class Prediction:
    """Logits of batches.

    Args:
        forward: runs the network.
        strategy: the devices.
    """

    def __init__(self, forward: Forward, strategy: tf.distribute.Strategy) -> None:
        """Nothing is traced before the first batch."""
        self.forward, self.strategy = forward, strategy
        self._run = _AnyBatch(self._everywhere)

    def __call__(self, inputs: Any) -> np.ndarray:
        """The logits of one batch, float32 [n, outputs]; n is at least the number of devices."""
        logits: np.ndarray = self._run(inputs).numpy()
        return logits

    def _everywhere(self, inputs: tf.Tensor) -> tf.Tensor:
        logits = self.strategy.run(
            lambda part: self.forward(part, training=False), args=(_parts(self.strategy, inputs),)
        )
        return tf.cast(tf.concat(self.strategy.experimental_local_results(logits), axis=0), tf.float32)
