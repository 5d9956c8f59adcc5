"""Mixed precision: which type, and the scaler that half precision needs."""

import torch

from kubesight.errors import HyperparameterError


def autocast_type(choice: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed-precision arithmetic, or None for single precision throughout.

    Args:
        choice: `auto` (bf16 where a GPU has it, else fp16; off on a CPU), `off`, `bf16` or `fp16`.
        device: where the network runs.

    Raises:
        HyperparameterError: fp16 was asked for on a CPU.
    """
    if choice == "off" or (choice == "auto" and device.type == "cpu"):
        return None
    if choice == "fp16" and device.type == "cpu":
        raise HyperparameterError("fp16 does not train on a CPU", where="mixed_precision", hint="Use bf16, or off.")
    if choice == "bf16" or (choice == "auto" and torch.cuda.is_bf16_supported()):
        return torch.bfloat16
    return torch.float16
