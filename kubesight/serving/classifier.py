"""Classification: pictures in, class probabilities out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import evaluation_view
from kubesight.dataset.rows import Task
from kubesight.modelcard import ModelCard
from kubesight.serving.ahead import read_ahead
from kubesight.serving.sessions import Backend, open_session, torch_device

Network = Callable[[np.ndarray], np.ndarray]  # uint8 [n, crop, crop, 3] to logits, float32 [n, classes]

MULTILABEL_THRESHOLD = 0.5


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture.

    `probabilities` is float32 [classes], in the card's class order; they sum to one for a single label and are
    independent for several. `predicted` is the most probable class, or the list of those over 0.5.
    """

    url: str
    probabilities: np.ndarray
    predicted: str | list[str]

    def to_dict(self) -> dict[str, Any]:
        """The prediction as a line of `predictions.jsonl` holds it."""
        return {"image_url": self.url, "probabilities": self.probabilities.tolist(), "predicted": self.predicted}


class Classifier:
    """Runs a classification network over pictures; `load_predictor` makes one from a model folder.

    Args:
        card: the model's card.
        network: from uint8 pictures [n, crop, crop, 3] to logits.
        batch_size: pictures at a time.
        threads: how many read and resize pictures ahead of the network.
    """

    def __init__(self, card: ModelCard, network: Network, *, batch_size: int = 32, threads: int = 1) -> None:
        """Keep the parts; nothing is read before `predict`."""
        self.card = card
        self.batch_size = batch_size
        self.threads = threads
        self._network = network

    @property
    def classes(self) -> list[str]:
        """The class names in index order."""
        return self.card.classes

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """The network's raw outputs.

        Args:
            batch: uint8 [n, crop, crop, 3], RGB, resized and cropped as the card says.

        Returns:
            float32 [n, classes].

        Raises:
            ValueError: the batch is of another type or size, from which the network would make nonsense in silence.
        """
        size = self.card.crop.crop_size
        if batch.dtype != np.uint8 or batch.shape[1:] != (size, size, 3):
            raise ValueError(f"wants uint8 [n, {size}, {size}, 3], not {batch.dtype} {list(batch.shape)}")
        return self._network(batch)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """The class probabilities, float32 [n, classes], of such a batch."""
        return to_probabilities(self.logits(batch), self.card.task)

    def predict(self, urls: Iterable[str]) -> Iterator[Prediction]:
        """Read pictures, some ahead of the network, and say what they show, in their order.

        Raises:
            DatasetError: a picture cannot be read; it is named.
        """
        for batch in read_ahead(urls, self._view, threads=self.threads, batch_size=self.batch_size):
            answers = self.probabilities(np.stack([view for _, view in batch]))
            for (url, _), probabilities in zip(batch, answers, strict=True):
                yield Prediction(url, probabilities, self._decide(probabilities))

    def _decide(self, probabilities: np.ndarray) -> str | list[str]:
        if self.card.task is Task.MULTILABEL:
            chosen = np.flatnonzero(probabilities > MULTILABEL_THRESHOLD)
            return [self.classes[index] for index in chosen]
        return self.classes[int(probabilities.argmax())]

    def _view(self, url: str) -> np.ndarray:
        preprocessing = self.card.crop
        return evaluation_view(read_image(url, min_size=preprocessing.resize_size), preprocessing)


def to_probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """Softmax over the classes for a single label, the logistic function of each for several; float32 [n, classes]."""
    if task is Task.MULTILABEL:
        positive = np.exp(-np.abs(logits))  # never overflows
        return np.where(logits >= 0, 1 / (1 + positive), positive / (1 + positive)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def open_network(model_dir: Path, device: str | None, backend: Backend) -> Network:
    """The network of a model folder; see `load_predictor`."""
    return (_onnx if backend == "onnx" else _torch)(model_dir, device)


def _torch(model_dir: Path, device: str | None) -> Network:
    import torch  # not needed to serve model.onnx

    from kubesight.models.build import load_trained
    from kubesight.models.inputs import normalise

    chosen = torch_device(device)
    module, card = load_trained(model_dir, chosen)
    gpu = chosen.type == "cuda"
    if gpu:
        module = module.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def network(batch: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(np.ascontiguousarray(batch)).to(chosen)
        inputs = normalise(pictures, card.crop.mean, card.crop.std, channels_last=gpu)
        return module(inputs).float().cpu().numpy()

    return network


def _onnx(model_dir: Path, device: str | None) -> Network:
    session = open_session(model_dir, device)

    def network(batch: np.ndarray) -> np.ndarray:
        return session.run(["logits"], {"images": batch})[0]

    return network
