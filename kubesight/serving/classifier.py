"""Classification: pictures in, class probabilities out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kubesight.dataset.rows import Task
from kubesight.modelcard import ModelCard
from kubesight.serving.ahead import read_ahead
from kubesight.serving.networks import Network

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
        network: reads pictures, and gives their probabilities.
        batch_size: pictures at a time.
        threads: how many read pictures ahead of the network.
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

    def probabilities(self, batch: Sequence[Any]) -> np.ndarray:
        """The class probabilities of pictures that have been read.

        Args:
            batch: n pictures as the network takes them: uint8 [n, size, size, 3], RGB, resized as the card says; or
                for a SavedModel the pictures' addresses with their files' bytes.

        Returns:
            float32 [n, classes].
        """
        return self._network.probabilities(batch)

    def predict(self, urls: Iterable[str]) -> Iterator[Prediction]:
        """Read pictures, some ahead of the network, and say what they show, in their order.

        Raises:
            DatasetError: a picture cannot be read; it is named.
        """
        for batch in read_ahead(urls, self._network.read, threads=self.threads, batch_size=self.batch_size):
            answers = self.probabilities([picture for _, picture in batch])
            for (url, _), probabilities in zip(batch, answers, strict=True):
                yield Prediction(url, probabilities, self._decide(probabilities))

    def _decide(self, probabilities: np.ndarray) -> str | list[str]:
        if self.card.task is Task.MULTILABEL:
            chosen = np.flatnonzero(probabilities > MULTILABEL_THRESHOLD)
            return [self.classes[index] for index in chosen]
        return self.classes[int(probabilities.argmax())]
