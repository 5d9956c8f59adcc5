"""A model folder put to work: picture URLs in, class probabilities out."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import evaluation_view
from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.modelcard import ONNX_FILE, ModelCard

Backend = Literal["torch", "onnx"]
Network = Callable[[np.ndarray], np.ndarray]  # uint8 [n, crop, crop, 3] to logits, float32 [n, classes]

MULTILABEL_THRESHOLD = 0.5


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture.

    `probabilities` is float32 [classes], in the card's class order; they sum to one for a single label and are
    independent for several. `predicted` is the most probable class, or the list of those over 0.5.
    """

    url: str
    probabilities: np.ndarray
    predicted: str | list[str]

    def to_dict(self) -> dict[str, Any]:
        """The prediction as a line of `predictions.jsonl` holds it."""
        return {"image_url": self.url, "probabilities": self.probabilities.tolist(), "predicted": self.predicted}


class Predictor:
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
        """Read pictures, a few batches ahead of the network, and say what they show, in their order.

        Raises:
            DatasetError: a picture cannot be read; it is named.
        """
        for names, views in self._batches(urls):
            for url, probabilities in zip(names, self.probabilities(views), strict=True):
                yield Prediction(url, probabilities, self._decide(probabilities))

    def _decide(self, probabilities: np.ndarray) -> str | list[str]:
        if self.card.task is Task.MULTILABEL:
            chosen = np.flatnonzero(probabilities > MULTILABEL_THRESHOLD)
            return [self.classes[index] for index in chosen]
        return self.classes[int(probabilities.argmax())]

    def _view(self, url: str) -> np.ndarray:
        preprocessing = self.card.crop
        return evaluation_view(read_image(url, min_size=preprocessing.resize_size), preprocessing)

    def _batches(self, urls: Iterable[str]) -> Iterator[tuple[list[str], np.ndarray]]:
        remaining = iter(urls)
        ahead: deque[tuple[str, Future[np.ndarray]]] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="pictures")
        try:
            while True:
                for url in islice(remaining, 3 * self.batch_size - len(ahead)):
                    ahead.append((url, pool.submit(self._view, url)))
                if not ahead:
                    return
                batch = [ahead.popleft() for _ in range(min(self.batch_size, len(ahead)))]
                yield [url for url, _ in batch], np.stack([view.result() for _, view in batch])
        finally:
            pool.shutdown(cancel_futures=True)


def to_probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """Softmax over the classes for a single label, the logistic function of each for several; float32 [n, classes]."""
    if task is Task.MULTILABEL:
        positive = np.exp(-np.abs(logits))  # never overflows
        return np.where(logits >= 0, 1 / (1 + positive), positive / (1 + positive)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def load_predictor(
    model_dir: Path | str,
    *,
    device: str | None = None,
    batch_size: int = 32,
    threads: int | None = None,
    backend: Backend = "torch",
) -> Predictor:
    """Open a model folder.

    Args:
        model_dir: a folder that `kubesight train` wrote.
        device: `cpu`, `cuda` or `cuda:N`; by default the first GPU when there is one.
        batch_size: pictures at a time.
        threads: picture readers; by default one a core, eight at most.
        backend: `torch` runs the weights, `onnx` the exported `model.onnx` (and needs no torch).

    Raises:
        ModelError: there is no model, or it has not been exported.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    card, network = (_onnx if backend == "onnx" else _torch)(Path(model_dir), device)
    return Predictor(card, network, batch_size=batch_size, threads=threads)


def _torch(model_dir: Path, device: str | None) -> tuple[ModelCard, Network]:
    import torch  # not needed to serve model.onnx

    from kubesight.models.build import load_trained
    from kubesight.models.inputs import normalise

    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    module, card = load_trained(model_dir, chosen)
    gpu = chosen.type == "cuda"
    if gpu:
        module = module.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def network(batch: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(np.ascontiguousarray(batch)).to(chosen)
        inputs = normalise(pictures, card.preprocessing.mean, card.preprocessing.std, channels_last=gpu)
        return module(inputs).float().cpu().numpy()

    return card, network


def _onnx(model_dir: Path, device: str | None) -> tuple[ModelCard, Network]:
    import onnxruntime

    card = ModelCard.load(model_dir)
    file = model_dir / ONNX_FILE
    if not file.is_file():
        raise ModelError("not exported yet", where=str(file), hint=f"Run `kubesight export --model {model_dir}`.")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    available = onnxruntime.get_available_providers()
    if device and device.startswith("cuda") and "CUDAExecutionProvider" not in available:
        raise ModelError(
            f"this onnxruntime cannot use {device}; it has {', '.join(available)}", where=str(file),
            hint="Install onnxruntime-gpu, or use the CPU.",
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(file), providers=[name for name in wanted if name in available])

    def network(batch: np.ndarray) -> np.ndarray:
        return session.run(["logits"], {"images": batch})[0]

    return card, network
