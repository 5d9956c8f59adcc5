"""A classifier as ONNX: resized and cropped pictures in, probabilities and logits out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import evaluation_view
from kubesight.dataset.rows import Task
from kubesight.export.graph import Export
from kubesight.modelcard import ModelCard
from kubesight.models.inputs import normalise

TOLERANCE = 1e-4
_BATCH = 8
_ALONE = 2  # of the pictures, how many are also run one at a time


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
        self.mean, self.std = card.preprocessing.mean, card.preprocessing.std
        self.multilabel = card.task is Task.MULTILABEL

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From uint8 [n, crop, crop, 3] to probabilities and logits, both float32 [n, classes]."""
        logits = self.network(normalise(images, self.mean, self.std))
        return (logits.sigmoid() if self.multilabel else logits.softmax(dim=1)), logits


class ClassifierExport(Export):
    """`images`, uint8 [n, crop, crop, 3], to `probabilities` and `logits`, float32 [n, classes]; any n will do."""

    outputs = ["probabilities", "logits"]  # noqa: RUF012 - declared by the base class
    axes = {"images": {0: "n"}, "probabilities": {0: "n"}, "logits": {0: "n"}}  # noqa: RUF012

    def read(self, urls: Sequence[str]) -> list[np.ndarray]:
        """Resized and cropped as the card says."""
        crop = self.card.crop
        return [evaluation_view(read_image(url, min_size=crop.resize_size), crop) for url in urls]

    def random(self, count: int) -> list[np.ndarray]:
        """Of the cropped size."""
        size = self.card.crop.crop_size
        return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))

    def deployed(self) -> nn.Module:
        """With normalisation and probabilities."""
        return DeployedClassifier(self.network, self.card)

    def example(self) -> torch.Tensor:
        """A batch of two empty pictures."""
        size = self.card.crop.crop_size
        return torch.zeros(2, size, size, 3, dtype=torch.uint8)

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        size, count = self.card.crop.crop_size, len(self.card.classes)
        activation = "sigmoid" if self.card.task is Task.MULTILABEL else "softmax"
        return {
            "input": {
                "name": "images", "type": "uint8", "shape": ["n", size, size, 3],
                "layout": "RGB, resized and cropped as `preprocessing` says, not normalised: that is inside",
            },
            "outputs": [
                {"name": "probabilities", "type": "float32", "shape": ["n", count], "activation": activation},
                {"name": "logits", "type": "float32", "shape": ["n", count]},
            ],
        }  # fmt: skip

    def compare(self, session: onnxruntime.InferenceSession) -> dict[str, Any]:
        """The file's outputs against the network's: in batches, and the first few one at a time."""
        pictures = np.stack(self.pictures)
        deployed = self.deployed().eval()
        with torch.inference_mode():
            batches = [torch.from_numpy(pictures[i : i + _BATCH]) for i in range(0, len(pictures), _BATCH)]
            truth = [np.concatenate(parts) for parts in zip(*(deployed(batch) for batch in batches), strict=True)]

        def run(step: int, count: int) -> list[np.ndarray]:
            parts = [session.run(self.outputs, {"images": pictures[i : i + step]}) for i in range(0, count, step)]
            return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

        together, singly = run(_BATCH, len(pictures)), run(1, min(_ALONE, len(pictures)))
        differences = [
            max(np.abs(many - true).max(), np.abs(one - true[: len(one)]).max())
            for many, one, true in zip(together, singly, truth, strict=True)
        ]
        if self.card.task is Task.MULTILABEL:
            equal = (together[0] > 0.5) == (truth[0] > 0.5)
        else:
            equal = together[0].argmax(axis=1) == truth[0].argmax(axis=1)
        return {
            "max_abs_difference": float(differences[0]),
            "max_abs_difference_of_logits": float(differences[1]),
            "tolerance": TOLERANCE,
            "agreement": float(equal.mean()),
            "samples": len(pictures),
        }

    def disagreement(self, record: Mapping[str, Any]) -> str | None:
        """See the base class."""
        if record["max_abs_difference"] <= TOLERANCE:  # not so for nan
            return None
        return (
            f"the exported network's probabilities differ by {record['max_abs_difference']:.2g} from the trained "
            f"one's, more than {TOLERANCE:g}"
        )
