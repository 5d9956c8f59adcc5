"""A checkpoint holds all that a killed training needs to go on and end with the same numbers. No pickles."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import orjson
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kubesight.errors import ModelError
from kubesight.storage.files import atomic_file
from kubesight.train.progress import Progress, check_resumable

LAST_FILE = "last.safetensors"

# A weight is known by its place in the list: layers' names count on within a process, and so would another training
# of the same network in it not find its own.
_NAME = "{:05d}"


def save_variables(path: Path, variables: Iterable[keras.Variable], metadata: dict[str, str] | None = None) -> None:
    """Write variables in their order as safetensors, atomically.

    Args:
        path: the file.
        variables: those of a model (with the states of its seed generators), of an optimiser, or of both.
        metadata: further text in the file's header.

    Raises:
        StorageError: the disk is full or cannot be written; an earlier file stays.
    """
    arrays = {_NAME.format(place): np.asarray(one.numpy(), order="C") for place, one in enumerate(variables)}
    with atomic_file(path) as stream:
        stream.write(save(arrays, metadata))


def load_variables(path: Path, variables: Sequence[keras.Variable]) -> dict[str, str]:
    """Give variables the values that `save_variables` wrote.

    Returns:
        the file's metadata.

    Raises:
        ModelError: the file cannot be read, or is of other variables.
    """
    try:
        with safe_open(path, "numpy") as file:
            if set(file.keys()) != {_NAME.format(place) for place in range(len(variables))}:
                raise ModelError(f"weights of another network: {len(list(file.keys()))} tensors", where=str(path))
            for place, one in enumerate(variables):
                value = file.get_tensor(_NAME.format(place))
                if value.shape != tuple(one.shape):
                    raise ModelError(f"{one.path} is {list(one.shape)}, not {list(value.shape)}", where=str(path))
                one.assign(value)
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def save_checkpoint(
    folder: Path, *, progress: Progress, fingerprint: dict[str, Any], variables: Sequence[keras.Variable]
) -> None:
    """Write `last.safetensors` atomically.

    Args:
        folder: the checkpoints' folder.
        progress: see there.
        fingerprint: settings that a resumed run must share.
        variables: of model and optimiser.

    Raises:
        StorageError: the disk is full or cannot be written; the earlier checkpoint stays.
    """
    said = {"progress": asdict(progress), "fingerprint": fingerprint}
    save_variables(folder / LAST_FILE, variables, {name: orjson.dumps(value).decode() for name, value in said.items()})


def load_checkpoint(folder: Path, fingerprint: dict[str, Any], variables: Sequence[keras.Variable]) -> Progress | None:
    """Read `last.safetensors` into the variables, or return None when training starts here.

    Raises:
        ModelError: it belongs to a training with other settings, or is no checkpoint.
    """
    path = folder / LAST_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            said = {name: orjson.loads(value) for name, value in (file.metadata() or {}).items()}
        earlier, progress = said["fingerprint"], Progress(**said["progress"])
    except (OSError, SafetensorError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    check_resumable(path, earlier, orjson.loads(orjson.dumps(fingerprint)))
    load_variables(path, variables)
    return progress


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(f"not a checkpoint: {error}", where=str(path), hint="Remove it to start over.")
