"""Which rows must stay together: byte-identical pictures, and rows of one group."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kubesight.dataset import Dataset
from kubesight.dataset.urls import local_path
from kubesight.split.table import Ints, RowTable
from kubesight.storage.files import sha256_file

_TAIL = 4096


def identical_pictures(dataset: Dataset, sizes: Ints) -> tuple[Ints, list[str]]:
    """Number the pictures so that byte-identical local files, and equal URLs, share a number.

    Files of one size are told apart by their last 4 KiB (heads of JPEG files are often equal), and only those that
    agree there are read whole. Remote pictures are not read: they are equal when their URLs are.

    Args:
        dataset: its rows are streamed once for each of these stages.
        sizes: file sizes by row, -1 where unknown (then they are looked up).

    Returns:
        the numbers by row, and the URLs of local files that could not be read.
    """
    unreadable: list[str] = []
    count = len(sizes)

    def refine(numbers: Ints, key: Callable[[str], bytes]) -> Ints:
        """Split each set of rows with one number by a key of their pictures; rows that are alone are not looked at."""
        _, inverse, times = np.unique(numbers, return_inverse=True, return_counts=True)
        shared = times[inverse] > 1
        keys = np.zeros((count, 16), np.uint8)
        for index, row in enumerate(dataset.rows()):
            if shared[index]:
                try:
                    keys[index] = np.frombuffer(key(row.image_url), np.uint8)
                except OSError:
                    unreadable.append(row.image_url)
                    keys[index] = np.frombuffer(_digest(b"url " + row.image_url.encode()), np.uint8)
        pairs = np.column_stack([inverse, keys.view(np.int64)])
        return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1], np.int64).reshape(-1)

    numbers = _known_sizes(dataset, sizes)
    numbers = refine(numbers, _tail_digest)
    return refine(numbers, _whole_digest), sorted(set(unreadable))


def units_of_rows(table: RowTable, pictures: Ints) -> Ints:
    """Number the rows so that those that share a picture or a group, by any chain, share a number from 0 up."""
    parent = np.arange(len(table))
    for keys in (pictures, table.groups):
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        for at in np.flatnonzero((ranked[1:] == ranked[:-1]) & (ranked[1:] >= 0)):
            one, other = _root(parent, order[at]), _root(parent, order[at + 1])
            parent[max(one, other)] = min(one, other)
    roots = np.array([_root(parent, index) for index in range(len(table))], np.int64)
    return np.asarray(np.unique(roots, return_inverse=True)[1], np.int64)


def _root(parent: Ints, index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return int(index)


def _known_sizes(dataset: Dataset, sizes: Ints) -> Ints:
    """Sizes with the missing ones looked up; remote pictures, and files that are not there, keep -1."""
    sizes = sizes.copy()
    if (sizes < 0).any():
        for index, row in enumerate(dataset.rows()):
            path = local_path(row.image_url) if sizes[index] < 0 else None
            if path is not None and path.is_file():
                sizes[index] = path.stat().st_size
    return sizes


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _tail_digest(url: str) -> bytes:
    path = local_path(url)
    if path is None:
        return _digest(b"url " + url.encode())
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
        return _digest(stream.read())


def _whole_digest(url: str) -> bytes:
    path = local_path(url)
    return _digest(b"url " + url.encode()) if path is None else bytes.fromhex(sha256_file(Path(path)))[:16]
