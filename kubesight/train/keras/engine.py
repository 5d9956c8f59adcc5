"""The training loop on TensorFlow."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from kubesight.errors import ModelError
from kubesight.models.keras.network import copy_weights
from kubesight.train.early_termination import EarlyTermination
from kubesight.train.keras.checkpoint import load_checkpoint, save_checkpoint, save_variables
from kubesight.train.keras.data import Batch
from kubesight.train.keras.lines import VALIDATED, epoch_line
from kubesight.train.keras.losses import Loss
from kubesight.train.keras.optimizer import make_optimizer
from kubesight.train.keras.scores import scores, to_probabilities
from kubesight.train.keras.step import Forward, Prediction, TrainingStep
from kubesight.train.loop import SECONDS_BETWEEN_CHECKPOINTS, Loop
from kubesight.train.order import epoch_batches
from kubesight.train.schedule import learning_rate_factor
from kubesight.train.stop import Interrupted
from kubesight.train.table import PictureTable


class Source(Protocol):
    """Pictures, or features of them, in batches."""

    @property
    def table(self) -> PictureTable:
        """The pictures, and their labels."""

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The given batches of places in the table, in order."""


@dataclass(frozen=True)
class Trained:
    """What is trained of a network, and how it runs.

    Attributes:
        network: all of it, from pixels to logits, which is shipped.
        model: its variables are trained and kept: the network, or its head.
        forward: runs it.
        kernel: of the classifier.
        scored: the same in float32, which is validated; `model` itself unless that computes in less.
    """

    network: keras.Model
    model: keras.Model
    forward: Forward
    kernel: keras.Variable
    scored: keras.Model


class KerasEngine(Loop):
    """Trains by its own step over all devices, epoch by epoch, and can go on after any interruption.

    Args:
        trained: what is trained, made in the strategy's scope.
        loss: what is minimised, besides the head's L2 penalty.
        sources: the training and the validation part.
        settings: the resolved hyperparameters.
        classes: names in index order.
        strategy: the devices.
        output: where `checkpoints/` and `metrics.jsonl` are kept.
        primary_metric: what decides which epoch is best.
        fingerprint: settings that a resumed run must share.
        metrics_file: where metric lines go; None is standard output.
        termination: the sweep's policy.

    Attributes:
        steps_per_epoch: mini-batches in an epoch.
    """

    def __init__(
        self,
        trained: Trained,
        loss: Loss,
        sources: tuple[Source, Source],
        settings: dict[str, Any],
        *,
        classes: list[str],
        strategy: tf.distribute.Strategy,
        output: Path,
        primary_metric: str,
        fingerprint: dict[str, Any],
        metrics_file: Path | None = None,
        termination: EarlyTermination | None = None,
    ) -> None:
        """Make the optimiser, and read the checkpoint when there is one."""
        super().__init__(
            settings, output=output, primary_metric=primary_metric, metrics_file=metrics_file, termination=termination
        )
        self.trained, self.loss, self.classes, self.strategy = trained, loss, classes, strategy
        self.training, self.validation = sources
        self.fingerprint = fingerprint
        self.devices = strategy.num_replicas_in_sync
        variables = trained.model.trainable_variables
        with strategy.scope():
            half = trained.model.dtype_policy.compute_dtype == "float16"
            self.optimizer = make_optimizer(settings, variables, half=half)
        self._step = TrainingStep(
            trained.forward, variables, trained.kernel, loss=loss, optimizer=self.optimizer, strategy=strategy,
            l2=settings["regularizers_l2"], clip_norm=settings["gradient_clip_norm"],
        )  # fmt: skip
        self._predict = Prediction(trained.scored, strategy)
        self._rate: float | None = None
        self.steps_per_epoch = len(self._batches(0))
        self._begin(load_checkpoint(self.checkpoints, fingerprint, self._kept))

    @property
    def _kept(self) -> list[keras.Variable]:
        """All that a checkpoint keeps: weights, statistics, seeds, and the optimiser's own."""
        return [*self.trained.model.variables, *self.optimizer.variables]

    def _train_epoch(self) -> None:
        progress = self.progress
        batches = self._batches(progress.epoch)
        with _memory_for("training_batch_size"):
            for batch in self.training.batches(progress.epoch, batches[progress.step :]):
                self._update(batch)
                if self._any(self.stop.asked):
                    raise Interrupted
                if self._is_due(SECONDS_BETWEEN_CHECKPOINTS):
                    self._save()

    def _batches(self, epoch: int) -> list[list[int]]:
        """An epoch's batches, of all devices together."""
        count, size = len(self.training.table), self.settings["training_batch_size"]
        return epoch_batches(count, size, seed=self.seed, epoch=epoch, least=2 * self.devices)

    def _update(self, batch: Batch) -> None:
        """One step of the optimiser."""
        progress = self.progress
        if (rate := self._rate_of(progress.step)) != self._rate:
            self.optimizer.learning_rate = self._rate = rate
        loss, right = self._step(batch.pixels, batch.labels)
        if not math.isfinite(loss):
            names = [self.training.table.url(index) for index in batch.index.tolist()]
            raise self._divergence(loss, names)
        progress.loss_sum += loss * len(batch.index)
        progress.samples += len(batch.index)
        progress.right += right
        progress.step += 1

    def _rate_of(self, step: int) -> float:
        """The learning rate of a step of the running epoch."""
        done = self.progress.epoch * self.steps_per_epoch + step
        factor = learning_rate_factor(self.settings, step=done, steps_per_epoch=self.steps_per_epoch)
        return float(self.settings["learning_rate"] * factor)

    def _learning_rate(self) -> float:
        return self._rate_of(self.progress.step - 1)

    def _validate(self) -> dict[str, float]:
        self._refresh_scored()
        table, size = self.validation.table, self.settings["validation_batch_size"]
        rows = list(range(len(table)))
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        # Each device takes a picture at least: the last batch may repeat its own, which are then left out.
        filled = [batch + batch[-1:] * (self.devices - len(batch)) for batch in batches]
        found = []
        with _memory_for("validation_batch_size"):
            for asked, batch in zip(batches, self.validation.batches(0, filled), strict=True):
                found.append(self._predict(batch.pixels)[: len(asked)])
                if self.stop.asked:
                    raise Interrupted
        kind, metric = self.loss.kind, self.primary_metric
        probabilities = to_probabilities(np.concatenate(found), kind)
        return scores(probabilities, table.labels, self.classes, kind=kind, primary_metric=metric)

    def _refresh_scored(self) -> None:
        """Let what is validated be what was trained, on every device."""
        model, scored = self.trained.model, self.trained.scored
        if scored is not model:
            copy_weights(model, scored)
        elif self.devices > 1:
            # Each device gathers batch-norm statistics of its own parts. Those of the first are kept, so all take them.
            for variable in model.non_trainable_variables:
                variable.assign(variable.numpy())

    def _trained(self) -> dict[str, float]:
        accuracy = self.progress.right / max(1, self.progress.samples)
        return {**super()._trained(), "training_accuracy": accuracy}

    def _sentence(self, metrics: dict[str, float], score: float, speed: dict[str, float]) -> str:
        """As Keras prints it, in words that SageMaker's regular expressions read."""
        said = f"epoch {self.progress.epoch}: {epoch_line({**metrics, **speed}, steps=self.steps_per_epoch)}"
        if self.primary_metric not in VALIDATED:
            said += f"; {self.primary_metric} {score:.4f}"
        if self.progress.stopped_early:
            said += f"; no improvement for {self.progress.no_improvement} evaluations, stopping"
        return said

    def _save_weights(self, name: str) -> None:
        save_variables(self.checkpoints / name, self.trained.model.variables)

    def _save_state(self) -> None:
        save_checkpoint(self.checkpoints, progress=self.progress, fingerprint=self.fingerprint, variables=self._kept)


@contextlib.contextmanager
def _memory_for(setting: str) -> Iterator[None]:
    """Say which setting to lower when a device's memory does not do."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        said = next(iter((error.message or "").strip().splitlines()), "no words")
        raise ModelError(f"out of memory: {said}", where=setting, hint="Lower it, or image_size.") from error
