"""What the engine asks of a task: classification, detection and segmentation answer the same calls."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

Outputs = Any
"""What a task keeps of one validation batch, until all of them are judged together; processes exchange it."""


class TrainingTask(ABC):
    """Data, loss and metrics of one training.

    Attributes:
        module: what is trained, on its device.
        primary_metric: the metric that decides which epoch is best; greater is better.
        train_size: pictures to train on.
        validation_size: pictures to validate on.
    """

    module: nn.Module
    primary_metric: str
    train_size: int
    validation_size: int

    @abstractmethod
    def train_batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Load the given batches of picture indices, in order, augmented as (seed, epoch, index) says."""

    @abstractmethod
    def validation_batches(self, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        """Load the given batches of picture indices, in order, as evaluation sees them."""

    @abstractmethod
    def split(self, batch: Any, parts: int) -> list[tuple[Any, float]]:
        """Cut a batch into at most `parts` smaller ones, each with its share of the pictures (shares sum to 1)."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """The number of pictures in a batch."""

    @abstractmethod
    def loss(self, forward: Callable[..., Any], batch: Any) -> torch.Tensor:
        """The mean loss over a batch's pictures, a scalar that can be differentiated.

        Args:
            forward: `module`, perhaps compiled or wrapped for several processes.
            batch: one that `train_batches` gave, or a part of it.
        """

    @abstractmethod
    def predict(self, module: nn.Module, batch: Any) -> Outputs:
        """What `metrics` needs of a batch that `validation_batches` gave."""

    @abstractmethod
    def metrics(self, outputs: Sequence[Outputs]) -> dict[str, float]:
        """All metrics of the whole validation part, from what `predict` gave, batch by batch, in any order."""

    @abstractmethod
    def names(self, batch: Any) -> list[str]:
        """The addresses of a training batch's pictures, for messages."""

    def score(self, metrics: dict[str, float]) -> float | None:
        """What decides which epoch is best, greater is better; None when it is undefined."""
        return metrics.get(self.primary_metric)

    def train_mode(self) -> None:
        """Put the module into training mode; frozen layers may stay in evaluation mode."""
        self.module.train()
