"""`model.onnx` from a trained model, written only when it agrees with it."""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import orjson
import torch
from torch import nn

from kubesight.dataset.dataset import Dataset
from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import evaluation_view
from kubesight.dataset.rows import Task
from kubesight.errors import ModelError, StorageError
from kubesight.modelcard import ONNX_FILE, ModelCard
from kubesight.models.build import load_trained
from kubesight.models.inputs import normalise

OPSET = 17
TOLERANCE = 1e-4
_OUTPUTS = ["probabilities", "logits"]
_BATCH = 8
_ALONE = 2  # of them, how many are also run one at a time
_FILE_LIMIT = 2**31  # a protobuf message ends here
_log = logging.getLogger("kubesight")


class DeployedNetwork(nn.Module):
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


def export(model: Path | str, *, data: Path | str | None = None, samples: int = 32) -> dict[str, Any]:
    """Write `model.onnx` into a model folder and its agreement with the trained model into the card.

    The file takes `images`, uint8 [n, crop, crop, 3] in RGB: the picture resized and cropped as the card's
    preprocessing says. Any n will do. It gives `probabilities` and `logits`, float32 [n, classes].

    Args:
        model: a folder that `kubesight train` wrote.
        data: a data set whose pictures the two are compared on; by default the validation data that the card names,
            when it is still there, else random pixels.
        samples: how many pictures, at least 2, taken evenly over the data.

    Returns:
        The record as the card holds it under `onnx`.

    Raises:
        ModelError: the network cannot be exported, or its probabilities differ by more than 1e-4; nothing is written.
    """
    folder = Path(model)
    network, card = load_trained(folder)
    deployed = DeployedNetwork(network, card).eval()
    pictures, source = _pictures(card, data, max(samples, 2))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{ONNX_FILE}.", dir=folder) as scratch:
            file = Path(scratch) / ONNX_FILE
            _write(deployed, card, file)
            record = _describe(file, card) | _compare(deployed, file, pictures) | {"data": source}
            _check(record, where=str(folder / ONNX_FILE))
            file.replace(folder / ONNX_FILE)
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(error.filename or folder)) from error
    card.onnx = record
    card.save(folder)
    return record


def _write(deployed: DeployedNetwork, card: ModelCard, file: Path) -> None:
    size = card.crop.crop_size
    if sum(value.nbytes for value in deployed.state_dict().values()) >= _FILE_LIMIT:
        raise ModelError("its weights are over the 2 GB that one ONNX file may hold", where=card.model_name)
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch_first = {0: "n"}
    try:
        # The tracing exporter: 0.3 s for a ResNet-18 and right for every named model, where the one built on
        # torch.export takes 4 s and fails on some of timm's (BEiT). It is deprecated, hence the warning unshown.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                deployed, (example,), str(file), dynamo=False, opset_version=OPSET,
                input_names=["images"], output_names=_OUTPUTS,
                dynamic_axes={"images": batch_first, "probabilities": batch_first, "logits": batch_first},
            )  # fmt: skip
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(
            f"torch {torch.__version__} cannot export this network: {str(error).splitlines()[0]}",
            where=card.model_name, hint="Serve its weights with the torch backend.",
        ) from error  # fmt: skip
    graph = onnx.load(file)
    facts = {
        "task": card.task.value, "model_name": card.model_name, "classes": orjson.dumps(card.classes).decode(),
        "preprocessing": card.preprocessing.model_dump_json(),
    }  # fmt: skip
    onnx.helper.set_model_props(graph, facts)
    onnx.save(graph, file)
    onnx.checker.check_model(str(file), full_check=True)


def _describe(file: Path, card: ModelCard) -> dict[str, Any]:
    size, count = card.crop.crop_size, len(card.classes)
    activation = "sigmoid" if card.task is Task.MULTILABEL else "softmax"
    return {
        "file": ONNX_FILE,
        "opset": OPSET,
        "bytes": file.stat().st_size,
        "input": {
            "name": "images", "type": "uint8", "shape": ["n", size, size, 3],
            "layout": "RGB, resized and cropped as `preprocessing` says, not normalised: that is inside",
        },
        "outputs": [
            {"name": "probabilities", "type": "float32", "shape": ["n", count], "activation": activation},
            {"name": "logits", "type": "float32", "shape": ["n", count]},
        ],
    }  # fmt: skip


def _pictures(card: ModelCard, data: Path | str | None, samples: int) -> tuple[np.ndarray, str]:
    """Pictures to compare on, uint8 [n, crop, crop, 3], and what to call them in the record."""
    named = data or card.data.get("validation", {}).get("path")
    if data is None and named and not Path(named).is_dir():
        _log.warning("the validation data %s is not here: comparing on random pixels", named)
        named = None
    if named:
        dataset = Dataset(named)
        total = len(dataset)
        chosen = set(np.linspace(0, total - 1, min(samples, total)).round().astype(int).tolist()) if total else set()
        urls = [row.image_url for index, row in enumerate(dataset.rows()) if index in chosen]
        if urls:
            preprocessing = card.crop
            views = [evaluation_view(read_image(u, min_size=preprocessing.resize_size), preprocessing) for u in urls]
            return np.stack(views), f"{len(urls)} pictures of {named} ({dataset.info.content_hash})"
        raise ModelError("no pictures to compare on", where=str(named), hint="Name a data set that has some.")
    size = card.crop.crop_size
    random = np.random.default_rng(0).integers(0, 256, (samples, size, size, 3), dtype=np.uint8)
    return random, "random pixels, no real pictures"


def _compare(deployed: DeployedNetwork, file: Path, pictures: np.ndarray) -> dict[str, Any]:
    """Outputs of the file against those of the network: in batches, and the first few one at a time."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        batches = [torch.from_numpy(pictures[i : i + _BATCH]) for i in range(0, len(pictures), _BATCH)]
        truth = [np.concatenate(parts) for parts in zip(*(deployed(batch) for batch in batches), strict=True)]

    def run(step: int, count: int) -> list[np.ndarray]:
        parts = [session.run(_OUTPUTS, {"images": pictures[i : i + step]}) for i in range(0, count, step)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    together, singly = run(_BATCH, len(pictures)), run(1, _ALONE)
    differences = [
        max(np.abs(many - true).max(), np.abs(one - true[:_ALONE]).max())
        for many, one, true in zip(together, singly, truth, strict=True)
    ]
    if deployed.multilabel:
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


def _check(record: dict[str, Any], where: str) -> None:
    # Written so that nan fails too.
    if not record["max_abs_difference"] <= TOLERANCE:
        raise ModelError(
            f"the exported network's probabilities differ by {record['max_abs_difference']:.2g} from the trained "
            f"one's, more than {TOLERANCE:g}; it was not written",
            where=where,
            hint="Serve the weights with the torch backend.",
        )
