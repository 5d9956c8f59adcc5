"""Evaluating: the three files of the output, what they say, and what is refused."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from kubesight.dataset import ClassificationRow, DatasetWriter, MultilabelRow, Task
from kubesight.errors import DatasetError, ModelError, StorageError
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import CropPreprocessing, ModelCard


def write_data(path, labels):
    """Pictures by URL only: none of them exists, so reports must do without."""
    multilabel = isinstance(labels[0], list)
    row_type = MultilabelRow if multilabel else ClassificationRow
    with DatasetWriter(path, Task.MULTILABEL if multilabel else Task.CLASSIFICATION) as writer:
        for k, label in enumerate(labels):
            writer.write(row_type(image_url=f"/nowhere/{k}.jpg", label=label))
    return path


def write_card(path, task, classes):
    ModelCard(
        task=task,
        model_name="resnet18",
        classes=classes,
        preprocessing=CropPreprocessing(resize_size=40, crop_size=32, mean=(0.5,) * 3, std=(0.2,) * 3),
    ).save(path)
    return path


def write_lines(path, key, values):
    path.write_text("".join(json.dumps({"image_url": f"{k}.jpg", key: v}) + "\n" for k, v in enumerate(values)))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def multiclass(tmp_path):
    rng = np.random.default_rng(0)
    names = ["ant", "bee", "cow", "dog"]
    truth = [names[k] for k in rng.integers(0, 4, 60)]
    scores = rng.dirichlet(np.ones(4), size=60)
    data = write_data(tmp_path / "data", truth)
    return data, write_lines(tmp_path / "p.jsonl", "probabilities", scores.tolist()), truth, scores, names


def test_metrics_json_holds_what_a_pipeline_logs(tmp_path, multiclass):
    data, predictions, truth, scores, names = multiclass
    metrics = evaluate(data, tmp_path / "out", predictions=predictions, task="image_classification")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "metrics.json",
        "predictions.jsonl",
        "report.html",
    ]
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["metrics"] == metrics
    assert (saved["task"], saved["primary_metric"], saved["images"]) == ("image_classification", "accuracy", 60)
    predicted = [names[k] for k in scores.argmax(axis=1)]
    assert metrics["accuracy"] == sk.accuracy_score(truth, predicted)
    assert metrics["f1_score_macro"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert metrics["AUC_macro"] == pytest.approx(sk.roc_auc_score(truth, scores, multi_class="ovr"))
    assert saved["confusion_matrix"] == {
        "classes": names,
        "matrix": sk.confusion_matrix(truth, predicted, labels=names).tolist(),
    }
    assert set(saved["roc"]) == {"fpr", "tpr", "threshold"}
    assert len(saved["roc"]["fpr"]) == len(saved["roc"]["tpr"]) == len(saved["roc"]["threshold"]) <= 200
    assert all(isinstance(value, float) for points in saved["roc"].values() for value in points)
    assert sk.auc(saved["roc"]["fpr"], saved["roc"]["tpr"]) == pytest.approx(metrics["AUC_micro"], abs=0.01)
    assert [row["name"] for row in saved["per_class"]] == names
    assert sum(row["support"] for row in saved["per_class"]) == 60
    assert saved["averaged_over"]["AUC"] == 4
    assert len(saved["calibration"]) == 15
    assert saved["model"] is None
    assert len(saved["predictions"]["sha256"]) == 64
    assert len(saved["data"]["content_hash"]) == 64
    most = saved["confusions"][0]
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if t != p]
    assert most["count"] == max(pairs.count(pair) for pair in pairs) == pairs.count((most["label"], most["predicted"]))
    assert most["share"] == pytest.approx(most["count"] / truth.count(most["label"]))


def test_predictions_written_are_predictions_read(tmp_path, multiclass):
    data, predictions, truth, scores, names = multiclass
    first = evaluate(data, tmp_path / "out", predictions=predictions)
    lines = read_lines(tmp_path / "out" / "predictions.jsonl")
    assert lines[5]["image_url"] == "/nowhere/5.jpg"
    assert lines[5]["label"] == truth[5]
    assert lines[5]["predicted"] == names[scores[5].argmax()]
    assert lines[5]["probabilities"] == scores[5].tolist()
    again = evaluate(data, tmp_path / "again", predictions=tmp_path / "out" / "predictions.jsonl")
    assert again == first
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["warnings"] == []


def test_multilabel(tmp_path):
    rng = np.random.default_rng(1)
    indicators = rng.random((40, 3)) < 0.4
    indicators[0] = False
    names = np.array(["air", "fire", "sea"])
    data = write_data(tmp_path / "data", [names[row].tolist() for row in indicators])
    scores = rng.random((40, 3))
    metrics = evaluate(data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "probs", scores.tolist()))
    expected = sk.jaccard_score(indicators, scores > 0.5, average="samples", zero_division=1)
    assert metrics["iou"] == pytest.approx(expected)
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["primary_metric"] == "iou"
    assert "confusion_matrix" not in saved
    assert saved["per_class"][1]["iou"] == pytest.approx(sk.jaccard_score(indicators[:, 1], scores[:, 1] > 0.5))
    lines = read_lines(tmp_path / "out" / "predictions.jsonl")
    assert lines[0]["label"] == []
    assert lines[3]["predicted"] == names[scores[3] > 0.5].tolist()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Said but not there" in page
    assert "There but missed" in page
    assert "above 0.5" in page


def test_without_probabilities_only_what_needs_none_is_given(tmp_path):
    data = write_data(tmp_path / "data", ["a", "b", "a", "c"])
    metrics = evaluate(
        data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "predicted", ["a", "b", "b", "c"])
    )
    assert metrics["accuracy"] == 0.75
    assert not [name for name in metrics if name.startswith(("AUC", "average", "log", "expected", "top"))]
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "roc" not in saved
    assert "calibration" not in saved
    assert saved["per_class"][0]["AUC"] is None
    assert "probabilities" not in read_lines(tmp_path / "out" / "predictions.jsonl")[0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Calibration" not in page
    assert "Worst mistakes" in page


def test_pictures_out_of_reach_are_said_to_be(tmp_path, multiclass):
    evaluate(multiclass[0], tmp_path / "out", predictions=multiclass[1])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "24 pictures could not be read: " in page
    assert "/nowhere/" in page


def test_perfect_answers_make_a_page_too(tmp_path):
    data = write_data(tmp_path / "data", ["a", "b"])
    evaluate(data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "probabilities", [[1, 0], [0, 1]]))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No picture was confused" in page
    assert "Worst mistakes" not in page


@pytest.mark.parametrize("labels", [["a"], ["a", "a"], [["a"]], [[], ["a"]]])
def test_one_picture_or_one_class_is_judged(tmp_path, labels):
    data = write_data(tmp_path / "data", labels)
    metrics = evaluate(
        data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "probabilities", [[1.0]] * len(labels))
    )
    assert metrics["accuracy"] == (0.5 if labels == [[], ["a"]] else 1.0)
    assert np.isfinite(list(metrics.values())).all()
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000


def test_names_with_markup_stay_text(tmp_path):
    labels = ["<script>alert(1)</script>", "a & b"]
    data = write_data(tmp_path / "data", labels)
    evaluate(data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "predicted", labels[::-1]))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_many_classes_make_a_small_page_without_a_matrix_for_the_pipeline(tmp_path):
    rng = np.random.default_rng(2)
    names = [f"species {k:04} of a long list" for k in range(600)]
    truth = [names[k] for k in np.concatenate([np.arange(600), rng.integers(0, 600, 600)])]
    data = write_data(tmp_path / "data", truth)
    scores = rng.dirichlet(np.full(600, 0.02), size=1200).round(4)
    scores[:, 0] += 1e-4
    evaluate(data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "probabilities", scores.tolist()))
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "confusion_matrix" not in saved
    assert len(saved["confusions"]) == 30
    assert (tmp_path / "out" / "report.html").stat().st_size < 1_000_000
    assert "of 600 classes; metrics.json has all" in (tmp_path / "out" / "report.html").read_text()


def test_forty_five_classes_all_confused_stay_under_a_megabyte(tmp_path):
    rng = np.random.default_rng(3)
    names = [f"a rather long class name {k:02}" for k in range(45)]
    truth = [names[k] for k in np.concatenate([np.arange(45), rng.integers(0, 45, 20_000)])]
    data = write_data(tmp_path / "data", truth)
    guesses = [names[k] for k in rng.integers(0, 45, len(truth))]
    evaluate(data, tmp_path / "out", predictions=write_lines(tmp_path / "p.jsonl", "predicted", guesses))
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert np.sum(saved["confusion_matrix"]["matrix"]) == len(truth)
    # The small pictures, which are missing here, have 350,000 bytes at most.
    assert (tmp_path / "out" / "report.html").stat().st_size < 650_000


def test_a_model_s_card_tells_the_order_of_classes_of_a_file(tmp_path):
    data = write_data(tmp_path / "data", ["a", "b"])
    write_card(tmp_path / "model", Task.CLASSIFICATION, ["z", "b", "a"])
    predictions = write_lines(tmp_path / "p.jsonl", "probabilities", [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]])
    metrics = evaluate(data, tmp_path / "out", model=tmp_path / "model", predictions=predictions)
    assert metrics["accuracy"] == 0.5
    saved = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert saved["classes"] == ["a", "b", "z"]
    assert saved["model"]["model_name"] == "resnet18"
    assert read_lines(tmp_path / "out" / "predictions.jsonl")[0]["probabilities"] == [0.1, 0.2, 0.7]
    assert [row["f1_score"] for row in saved["per_class"]] == [1.0, 0.0, 0.0]


def test_what_cannot_be_evaluated_leaves_nothing_behind(tmp_path, multiclass):
    data, predictions, *_ = multiclass
    with pytest.raises(ModelError, match=r"nothing to evaluate\. Give --model DIR or --predictions FILE"):
        evaluate(data, tmp_path / "out")
    with pytest.raises(DatasetError, match="is for image_classification, not for image_object_detection"):
        evaluate(data, tmp_path / "out", predictions=predictions, task="image_object_detection")
    write_card(tmp_path / "model", Task.MULTILABEL, ["a"])
    with pytest.raises(
        ModelError, match=r"the model is for image_classification_multilabel, the data set .* for image_cl"
    ):
        evaluate(data, tmp_path / "out", model=tmp_path / "model")
    with pytest.raises(ModelError, match="no model here"):
        evaluate(data, tmp_path / "out", model=tmp_path)
    predictions.write_text(predictions.read_text() + "{}\n")
    with pytest.raises(DatasetError, match="line 61: the line names no picture"):
        evaluate(data, tmp_path / "out", predictions=predictions)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_an_earlier_evaluation_is_replaced_and_other_folders_are_not(tmp_path, multiclass):
    data, predictions, *_ = multiclass
    for _ in range(2):
        evaluate(data, tmp_path / "out", predictions=predictions)
    with pytest.raises(StorageError, match="not one that this command wrote"):
        evaluate(data, data, predictions=predictions)
