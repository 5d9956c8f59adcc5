"""A model folder put to work: picture URLs in, answers out, for every task."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubesight.modelcard import ModelCard
from kubesight.models.names import CLASSIFICATION_TASKS
from kubesight.serving import detector
from kubesight.serving.classifier import Classifier
from kubesight.serving.detector import Detector
from kubesight.serving.networks import open_network
from kubesight.serving.sessions import Backend, chosen_backend
from kubesight.serving.settings import inference_settings


def load_predictor(
    model_dir: Path | str,
    *,
    device: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    backend: Backend | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Classifier | Detector:
    """Open a model folder: a `Classifier` or a `Detector`, as its card says.

    Args:
        model_dir: a folder that `kubesight train` wrote.
        device: `cpu`, `cuda` or `cuda:N`; by default the first GPU when there is one.
        batch_size: pictures at a time; by default 32 for a classifier and 1 for a detector, whose answers depend a
            little on the pictures beside one (all are padded to one size). The exported detector, and one that works
            on tiles, takes one at a time anyway.
        threads: picture readers; by default one a core, eight at most.
        backend: `torch` runs the weights, `tensorflow` the SavedModel, `onnx` the exported `model.onnx` (and needs
            neither library); by default the framework that trained the model.
        overrides: inference settings in place of the card's, by any spelling of their names; a classifier has none.

    Raises:
        ModelError: there is no model, or no such device; the other framework is asked for; it has not been exported, or
            its export has a setting inside that is asked for otherwise.
        HyperparameterError: an override is unknown, does not apply or is out of range.
    """
    folder = Path(model_dir)
    threads = threads or min(8, os.cpu_count() or 1)
    card = ModelCard.load(folder)
    settings = inference_settings(card, overrides or {})
    backend = chosen_backend(card, backend, folder)
    if card.task in CLASSIFICATION_TASKS:
        network = open_network(folder, card, device, backend)
        return Classifier(card, network, batch_size=batch_size or 32, threads=threads)
    finder = detector.open_network(folder, device, backend, settings)
    return Detector(card, finder, settings, batch_size=batch_size or 1, threads=threads)
