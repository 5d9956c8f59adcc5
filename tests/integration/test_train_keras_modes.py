"""Kinds of trainings of Keras networks: binary, multilabel, frozen, in half precision, in a sweep, on two devices."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from keras_start import MODEL, SIZE, live_weights
from pictures import digit_scenes_dataset, digits_dataset
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from kubesight.dataset import Dataset
from kubesight.errors import HyperparameterError
from kubesight.modelcard import ModelCard
from kubesight.models.keras.network import load_network
from kubesight.serving.predictor import load_predictor
from kubesight.train.trainer import train

pytestmark = pytest.mark.slow
HEAD = {"train_only_top_layer": True, "learning_rate": 0.02, "batch_size": 12}
Sets = tuple[Dataset, Dataset]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return live_weights(tmp_path_factory.mktemp("start") / "start.keras")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    folder = tmp_path_factory.mktemp("sets")
    return digits_dataset(folder / "a", 0, 24, classes=3), digits_dataset(folder / "b", 96, 14, classes=3)


def fit(sets: Sets, output: Path, weights: str, changes: dict[str, Any], **arguments: Any) -> ModelCard:
    card = train(
        sets[0].path, sets[1].path, output, model_name=MODEL, weights=weights, device="cpu",
        hyperparameters={"image_size": SIZE, "epochs": 3, **changes}, metrics_file=output / "metrics.log", **arguments,
    )  # fmt: skip
    assert card is not None
    return card


def records(output: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (output / "metrics.jsonl").read_bytes().splitlines()]


def head(output: Path) -> list[np.ndarray]:
    return load_network(output / "model" / "model.keras").get_layer("classification").get_weights()


def test_binary_mode_from_end_to_end(tmp_path: Path, weights: str) -> None:
    sets = digits_dataset(tmp_path / "a", 0, 24, classes=2), digits_dataset(tmp_path / "b", 96, 20, classes=2)
    output = tmp_path / "out"
    card = fit(sets, output, weights, {**HEAD, "epochs": 5, "binary_mode": True, "eval_metric": "auc"})
    history = records(output)
    best = max(record["auc"] for record in history)
    assert history[card.training["best_epoch"]]["auc"] == card.metrics["auc"] == best
    rows = list(sets[1].rows())
    answers = list(load_predictor(output / "model").predict(row.image_url for row in rows))
    labels, positive = [row.label == "1" for row in rows], [one.probabilities[1] for one in answers]
    assert card.metrics["auc"] == pytest.approx(roc_auc_score(labels, positive))
    assert card.metrics["prc"] == pytest.approx(average_precision_score(labels, positive))
    found = [one.predicted == "1" for one in answers]
    assert card.metrics["precision"] == pytest.approx(precision_score(labels, found, zero_division=0))
    assert card.metrics["recall"] == pytest.approx(recall_score(labels, found))
    assert answers[0].probabilities.sum() == pytest.approx(1, abs=1e-6)
    with pytest.raises(HyperparameterError, match="eval_metric"):
        fit(sets, tmp_path / "no", weights, {**HEAD, "eval_metric": "auc"})


def test_multilabel_from_end_to_end(tmp_path: Path, weights: str) -> None:
    sets = digit_scenes_dataset(tmp_path / "a", 0, 40), digit_scenes_dataset(tmp_path / "b", 200, 20)
    card = fit(sets, tmp_path / "out", weights, {**HEAD, "epochs": 6, "weighted_loss": 2})
    assert card.training["primary_metric"] == "iou"
    rows = list(sets[1].rows())
    answers = load_predictor(tmp_path / "out" / "model").predict(row.image_url for row in rows)
    pairs = [(set(row.class_names()), set(one.predicted)) for row, one in zip(rows, answers, strict=True)]
    shares = [len(truth & found) / len(truth | found) for truth, found in pairs]
    assert card.metrics["iou"] == pytest.approx(np.mean(shares))


def test_cached_features_teach_what_a_backbone_that_runs_each_epoch_does(
    sets: Sets, tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    # Views that are the pictures themselves, so that only where the features come from differs.
    still = {"augmentation_random_flip": "None", "augmentation_random_rotation": 0, "augmentation_random_zoom": 0}
    fit(sets, tmp_path / "cached", weights, HEAD)
    fit(sets, tmp_path / "run", weights, {**HEAD, "augmentation": True, **still})
    for one, other in zip(head(tmp_path / "cached"), head(tmp_path / "run"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    for one, other in zip(records(tmp_path / "cached"), records(tmp_path / "run"), strict=True):
        assert one["training_loss"] == pytest.approx(other["training_loss"], rel=1e-3)
    fit(sets, tmp_path / "views", weights, {**HEAD, "augmentation": True, "feature_views": 2})
    assert not np.allclose(head(tmp_path / "views")[0], head(tmp_path / "cached")[0], rtol=1e-3, atol=1e-4)


def test_what_is_validated_and_shipped_in_half_precision_is_float32(sets: Sets, tmp_path: Path, weights: str) -> None:
    card = fit(sets, tmp_path, weights, {"mixed_precision": "bf16", "epochs": 2, "layers_to_freeze": 12})
    network = load_network(tmp_path / "model" / "model.keras")
    assert {layer.compute_dtype for layer in network.get_layer("backbone").layers} == {"float32"}
    rows = list(sets[1].rows())
    answers = load_predictor(tmp_path / "model").predict(row.image_url for row in rows)
    losses = [-np.log(one.probabilities[int(row.label)]) for row, one in zip(rows, answers, strict=True)]
    assert card.metrics["validation_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_sweeps_policy_stops_a_training_and_nothing_is_left_to_go_on_from(
    sets: Sets, tmp_path: Path, weights: str
) -> None:
    peer = tmp_path / "peer" / "metrics.jsonl"
    peer.parent.mkdir()
    peer.write_text("".join(json.dumps({"epoch": epoch, "accuracy": 2.0}) + "\n" for epoch in range(5)))
    policy = {"type": "bandit", "evaluation_interval": 1, "delay_evaluation": 1, "slack_factor": 0.1}
    output = tmp_path / "own"
    card = fit(sets, output, weights, {**HEAD, "epochs": 5}, early_termination=policy, discard_checkpoints=True)
    assert len(records(output)) < 5
    assert records(output)[-1]["es_stop"] == 1.0
    assert card.training["early_termination"]["stop"] is True
    assert not (output / "checkpoints").exists()
    assert (output / "model" / "saved_model" / "saved_model.pb").exists()


# Two logical devices of the CPU must be made before TensorFlow starts, so both trainings have a process of their own.
# The backbone is frozen, since each device's batch normalisation would have statistics of its own part.
ON_DEVICES = """
import sys
from kubesight.train.trainer import train

training, validation, output, weights, devices = sys.argv[1:]
settings = {
    "image_size": 32, "epochs": 2, "batch_size": 10, "train_only_top_layer": True, "dropout_rate": 0,
    "augmentation": True, "learning_rate": 0.02, "gradient_clip_norm": 0.05,
}
train(
    training, validation, output, model_name="keras/mobilenet-v1-025-128", weights=weights, device="cpu",
    hyperparameters=settings, processes=int(devices), metrics_file=output + "/metrics.log",
)
"""


def test_two_devices_learn_what_one_does(sets: Sets, tmp_path: Path, weights: str) -> None:
    for devices in (1, 2):
        output = str(tmp_path / str(devices))
        arguments = [str(sets[0].path), str(sets[1].path), output, weights, str(devices)]
        done = subprocess.run(
            [sys.executable, "-c", ON_DEVICES, *arguments], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = records(tmp_path / "1"), records(tmp_path / "2")
    for first, second in zip(one, two, strict=True):
        for name in ("training_loss", "training_accuracy", "validation_loss", "accuracy"):
            assert first[name] == pytest.approx(second[name], rel=1e-4)
    for first, second in zip(head(tmp_path / "1"), head(tmp_path / "2"), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)
