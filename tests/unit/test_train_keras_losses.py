"""Losses of Keras networks against numbers worked by hand and scikit-learn's; optimisers against Keras' own."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from kubesight.hyperparameters import resolve
from kubesight.train.keras.losses import Kind, Loss
from kubesight.train.keras.optimizer import make_optimizer
from kubesight.train.keras.scores import scores, to_probabilities

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.5, 1.0], [-4.0, 0.0, 2.0]], np.float32)
LABELS = np.array([0, 1, 2, 0])
SEVERAL = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]], np.uint8)


def mean(loss: Loss, labels: np.ndarray, logits: np.ndarray) -> float:
    total = float(tf.reduce_sum(loss.per_picture(tf.constant(labels), tf.constant(logits))))
    return total / loss.total(labels)


def test_categorical_loss_is_scikit_learns_log_loss() -> None:
    expected = log_loss(LABELS, to_probabilities(LOGITS, "categorical").astype(np.float64))
    assert mean(Loss("categorical", 3), LABELS, LOGITS) == pytest.approx(expected, rel=1e-6)


def test_smoothed_categorical_loss_worked_by_hand() -> None:
    # Logits (ln 2, 0, 0) give probabilities 1/2, 1/4, 1/4; with smoothing 0.3 the target of class 0 is 0.8, 0.1, 0.1.
    found = mean(Loss("categorical", 3, 0.3), np.array([0]), np.array([[math.log(2), 0, 0]], np.float32))
    assert found == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4), rel=1e-6)


def test_binary_loss_worked_by_hand() -> None:
    logits, labels = np.array([[math.log(3)], [0.0]], np.float32), np.array([1, 0])  # probabilities 3/4 and 1/2
    plain = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    assert mean(Loss("binary", 2), labels, logits) == pytest.approx(plain, rel=1e-6)
    # Smoothing 0.2 makes the targets 0.9 and 0.1.
    first = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)
    assert mean(Loss("binary", 2, 0.2), labels, logits) == pytest.approx((first + math.log(2)) / 2, rel=1e-6)


def test_multilabel_loss_is_the_mean_of_scikit_learns_log_losses() -> None:
    probabilities = to_probabilities(LOGITS, "multilabel").astype(np.float64)
    expected = np.mean([log_loss(SEVERAL[:, k], probabilities[:, k], labels=[0, 1]) for k in range(3)])
    assert mean(Loss("multilabel", 3), SEVERAL, LOGITS) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("kind", "labels"), [("categorical", LABELS), ("binary", LABELS.clip(0, 1))])
def test_class_weights_make_a_weighted_mean(kind: Kind, labels: np.ndarray) -> None:
    logits = LOGITS if kind == "categorical" else LOGITS[:, :1]
    weights = np.array([3.0, 0.5, 2.0])
    each = Loss(kind, 3).per_picture(tf.constant(labels), tf.constant(logits)).numpy()
    expected = np.average(each, weights=weights[labels])
    assert mean(Loss(kind, 3, weights=weights), labels, logits) == pytest.approx(expected, rel=1e-6)


def test_smoothed_weighted_categorical_loss_worked_by_hand() -> None:
    # The example above with weights 2, 1, 3: each class's term has its weight, and the picture that of class 0.
    weights = np.array([2.0, 1.0, 3.0])
    found = mean(Loss("categorical", 3, 0.3, weights), np.array([0]), np.array([[math.log(2), 0, 0]], np.float32))
    assert found == pytest.approx((2 * 0.8 * math.log(2) + (0.1 + 3 * 0.1) * math.log(4)) / 2, rel=1e-6)


def test_weights_of_labels_weigh_the_pictures_that_have_them() -> None:
    # One picture, probability 1/2 of both classes, which it has and has not: (2 ln 2 + ln 2) / 2 classes.
    loss = Loss("multilabel", 2, weights=np.array([2.0, 2.0]))
    assert mean(loss, np.array([[1, 0]], np.uint8), np.zeros((1, 2), np.float32)) == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize(
    ("kind", "labels", "logits", "right"),
    [
        ("categorical", LABELS, LOGITS, 2),
        ("binary", np.array([1, 0, 1, 1]), LOGITS[:, :1], 3),
        ("multilabel", SEVERAL, LOGITS, 2),
    ],
)
def test_right_pictures_are_counted(kind: Kind, labels: np.ndarray, logits: np.ndarray, right: int) -> None:
    assert int(Loss(kind, 3).right(tf.constant(labels), tf.constant(logits))) == right


@pytest.mark.parametrize("kind", ["categorical", "binary", "multilabel"])
def test_scores_are_those_of_the_probabilities(kind: Kind) -> None:
    logits = LOGITS[:, :1] if kind == "binary" else LOGITS
    labels = {"categorical": LABELS, "binary": LABELS.clip(0, 1), "multilabel": SEVERAL}[kind]
    classes = ["a", "b"] if kind == "binary" else ["a", "b", "c"]
    found = scores(to_probabilities(logits, kind), labels, classes, kind=kind, primary_metric="accuracy")
    plain = mean(Loss(kind, len(classes)), labels, logits)
    assert found["validation_loss"] == pytest.approx(plain, rel=1e-5)
    assert found["log_loss"] == pytest.approx(plain, rel=1e-5)
    assert ("prc" in found) == (kind == "binary")


OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "adam": lambda: keras.optimizers.Adam(0.1, 0.8, 0.5, 1e-3, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.1, 0.0, 0.8, 0.5, 1e-3, amsgrad=True),
    "sgd": lambda: keras.optimizers.SGD(0.1, 0.7),
    "nesterov": lambda: keras.optimizers.SGD(0.1, 0.7, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1, 0.6, 0.7, 1e-3, centered=False),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1, 0.3, 1e-3),
    "adadelta": lambda: keras.optimizers.Adadelta(0.1, 0.6, 1e-3),
}
USED = {
    "adam": {"beta1": 0.8, "beta2": 0.5, "epsilon": 1e-3, "ams_gradient": True},
    "adamw": {"beta1": 0.8, "beta2": 0.5, "epsilon": 1e-3, "ams_gradient": True},
    "sgd": {"momentum": 0.7},
    "nesterov": {"momentum": 0.7},
    "rmsprop": {"rho": 0.6, "momentum": 0.7, "epsilon": 1e-3},
    "adagrad": {"initial_accumulator_value": 0.3, "epsilon": 1e-3},
    "adadelta": {"rho": 0.6, "epsilon": 1e-3},
}


def settings_of(**given: Any) -> dict[str, Any]:
    return resolve("keras/MobileNet", "image_classification", given)


def stepped(make: Callable[[list[keras.Variable]], keras.optimizers.Optimizer]) -> list[np.ndarray]:
    """A kernel and a bias after four steps down a bowl, the gradient shrinking on the way."""
    kernel, bias = keras.Variable(np.array([[1.0, -2.0], [0.5, 3.0]])), keras.Variable(np.array([1.0, -1.0]))
    optimizer = make([kernel, bias])
    for step in range(4):
        gradients = [tf.constant((value.numpy() / (1 + step)).astype(np.float32)) for value in (kernel, bias)]
        optimizer.apply(gradients, [kernel, bias])
    return [kernel.numpy(), bias.numpy()]


def ours(settings: dict[str, Any]) -> list[np.ndarray]:
    return stepped(lambda variables: make_optimizer(settings, variables, half=False))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_steps_as_keras_own_of_the_same_settings(name: str) -> None:
    found = ours(settings_of(optimizer=name, learning_rate=0.1, **USED[name]))
    expected = stepped(lambda variables: OPTIMIZERS[name]())
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name in USED for setting in USED[name]])
def test_each_setting_of_an_optimizer_has_an_effect(name: str, setting: str) -> None:
    others = {key: value for key, value in USED[name].items() if key != setting}
    plain = settings_of(optimizer=name, learning_rate=0.1, **others)
    changed = settings_of(optimizer=name, learning_rate=0.1, **USED[name])
    assert not np.array_equal(ours(plain)[0], ours(changed)[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_is_for_kernels_alone(name: str) -> None:
    plain, decayed = (ours(settings_of(optimizer=name, learning_rate=0.01, weight_decay=value)) for value in (0, 0.5))
    assert (np.abs(decayed[0]) < np.abs(plain[0])).all()
    np.testing.assert_array_equal(decayed[1], plain[1])
