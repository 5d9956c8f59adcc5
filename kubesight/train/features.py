"""Frozen backbones: what they make of each picture is computed once and kept for later runs on the same data."""

import contextlib
import fcntl
import hashlib
import inspect
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kubesight.dataset import images, pixels, preprocess
from kubesight.dataset.urls import local_path
from kubesight.modelcard import CropPreprocessing
from kubesight.models.head import forward_features, has_prefix, head_prefixes
from kubesight.models.inputs import normalise
from kubesight.storage.files import atomic_file
from kubesight.train.data import Augmentation, PictureBatch, PictureLoader, PictureTable, Views

log = logging.getLogger("kubesight")

lookups: Counter[str] = Counter()
"""`hits` and `misses` of this process, one a part of a data set."""


def cache_folder() -> Path:
    """Where features are kept: `KUBESIGHT_CACHE`, by default `~/.cache/kubesight`."""
    return Path(os.environ.get("KUBESIGHT_CACHE") or Path.home() / ".cache" / "kubesight") / "features"


def cached_features(
    module: nn.Module,
    model_name: str,
    table: PictureTable,
    preprocessing: CropPreprocessing,
    augmentation: Augmentation | None,
    *,
    views: int,
    device: torch.device,
    workers: int,
    batch_size: int,
    channels_last: bool,
) -> np.ndarray:
    """The features of every picture, computed now or read from the cache.

    Of several processes that need the same ones at a time, one computes them and the others wait for it.

    Args:
        module: the network, on `device`.
        model_name: what it is called; networks of one class and the same tensors may still compute differently.
        table: the pictures.
        preprocessing: sizes and normalisation.
        augmentation: how views are made; None for evaluation's view (then `views` is 1).
        views: views of each picture.
        device: where the network runs.
        workers: processes that load pictures.
        batch_size: pictures a step.
        channels_last: the memory layout of the input.

    Returns:
        float32 [pictures, views, width], read from disk as it is needed.
    """
    key = _key(module, model_name, table, preprocessing, augmentation, views)
    path = cache_folder() / f"{key}.npy"
    kept = _kept(path, len(table), views)
    if kept is None:
        with _alone(path):
            kept = _kept(path, len(table), views)  # another process may have made them meanwhile
            if kept is None:
                lookups["misses"] += 1
                log.info("computing features of %d pictures, %d view(s) each, for %s", len(table), views, path)
                source = Views(table, preprocessing, augmentation, once=True)
                found = _compute(module, source, views, device, workers, batch_size, channels_last)
                with atomic_file(path) as stream:
                    np.save(stream, found)
                return np.load(path, mmap_mode="r")
    lookups["hits"] += 1
    log.info("features of %d pictures come from the cache: %s", len(table), path)
    return kept


def _compute(
    module: nn.Module,
    source: Views,
    views: int,
    device: torch.device,
    workers: int,
    batch_size: int,
    channels_last: bool,
) -> np.ndarray:
    """Put every picture through the backbone."""
    loader: PictureLoader[PictureBatch] = PictureLoader(source, workers=workers, pin_memory=device.type == "cuda")
    count, mean, std = len(source.table), source.preprocessing.mean, source.preprocessing.std
    batches = [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
    module.eval()
    rounds = []
    with torch.inference_mode():
        for view in range(views):
            found = []
            for batch in loader.load(view, batches):
                pictures = batch.images.to(device, non_blocking=True)
                inputs = normalise(pictures, mean, std, channels_last=channels_last)
                found.append(forward_features(module, inputs).float().cpu().numpy())
            rounds.append(np.concatenate(found))
    return np.stack(rounds, axis=1)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock for a file of the cache, waiting for it when another process has it.

    The system lets go of it when its holder dies. The lock's file stays: were it removed, a third process could lock a
    new one while the second has the old.
    """
    lock = path.parent.parent / "locks" / path.name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another training computes the same features: waiting for %s", path)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:  # some network file systems have no locks: then it may be computed twice
            log.debug("no lock for %s: %s", path, error)
        yield


def _kept(path: Path, pictures: int, views: int) -> np.ndarray | None:
    """What the cache holds, or None; a damaged file counts as none and is written anew."""
    if not path.exists():
        return None
    try:
        found = np.load(path, mmap_mode="r")
        if found.ndim == 3 and found.shape[:2] == (pictures, views):
            return found
        problem = f"it has the shape {found.shape}"
    except (OSError, ValueError, EOFError) as error:
        problem = str(error)
    log.warning("the cached features %s are damaged (%s); they are computed again", path, problem)
    return None


def _key(
    module: nn.Module,
    model_name: str,
    table: PictureTable,
    preprocessing: CropPreprocessing,
    augmentation: Augmentation | None,
    views: int,
) -> str:
    """All that the features depend on: pictures, how they are read, backbone weights, preprocessing, views.

    A local picture counts by address, size and time of change; another one by its address.
    """
    digest = hashlib.sha256()
    said: dict[str, Any] = {
        "torch": torch.__version__,
        "preprocessing": preprocessing.model_dump(),
        "augmentation": None if augmentation is None else vars(augmentation),
        "views": views,
        "network": model_name,
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    for code in (images, pixels, preprocess):
        digest.update(inspect.getsource(code).encode())
    heads = head_prefixes(module)
    for name, tensor in module.state_dict().items():
        if not has_prefix(name, heads):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for index in range(len(table)):
        url = table.url(index)
        digest.update(url.encode())
        path = url if url.startswith("/") else local_path(url)
        if path is not None:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()
