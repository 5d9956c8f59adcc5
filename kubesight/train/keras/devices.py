"""On which devices a training runs, and in which precision. One process uses all of them."""

import logging

import tensorflow as tf

from kubesight.errors import HyperparameterError, ModelError
from kubesight.models.keras.devices import device_name

log = logging.getLogger("kubesight")


def strategy_of(device: str | None, processes: int | None, distributed: bool) -> tf.distribute.Strategy:
    """The devices that train together; each has a copy of the network and takes its part of every batch.

    Args:
        device: `cpu`, `cuda` (or `gpu`) or `cuda:N`; None takes the GPUs when there are any.
        processes: how many devices; None is every GPU, or one CPU. More than one on a CPU are logical devices, which
            share its cores.
        distributed: False takes one device.

    Raises:
        ModelError: there is no such device, or too few of them.
    """
    first = device_name(device)
    kind = first.strip("/").partition(":")[0]
    there = 1 if device and ":" in device else len(tf.config.list_physical_devices(kind))
    count = (processes or (1 if kind == "CPU" else there)) if distributed else 1
    if kind == "CPU":
        _divide_cpu(count)
    elif count > there:
        raise ModelError(f"{count} processes asked for {count} GPUs, and there are {there}", where="processes")
    if count == 1:
        log.info("training on %s", first.strip("/"))
        return tf.distribute.OneDeviceStrategy(first)
    log.info("training on %d %ss: each takes its part of every batch", count, kind)
    return tf.distribute.MirroredStrategy([f"{kind}:{place}" for place in range(count)])


def precision_policy(choice: str, strategy: tf.distribute.Strategy) -> str:
    """Keras' dtype policy: `float32`, `mixed_bfloat16` or `mixed_float16`.

    Args:
        choice: `auto` (bf16 where the GPUs have it, else fp16; off on a CPU), `off`, `bf16` or `fp16`.
        strategy: the devices.

    Raises:
        HyperparameterError: fp16 was asked for on a CPU.
    """
    on_cpu = all("CPU" in name.upper() for name in strategy.extended.worker_devices)
    if choice == "fp16" and on_cpu:
        raise HyperparameterError("fp16 does not train on a CPU", where="mixed_precision", hint="Use bf16, or off.")
    if choice == "off" or (choice == "auto" and on_cpu):
        return "float32"
    return "mixed_bfloat16" if choice == "bf16" or (choice == "auto" and _have_bf16()) else "mixed_float16"


def _have_bf16() -> bool:
    """Whether every GPU computes in bf16: from NVIDIA's Ampere on, compute capability 8.0."""
    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return all(one.get("compute_capability", (0, 0)) >= (8, 0) for one in details)


def _divide_cpu(count: int) -> None:
    """Make logical devices of the CPU, where more than one is asked for; to ask for the same again is no error."""
    if count == 1:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise ModelError(
            f"TensorFlow runs already, and its CPU cannot be divided into {count} devices any more",
            where="processes",
            hint="Train in a process of its own, such as `kubesight train`.",
        ) from error
