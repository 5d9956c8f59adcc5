"""Optimisers by the job file's names."""

from typing import Any

import torch
from torch import nn


def make_optimizer(module: nn.Module, settings: dict[str, Any], *, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser over the parameters that may change.

    Weight decay is for matrices and kernels alone: normalisation weights and biases (one-dimensional tensors) have
    none, as is usual and as the hosted service does.

    Args:
        module: what is trained.
        settings: the resolved hyperparameters.
        learning_rate: the initial value; the schedule's factors multiply it.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    name = settings["optimizer"]
    if name == "sgd":
        momentum = settings["momentum"]
        nesterov = bool(settings["nesterov"]) and momentum > 0
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    betas = (settings["beta1"], settings["beta2"])
    return kind(groups, lr=learning_rate, betas=betas, amsgrad=bool(settings["ams_gradient"]))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value
