"""The best epoch's weights become a model folder, and what is in it is scored before it takes its place."""

import logging
import math
from pathlib import Path

import keras
import numpy as np

from kubesight.errors import ModelError
from kubesight.modelcard import CARD_FILE, KERAS_FILE, ModelCard
from kubesight.models.keras.network import float32_twin, save_network
from kubesight.models.keras.saved_model import write_label_files, write_saved_model
from kubesight.serving.classifier import Classifier
from kubesight.serving.predictor import load_predictor
from kubesight.storage.files import atomic_folder, remove_partials
from kubesight.sweep.names import MODEL_FOLDER
from kubesight.train.keras.losses import Kind
from kubesight.train.keras.scores import scores
from kubesight.train.table import PictureTable

log = logging.getLogger("kubesight")

# The server runs other batches, on a GPU by other kernels: losses may differ so much, as a share of themselves ...
_ROUNDING = 0.01
# ... and so may decisions of so many pictures that are on the edge.
_PICTURES = 1


def ship(
    output: Path, network: keras.Model, card: ModelCard, table: PictureTable, *, kind: Kind, device: str | None
) -> dict[str, float]:
    """Write the model folder, all of it or nothing.

    Args:
        output: the training's folder.
        network: with the best epoch's weights.
        card: with their metrics on the validation part.
        table: the validation part.
        kind: what the network's outputs are.
        device: what scores it.

    Returns:
        the metrics of the SavedModel on the validation part, from picture files on.

    Raises:
        ModelError: they are not those that the card names.
        StorageError: the disk is full.
    """
    remove_partials(output)
    twin = float32_twin(network)
    with atomic_folder(output / MODEL_FOLDER, marker=CARD_FILE) as folder:
        save_network(twin, folder / KERAS_FILE)
        write_saved_model(twin, card, folder)
        write_label_files(card, folder)
        card.save(folder)  # the folder becomes a model when it gets its name, with all that is in it
        found = _scored(folder, card, table, kind, device)
        _check(found, card, len(table))
    log.info("best epoch %s; model in %s", card.training["best_epoch"], output / MODEL_FOLDER)
    return found


def _scored(folder: Path, card: ModelCard, table: PictureTable, kind: Kind, device: str | None) -> dict[str, float]:
    """Put the validation part through the SavedModel, as a service would."""
    predictor = load_predictor(folder, device=device, backend="tensorflow")
    assert isinstance(predictor, Classifier)
    answers = predictor.predict(table.url(index) for index in range(len(table)))
    probabilities = np.stack([answer.probabilities for answer in answers])
    metric = card.training["primary_metric"]
    return scores(probabilities, table.labels, card.classes, kind=kind, primary_metric=metric)


def _check(found: dict[str, float], card: ModelCard, pictures: int) -> None:
    metric = card.training["primary_metric"]
    for name, slack in ((metric, _PICTURES / pictures), ("validation_loss", 0.0)):
        now, then = found.get(name, math.nan), card.metrics[name]
        if not abs(now - then) <= _ROUNDING * max(abs(then), 0.01) + slack:
            raise ModelError(
                f"the exported model's {name} is {now:.6f}, and was {then:.6f} in training",
                where=MODEL_FOLDER,
                hint="This is a fault of kubesight: please report it, with the model's name and these numbers.",
            )
