"""What exported classifiers share: pictures of one size in, probabilities and logits out."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from kubesight.dataset.rows import Task
from kubesight.export.graph import Export

TOLERANCE = 1e-4
_BATCH = 8
_ALONE = 2  # of the pictures, how many are also run one at a time


class ClassifierExport(Export):
    """`images`, uint8 [n, size, size, 3], to `probabilities` and `logits`, float32 [n, classes]; any n will do."""

    outputs = ["probabilities", "logits"]  # noqa: RUF012 - declared by the base class
    axes = {"images": {0: "n"}, "probabilities": {0: "n"}, "logits": {0: "n"}}  # noqa: RUF012

    @property
    @abstractmethod
    def size(self) -> int:
        """The pictures' sides in pixels."""

    @property
    @abstractmethod
    def resized(self) -> str:
        """What is done to pictures before, as `preprocessing` says."""

    @abstractmethod
    def answers(self, pictures: np.ndarray) -> list[np.ndarray]:
        """The trained network's outputs, in the order of `outputs`, for such a batch."""

    def random(self, count: int) -> list[np.ndarray]:
        """Of the network's size."""
        size = self.size
        return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        size, count = self.size, len(self.card.classes)
        activation = "sigmoid" if self.card.task is Task.MULTILABEL else "softmax"
        return {
            "input": {
                "name": "images", "type": "uint8", "shape": ["n", size, size, 3],
                "layout": f"RGB, {self.resized} as `preprocessing` says, not normalised: that is inside",
            },
            "outputs": [
                {"name": "probabilities", "type": "float32", "shape": ["n", count], "activation": activation},
                {"name": "logits", "type": "float32", "shape": ["n", count]},
            ],
        }  # fmt: skip

    def compare(self, session: onnxruntime.InferenceSession) -> dict[str, Any]:
        """The file's outputs against the network's: in batches, and the first few one at a time."""
        pictures = np.stack(self.pictures)
        batches = [self.answers(pictures[i : i + _BATCH]) for i in range(0, len(pictures), _BATCH)]
        truth = [np.concatenate(parts) for parts in zip(*batches, strict=True)]

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
