"""Pictures into batches by tf.data: decoded and resized in parallel, ahead of the training step, in a fixed order."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras.pictures import encoded_picture, repaired_picture, to_pixels
from kubesight.train.keras.augment import Augmentation, warp
from kubesight.train.memory import free_memory
from kubesight.train.table import PictureTable

log = logging.getLogger("kubesight")

KEPT_SHARE_OF_FREE_MEMORY = 1 / 8
"""Pixels of a part are kept in memory when they all fit into this share of what is free as the first are asked for.

Training and validation part together then take at most a quarter, and the network, its gradients and the pictures in
flight find room. A part that does not fit is decoded anew each epoch: with some of it kept the order of reading would
still be that of the disk.
"""

_AHEAD = 2  # batches that wait for the training step


@dataclass(frozen=True)
class Batch:
    """Some pictures.

    Attributes:
        index: int64 [n], their places in the table.
        pixels: [n, size, size, 3], 0..255: uint8, or float32 where they are augmented.
        labels: the table's, [n] or [n, classes].
    """

    index: np.ndarray
    pixels: tf.Tensor
    labels: np.ndarray


class Pictures:
    """The pictures of one part, in batches. One epoch is read at a time.

    Args:
        table: the pictures.
        preprocessing: to what size, and how, they are resized.
        augmentation: how views are made; None for the pictures as evaluation sees them.
        keep: keep resized pixels in memory when all of them fit (see `KEPT_SHARE_OF_FREE_MEMORY`), so that later epochs
            decode nothing. False where no later epoch comes.
    """

    def __init__(
        self,
        table: PictureTable,
        preprocessing: StretchPreprocessing,
        *,
        augmentation: Augmentation | None = None,
        keep: bool = True,
    ) -> None:
        """Describe the pipelines; nothing is read before the first batch is asked for."""
        self.table = table
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self._keep = keep
        self._kept: np.ndarray | None = None
        self._is_kept = np.zeros(len(table), bool)
        self._odd: set[int] = set()
        self._cores = cores()
        self._epoch, self._plan = 0, [np.empty(0, np.int64)]
        size = preprocessing.size
        transforms = tf.TensorSpec((None, 8), tf.float32)
        # Described once, not once an epoch: TensorFlow traces a graph for each, which takes longer than a small epoch.
        self._decoding = self._pipeline(self._encoded, (tf.TensorSpec((None,), tf.string), transforms), self._decode)
        kept = tf.TensorSpec((None, size, size, 3), tf.uint8)
        self._indexing = self._pipeline(self._indexed, (kept, transforms), self._view)

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The given batches, in order; their sizes may differ.

        Args:
            epoch: which views are made of the pictures, where they are augmented.
            batches: places in the table.

        Raises:
            DatasetError: a picture cannot be read; it is named.
        """
        plan = [np.asarray(batch, np.int64) for batch in batches]
        done = 0
        while done < len(plan):
            try:
                for batch in self._run(epoch, plan[done:]):
                    done += 1
                    yield batch
            except tf.errors.OpError:
                if not self._repair(plan[done]):
                    raise

    def _run(self, epoch: int, plan: list[np.ndarray]) -> Iterator[Batch]:
        """Run one of the pipelines once."""
        self._epoch, self._plan = epoch, plan
        indexing = all(self._is_kept[index].all() for index in plan)
        if not indexing and self._kept is None and self._keep:
            self._make_room()
        for index, (pixels, views) in zip(plan, self._indexing if indexing else self._decoding, strict=True):
            if self._kept is not None and not indexing:
                self._kept[index] = pixels.numpy()
                self._is_kept[index] = True
            yield Batch(index, views, self.table.labels[index])

    def _pipeline(self, generate: Callable[[], Iterator[Any]], signature: Any, make: Callable) -> tf.data.Dataset:
        """Make pixels and views of what a generator gives: whole batches, as many at once as there are cores.

        The order stays. Under TensorFlow's op determinism functions with Python in them would run one at a time, so
        Python is in the generator alone.
        """
        dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
        return dataset.map(make, num_parallel_calls=self._cores, deterministic=True).prefetch(_AHEAD)

    def _encoded(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each batch's files as they are on disk, [n] bytes, and its transforms."""
        epoch, plan = self._epoch, self._plan
        with ThreadPoolExecutor(self._cores) as pool:  # reading waits for disks and networks, and lets Python go on
            for index in plan:
                files = np.empty(len(index), object)  # numpy's own type for bytes would cut zeros off their ends
                files[:] = list(pool.map(self._read, index))
                yield files, self._transforms(epoch, index)

    def _indexed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each batch's kept pixels and its transforms."""
        assert self._kept is not None
        epoch, plan = self._epoch, self._plan
        for index in plan:
            yield self._kept[index], self._transforms(epoch, index)

    def _read(self, index: int) -> bytes:
        return (repaired_picture if index in self._odd else encoded_picture)(self.table.url(index))

    def _transforms(self, epoch: int, index: np.ndarray) -> np.ndarray:
        if self.augmentation is None:
            return np.empty((0, 8), np.float32)
        return self.augmentation.transforms(epoch, index.tolist(), self.preprocessing.size)

    def _decode(self, files: tf.Tensor, transforms: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """From files to pixels and views; the batches side by side keep the cores busy, so a batch takes one."""
        size = self.preprocessing.size
        pixels = tf.map_fn(
            _reader(self.preprocessing),
            files,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
            parallel_iterations=1,
        )
        return self._view(pixels, transforms)

    def _view(self, pixels: tf.Tensor, transforms: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return pixels, pixels if self.augmentation is None else warp(pixels, transforms)

    def _make_room(self) -> None:
        """Set memory aside for all pixels, where there is enough."""
        size = self.preprocessing.size
        needed, free = len(self.table) * size * size * 3, free_memory()
        if needed <= KEPT_SHARE_OF_FREE_MEMORY * free:
            self._kept = np.empty((len(self.table), size, size, 3), np.uint8)
        else:
            self._keep = False
            log.info("%d resized pictures would take %.1f of %.1f GB of free memory, so they are decoded each epoch",
                     len(self.table), needed / 1e9, free / 1e9)  # fmt: skip

    def _repair(self, index: np.ndarray) -> bool:
        """Find the pictures of a batch that TensorFlow cannot decode, of which it does not say which they are.

        What kubesight's own decoder reads comes through that one from now on.

        Returns:
            Whether there were any.

        Raises:
            DatasetError: a picture cannot be read by that either.
        """
        before = len(self._odd)
        for number in index.tolist():
            data = self._read(number)
            try:
                _reader(self.preprocessing)(tf.constant(data))
            except tf.errors.OpError:
                repaired_picture(self.table.url(number))
                self._odd.add(number)
        return len(self._odd) > before


@cache
def _reader(preprocessing: StretchPreprocessing) -> Callable[[tf.Tensor], tf.Tensor]:
    """`to_pixels` as a graph. Kept, since it takes a second to trace and all parts of a data set share it."""
    file = tf.TensorSpec((), tf.string)
    return tf.function(lambda data: to_pixels(data, preprocessing)).get_concrete_function(file)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
