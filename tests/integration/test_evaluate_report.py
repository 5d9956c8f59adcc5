"""Evaluation of real answers on real pictures, and the page opened in a browser."""

import json

import numpy as np
import pytest
import torch
from browser import open_page
from pictures import digit_scenes_dataset, digits_dataset
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from kubesight.dataset import Task
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import WEIGHTS_FILE, CropPreprocessing, ModelCard
from kubesight.models.build import build_model
from kubesight.models.names import find_model
from kubesight.models.weights import save_weights

TRAINED_ON = 300
CLASSES = [str(k) for k in range(10)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits, and a file of a logistic regression's answers to them."""
    folder = tmp_path_factory.mktemp("digits")
    data = digits_dataset(folder, TRAINED_ON, 400)
    bunch = load_digits()
    model = LogisticRegression(max_iter=300).fit(bunch.data[:TRAINED_ON] / 16, bunch.target[:TRAINED_ON])
    scores = model.predict_proba(bunch.data[TRAINED_ON : TRAINED_ON + 400] / 16)
    accuracy = float((scores.argmax(axis=1) == bunch.target[TRAINED_ON : TRAINED_ON + 400]).mean())
    rows = [
        {"filename": f"{TRAINED_ON + k}.png", "probabilities": dict(zip(CLASSES, row, strict=True))}
        for k, row in enumerate(scores.tolist())
    ]
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return data.path, folder / "predictions.jsonl", accuracy


def small_model(folder, task, classes):
    torch.manual_seed(0)
    module = build_model(find_model("timm/test_resnet"), len(classes)).module
    torch.nn.init.normal_(module.fc.weight, std=2.0)
    card = ModelCard(
        task=task,
        model_name="timm/test_resnet",
        classes=classes,
        preprocessing=CropPreprocessing(resize_size=36, crop_size=32, mean=(0.5,) * 3, std=(0.2,) * 3),
    )
    card.save(folder)
    save_weights(module, folder / WEIGHTS_FILE)
    return folder


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_of_digits_opens_without_a_console_line(tmp_path, digits, dark):
    data, predictions, accuracy = digits
    metrics = evaluate(data, tmp_path / "out", predictions=predictions)
    assert metrics["accuracy"] == accuracy
    assert metrics["accuracy"] > 0.8
    page = tmp_path / "out" / "report.html"
    assert page.stat().st_size < 1_000_000
    text = page.read_text()
    wrong = round((1 - accuracy) * 400)
    assert text.count("<img ") == min(wrong, 24)
    assert "could not be read" not in text
    for heading in ("Confusion matrix", "Worst mistakes", "Classes", "ROC and precision-recall curves", "Calibration"):
        assert f"<h2>{heading}</h2>" in text
    opened = open_page(page, tmp_path / "page.png", height=3600, dark=dark)
    assert opened.console == []


def test_a_model_is_run_and_its_written_answers_give_the_same_figures(tmp_path, digits):
    data, *_ = digits
    # The model's classes come in another order than the data's, and one of the data's is not among them.
    model = small_model(tmp_path / "model", Task.CLASSIFICATION, ["8", "0", "1", "2", "3", "4", "5", "7", "6", "none"])
    metrics = evaluate(data, tmp_path / "out", model=model, batch_size=64)
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["model"]["model_name"] == "timm/test_resnet"
    assert "does not know 1 of the data set's 10 classes (9)" in saved["warnings"][0]
    assert saved["per_class"][9]["recall"] == 0.0
    assert saved["classes"] == [*CLASSES, "none"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 400
    right = np.mean([line["label"] == line["predicted"] for line in lines])
    assert metrics["accuracy"] == pytest.approx(right)
    assert 0 < right < 1
    again = evaluate(data, tmp_path / "again", model=model, predictions=tmp_path / "out" / "predictions.jsonl")
    assert again == pytest.approx(metrics, rel=1e-6)


def test_a_multilabel_model_and_its_page(tmp_path):
    data = digit_scenes_dataset(tmp_path / "scenes", 0, 60)
    model = small_model(tmp_path / "model", Task.MULTILABEL, data.classes)
    metrics = evaluate(data.path, tmp_path / "out", model=model)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    shares = []
    for line in lines:
        truth, said = set(line["label"]), set(line["predicted"])
        assert said == {name for name, p in zip(data.classes, line["probabilities"], strict=True) if p > 0.5}
        shares.append(len(truth & said) / len(truth | said))
    assert metrics["iou"] == pytest.approx(np.mean(shares))
    opened = open_page(tmp_path / "out" / "report.html", tmp_path / "page.png", height=3600)
    assert opened.console == []
    assert "could not be read" not in (tmp_path / "out" / "report.html").read_text()
