"""Torch's checkpoint: all that a killed training needs to go on and end with the same numbers."""

import io
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kubesight.errors import ModelError
from kubesight.storage.files import atomic_file
from kubesight.train.progress import Progress, check_resumable

LAST_FILE = "last.pt"


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
    check_resumable(path, earlier, fingerprint)
    return progress, states
