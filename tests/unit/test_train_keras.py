"""A training of a Keras network through the public function: what it leaves, says and refuses."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_start import MODEL, SIZE, live_weights
from pictures import digit_scenes_dataset, digits_dataset
from sklearn.metrics import accuracy_score, log_loss

from kubesight.dataset import Dataset
from kubesight.errors import DatasetError, HyperparameterError, ModelError
from kubesight.modelcard import ModelCard
from kubesight.serving.predictor import load_predictor
from kubesight.train.keras.devices import precision_policy, strategy_of
from kubesight.train.keras.ship import _check
from kubesight.train.trainer import train

SETTINGS = {"image_size": SIZE, "epochs": 4, "batch_size": 12, "train_only_top_layer": True, "learning_rate": 0.02}


@dataclass
class Trained:
    """One finished training."""

    sets: tuple[Dataset, Dataset]
    weights: str
    output: Path
    card: ModelCard
    said: list[str]


def fit(sets: tuple[Dataset, Dataset], output: Path, weights: str = "none", **changes: Any) -> ModelCard | None:
    return train(
        sets[0].path, sets[1].path, output, model_name=MODEL, hyperparameters={**SETTINGS, **changes}, weights=weights,
        metrics_file=output / "metrics.log", device="cpu",
    )  # fmt: skip


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("keras")
    sets = digits_dataset(folder / "a", 0, 24, classes=3), digits_dataset(folder / "b", 96, 14, classes=3)
    log, said = logging.getLogger("kubesight"), Said()
    level = log.level
    log.addHandler(said)
    log.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBESIGHT_CACHE", str(folder / "cache"))
        weights = live_weights(folder / "start.keras")
        card = fit(sets, folder / "out", weights)
        log.removeHandler(said)
        log.setLevel(level)
        assert card is not None
        yield Trained(sets, weights, folder / "out", card, said.messages)


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_the_model_folder_holds_all_that_it_should(finished: Trained) -> None:
    folder, card = finished.output / "model", finished.card
    assert ModelCard.load(folder) == card
    assert (card.framework, card.classes) == ("tensorflow", ["0", "1", "2"])
    assert (card.stretch.size, card.stretch.scaling) == (32, "tf")
    assert card.weights["detail"] == finished.weights
    assert card.versions["tensorflow"] == tf.__version__
    assert card.data["training"]["content_hash"] == finished.sets[0].info.content_hash
    assert json.loads((folder / "labels_info.json").read_text()) == {"labels": ["0", "1", "2"]}
    assert json.loads((folder / "class_label_to_prediction_index.json").read_text()) == {"0": 0, "1": 1, "2": 2}
    assert json.loads((folder / "labels.json").read_text()) == ["0", "1", "2"]
    assert keras.models.load_model(folder / "model.keras").output_shape == (None, 3)
    assert "serving_default" in tf.saved_model.load(str(folder / "saved_model")).signatures


def test_the_cards_metrics_are_those_of_the_folder(finished: Trained) -> None:
    rows = list(finished.sets[1].rows())
    answers = list(load_predictor(finished.output / "model").predict(row.image_url for row in rows))
    labels = [row.label for row in rows]
    probabilities = np.stack([one.probabilities for one in answers]).astype(np.float64)
    assert probabilities.std(axis=0).min() > 0.01  # else anything would agree with anything
    assert accuracy_score(labels, [one.predicted for one in answers]) == finished.card.metrics["accuracy"]
    expected = log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True))
    assert finished.card.metrics["validation_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_best_epoch_is_the_one_that_is_shipped(finished: Trained) -> None:
    history = records(finished.output)
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    best = history[finished.card.training["best_epoch"]]
    assert best["accuracy"] == max(record["accuracy"] for record in history) == finished.card.metrics["accuracy"]
    assert all(0 <= record["training_accuracy"] <= 1 for record in history)


def test_sagemakers_expressions_read_the_best_epoch_last(finished: Trained) -> None:
    text, metrics = "\n".join(finished.said), finished.card.metrics
    read = [float(value) for value in re.findall(r"val_accuracy: ([0-9\.]+)", text)]
    assert len(read) == 5
    assert read[-1] == max(read) == pytest.approx(metrics["accuracy"], abs=1e-4)
    losses = re.findall(r"- val_loss: ([0-9\.]+)", text)
    assert float(losses[-1]) == pytest.approx(metrics["validation_loss"], abs=1e-3)
    trainable = re.findall(r"- Number of trainable parameters: ([0-9\.]+)", text)
    assert [int(value) for value in trainable] == [256 * 3 + 3]
    assert "frozen: backbone" in text
    assert "weights: source" in text
    assert "training on CPU:0" in text


def test_a_finished_training_is_not_trained_again_and_another_is_refused(finished: Trained) -> None:
    history, told = records(finished.output), (finished.output / "metrics.log").read_text()
    assert fit(finished.sets, finished.output, finished.weights) == finished.card
    assert records(finished.output) == history
    assert (finished.output / "metrics.log").read_text() == told
    with pytest.raises(ModelError, match=r"learning_rate: was 0.02, now 0.25"):
        fit(finished.sets, finished.output, finished.weights, learning_rate=0.25)


def test_binary_mode_wants_two_classes(finished: Trained, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"binary_mode: .*the data have 3: 0, 1, 2"):
        fit(finished.sets, tmp_path, binary_mode=True)
    several = digit_scenes_dataset(tmp_path / "a", 0, 2), digit_scenes_dataset(tmp_path / "b", 9, 2)
    with pytest.raises(HyperparameterError, match="binary_mode"):
        fit(several, tmp_path / "out", binary_mode=True)


def test_an_exported_model_that_scores_otherwise_is_no_model(finished: Trained) -> None:
    card, found = finished.card, dict(finished.card.metrics)
    _check(found, card, 14)
    _check({**found, "accuracy": found["accuracy"] - 0.9 / 14}, card, 14)  # one picture on the edge
    for name, value in (
        ("accuracy", found["accuracy"] - 2.1 / 14),
        ("validation_loss", found["validation_loss"] * 1.1),
    ):
        with pytest.raises(ModelError, match=f"exported model's {name} is"):
            _check({**found, name: value}, card, 14)


def test_devices_are_named_as_elsewhere() -> None:
    assert strategy_of("cpu", None, True).num_replicas_in_sync == 1
    assert strategy_of("cpu", 2, False).num_replicas_in_sync == 1
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(ModelError, match="device"):
            strategy_of("cuda:0", None, True)


def test_precision_follows_the_device() -> None:
    cpu = strategy_of("cpu", None, True)
    assert [precision_policy(choice, cpu) for choice in ("auto", "off", "bf16")] == [
        "float32", "float32", "mixed_bfloat16",
    ]  # fmt: skip
    with pytest.raises(HyperparameterError, match="fp16 does not train on a CPU"):
        precision_policy("fp16", cpu)
