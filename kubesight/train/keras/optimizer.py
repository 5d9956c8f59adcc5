"""Keras' optimisers by the names that hyperparameters have, with the settings that each of them uses."""

from collections.abc import Callable
from typing import Any

import keras

Settings = dict[str, Any]


def _adam(settings: Settings) -> dict[str, Any]:
    names = {"beta_1": "beta1", "beta_2": "beta2", "epsilon": "epsilon", "amsgrad": "ams_gradient"}
    return {argument: settings[name] for argument, name in names.items()}


# Which optimiser uses which setting is SageMaker's matrix; it has no adamw.
_KINDS: dict[str, tuple[type[keras.optimizers.Optimizer], Callable[[Settings], dict[str, Any]]]] = {
    "adam": (keras.optimizers.Adam, _adam),
    "adamw": (keras.optimizers.Adam, _adam),  # Keras decouples the decay of all of them, which is what makes AdamW
    "sgd": (keras.optimizers.SGD, lambda s: {"momentum": s["momentum"]}),
    "nesterov": (keras.optimizers.SGD, lambda s: {"momentum": s["momentum"], "nesterov": True}),
    "rmsprop": (keras.optimizers.RMSprop, lambda s: {name: s[name] for name in ("rho", "momentum", "epsilon")}),
    "adagrad": (
        keras.optimizers.Adagrad,
        lambda s: {name: s[name] for name in ("initial_accumulator_value", "epsilon")},
    ),
    "adadelta": (keras.optimizers.Adadelta, lambda s: {name: s[name] for name in ("rho", "epsilon")}),
}


def make_optimizer(settings: Settings, variables: list[keras.Variable], *, half: bool) -> keras.optimizers.Optimizer:
    """The optimiser over the variables that are trained, built.

    Weight decay is decoupled (each step takes learning rate times decay of a weight away) and for matrices and kernels
    alone: normalisation weights and biases (one-dimensional tensors) have none.

    Args:
        settings: the resolved hyperparameters.
        variables: what is trained.
        half: gradients are computed in fp16, whose small numbers vanish unless the loss is scaled up.
    """
    kind, arguments = _KINDS[settings["optimizer"]]
    decay = settings["weight_decay"] or None
    optimizer = kind(learning_rate=settings["learning_rate"], weight_decay=decay, **arguments(settings))
    if decay is not None:
        optimizer.exclude_from_weight_decay(var_list=[one for one in variables if len(one.shape) <= 1])
    if half:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer
