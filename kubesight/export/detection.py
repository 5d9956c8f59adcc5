"""A detector as ONNX: a picture of any size in, boxes, labels, scores and masks out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from kubesight.dataset.detections import MASK_SIDE, Detections
from kubesight.dataset.images import read_image
from kubesight.dataset.rows import Task
from kubesight.export.agreement import agreement, too_far
from kubesight.export.torch_graph import TorchExport
from kubesight.models.detectors import detect_batch
from kubesight.serving.detector import EXPORTED_SETTINGS, onnx_detections

_RANDOM_SIZES = ((240, 320), (320, 240), (200, 200), (120, 400))


class DeployedDetector(nn.Module):
    """A trained detector from one picture's pixels to its answers, with nothing left to do outside.

    Args:
        network: the trained detector, in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        """Keep the network."""
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From uint8 [height, width, 3] to boxes (fractions), labels from 0, scores and, for masks, masks."""
        height, width = image.shape[0], image.shape[1]
        found = self.network([image.permute(2, 0, 1).to(torch.float32) / 255])
        # A network that is traced may answer as one that is scripted: with losses first.
        answer = (found[1] if isinstance(found, tuple) else found)[0]
        sides = torch.stack([torch.as_tensor(side, dtype=torch.float32) for side in (width, height, width, height)])
        boxes = (answer["boxes"] / sides).clamp(0, 1)
        kept = torch.nonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).squeeze(1)
        outputs = [boxes, answer["labels"] - 1, answer["scores"]]
        if "masks" in answer:
            outputs.append(answer["masks"].squeeze(1))
        return tuple(values.index_select(0, kept) for values in outputs)


class DetectorExport(TorchExport):
    """`image`, uint8 [height, width, 3], to `boxes`, `labels`, `scores` and, for segmentation, `masks`."""

    @property
    def outputs(self) -> list[str]:  # type: ignore[override]
        """Their names."""
        return ["boxes", "labels", "scores"] + ["masks"] * (self.card.task is Task.SEGMENTATION)

    @property
    def axes(self) -> dict[str, dict[int, str]]:  # type: ignore[override]
        """See the base class."""
        return {"image": {0: "height", 1: "width"}} | {name: {0: "n"} for name in self.outputs}

    def read(self, urls: Sequence[str]) -> list[np.ndarray]:
        """As the predictor reads them, and two more: the first one turned on its side, and a part of it.

        Pictures of a data set often have all one size, which may also be the one that the graph was traced with.
        """
        pictures = [read_image(url, min_size=self.card.fit.min_size) for url in urls]
        first = pictures[0]
        part = first[: -(-first.shape[0] * 2 // 3), : -(-first.shape[1] // 2)]
        return [*pictures, *(np.ascontiguousarray(one) for one in (np.rot90(first), part))]

    def random(self, count: int) -> list[np.ndarray]:
        """Of several sizes, in coarse blocks, so that there is something to find."""
        rng = np.random.default_rng(0)
        pictures = []
        for index in range(count):
            height, width = _RANDOM_SIZES[index % len(_RANDOM_SIZES)]
            blocks = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
            pictures.append(blocks.repeat(20, axis=0).repeat(20, axis=1))
        return pictures

    def deployed(self) -> nn.Module:
        """With everything inside."""
        return DeployedDetector(self.network)

    def example(self) -> torch.Tensor:
        """A picture in which something is found: from another one the graph would learn that nothing ever is."""
        candidates = [torch.from_numpy(picture) for picture in (*self.pictures, *self.random(1))]
        return next((one for one in candidates if len(detect_batch(self.network, [one])[0])), candidates[0])

    def facts(self) -> dict[str, Any]:
        """The settings that are fixed inside."""
        return {"inference": {name: self.card.inference[name] for name in EXPORTED_SETTINGS}}

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        outputs: list[dict[str, Any]] = [
            {"name": "boxes", "type": "float32", "shape": ["n", 4], "layout": "x0, y0, x1, y1 as fractions"},
            {"name": "labels", "type": "int64", "shape": ["n"], "layout": "class indices from 0"},
            {"name": "scores", "type": "float32", "shape": ["n"], "layout": "falling; none is too low"},
            {
                "name": "masks", "type": "float32", "shape": ["n", MASK_SIDE, MASK_SIDE],
                "layout": "probabilities on a grid over each box",
            },
        ]  # fmt: skip
        return {
            "input": {
                "name": "image", "type": "uint8", "shape": ["height", "width", 3],
                "layout": "RGB, of any size, neither resized nor normalised: that is inside",
            },
            "outputs": outputs[: len(self.outputs)],
            "inference": self.facts()["inference"],
        }  # fmt: skip

    def compare(self, session: onnxruntime.InferenceSession) -> dict[str, Any]:
        """What the file finds against what the predictor finds with the network, one picture at a time."""
        ours: list[Detections] = []
        theirs: list[Detections] = []
        for picture in self.pictures:
            ours += detect_batch(self.network, [torch.from_numpy(picture)])
            theirs.append(onnx_detections(session, picture))
        threshold = self.card.inference["box_score_threshold"]
        return agreement(ours, theirs, [self._seen_size(picture) for picture in self.pictures], threshold)

    def _seen_size(self, picture: np.ndarray) -> tuple[float, float]:
        """Height and width of a picture as the network sees it."""
        height, width = picture.shape[:2]
        fit = self.card.fit
        scale = min(fit.min_size / min(height, width), fit.max_size / max(height, width))
        return height * scale, width * scale

    def disagreement(self, record: Mapping[str, Any]) -> str | None:
        """See the base class."""
        return too_far(record)
