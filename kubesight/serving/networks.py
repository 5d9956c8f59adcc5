"""What a classifier runs, from pictures' addresses to class probabilities: torch, TensorFlow or an exported model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import evaluation_view
from kubesight.dataset.rows import Task
from kubesight.dataset.stretch import stretch
from kubesight.modelcard import ModelCard, StretchPreprocessing
from kubesight.models.keras import load_tensorflow
from kubesight.serving.sessions import Backend, open_session, torch_device


class Network(Protocol):
    """A classification network."""

    def read(self, url: str) -> Any:
        """What the network takes of a picture; other threads call it ahead.

        Raises:
            DatasetError: the picture cannot be read; it is named.
        """

    def probabilities(self, batch: Sequence[Any]) -> np.ndarray:
        """The class probabilities, float32 [n, classes], of n pictures as `read` gives them.

        Raises:
            DatasetError: a picture turns out not to be readable only now; it is named.
        """


class PixelNetwork:
    """A network from resized pictures to logits: torch's, or any that is exported.

    Args:
        card: the model's card.
        logits: from uint8 pictures [n, size, size, 3], resized as the card says, to float32 [n, classes].
    """

    def __init__(self, card: ModelCard, logits: Callable[[np.ndarray], np.ndarray]) -> None:
        """Keep the parts."""
        self._card = card
        self._logits = logits

    def read(self, url: str) -> np.ndarray:
        """See `Network`: uint8 [size, size, 3]."""
        preprocessing = self._card.preprocessing
        if isinstance(preprocessing, StretchPreprocessing):
            return stretch(read_image(url, min_size=preprocessing.size), preprocessing)
        crop = self._card.crop
        return evaluation_view(read_image(url, min_size=crop.resize_size), crop)

    def probabilities(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """See `Network`.

        Raises:
            ValueError: pictures of another type or size, from which the network would make nonsense in silence.
        """
        pictures, size = np.asarray(batch), self._size
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (size, size, 3):
            raise ValueError(f"wants uint8 [n, {size}, {size}, 3], not {pictures.dtype} {list(pictures.shape)}")
        return to_probabilities(self._logits(pictures), self._card.task)

    @property
    def _size(self) -> int:
        preprocessing = self._card.preprocessing
        return preprocessing.size if isinstance(preprocessing, StretchPreprocessing) else self._card.crop.crop_size


def to_probabilities(logits: np.ndarray, task: Task) -> np.ndarray:
    """Softmax over the classes for a single label, the logistic function of each for several; float32 [n, classes]."""
    if task is Task.MULTILABEL:
        positive = np.exp(-np.abs(logits))  # never overflows
        return np.where(logits >= 0, 1 / (1 + positive), positive / (1 + positive)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def open_network(model_dir: Path, card: ModelCard, device: str | None, backend: Backend) -> Network:
    """The network of a classifier's model folder; see `load_predictor`."""
    if backend == "tensorflow":
        load_tensorflow()
        from kubesight.serving.encoded import EncodedNetwork  # needs TensorFlow

        return EncodedNetwork(model_dir, device)
    return PixelNetwork(card, (_onnx if backend == "onnx" else _torch)(model_dir, device))


def _torch(model_dir: Path, device: str | None) -> Callable[[np.ndarray], np.ndarray]:
    import torch  # not needed to serve model.onnx

    from kubesight.models.build import load_trained
    from kubesight.models.inputs import normalise

    chosen = torch_device(device)
    module, card = load_trained(model_dir, chosen)
    gpu = chosen.type == "cuda"
    if gpu:
        module = module.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(batch: np.ndarray) -> np.ndarray:
        pictures = torch.from_numpy(np.ascontiguousarray(batch)).to(chosen)
        inputs = normalise(pictures, card.crop.mean, card.crop.std, channels_last=gpu)
        return module(inputs).float().cpu().numpy()

    return logits


def _onnx(model_dir: Path, device: str | None) -> Callable[[np.ndarray], np.ndarray]:
    session = open_session(model_dir, device)

    def logits(batch: np.ndarray) -> np.ndarray:
        return session.run(["logits"], {"images": batch})[0]

    return logits
