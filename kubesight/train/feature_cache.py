"""Features of frozen backbones, kept for later trainings on the same data."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kubesight.dataset.urls import local_path
from kubesight.models import files
from kubesight.storage.files import atomic_file
from kubesight.storage.locks import locked
from kubesight.train.table import PictureTable

log = logging.getLogger("kubesight")

lookups: Counter[str] = Counter()
"""`hits` and `misses` of this process, one a part of a data set."""


def cache_folder() -> Path:
    """Where features are kept."""
    return files.cache_folder() / "features"


def kept_or_computed(key: str, shape: tuple[int, int], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The features of every picture, computed now or read from the cache.

    Of several processes that need the same ones at a time, one computes them and the others wait for it.

    Args:
        key: what depends on all that the features depend on; letters and digits.
        shape: pictures and views of each.
        compute: makes the features, float32 [pictures, views, width].

    Returns:
        float32 [pictures, views, width], read from disk as it is needed.
    """
    path = cache_folder() / f"{key}.npy"
    kept = _kept(path, shape)
    if kept is None:
        lock = path.parent.parent / "locks" / path.name
        with locked(lock, f"another training computes the same features: waiting for {path}"):
            kept = _kept(path, shape)  # another process may have made them meanwhile
            if kept is None:
                lookups["misses"] += 1
                log.info("computing features of %d pictures, %d view(s) each, for %s", *shape, path)
                found = compute()
                with atomic_file(path) as stream:
                    np.save(stream, found)
                return np.load(path, mmap_mode="r")
    lookups["hits"] += 1
    log.info("features of %d pictures come from the cache: %s", shape[0], path)
    return kept


def table_digest(digest: Any, table: PictureTable) -> None:
    """Add the pictures to a key's digest: a local one by address, size and time of change, another by its address.

    Args:
        digest: of `hashlib`.
        table: the pictures.
    """
    for index in range(len(table)):
        url = table.url(index)
        digest.update(url.encode())
        path = url if url.startswith("/") else local_path(url)
        if path is not None:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What the cache holds, or None; a damaged file counts as none and is written anew."""
    if not path.exists():
        return None
    try:
        found = np.load(path, mmap_mode="r")
        if found.ndim == 3 and found.shape[:2] == shape:
            return found
        problem = f"it has the shape {found.shape}"
    except (OSError, ValueError, EOFError) as error:
        problem = str(error)
    log.warning("the cached features %s are damaged (%s); they are computed again", path, problem)
    return None
