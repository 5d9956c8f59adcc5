"""A classifier of torch as ONNX."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import evaluation_view
from kubesight.dataset.rows import Task
from kubesight.export.classification import ClassifierExport
from kubesight.export.torch_graph import TorchExport
from kubesight.modelcard import ModelCard
from kubesight.models.inputs import normalise


class DeployedClassifier(nn.Module):
    """A trained network from pictures to probabilities, with its normalisation inside.

    Args:
        network: the trained network, from normalised pictures to logits.
        card: its card.
    """

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        """Keep the network and what surrounds it."""
        super().__init__()
        self.network = network
        self.mean, self.std = card.crop.mean, card.crop.std
        self.multilabel = card.task is Task.MULTILABEL

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From uint8 [n, crop, crop, 3] to probabilities and logits, both float32 [n, classes]."""
        logits = self.network(normalise(images, self.mean, self.std))
        return (logits.sigmoid() if self.multilabel else logits.softmax(dim=1)), logits


class TorchClassifierExport(ClassifierExport, TorchExport):
    """Of pictures that are resized and cropped as the card says."""

    resized = "resized and cropped"

    @property
    def size(self) -> int:
        """See the base class."""
        return self.card.crop.crop_size

    def read(self, urls: Sequence[str]) -> list[np.ndarray]:
        """Resized and cropped as the card says."""
        crop = self.card.crop
        return [evaluation_view(read_image(url, min_size=crop.resize_size), crop) for url in urls]

    def deployed(self) -> nn.Module:
        """With normalisation and probabilities."""
        return DeployedClassifier(self.network, self.card).eval()

    def example(self) -> torch.Tensor:
        """A batch of two empty pictures."""
        return torch.zeros(2, self.size, self.size, 3, dtype=torch.uint8)

    def answers(self, pictures: np.ndarray) -> list[np.ndarray]:
        """See the base class."""
        with torch.inference_mode():
            return [output.numpy() for output in self.deployed()(torch.from_numpy(pictures))]
