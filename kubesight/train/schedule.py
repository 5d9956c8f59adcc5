"""How the learning rate moves, as a factor of its initial value. Stateless: a resumed run asks for the same steps."""

import math
from typing import Any


def learning_rate_factor(settings: dict[str, Any], *, step: int, steps_per_epoch: int) -> float:
    """The factor for one mini-batch.

    Args:
        settings: the resolved hyperparameters.
        step: mini-batches done since training began, from 0.
        steps_per_epoch: mini-batches in an epoch.

    `warmup_cosine` is stepped per mini-batch: linear from 0 over the warm-up epochs, then
    max(0, (1 + cos(2 pi cycles p)) / 2) with p the share done of the rest; 0.45 cycles end near 2 % of the start.
    `step` is stepped per epoch: gamma to the power of the number of whole step sizes passed.
    Both are Azure AutoML's definitions. `constant` keeps the initial rate.
    """
    if settings["learning_rate_scheduler"] == "constant":
        return 1.0
    if settings["learning_rate_scheduler"] == "step":
        return float(settings["step_lr_gamma"] ** (step // steps_per_epoch // settings["step_lr_step_size"]))
    warm = steps_per_epoch * settings["warmup_cosine_lr_warmup_epochs"]
    if step < warm:
        return step / max(1, warm)
    progress = (step - warm) / max(1, steps_per_epoch * settings["number_of_epochs"] - warm)
    return max(0.0, 0.5 * (1 + math.cos(2 * math.pi * settings["warmup_cosine_lr_cycles"] * progress)))
