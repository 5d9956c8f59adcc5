"""A detector run over a data set: all it finds is judged and kept, by the very code that training judges with."""

import json

import numpy as np
import pytest
from PIL import Image
from small_detectors import CLASSES, scene, small_detector

import kubesight.evaluate.object_model as object_model
from kubesight.dataset import Box, Dataset, DatasetWriter, DetectionRow, ImageDetails, Instance, SegmentationRow, Task
from kubesight.dataset.objects import found_objects, true_objects
from kubesight.evaluate.evaluate import evaluate
from kubesight.metrics.summary import detection_metrics
from kubesight.modelcard import ModelCard
from kubesight.serving.predictor import load_predictor

SIZES = [(90, 120), (150, 100), (80, 80)]
THRESHOLD = 0.9


def data_set(path, model, task):
    """Pictures whose labels are some of what the model finds, so that there is something to judge."""
    predictor = load_predictor(model)
    with DatasetWriter(path, task, classes=CLASSES) as writer:
        for k, (height, width) in enumerate(SIZES):
            url = str(path.parent / f"{task}-{k}.png")
            Image.fromarray(scene(k, (height, width))).save(url)
            found = predictor.detections(url)
            label = []
            for place in range(0, len(found), 3):
                x0, y0, x1, y1 = found.boxes[place].tolist()
                name = CLASSES[found.labels[place]]
                ring = [x0, y0, x1, y0, x1, y1, x0, y1]
                label.append(Box(name, x0, y0, x1, y1) if task is Task.DETECTION else Instance(name, [ring]))
            row = DetectionRow if task is Task.DETECTION else SegmentationRow
            details = ImageDetails(width=width, height=height)
            writer.write(row(image_url=url, image_details=details, label=label))
    return path


def summary(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module", params=[Task.DETECTION, Task.SEGMENTATION], ids=["boxes", "masks"])
def judged(request, tmp_path_factory):
    """A model, a data set, and the folder of its evaluation."""
    folder = tmp_path_factory.mktemp(request.param)
    model = small_detector(folder / "model", request.param, box_score_threshold=THRESHOLD)
    data = data_set(folder / "data", model, request.param)
    evaluate(data, folder / "out", model=model)
    return request.param, model, data, folder / "out"


def test_the_primary_metric_is_that_of_training(judged) -> None:
    task, model, data, out = judged
    card, dataset = ModelCard.load(model), Dataset(data)
    truth = true_objects(dataset.rows(), card.classes)
    detections = list(load_predictor(model).all_detections(row.image_url for row in dataset.rows()))
    found = found_objects(detections, truth.sizes, card.inference.get("mask_pixel_score_threshold"))
    expected = detection_metrics(truth, found, card.classes, masks=task is Task.SEGMENTATION, score_threshold=THRESHOLD)
    metrics = summary(out)["metrics"]
    assert {name: metrics[name] for name in expected} == expected
    assert 0 < metrics["mean_average_precision"] < 1
    assert ("coco.box.AP" in metrics) == (task is Task.SEGMENTATION)


def test_all_detections_are_kept_not_only_those_over_the_threshold(judged) -> None:
    _, model, data, out = judged
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    predictor = load_predictor(model)
    for row, line in zip(Dataset(data).rows(), lines, strict=True):
        found = predictor.detections(row.image_url)
        assert line["image_url"] == row.image_url
        assert [each["score"] for each in line["boxes"]] == found.scores.tolist()
        corners = [list(each["box"].values()) for each in line["boxes"]]
        np.testing.assert_allclose(corners, found.boxes, atol=1e-7)
    scores = [each["score"] for line in lines for each in line["boxes"]]
    assert min(scores) < THRESHOLD < max(scores)


def test_the_written_file_is_judged_exactly_the_same(judged, tmp_path) -> None:
    _, model, data, out = judged
    again = evaluate(data, tmp_path / "out", model=model, predictions=out / "predictions.jsonl")
    assert again == summary(out)["metrics"]
    without = evaluate(data, tmp_path / "out", predictions=out / "predictions.jsonl", score_threshold=THRESHOLD)
    assert without == again


def test_masks_can_be_judged_by_their_boxes(judged, tmp_path) -> None:
    task, model, data, out = judged
    if task is Task.DETECTION:
        pytest.skip("a model of boxes has no masks")
    metrics = evaluate(data, tmp_path / "out", model=model, task="image_object_detection")
    boxed = summary(out)["metrics"]
    assert metrics["coco.AP50"] == boxed["coco.box.AP50"]
    assert metrics["voc.mAP"] == boxed["voc.box.mAP"]
    assert "rle" not in (tmp_path / "out" / "predictions.jsonl").read_text()


@pytest.mark.parametrize(("in_card", "given", "used"), [(None, None, 1), (4, None, 4), (4, 2, 2)])
def test_pictures_go_in_batches_as_in_validation(judged, tmp_path, monkeypatch, in_card, given, used) -> None:
    _, model, data, _ = judged

    class Asked(Exception):
        """Ends the evaluation where the model would be loaded."""

    def refuse(path, *, batch_size, overrides):
        raise Asked(batch_size)

    monkeypatch.setattr(object_model, "load_predictor", refuse)
    card = ModelCard.load(model)
    hyperparameters = {} if in_card is None else {"validation_batch_size": in_card}
    monkeypatch.setattr(ModelCard, "load", lambda folder: card.model_copy(update={"hyperparameters": hyperparameters}))
    with pytest.raises(Asked) as asked:
        evaluate(data, tmp_path / "out", model=model, batch_size=given)
    assert asked.value.args == (used,)
    assert not (tmp_path / "out").exists()


def test_a_model_of_more_classes_than_the_data(judged, tmp_path) -> None:
    """What it finds of its own classes is no more than false; the others keep their places."""
    task, model, _, _ = judged
    if task is Task.SEGMENTATION:
        pytest.skip("the same code")
    url = str(tmp_path / "a.png")
    Image.fromarray(scene(1, (90, 120))).save(url)
    found = load_predictor(model).detections(url)
    place = int(np.flatnonzero(found.labels == CLASSES.index("dog"))[0])
    with DatasetWriter(tmp_path / "data", Task.DETECTION) as writer:
        label = [Box("dog", *found.boxes[place].tolist())]
        writer.write(DetectionRow(image_url=url, image_details=ImageDetails(width=120, height=90), label=label))
    evaluate(tmp_path / "data", tmp_path / "out", model=model, score_threshold=0.0)
    result = summary(tmp_path / "out")
    assert result["classes"] == CLASSES
    assert [row["hits"] for row in result["per_class"]] == [0, 1, 0]
    assert result["metrics"]["recall"] == 1
    assert set(result["metrics"]) >= {"voc.AP.dog"}
    assert "voc.AP.cat" not in result["metrics"]
