"""Training by TensorFlow: from a checked request to a model folder, in one process on one device or several."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, HyperparameterError
from kubesight.modelcard import ModelCard, StretchPreprocessing
from kubesight.models.keras.apps import APPS
from kubesight.models.keras.freeze import freeze, is_backbone_frozen
from kubesight.models.keras.network import CLASSIFICATION, features_of, float32_twin, head_of, scaling_of
from kubesight.models.keras.start import start_network
from kubesight.sweep.curves import HISTORY_FILE
from kubesight.train.cache_counts import counted_caches
from kubesight.train.early_termination import wait_for_sigterm
from kubesight.train.keras.augment import Augmentation
from kubesight.train.keras.checkpoint import load_variables
from kubesight.train.keras.data import Batch, Pictures
from kubesight.train.keras.devices import precision_policy, strategy_of
from kubesight.train.keras.engine import KerasEngine, Source, Trained
from kubesight.train.keras.features import cached_features
from kubesight.train.keras.lines import closing_lines, epoch_line
from kubesight.train.keras.losses import Kind, Loss
from kubesight.train.keras.ship import ship
from kubesight.train.keras.step import Forward
from kubesight.train.memory import keep_freed_memory
from kubesight.train.metric_log import tell_again
from kubesight.train.progress import BEST_FILE
from kubesight.train.request import (
    Request,
    classes_of,
    described,
    discard_checkpoints,
    fingerprint,
    finished_card,
    shipped_card,
    termination_of,
    versions,
)
from kubesight.train.scores import class_weights
from kubesight.train.stop import Interrupted, StopSignal
from kubesight.train.table import PictureTable, read_table

log = logging.getLogger("kubesight")


def train_here(
    request: Request, *, device: str | None, metrics_file: Path | None, processes: int | None
) -> ModelCard | None:
    """Train what was asked for on this machine.

    Args:
        request: what is to be trained.
        device: `cpu`, `cuda` or `cuda:N`; None takes the GPUs when there are any.
        metrics_file: where metric lines go; None is standard output.
        processes: how many devices share each batch; None is every GPU. This process serves them all.

    Returns:
        the finished model's card; None after SIGTERM.

    Raises:
        DatasetError: a picture cannot be read, or the data cannot be trained on.
        HyperparameterError: a setting does not fit the data or the devices.
        ModelError: the model or its weights cannot be had, or training diverges.
        StorageError: the disk is full; the last checkpoint stays good.
    """
    try:
        with counted_caches(request.output):
            return _train(request, device, metrics_file, processes)
    except Interrupted:
        log.warning("stopped on SIGTERM; the checkpoint is written, and the same command goes on from it")
        return None


def _train(request: Request, device: str | None, metrics_file: Path | None, processes: int | None) -> ModelCard | None:
    settings, output = request.settings, request.output
    strategy = _prepared(settings, device, processes)
    kind, classes = _kind(request), classes_of(request)
    _check_classes(kind, classes)
    network, card = _untrained(request, kind, classes, strategy)
    now = fingerprint(card, strategy.num_replicas_in_sync)
    if (finished := finished_card(output, now)) is not None:
        tell_again(output / HISTORY_FILE, metrics_file)
        discard_checkpoints(request)
        return finished
    tables = tuple(read_table(data, classes) for data in request.sets)
    training, validation = tables
    _check_batch(settings, len(training), strategy.num_replicas_in_sync)
    weights = class_weights(training.labels, len(classes), settings["weighted_loss"])
    trained, sources = _learner(network, card, (training, validation), strategy)
    engine = KerasEngine(
        trained, Loss(kind, len(classes), settings["label_smoothing"], weights), sources, settings,
        classes=classes, strategy=strategy, output=output, primary_metric=request.primary_metric, fingerprint=now,
        metrics_file=metrics_file, termination=termination_of(request),
    )  # fmt: skip
    # A model that is being shipped is shipped, whoever asks to stop: a trial that a policy ends is told to, then.
    with StopSignal() as stop:
        progress = engine.fit()
        load_variables(engine.checkpoints / BEST_FILE, trained.model.variables)
        card = shipped_card(card, progress)
        found = ship(output, trained.network, card, validation, kind=kind, device=device)
        _close(engine, found)
        discard_checkpoints(request)
        if progress.termination and request.ending.guarded:
            wait_for_sigterm(lambda: stop.asked or engine.stop.asked)
    return card


def _prepared(settings: dict[str, Any], device: str | None, processes: int | None) -> tf.distribute.Strategy:
    """The devices, with everything random seeded and every sum in one order."""
    strategy = strategy_of(device, processes, bool(settings["distributed"]))
    keep_freed_memory()
    keras.utils.set_random_seed(settings["random_seed"])
    tf.config.experimental.enable_op_determinism()
    return strategy


def _kind(request: Request) -> Kind:
    """What the network's outputs are."""
    binary = request.settings["binary_mode"]
    if request.task == Task.MULTILABEL:
        if binary:
            raise HyperparameterError("binary_mode gives a picture one of two classes", where="binary_mode")
        return "multilabel"
    return "binary" if binary else "categorical"


def _check_classes(kind: Kind, classes: Sequence[str]) -> None:
    if kind == "binary" and len(classes) != 2:
        raise DatasetError(
            f"binary_mode tells two classes apart, and the data have {len(classes)}: {', '.join(classes[:10])}",
            where="binary_mode",
            hint="Turn it off.",
        )


def _check_batch(settings: dict[str, Any], pictures: int, devices: int) -> None:
    """Each device needs two pictures of every batch: batch normalisation cannot train on one."""
    size = min(settings["training_batch_size"], pictures)
    if devices > 1 and size < 2 * devices:
        raise HyperparameterError(
            f"a batch of {size} pictures leaves {devices} devices fewer than two each",
            where="training_batch_size",
            hint="Raise it, or train on fewer devices (distributed false takes one).",
        )


def _untrained(
    request: Request, kind: Kind, classes: list[str], strategy: tf.distribute.Strategy
) -> tuple[keras.Model, ModelCard]:
    """The network as training starts from it, and its card without results."""
    spec, settings, sets = request.spec, request.settings, request.sets
    size = settings["image_size"] or spec.size or APPS[spec.library_name].size
    with strategy.scope(), _computing_in(precision_policy(settings["mixed_precision"], strategy)):
        network, weights = start_network(
            spec,
            classes=classes,
            outputs=1 if kind == "binary" else len(classes),
            size=size,
            weights=request.weights,
            settings=settings,
        )
    frozen = freeze(
        network,
        train_only_top_layer=settings["train_only_top_layer"],
        layers_to_freeze=settings["layers_to_freeze"],
    )
    if frozen:
        log.info("frozen: %s", ", ".join(frozen))
    card = ModelCard(
        task=request.task,
        model_name=spec.name,
        framework="tensorflow",
        classes=classes,
        preprocessing=StretchPreprocessing(
            size=size, interpolation=settings["image_resize_interpolation"], scaling=scaling_of(spec)
        ),
        hyperparameters=settings,
        weights=weights,
        training={"primary_metric": request.primary_metric},
        data={name: described(data) for name, data in zip(("training", "validation"), sets, strict=True)},
        versions={**versions(("keras", "numpy")), "tensorflow": tf.__version__},  # its package may be tensorflow-cpu
    )
    return network, card


@contextlib.contextmanager
def _computing_in(policy: str) -> Iterator[None]:
    """Build layers under a dtype policy."""
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(earlier)


def _learner(
    network: keras.Model, card: ModelCard, tables: tuple[PictureTable, PictureTable], strategy: tf.distribute.Strategy
) -> tuple[Trained, tuple[Source, Source]]:
    """What is trained, on what."""
    settings, stretch = card.hyperparameters, card.stretch
    augmentation, views = _augmentation(settings), settings["feature_views"]
    with strategy.scope():
        # Less precise numbers save time in training; what is validated is what is shipped, in float32.
        scored = network if network.compute_dtype == "float32" else float32_twin(network)
        if is_backbone_frozen(network) and (augmentation is None or views > 1):
            log.info("the backbone is frozen: its features are computed once, and the classifier is trained on them")
            head = head_of(scored)
            features = (
                _features(scored, card, tables[0], augmentation, views), _features(scored, card, tables[1], None, 1)
            )  # fmt: skip
            return Trained(scored, head, head, scored.get_layer(CLASSIFICATION).kernel, head), features
        forward: Forward = network
        if is_backbone_frozen(network):
            log.info("the backbone is frozen, and runs each epoch, on other views of the pictures")
            forward = _frozen_forward(network)
        trained = Trained(network, network, forward, network.get_layer(CLASSIFICATION).kernel, scored)
    return trained, (Pictures(tables[0], stretch, augmentation=augmentation), Pictures(tables[1], stretch))


def _frozen_forward(network: keras.Model) -> Forward:
    """The network with a backbone that drops nothing at random either, as when its features are computed once."""
    backbone, head = features_of(network), head_of(network)
    return lambda pixels, training: head(backbone(pixels, training=False), training=training)


def _augmentation(settings: dict[str, Any]) -> Augmentation | None:
    if not settings["augmentation"]:
        return None
    return Augmentation(
        flip=settings["augmentation_random_flip"],
        rotation=settings["augmentation_random_rotation"],
        zoom=settings["augmentation_random_zoom"],
        seed=settings["random_seed"],
    )


@dataclass(frozen=True)
class Features:
    """Cached features in batches, as pictures come.

    Attributes:
        table: the pictures.
        values: float32 [pictures, views, width]; an epoch takes the views in turn.
    """

    table: PictureTable
    values: np.ndarray

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """See `Pictures.batches`."""
        view = self.values[:, epoch % self.values.shape[1]]
        for batch in batches:
            index = np.asarray(batch)
            yield Batch(index, view[index], self.table.labels[index])


def _features(
    network: keras.Model, card: ModelCard, table: PictureTable, augmentation: Augmentation | None, views: int
) -> Features:
    size = card.hyperparameters["validation_batch_size"]
    found = cached_features(network, card.model_name, table, card.stretch, augmentation, views=views, batch_size=size)
    # A plain array over the same file: NumPy's class for files adds more to each step than its indexing takes.
    return Features(table, np.asarray(found))


def _close(engine: KerasEngine, found: dict[str, float]) -> None:
    """Say the best epoch's values once more, since SageMaker takes the last that it reads, and what it all took."""
    history = engine.progress.history
    best = next(record for record in history if record["epoch"] == engine.progress.best_epoch)
    log.info("best epoch %d: %s", best["epoch"], epoch_line({**best, **found}, steps=engine.steps_per_epoch))
    network, epochs = engine.trained.network, engine.progress.epoch
    trainable, frozen = (
        sum(int(np.prod(one.shape)) for one in part)
        for part in (network.trainable_weights, network.non_trainable_weights)
    )
    seconds = float(np.mean([record["seconds"] for record in history])) * epochs  # not every epoch need be recorded
    for line in closing_lines(trainable=trainable, frozen=frozen, seconds=seconds, epochs=epochs):
        log.info("%s", line)
