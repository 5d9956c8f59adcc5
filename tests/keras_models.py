"""Model folders of tiny Keras networks, as training writes them."""

from pathlib import Path

import keras
import numpy as np

from kubesight.dataset.rows import Task
from kubesight.modelcard import KERAS_FILE, ModelCard, StretchPreprocessing
from kubesight.models.keras.network import build_network, save_network
from kubesight.models.keras.saved_model import write_label_files, write_saved_model
from kubesight.models.names import find_model

NAME, SIZE = "keras/mobilenet-v2-035-96", 32


def tiny_network(outputs: int, size: int = SIZE) -> keras.Model:
    """A network of random weights whose answers are far apart."""
    keras.utils.set_random_seed(3)
    network = build_network(find_model(NAME), outputs=outputs, size=size)
    pictures = np.kron(np.random.default_rng(2).uniform(0, 255, (16, 4, 4, 3)), np.ones((1, size // 4, size // 4, 1)))
    for layer in network.get_layer("backbone").layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(pictures, training=True)  # batch statistics that are not the initial ones
    head = network.get_layer("classification")
    head.kernel.assign(head.kernel * 10)
    head.bias.assign(-keras.ops.mean(network(pictures), axis=0))  # so that no class wins everywhere
    return network


def make_keras_model(
    folder: Path,
    task: Task = Task.CLASSIFICATION,
    classes: tuple[str, ...] = ("cat", "dog", "emu"),
    *,
    binary: bool = False,
    interpolation: str = "bilinear",
    size: int = SIZE,
) -> Path:
    """Write a model folder with all that belongs to it but model.onnx."""
    card = ModelCard(
        task=task,
        model_name=NAME,
        framework="tensorflow",
        classes=list(classes),
        preprocessing=StretchPreprocessing(size=size, interpolation=interpolation, scaling="tf"),
        hyperparameters={"binary_mode": True} if binary else {},
    )
    network = tiny_network(1 if binary else len(classes), size)
    folder.mkdir(parents=True)
    save_network(network, folder / KERAS_FILE)
    write_saved_model(network, card, folder)
    write_label_files(card, folder)
    card.save(folder)
    return folder
