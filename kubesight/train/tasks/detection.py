"""Object detection and instance segmentation."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from kubesight.dataset.detections import Detections
from kubesight.dataset.objects import found_objects, join_found
from kubesight.dataset.tiling import Grid, detect
from kubesight.metrics.objects import FoundObjects, TrueObjects
from kubesight.metrics.summary import detection_metrics
from kubesight.modelcard import ModelCard
from kubesight.models.detectors import detect_batch
from kubesight.models.freeze import frozen_modules
from kubesight.train.data import PictureLoader
from kubesight.train.objects import ObjectBatch, ObjectViews, collate_objects
from kubesight.train.seeds import seed_torch
from kubesight.train.tasks.base import Outputs, TrainingTask


@dataclass
class _Judged:
    """One picture after validation: where it stands, what was found in it, and the loss of its batch."""

    index: int
    found: FoundObjects
    loss: float | None


class DetectionTask(TrainingTask):
    """Trains a detector of torchvision's kind: losses in training mode, detections in evaluation mode.

    Args:
        module: the network, on `device`.
        card: task, classes, hyperparameters and inference settings.
        views: training samples; validation pictures, after them those of the training part when it is judged too.
        truth: the labelled objects of the validation pictures, and of the training pictures or None.
        workers: loader processes.
        device: where the network runs.
    """

    def __init__(
        self,
        module: nn.Module,
        card: ModelCard,
        *,
        views: tuple[ObjectViews, Sequence[ObjectViews]],
        truth: tuple[TrueObjects, TrueObjects | None],
        workers: int,
        device: torch.device,
    ) -> None:
        """Remember the parts."""
        self.module, self.card, self.device = module, card, device
        self.settings = card.hyperparameters
        self.views = views[0]
        self.truth, self.train_truth = truth
        self.primary_metric = card.training["primary_metric"]
        self.train_size = len(self.views)
        self.validation_size = sum(len(part) for part in views[1])
        pin = device.type == "cuda"
        self.train_loader = PictureLoader(self.views, workers=workers, pin_memory=pin, collate=collate_objects)
        self.validation_loader = PictureLoader(
            _Joined(views[1]), workers=workers, pin_memory=pin, collate=collate_objects
        )
        self.mask_threshold: float | None = card.inference.get("mask_pixel_score_threshold")
        self.grid = Grid.of(card.inference)

    def train_mode(self) -> None:
        """Frozen layers stay in evaluation mode, so that their batch statistics stay those of their weights."""
        self.module.train()
        for frozen in frozen_modules(self.module):
            frozen.eval()

    def train_batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[ObjectBatch]:
        """See the base class."""
        return self.train_loader.load(epoch, batches)

    def validation_batches(self, batches: Sequence[Sequence[int]]) -> Iterator[ObjectBatch]:
        """See the base class."""
        return self.validation_loader.load(0, batches)

    def split(self, batch: ObjectBatch, parts: int) -> list[tuple[ObjectBatch, float]]:
        """See the base class."""
        pieces = np.array_split(np.arange(self.size(batch)), min(parts, self.size(batch)))
        return [(batch.select(piece.tolist()), len(piece) / self.size(batch)) for piece in pieces]

    def size(self, batch: ObjectBatch) -> int:
        """See the base class."""
        return len(batch.index)

    def names(self, batch: ObjectBatch) -> list[str]:
        """See the base class."""
        return [self.views.sample_url(index) for index in batch.index]

    def loss(self, forward: Callable[..., Any], batch: ObjectBatch) -> torch.Tensor:
        """See the base class; the parts of the loss (proposals, classes, boxes, masks) count alike, as published."""
        images = [image.to(self.device, non_blocking=True).float().div_(255) for image in batch.images]
        targets = [
            {name: value.to(self.device, non_blocking=True) for name, value in target.items()}
            for target in batch.targets
        ]
        return torch.stack(list(forward(images, targets).values())).sum()

    def predict(self, module: nn.Module, batch: ObjectBatch) -> Outputs:
        """See the base class."""
        with _backbone_once(module) if self._judges_loss and self.grid is None else contextlib.nullcontext():
            found = self._detections(module, batch)
            loss = self._plain_loss(module, batch) if self._judges_loss else None
        sizes = np.concatenate([part.sizes for part in (self.truth, self.train_truth) if part is not None])
        return [
            _Judged(index, found_objects([one], sizes[index : index + 1], self.mask_threshold), loss)
            for index, one in zip(batch.index, found, strict=True)
        ]

    def metrics(self, outputs: Sequence[Outputs]) -> dict[str, float]:
        """See the base class; metrics of the training part, when they are asked for, begin with `training_`."""
        judged = sorted((one for batch in outputs for one in batch), key=lambda one: one.index)
        count = len(self.truth.sizes)
        result = self._part_metrics(judged[:count], self.truth)
        losses = [one.loss for one in judged[:count] if one.loss is not None]
        if losses:
            result["validation_loss"] = float(np.mean(losses))
        if self.train_truth is not None:
            of_training = self._part_metrics(judged[count:], self.train_truth)
            result |= {f"training_{name}": value for name, value in of_training.items()}
        return result

    def score(self, metrics: dict[str, float]) -> float | None:
        """See the base class; without any average precision the least loss is the best."""
        if self.settings["validation_metric_type"] == "none":
            return -metrics["validation_loss"]
        return super().score(metrics)

    @property
    def _judges_loss(self) -> bool:
        return self.settings.get("log_validation_loss") == "Enable"

    def _detections(self, module: nn.Module, batch: ObjectBatch) -> list[Detections]:
        if self.grid is None:
            return detect_batch(module, [image.permute(1, 2, 0) for image in batch.images])

        def network(picture: np.ndarray) -> Detections:
            return detect_batch(module, [torch.from_numpy(picture)])[0]

        inference = self.card.inference
        return [
            detect(
                network,
                image.permute(1, 2, 0).contiguous().numpy(),
                self.grid,
                nms_threshold=inference["tile_predictions_nms_threshold"],
                limit=inference["box_detections_per_image"],
            )
            for image in batch.images
        ]

    def _plain_loss(self, module: nn.Module, batch: ObjectBatch) -> float:
        """The loss without learning. It samples proposals by chance: always the same for the same pictures."""
        module.train()
        for layer in module.modules():
            if isinstance(layer, _BatchNorm | _DropoutNd):
                layer.eval()
        seed_torch(batch.index[0], self.device)
        try:
            return float(self.loss(module, batch))
        finally:
            module.eval()

    def _part_metrics(self, judged: Sequence[_Judged], truth: TrueObjects) -> dict[str, float]:
        if self.settings["validation_metric_type"] == "none":
            return {}
        masks = self.mask_threshold is not None
        return detection_metrics(
            truth,
            join_found([one.found for one in judged], masks=masks),
            self.card.classes,
            masks=masks,
            metric_type=self.settings["validation_metric_type"],
            iou_threshold=self.settings["validation_iou_threshold"],
            score_threshold=self.card.inference["box_score_threshold"],
        )


class _Joined(torch.utils.data.Dataset):
    """Several parts' views as one, numbered on from part to part."""

    def __init__(self, parts: Sequence[ObjectViews]) -> None:
        self.parts = parts

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        start = 0
        for part in self.parts:
            if index < start + len(part):
                item = part[epoch, index - start]
                return (index, *item[1:]) if isinstance(item, tuple) else item
            start += len(part)
        raise IndexError(index)


@contextlib.contextmanager
def _backbone_once(module: nn.Module) -> Iterator[None]:
    """Let the backbone run once for two passes over the same picture, detections and losses: it is most of the work."""
    backbone: Any = module.backbone
    kept: list[Any] = []

    def forward(images: torch.Tensor) -> Any:
        if not kept:
            kept.append(type(backbone).forward(backbone, images))
        return kept[0]

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward
