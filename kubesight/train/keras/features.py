"""What a frozen backbone of Keras makes of each picture, computed once and kept for later trainings."""

import hashlib
import inspect
import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubesight.dataset import images, pixels
from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras import network, orientation, pictures
from kubesight.models.keras.network import features_of
from kubesight.train.feature_cache import kept_or_computed, table_digest
from kubesight.train.keras import augment
from kubesight.train.keras.augment import Augmentation
from kubesight.train.keras.data import Pictures
from kubesight.train.table import PictureTable


def cached_features(
    model: keras.Model,
    model_name: str,
    table: PictureTable,
    preprocessing: StretchPreprocessing,
    augmentation: Augmentation | None,
    *,
    views: int,
    batch_size: int,
) -> np.ndarray:
    """The features of every picture, computed now or read from the cache.

    Args:
        model: the whole network, of `kubesight.models.keras.network`; its head plays no part.
        model_name: what it is called; networks of the same tensors may still compute differently.
        table: the pictures.
        preprocessing: to what size, and how, pictures are resized, and what the network makes of them.
        augmentation: how views are made: those of epochs 0 to `views` - 1; None for the pictures as evaluation sees
            them (then `views` is 1).
        views: views of each picture.
        batch_size: pictures a step.

    Returns:
        float32 [pictures, views, width], read from disk as it is needed.

    Raises:
        DatasetError: a picture cannot be read; it is named.
    """
    backbone = features_of(model)
    return kept_or_computed(
        _key(backbone, model_name, table, preprocessing, augmentation, views),
        (len(table), views),
        lambda: _compute(
            backbone, Pictures(table, preprocessing, augmentation=augmentation, keep=views > 1), views, batch_size
        ),
    )


def _compute(backbone: keras.Model, source: Pictures, views: int, batch_size: int) -> np.ndarray:
    """Put every view of every picture through the backbone."""

    @tf.function(reduce_retracing=True)
    def features(inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(backbone(inputs, training=False), tf.float32)

    count = len(source.table)
    batches = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    rounds = [
        np.concatenate([features(batch.pixels).numpy() for batch in source.batches(view, batches)])
        for view in range(views)
    ]
    return np.stack(rounds, axis=1)


def _key(
    backbone: keras.Model,
    model_name: str,
    table: PictureTable,
    preprocessing: StretchPreprocessing,
    augmentation: Augmentation | None,
    views: int,
) -> str:
    """All that the features depend on: pictures, how they are read, backbone weights, preprocessing, views.

    Weights count by place and shape, not by name: Keras numbers the names of equal layers within a process.
    """
    digest = hashlib.sha256()
    said: dict[str, Any] = {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "preprocessing": preprocessing.model_dump(),
        "augmentation": None if augmentation is None else vars(augmentation),
        "views": views,
        "network": model_name,
        "precision": backbone.output.dtype,
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    for code in (images, pixels, pictures, orientation, augment, network):
        digest.update(inspect.getsource(code).encode())
    for variable in backbone.variables:
        digest.update(repr((variable.shape, variable.dtype)).encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    table_digest(digest, table)
    return digest.hexdigest()
