"""Model folders of tiny Keras networks, as training writes them."""

from pathlib import Path

import keras
import numpy as np

from kubesight.dataset.rows import Task
from kubesight.modelcard import KERAS_FILE, Interpolation, ModelCard, StretchPreprocessing
from kubesight.models.keras.network import save_network
from kubesight.models.keras.saved_model import write_label_files, write_saved_model

NAME, SIZE = "keras/mobilenet-v2-035-96", 32
CLASSES = ("cat", "dog", "emu")


def tiny_network(outputs: int, size: int = SIZE) -> keras.Model:
    """A network of the layers that all here have, of random weights, whose answers are far apart.

    Its backbone is one convolution: those of keras.applications take seconds to build, save and load.
    """
    keras.utils.set_random_seed(3)
    inner = keras.Input((size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(16, 3, strides=2, activation="relu")(inner))
    backbone = keras.Model(inner, pooled, name="backbone")
    images = keras.Input((size, size, 3), name="images", dtype="float32")
    features = backbone(keras.layers.Rescaling(1 / 127.5, -1.0)(images))
    head = keras.layers.Dense(outputs, name="classification")
    network = keras.Model(images, head(keras.layers.Dropout(0.2, name="dropout")(features)))
    blocks = np.random.default_rng(2).uniform(0, 255, (16, 4, 4, 3))
    head.kernel.assign(head.kernel * 20)
    answers = network(np.kron(blocks, np.ones((1, size // 4, size // 4, 1))))
    head.bias.assign(-keras.ops.mean(answers, axis=0))  # so that no class wins everywhere
    return network


def make_keras_model(
    folder: Path,
    task: Task = Task.CLASSIFICATION,
    classes: tuple[str, ...] = CLASSES,
    *,
    binary: bool = False,
    interpolation: Interpolation = "bilinear",
    network: keras.Model | None = None,
) -> Path:
    """Write a model folder with all that belongs to it but model.onnx."""
    network = network or tiny_network(1 if binary else len(classes))
    card = ModelCard(
        task=task,
        model_name=NAME,
        framework="tensorflow",
        classes=list(classes),
        preprocessing=StretchPreprocessing(size=network.input_shape[1], interpolation=interpolation, scaling="tf"),
        hyperparameters={"binary_mode": True} if binary else {},
    )
    folder.mkdir(parents=True)
    save_network(network, folder / KERAS_FILE)
    write_saved_model(network, card, folder)
    write_label_files(card, folder)
    card.save(folder)
    return folder
