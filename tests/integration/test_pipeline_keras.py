"""`kubesight run` of a Keras model: the same pipeline, which chooses by the model's name; as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import digit
from PIL import Image
from sklearn.datasets import load_digits

from kubesight.components import KERAS_IMAGE
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import ModelCard
from kubesight.serving.predictor import load_predictor
from kubesight.tune.records import read_trials

JOB = """
task: image_classification
training_data: pictures
test_data_size: 0.2
training_parameters: {epochs: 2, batch_size: 16, train_only_top_layer: true}
kubesight:
  source: {format: folder}
  model: {weights: none}
"""
ONE = JOB.replace("{epochs", "{model_name: keras/mobilenet-v2-035-96, epochs")
SWEEP = (
    JOB
    + """
search_space: [{model_name: choice(keras/mobilenet-v2-035-96), learning_rate: "choice(0.001, 0.01)"}]
sweep: {sampling_algorithm: grid}
limits: {max_trials: 2}
"""
)


def run(folder: Path, job: str) -> tuple[Path, list[str]]:
    """100 digits of two classes, a folder each; the results, and the steps that ran."""
    labels = load_digits().target
    for index in np.flatnonzero(labels < 2)[:100]:
        path = folder / "pictures" / str(labels[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit(int(index))).save(path)
    (folder / "job.yaml").write_text(job)
    command = [sys.executable, "-m", "kubesight.cli.main", "run", str(folder / "job.yaml"), "-o", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out", [line[3:] for line in done.stderr.splitlines() if line.startswith("-- ")]


def check_results(out: Path, tmp_path: Path) -> ModelCard:
    """The best model is there, judged and exported; evaluated again it has the same score, also as ONNX."""
    (place,) = (out / "pipeline").iterdir()
    chosen = json.loads((place / "check-settings" / "executor_output.json").read_text())["parameterValues"]
    assert chosen == {"framework": "tensorflow", "training_image": KERAS_IMAGE}
    card = ModelCard.load(out / "model")
    assert card.framework == "tensorflow"
    assert card.onnx is not None
    assert card.onnx["agreement"] == 1.0
    summary = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert (summary["data"]["part"], summary["images"]) == ("test", 20)
    assert evaluate(out / "split" / "test", tmp_path / "again", model=out / "model") == pytest.approx(
        summary["metrics"]
    )
    lines = (out / "evaluation" / "predictions.jsonl").read_text().splitlines()
    urls = [json.loads(line)["image_url"] for line in lines]
    served = load_predictor(out / "model", device="cpu", backend="onnx").predict(urls)
    expected = np.array([json.loads(line)["probabilities"] for line in lines])
    np.testing.assert_allclose([each.probabilities for each in served], expected, atol=0.02)
    return card


@pytest.mark.slow
def test_one_training(tmp_path: Path) -> None:
    out, steps = run(tmp_path, ONE)
    assert steps == [
        *["check-settings", "convert-dataset", "validate-dataset", "split-dataset"],
        *["train-model", "evaluate-model", "export-model"],
    ]
    check_results(out, tmp_path)
    assert len((out / "training" / "metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads((out / "model" / "labels_info.json").read_text()) == {"labels": ["0", "1"]}


@pytest.mark.slow
def test_a_sweep(tmp_path: Path) -> None:
    out, _ = run(tmp_path, SWEEP)
    card = check_results(out, tmp_path)
    trials = read_trials(out / "sweep")
    assert {each.condition for each in trials} == {"Succeeded"}
    best = max(trials, key=lambda each: each.value or 0)
    assert card.metrics["accuracy"] == pytest.approx(best.value)
