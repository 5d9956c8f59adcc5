"""From a batch of pictures to what a network takes; training, evaluation, export and serving all call this."""

from collections.abc import Sequence

import torch


def normalise(
    batch: torch.Tensor, mean: Sequence[float], std: Sequence[float], *, channels_last: bool = False
) -> torch.Tensor:
    """Turn pictures into the network's input, on the device that holds them.

    Each channel becomes `(value / 255 - mean) / std`. Pictures travel as bytes, a quarter of the size of floats.

    Args:
        batch: uint8 [n, height, width, 3], RGB.
        mean: one value a channel, of values in [0, 1].
        std: one value a channel, of values in [0, 1].
        channels_last: keep the order of memory [n, height, width, 3] (convolutions on recent devices want it) instead
            of [n, 3, height, width]. The result's shape and values are the same.

    Returns:
        float32 [n, 3, height, width].
    """
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=batch.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=batch.device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    # One pass to floats in their final order, the rest in place: on a CPU fresh memory costs more than the arithmetic.
    values = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=layout)
    return values.mul_(scale.view(3, 1, 1)).add_(shift.view(3, 1, 1))
