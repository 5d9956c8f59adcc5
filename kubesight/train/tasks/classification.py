"""Image classification, multi-class and multilabel."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from kubesight.dataset.rows import Task
from kubesight.modelcard import CropPreprocessing
from kubesight.models.freeze import frozen_modules
from kubesight.models.inputs import normalise
from kubesight.train.data import PictureBatch, PictureLoader
from kubesight.train.scores import class_weights, validation_scores
from kubesight.train.table import PictureTable
from kubesight.train.tasks.base import Outputs, TrainingTask


class ClassificationHead:
    """Loss and metrics, the same for pictures and for cached features.

    Args:
        task: multi-class or multilabel.
        primary_metric: what decides which epoch is best.
        classes: names in index order.
        train_labels: the training part's, for class weights.
        settings: the resolved hyperparameters.
        device: where the loss is computed.
    """

    def __init__(
        self,
        task: Task,
        primary_metric: str,
        classes: list[str],
        train_labels: np.ndarray,
        settings: dict[str, Any],
        device: torch.device,
    ) -> None:
        """Work out the class weights."""
        self.multilabel = task == Task.MULTILABEL
        self.classes = classes
        self.primary_metric = primary_metric
        self.smoothing = settings["label_smoothing"]
        weights = class_weights(train_labels, len(classes), settings["weighted_loss"])
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device)
        mixers = [
            kind(alpha=alpha, num_classes=len(classes))
            for kind, alpha in ((v2.MixUp, settings["mixup_alpha"]), (v2.CutMix, settings["cutmix_alpha"]))
            if alpha
        ]
        self.mixer = v2.RandomChoice(mixers) if mixers else None

    def mix(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Blend pictures and labels by mixup or cutmix, when asked for and there is more than one picture."""
        if self.mixer is None or len(images) < 2:
            return images, labels
        return self.mixer(images, labels.float() if self.multilabel else labels)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The training loss: weighted and smoothed as set."""
        if self.multilabel:
            target = labels.float() * (1 - self.smoothing) + self.smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weights)
        return F.cross_entropy(logits, labels, weight=self.weights, label_smoothing=self.smoothing)

    def metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """All metrics, and the plain `validation_loss`.

        Args:
            logits: [n, classes].
            labels: [n] indices or [n, classes] of 0 and 1.
        """
        return validation_scores(
            logits, labels, self.classes, multilabel=self.multilabel, primary_metric=self.primary_metric
        )


@dataclass
class _Batch:
    index: torch.Tensor
    inputs: torch.Tensor
    labels: torch.Tensor


class _LabelledTask(TrainingTask):
    """What pictures and cached features share: labels beside inputs, cut into parts, judged by the head."""

    def __init__(
        self, head: ClassificationHead, tables: tuple[PictureTable, PictureTable], device: torch.device
    ) -> None:
        self.head = head
        self.device = device
        self.primary_metric = head.primary_metric
        self.table = tables[0]
        self.train_labels, self.validation_labels = (torch.from_numpy(table.labels) for table in tables)
        self.train_size, self.validation_size = len(tables[0]), len(tables[1])

    def split(self, batch: _Batch, parts: int) -> list[tuple[_Batch, float]]:
        """See the base class; a part has two pictures or more, since batch normalisation cannot train on one."""
        parts = max(1, min(parts, len(batch.index) // 2))
        if parts == 1:
            return [(batch, 1.0)]
        tensors = (batch.index, batch.inputs, batch.labels)
        chunks = zip(*(tensor.tensor_split(parts) for tensor in tensors), strict=True)
        return [(_Batch(*chunk), len(chunk[0]) / len(batch.index)) for chunk in chunks]

    def size(self, batch: _Batch) -> int:
        """See the base class."""
        return len(batch.index)

    def metrics(self, outputs: Sequence[Outputs]) -> dict[str, float]:
        """See the base class."""
        index, labels, logits = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        order = np.argsort(index)
        return self.head.metrics(logits[order], labels[order])

    def names(self, batch: _Batch) -> list[str]:
        """See the base class."""
        return [self.table.url(index) for index in batch.index.tolist()]

    @staticmethod
    def _outputs(batch: _Batch, logits: torch.Tensor) -> Outputs:
        return batch.index.numpy(), batch.labels.numpy(), logits.float().cpu().numpy()


class ClassificationTask(_LabelledTask):
    """Trains a network on pictures.

    Args:
        module: the network, on `device`.
        head: loss and metrics.
        tables: the training and validation rows.
        loaders: the training and validation pictures.
        preprocessing: mean and standard deviation of the input.
        channels_last: the memory layout of the input.
        device: where the network runs.
    """

    def __init__(
        self,
        module: nn.Module,
        head: ClassificationHead,
        *,
        tables: tuple[PictureTable, PictureTable],
        loaders: tuple[PictureLoader, PictureLoader],
        preprocessing: CropPreprocessing,
        channels_last: bool,
        device: torch.device,
    ) -> None:
        """Remember the parts."""
        super().__init__(head, tables, device)
        self.module = module
        self.train_loader, self.validation_loader = loaders
        self.preprocessing = preprocessing
        self.channels_last = channels_last

    def train_mode(self) -> None:
        """Frozen layers stay in evaluation mode, so that their batch statistics stay those of their weights."""
        self.module.train()
        for frozen in frozen_modules(self.module):
            frozen.eval()

    def train_batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[_Batch]:
        """See the base class."""
        return self._with_labels(self.train_loader.load(epoch, batches), self.train_labels)

    def validation_batches(self, batches: Sequence[Sequence[int]]) -> Iterator[_Batch]:
        """See the base class."""
        return self._with_labels(self.validation_loader.load(0, batches), self.validation_labels)

    def loss(self, forward: Callable[..., Any], batch: _Batch) -> torch.Tensor:
        """See the base class."""
        labels = batch.labels.to(self.device, non_blocking=True)
        images, labels = self.head.mix(self._normalised(batch.inputs), labels)
        return self.head.loss(forward(images), labels)

    def predict(self, module: nn.Module, batch: _Batch) -> Outputs:
        """See the base class."""
        return self._outputs(batch, module(self._normalised(batch.inputs)))

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self.device, non_blocking=True)
        mean, std = self.preprocessing.mean, self.preprocessing.std
        return normalise(images, mean, std, channels_last=self.channels_last)

    @staticmethod
    def _with_labels(batches: Iterator[PictureBatch], labels: torch.Tensor) -> Iterator[_Batch]:
        for batch in batches:
            yield _Batch(batch.index, batch.images, labels[batch.index])


class FeatureTask(_LabelledTask):
    """Trains a classifier on features that were computed once.

    Args:
        module: the classifier, on `device`.
        head: loss and metrics.
        tables: the training and validation rows.
        features: training features [n, views, width], and validation features [n, 1, width].
        device: where the classifier runs.
    """

    def __init__(
        self,
        module: nn.Module,
        head: ClassificationHead,
        *,
        tables: tuple[PictureTable, PictureTable],
        features: tuple[np.ndarray, np.ndarray],
        device: torch.device,
    ) -> None:
        """Remember the parts."""
        super().__init__(head, tables, device)
        self.module = module
        # Plain arrays over the same file: NumPy's class for files adds more to each step than its indexing takes.
        self.train_features, self.validation_features = map(np.asarray, features)

    def train_batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[_Batch]:
        """See the base class; an epoch takes the views in turn."""
        view = epoch % self.train_features.shape[1]
        return self._take(self.train_features[:, view], self.train_labels, batches)

    def validation_batches(self, batches: Sequence[Sequence[int]]) -> Iterator[_Batch]:
        """See the base class."""
        return self._take(self.validation_features[:, 0], self.validation_labels, batches)

    def loss(self, forward: Callable[..., Any], batch: _Batch) -> torch.Tensor:
        """See the base class."""
        return self.head.loss(forward(batch.inputs.to(self.device)), batch.labels.to(self.device))

    def predict(self, module: nn.Module, batch: _Batch) -> Outputs:
        """See the base class."""
        return self._outputs(batch, module(batch.inputs.to(self.device)))

    @staticmethod
    def _take(features: np.ndarray, labels: torch.Tensor, batches: Sequence[Sequence[int]]) -> Iterator[_Batch]:
        for batch in batches:
            index = torch.tensor(batch)
            yield _Batch(index, torch.from_numpy(features[batch]), labels[index])
