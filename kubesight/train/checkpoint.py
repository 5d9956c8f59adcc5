"""A checkpoint holds all that a killed training needs to go on and end with the same numbers."""

import io
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from kubesight.errors import ModelError
from kubesight.storage.files import atomic_file

LAST_FILE = "last.pt"
CHECKPOINT_FOLDER = "checkpoints"
BEST_FILE = "best.safetensors"


@dataclass
class Progress:
    """How far training has come, in numbers.

    `epoch` counts finished epochs; `step` the mini-batches done in the running one (as many as an epoch has while its
    validation is due). `loss_sum` and `samples` make the running epoch's mean training loss. `stopped_early` says that
    the training's own patience has ended it, `termination` which decision of a sweep's policy has. Random numbers need
    no state of their own: all are drawn from (seed, epoch, step or picture), and so is the sampler's order.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    no_improvement: int = 0
    stopped_early: bool = False
    termination: dict[str, Any] | None = None
    batch_parts: int = 1
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(folder: Path, *, progress: Progress, fingerprint: dict[str, Any], states: dict[str, Any]) -> None:
    """Write `last.pt` atomically.

    Args:
        folder: the checkpoints' folder.
        progress: see there.
        fingerprint: settings that a resumed run must share.
        states: state dicts of model, optimiser, moving average, gradient scaler.

    Raises:
        StorageError: the disk is full or cannot be written; the earlier checkpoint stays.
    """
    # Through memory, since torch's own writer reports a full disk as a broken archive.
    buffer = io.BytesIO()
    torch.save({"progress": asdict(progress), "fingerprint": fingerprint, "states": states}, buffer)
    with atomic_file(folder / LAST_FILE) as stream:
        stream.write(buffer.getbuffer())


def load_checkpoint(folder: Path, fingerprint: dict[str, Any]) -> tuple[Progress, dict[str, Any]] | None:
    """Read `last.pt`, or None when training starts here.

    Raises:
        ModelError: it belongs to a training with other settings, or is no checkpoint.
    """
    path = folder / LAST_FILE
    if not path.exists():
        return None
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
        earlier, progress, states = value["fingerprint"], Progress(**value["progress"]), value["states"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"not a checkpoint: {error}", where=str(path), hint="Remove it to start over.") from error
    if differing := difference(earlier, fingerprint):
        raise ModelError(
            f"the checkpoint here belongs to a training with other settings ({differing})",
            where=str(path),
            hint="Name another --output, or remove that folder to start over.",
        )
    return progress, states


def difference(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that differ, as `name: was X, now Y`; empty when none does."""
    names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    return "; ".join(f"{name}: was {earlier.get(name)!r}, now {now.get(name)!r}" for name in names)
