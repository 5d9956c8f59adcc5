"""TensorFlow's devices by the names that kubesight's commands take."""

import contextlib

import tensorflow as tf

from kubesight.errors import ModelError


def device_name(device: str | None) -> str:
    """TensorFlow's name of a device, whose memory it will then take as it is needed.

    Args:
        device: `cpu`, `cuda` (or `gpu`) or `cuda:N`; by default the first GPU when there is one.

    Raises:
        ModelError: there is no such device.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind, _, number = (device or ("cuda" if gpus else "cpu")).lower().partition(":")
    if kind == "cpu" and not number:
        return "/CPU:0"
    if kind not in ("cuda", "gpu") or (number and not number.isdecimal()):
        raise ModelError(f"TensorFlow has no device {device!r}", where="device", hint="Name cpu, cuda or cuda:N.")
    if int(number or 0) >= len(gpus):
        raise ModelError(
            f"TensorFlow cannot use {device}; it sees {len(gpus)} GPUs here", where="device",
            hint="Install tensorflow[and-cuda] and look for NVIDIA's driver, or use the CPU.",
        )  # fmt: skip
    _grow_memory()
    return f"/GPU:{int(number or 0)}"


def _grow_memory() -> None:
    """Take a GPU's memory as it is needed: TensorFlow would otherwise take all of it from others at once."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # TensorFlow runs already, and has taken what it takes
            tf.config.experimental.set_memory_growth(gpu, True)
