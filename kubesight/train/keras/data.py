"""Pictures into batches by tf.data: decoded, resized and augmented ahead of the training step, in a fixed order."""

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import tensorflow as tf

from kubesight.errors import KubesightError
from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras.pictures import encoded_picture, repaired_picture, to_pixels
from kubesight.train.keras.augment import Augmentation, warp
from kubesight.train.memory import free_memory
from kubesight.train.table import PictureTable

log = logging.getLogger("kubesight")

KEPT_SHARE_OF_FREE_MEMORY = 1 / 8
"""Pixels of a part are kept in memory when they all fit into this share of what is free as the first are asked for.

Training and validation part together then take less than a quarter, and the network, its gradients and the pictures in
flight find room. A part that does not fit is decoded each epoch, since it will not fit better later.
"""

_AHEAD = 2  # batches that are read, and as many that wait for the training step


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


@dataclass
class _Run:
    """What the pipeline is to give, and why it ended before."""

    epoch: int
    plan: list[np.ndarray]
    error: KubesightError | None = None


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
        """Describe the pipeline; nothing is read before the first batch is asked for."""
        self.table = table
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self._keep = keep
        self._kept: np.ndarray | None = None
        self._is_kept = np.zeros(len(table), bool)
        self._cores = cores()
        self._run = _Run(0, [])
        size = preprocessing.size
        given = (tf.TensorSpec((None, size, size, 3), tf.uint8), tf.TensorSpec((None, 8), tf.float32))
        # Described once, not once an epoch: each description is traced as a graph of its own.
        pixels = tf.data.Dataset.from_generator(self._given, output_signature=given)
        self._pipeline = pixels.map(self._view, num_parallel_calls=self._cores, deterministic=True).prefetch(_AHEAD)

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The given batches, in order; their sizes may differ.

        Args:
            epoch: which views are made of the pictures, where they are augmented.
            batches: places in the table.

        Raises:
            DatasetError: a picture cannot be read; it is named. The batches before it have come.
            StorageError: a picture is on another machine.
        """
        if self._keep and self._kept is None:
            self._make_room()
        run = self._run = _Run(epoch, [np.asarray(batch, np.int64) for batch in batches])
        # The plan may be longer: where a picture cannot be read the pipeline ends.
        for index, pixels in zip(run.plan, self._pipeline, strict=False):
            yield Batch(index, pixels, self.table.labels[index])
        if run.error is not None:
            raise run.error

    def _given(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each batch's resized pixels and its transforms.

        Pictures are decoded by TensorFlow in threads of Python rather than in a map of tf.data. Such a map of so many
        operations takes half a second to start in each epoch, runs one picture at a time under TensorFlow's op
        determinism, and does not say which picture it failed on.
        """
        run = self._run
        _reader(self.preprocessing)  # now, not by several threads at a time
        with ThreadPoolExecutor(self._cores) as pool:
            for index, pictures in self._ahead(run.plan, pool):
                try:
                    pixels = self._together(index, pictures)
                except KubesightError as error:
                    run.error = error  # TensorFlow would turn it into one of its own
                    return
                yield pixels, self._transforms(run.epoch, index)

    def _ahead(self, plan: list[np.ndarray], pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, list[Future]]]:
        """Each batch with those pictures that it must read; they, and some of later batches, are being read."""
        reading: deque[tuple[np.ndarray, list[Future]]] = deque()
        for index in plan:
            missing = index if self._kept is None else index[~self._is_kept[index]]
            reading.append((index, [pool.submit(self._read, number) for number in missing.tolist()]))
            if len(reading) > _AHEAD:
                yield reading.popleft()
        yield from reading

    def _together(self, index: np.ndarray, pictures: list[Future]) -> np.ndarray:
        """One batch's pixels, uint8 [n, size, size, 3]; newly read ones are kept where there is room."""
        if self._kept is None:
            return np.stack([picture.result() for picture in pictures])
        for number, picture in zip(index[~self._is_kept[index]], pictures, strict=True):
            self._kept[number] = picture.result()
            self._is_kept[number] = True
        return self._kept[index]

    def _read(self, index: int) -> np.ndarray:
        """One resized picture; what TensorFlow cannot decode comes through kubesight's own decoder."""
        url, read = self.table.url(index), _reader(self.preprocessing)
        with tf.device("CPU:0"):
            with contextlib.suppress(tf.errors.InvalidArgumentError):
                return read(tf.constant(encoded_picture(url))).numpy()
            return read(tf.constant(repaired_picture(url))).numpy()

    def _transforms(self, epoch: int, index: np.ndarray) -> np.ndarray:
        if self.augmentation is None:
            return np.empty((0, 8), np.float32)
        return self.augmentation.transforms(epoch, index.tolist(), self.preprocessing.size)

    def _view(self, pixels: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
        return pixels if self.augmentation is None else warp(pixels, transforms)

    def _make_room(self) -> None:
        """Set memory aside for all pixels, where there is enough."""
        size = self.preprocessing.size
        needed, free = len(self.table) * size * size * 3, free_memory()
        if needed <= KEPT_SHARE_OF_FREE_MEMORY * free:
            self._kept = np.empty((len(self.table), size, size, 3), np.uint8)
        else:
            self._keep = False
            log.info(
                "%d resized pictures would take %.1f GB, more than %.0f%% of the %.1f GB of free memory: they are "
                "decoded each epoch", len(self.table), needed / 1e9, 100 * KEPT_SHARE_OF_FREE_MEMORY, free / 1e9,
            )  # fmt: skip


@cache
def _reader(preprocessing: StretchPreprocessing) -> Callable[[tf.Tensor], tf.Tensor]:
    """`to_pixels` as a graph. Kept, since it takes a second to trace and all parts of a data set share it."""
    file = tf.TensorSpec((), tf.string)
    return tf.function(lambda data: to_pixels(data, preprocessing)).get_concrete_function(file)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
