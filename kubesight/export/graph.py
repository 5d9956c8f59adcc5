"""What every export shares: the steps, the pictures to compare on. Needs neither torch nor TensorFlow."""

import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import orjson

from kubesight.dataset.dataset import Dataset
from kubesight.errors import ModelError, StorageError
from kubesight.modelcard import ONNX_FILE, ModelCard

OPSET = 17
RANDOM_PIXELS = "random pixels, no real pictures"

_FILE_LIMIT = 2**31  # a protobuf message ends here
_log = logging.getLogger("kubesight")

Axes = Mapping[str, Mapping[int, str]]


class Export(ABC):
    """A trained network on its way to `model.onnx`; one subclass for each framework and kind of model.

    Args:
        network: the trained network, on the CPU, ready to answer.
        card: its card.
        urls: pictures to compare on, or none for random pixels.
        samples: how many random pictures to make, where there are no real ones.
    """

    outputs: ClassVar[list[str]]
    axes: ClassVar[Axes]
    """The sizes that may vary: of the one input, which comes first, and of the outputs."""

    def __init__(self, network: Any, card: ModelCard, urls: Sequence[str], samples: int) -> None:
        """Read the pictures."""
        self.network = network
        self.card = card
        self.pictures = self.read(urls) if urls else self.random(samples)

    @abstractmethod
    def read(self, urls: Sequence[str]) -> list[np.ndarray]:
        """Pictures as the exported network takes them, uint8."""

    @abstractmethod
    def random(self, count: int) -> list[np.ndarray]:
        """So many made of random pixels."""

    @abstractmethod
    def weight_bytes(self) -> int:
        """How much room the weights take."""

    @abstractmethod
    def convert(self, file: Path) -> None:
        """Write the network, from uint8 pictures to the outputs, as ONNX.

        Raises:
            ModelError: it cannot be exported.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The record's account of input and outputs, under `input` and `outputs`."""

    @abstractmethod
    def compare(self, session: onnxruntime.InferenceSession) -> dict[str, Any]:
        """The record's account of how far the file's answers are from the network's."""

    @abstractmethod
    def disagreement(self, record: Mapping[str, Any]) -> str | None:
        """What is wrong with the answers, in words; None when they agree."""

    def facts(self) -> dict[str, Any]:
        """What the file says of itself, besides task, name, classes and preprocessing."""
        return {}

    def write(self, file: Path) -> None:
        """Write the graph, and into it what it is.

        Raises:
            ModelError: the network is too large, or cannot be exported.
        """
        if self.weight_bytes() >= _FILE_LIMIT:
            raise ModelError("its weights are over the 2 GB that one ONNX file may hold", where=self.card.model_name)
        self.convert(file)
        graph = onnx.load(file)
        facts = {
            "task": self.card.task.value, "model_name": self.card.model_name, "classes": self.card.classes,
            "preprocessing": self.card.preprocessing.model_dump(mode="json"), **self.facts(),
        }  # fmt: skip
        texts = {name: one if isinstance(one, str) else orjson.dumps(one).decode() for name, one in facts.items()}
        onnx.helper.set_model_props(graph, texts)
        onnx.save(graph, file)
        onnx.checker.check_model(str(file), full_check=True)

    def run(self, folder: Path, source: str) -> dict[str, Any]:
        """Write `model.onnx` into the model folder, unless it disagrees with the network, and give the record.

        Args:
            folder: the model folder.
            source: what the pictures are, for the record.

        Raises:
            ModelError: the network cannot be exported, or the file's answers are not the network's.
            StorageError: the file cannot be written.
        """
        try:
            with tempfile.TemporaryDirectory(prefix=f".{ONNX_FILE}.", dir=folder) as scratch:
                file = Path(scratch) / ONNX_FILE
                self.write(file)
                session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
                size = {"file": ONNX_FILE, "opset": OPSET, "bytes": file.stat().st_size}
                record = size | self.describe() | self.compare(session) | {"data": source}
                wrong = self.disagreement(record)
                if wrong:
                    raise ModelError(f"{wrong}; it was not written", where=str(folder / ONNX_FILE), hint=self.hint)
                file.replace(folder / ONNX_FILE)
        except OSError as error:
            raise StorageError(error.strerror or str(error), where=str(error.filename or folder)) from error
        return record

    def not_exportable(self, exporter: str, reason: str) -> ModelError:
        """The error that says so."""
        return ModelError(
            f"{exporter} cannot export this network: {reason}", where=self.card.model_name, hint=self.hint
        )

    @property
    def hint(self) -> str:
        """What works without the file."""
        return f"Serve the model with the {self.card.framework} backend."


def sample_urls(card: ModelCard, data: Path | str | None, samples: int) -> tuple[list[str], str]:
    """Pictures to compare on, taken evenly over a data set, and what to call them in the record.

    Args:
        card: names the validation data, which are taken when `data` is None and they are still there.
        data: a data set.
        samples: how many.

    Returns:
        No pictures when there are none to be had.

    Raises:
        ModelError: the data set is empty.
        DatasetError: `data` is no data set.
    """
    named = data or card.data.get("validation", {}).get("path")
    if data is None and named and not Path(named).is_dir():
        _log.warning("the validation data %s is not here: comparing on random pixels", named)
        named = None
    if not named:
        return [], RANDOM_PIXELS
    dataset = Dataset(named)
    total = len(dataset)
    chosen = set(np.linspace(0, total - 1, min(samples, total)).round().astype(int).tolist()) if total else set()
    urls = [row.image_url for index, row in enumerate(dataset.rows()) if index in chosen]
    if not urls:
        raise ModelError("no pictures to compare on", where=str(named), hint="Name a data set that has some.")
    return urls, f"{len(urls)} pictures of {named} ({dataset.info.content_hash})"
