"""Pictures into batches; an augmented view depends on (seed, epoch, picture) alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import decode_size_for_training, evaluation_view, training_view
from kubesight.errors import KubesightError
from kubesight.modelcard import CropPreprocessing
from kubesight.train.seeds import seed_torch
from kubesight.train.table import PictureTable

Key = tuple[int, int]
Batch = TypeVar("Batch")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Augmentation:
    """How training views are made; see the hyperparameters of the same names."""

    crop_size: int
    seed: int
    color_jitter: bool = True
    horizontal_flip: bool = True
    min_scale: float = 0.08
    randaugment_magnitude: int = 0

    def view(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """One augmented view, [crop, crop, 3] uint8: always the same for the same (seed, epoch, index)."""
        generator = np.random.default_rng((self.seed, epoch, index))
        view = training_view(
            image,
            self.crop_size,
            generator,
            jitter=self.color_jitter,
            flip=self.horizontal_flip,
            min_scale=self.min_scale,
        )
        if not self.randaugment_magnitude:
            return view
        seed_torch(int(generator.integers(2**63)), _CPU)
        tensor = torch.from_numpy(view).permute(2, 0, 1)
        return np.ascontiguousarray(
            v2.RandAugment(magnitude=self.randaugment_magnitude)(tensor).permute(1, 2, 0).numpy()
        )


class Views(Dataset):
    """Uint8 views by key (epoch, index); an unreadable picture comes as the error, so that its words survive."""

    def __init__(
        self,
        table: PictureTable,
        preprocessing: CropPreprocessing,
        augmentation: Augmentation | None,
        *,
        once: bool = False,
    ) -> None:
        """With no augmentation, views are those of evaluation; `once` says that none is read in a later epoch."""
        self.table = table
        self.keep = not once
        self.preprocessing = preprocessing
        self.augmentation = augmentation

    def __getitem__(self, key: Key) -> tuple[int, np.ndarray] | KubesightError:
        """The index and its view, [size, size, 3] uint8."""
        epoch, index = key
        try:
            if self.augmentation is None:
                image = self._read(index, self.preprocessing.resize_size)
                return index, evaluation_view(image, self.preprocessing)
            image = self._read(index, decode_size_for_training(self.augmentation.crop_size))
            return index, self.augmentation.view(image, epoch, index)
        except KubesightError as error:
            return error

    def _read(self, index: int, min_size: int) -> np.ndarray:
        return read_image(self.table.url(index), min_size=min_size, keep=self.keep)


@dataclass
class PictureBatch:
    """`index` [n] int64 and `images` [n, size, size, 3] uint8, on the CPU."""

    index: torch.Tensor
    images: torch.Tensor

    def pin_memory(self) -> "PictureBatch":
        """The same in page-locked memory, for a GPU."""
        return PictureBatch(self.index.pin_memory(), self.images.pin_memory())


def collate_pictures(views: Sequence[tuple[int, np.ndarray]]) -> PictureBatch:
    """Put views of one size into a batch."""
    indices, images = zip(*views, strict=True)
    return PictureBatch(torch.tensor(indices), torch.from_numpy(np.stack(images)))


class _Collate(Generic[Batch]):
    """Collates views, or hands on the first error among them."""

    def __init__(self, collate: Callable[[Sequence[Any]], Batch]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Batch | KubesightError:
        error = next((item for item in items if isinstance(item, KubesightError)), None)
        return self.collate(items) if error is None else error


class _Keys(Sampler):
    """The batches that the loader is to give next; set anew each epoch, so that its workers live on."""

    def __init__(self) -> None:
        self.batches: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _leave_group(worker: int) -> None:
    """Put a loader process into a group of its own.

    A signal to the training's whole group (SIGTERM when a trial is to stop, Ctrl-C) is for the training, which finishes
    its step and writes a checkpoint. Loaders that died of it at once would turn that into an error.
    """
    os.setpgid(0, 0)


class PictureLoader(Generic[Batch]):
    """Loads batches with worker processes that live as long as the loader.

    Args:
        views: gives a view, or a KubesightError, by key (epoch, index).
        workers: processes; 0 loads in this one.
        pin_memory: copy batches to page-locked memory, for a GPU, by their method `pin_memory`.
        collate: puts the views of a batch together.
    """

    def __init__(
        self,
        views: Dataset,
        *,
        workers: int,
        pin_memory: bool = False,
        collate: Callable[[Sequence[Any]], Batch] = collate_pictures,  # type: ignore[assignment]
    ) -> None:
        """Processes start with the first batch."""
        self._keys = _Keys()
        self._loader = DataLoader(
            views,
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=_Collate(collate),
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_leave_group if workers else None,
        )

    def load(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The given batches of indices, in order.

        Raises:
            DatasetError: a picture cannot be read; it is named.
        """
        self._keys.batches = [[(epoch, index) for index in batch] for batch in batches]
        for batch in self._loader:
            if isinstance(batch, KubesightError):
                raise batch
            yield batch
