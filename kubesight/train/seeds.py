"""Seeding the generators that torch draws from, of one device."""

import torch


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed what is drawn from when tensors of `device` are made: the CPU's generator and that of a GPU.

    The numbers are those of `torch.manual_seed`. That one also tells every kind of device which is not in use; each
    keeps the call, with the stack it came from, until it is: once a step, that was half of the time of training a
    classifier on cached features, and memory that grew for ever.

    Args:
        seed: in [0, 2^64).
        device: where the network runs.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
