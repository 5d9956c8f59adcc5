"""Lines as Keras writes them, which the regular expressions of SageMaker's metric definitions read.

All numbers are fixed-point, since those expressions read `9.8e-05` as 9.8; one that is not finite is left out.
"""

import math
from collections.abc import Mapping

VALIDATED = ("accuracy", "top_5_accuracy", "iou", "precision", "recall", "auc", "prc")
"""The metrics of the validation part that stand on a line, when there are any, as `val_NAME`."""


def epoch_line(record: Mapping[str, float], *, steps: int) -> str:
    """One evaluation: `12/12 - 3s - loss: 0.6100 - accuracy: 0.9000 - val_loss: 0.5500 - val_accuracy: 0.9300`.

    Args:
        record: `seconds` of the epoch, and metrics by the names that `metrics.jsonl` has for them.
        steps: mini-batches in an epoch.
    """
    said = {"loss": record.get("training_loss"), "accuracy": record.get("training_accuracy")}
    said["val_loss"] = record.get("validation_loss")
    said |= {f"val_{name}": record.get(name) for name in VALIDATED}
    values = [f"{name}: {value:.4f}" for name, value in said.items() if value is not None and math.isfinite(value)]
    return " - ".join([f"{steps}/{steps}", f"{record['seconds']:.0f}s", *values])


def closing_lines(*, trainable: int, frozen: int, seconds: float, epochs: int) -> list[str]:
    """What is said at the end of a training.

    Args:
        trainable: the number of parameters that were trained.
        frozen: the number of the others.
        seconds: what all epochs took, with their validation left out.
        epochs: how many these were.
    """
    return [
        f"- Number of parameters: {trainable + frozen}",
        f"- Number of trainable parameters: {trainable}",
        f"- Number of non-trainable parameters: {frozen}",
        f"- Total training duration: {seconds:.3f}",
        f"- Average training duration per epoch: {seconds / max(1, epochs):.3f}",
    ]
