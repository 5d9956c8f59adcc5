"""Starting weights for small trainings of Keras networks, where none can be downloaded."""

from pathlib import Path

import keras
import numpy as np

from kubesight.models.keras.network import build_network, save_network
from kubesight.models.names import find_model

MODEL, SIZE = "keras/mobilenet-v1-025-128", 32


def live_weights(file: Path) -> str:
    """Write a network whose features tell pictures apart: random weights, but batch statistics of what they make.

    With the initial statistics the features of random weights are nearly zero, whatever the picture.
    """
    keras.utils.set_random_seed(3)
    network = build_network(find_model(MODEL), outputs=2, size=SIZE)
    norms = [one for one in network.get_layer("backbone").layers if isinstance(one, keras.layers.BatchNormalization)]
    momentum = norms[0].momentum
    for layer in norms:
        layer.momentum = 0.0
    noise = np.random.default_rng(2).uniform(0, 255, (16, 4, 4, 3))
    network(np.kron(noise, np.ones((1, SIZE // 4, SIZE // 4, 1))), training=True)
    for layer in norms:
        layer.momentum = momentum
    save_network(network, file)
    return str(file)
