"""What of a file of detections is refused: always by name and place, and nothing is left behind."""

import json

import pytest

from kubesight.dataset import (
    Box,
    ClassificationRow,
    DatasetWriter,
    DetectionRow,
    ImageDetails,
    Instance,
    SegmentationRow,
    Task,
)
from kubesight.errors import DatasetError, HyperparameterError, KubesightError, ModelError, StorageError
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import CropPreprocessing, FitPreprocessing, ModelCard

DETAILS = ImageDetails(width=100, height=50)
GOOD = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.9}
CORNERS = {"topX": 0.0, "topY": 0.0, "bottomX": 0.2, "bottomY": 0.4}
ITEM = {"label": "cat", "score": 0.9, "box": CORNERS}
RING = [10.0, 10.0, 20.0, 10.0, 20.0, 20.0]


def write(path, task, *labels, names=None, source=None):
    kind = SegmentationRow if task is Task.SEGMENTATION else DetectionRow
    with DatasetWriter(path, task, classes=["cat", "dog"], source=source) as writer:
        for k, label in enumerate(labels):
            name = names[k] if names else f"{k + 7}.jpg"
            writer.write(
                kind(image_url=f"/x/{name}", image_id=None if names else k + 7, image_details=DETAILS, label=label)
            )
    return path


@pytest.fixture
def data(tmp_path):
    source = {"category_ids": {"3": "cat", "5": "dog"}}
    return write(tmp_path / "data", Task.DETECTION, [Box("cat", 0, 0, 0.2, 0.4)], [], source=source)


@pytest.fixture
def outlined(tmp_path):
    return write(tmp_path / "outlined", Task.SEGMENTATION, [Instance("cat", [[0.1, 0.1, 0.3, 0.1, 0.3, 0.5]])])


def refused(tmp_path, data, content, **more) -> str:
    path = tmp_path / "given.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(KubesightError) as caught:
        evaluate(data, tmp_path / "out", predictions=path, **more)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8.5}, "8.5 is no picture of the data set. A picture of it is /x/7.jpg (id 7)"),
        ({"image_id": 99}, "99 is no picture of the data set"),
        ({"image_id": "other.jpg"}, "'other.jpg' is no picture of the data set"),
        ({"category_id": 1}, "the category id 1 is not one of the data's. Known: 3 cat, 5 dog."),
        ({"category_id": "cet"}, "the class 'cet' is none of the 2 that are known. The nearest is 'cat'."),
        ({"bbox": [1, 2, 3]}, "a box of 3 numbers. Write x, y, width, height in pixels."),
        ({"bbox": [1, 2, 3, 4, 5]}, "a box of 5 numbers"),
        ({"bbox": [30, 2, -3, 4]}, "has a negative side. The third and fourth number are width and height"),
        ({"bbox": [1, 2, None, 4]}, "has a side that is no number"),
        ({"bbox": [1, 2, float("nan"), 4]}, "has a side that is no number"),
        ({"bbox": [1, 2, float("inf"), 4]}, "has a side that is no number"),
        ({"score": float("nan")}, "the score is not a finite number"),
        ({"score": None}, "the score is not a finite number"),
        ({"score": "high"}, "not a list of COCO results: Expected `float | null`, got `str` - at `$[1].score`"),
        ({"bbox": []}, "a detection without a box"),
    ],
)
def test_entries_of_coco_results(tmp_path, data, change, message) -> None:
    error = refused(tmp_path, data, [GOOD, {**GOOD, **change}])
    assert message in error
    assert "entry 1 (from 0)" in error or "$[1]" in error


@pytest.mark.parametrize("field", ["image_id", "category_id", "score"])
def test_fields_that_are_missing(tmp_path, data, field) -> None:
    bad = {key: value for key, value in GOOD.items() if key != field}
    assert f"missing required field `{field}` - at `$[2]`" in refused(tmp_path, data, [GOOD, GOOD, bad])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "not a list of COCO results"),
        ('[{"image_id": 7', "not JSON"),
        ("[" * 100_000, "not a list of COCO results"),
        ("boxes", "not JSON"),
        (json.dumps({"images": [], "annotations": []}), "missing required field `boxes`"),
        (json.dumps({"boxes": []}), "line 1: the line names no picture. Give it as 'image_url', a text."),
        ("\n" + json.dumps({"image_url": "8.jpg", "boxes": [1]}), "line 2: not COCO results or a line of"),
        (json.dumps({"image_url": "z.jpg", "boxes": []}), "line 1: 'z.jpg' is no picture of the data set"),
    ],
)
def test_files_that_are_neither_results_nor_lines(tmp_path, data, content, message) -> None:
    assert message in refused(tmp_path, data, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "emu"}, "the class 'emu' is none of the 2"),
        ({"label": "emu"}, "Where a model of ours knows more classes than the data, name it with --model."),
        ({"score": None}, "the score is not a finite number"),
        ({"box": None}, "a detection without a box"),
        ({"box": {**CORNERS, "topX": 0.5}}, "has a negative side"),
        ({"box": {**CORNERS, "bottomY": -0.1}}, "has a negative side"),
        ({"box": {**CORNERS, "bottomX": None}}, "has a side that is no number"),
        ({"box": {**CORNERS, "bottomX": 20}}, "is not in fractions of the picture. Divide x by the picture's width"),
        ({"box": {**CORNERS, "topY": -3}}, "is not in fractions of the picture"),
    ],
)
def test_boxes_of_json_lines(tmp_path, data, change, message) -> None:
    text = "\n".join(
        json.dumps({"image_url": f"{name}.jpg", "boxes": boxes})
        for name, boxes in ((8, []), (7, [ITEM, {**ITEM, **change}]))
    )
    error = refused(tmp_path, data, text)
    assert message in error
    assert "line 2, box 1 (from 0)" in error


def test_one_line_a_picture(tmp_path, data) -> None:
    text = "\n".join(json.dumps({"image_url": name, "boxes": []}) for name in ("7.jpg", "8.jpg", "x/7.jpg"))
    assert "line 3: a second line for x/7.jpg; line 1 was the first" in refused(tmp_path, data, text)


def test_a_number_that_several_files_have(tmp_path) -> None:
    label = [Box("cat", 0, 0, 1, 1)]
    names = ["a/7.jpg", "b/007.jpg", "8.jpg"]
    data = write(tmp_path / "data", Task.DETECTION, label, [], [], names=names)
    assert "7 can be 2 pictures of the data set: /x/a/7.jpg, /x/b/007.jpg" in refused(tmp_path, data, [GOOD])
    wrong = {**GOOD, "image_id": 8, "category_id": 0}
    assert "the category id 0 is not from 1 to 2. The data have no ids of classes" in refused(tmp_path, data, [wrong])


def test_an_id_or_a_url_that_several_rows_have(tmp_path) -> None:
    with DatasetWriter(tmp_path / "data", Task.DETECTION, classes=["cat"]) as writer:
        for name in ("a", "b", "b"):
            writer.write(DetectionRow(image_url=f"/x/{name}.jpg", image_id=7, image_details=DETAILS, label=[]))
    assert "the image id 7 belongs to 3 pictures" in refused(tmp_path, tmp_path / "data", [GOOD])
    named = [{**GOOD, "image_id": "b.jpg"}]
    assert "'b.jpg' is in the data set 2 times" in refused(tmp_path, tmp_path / "data", named)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [100, 50], "counts": [5000]}, "a mask of 50 x 100 pixels for a picture of 100 x 50"),
        ({"size": [50, 100], "counts": [3, 4]}, "runs add up to 7"),
        ({"size": [50, 100], "counts": "%%%"}, "which its compression never writes"),
        ({"size": [50, 100], "counts": "o"}, "break off"),
        ({"size": [50, 100]}, "its segmentation is unusable: Object missing required field `counts`"),
        ({"size": [50, 100], "counts": None}, "its segmentation is unusable"),
        ([RING, [1.0, 2.0, 3.0, 4.0]], "a ring of 4 numbers, which are not the x and y of three points or more"),
        ([[*RING, 1.0]], "a ring of 7 numbers"),
        ([[*RING[:-1], None]], "a ring with numbers that are not finite"),
        ([*RING], "its segmentation is unusable"),
        ([], "a detection without a mask, where masks are judged. Judge its boxes with --task image_object_detection."),
        (None, "a detection without a mask, where masks are judged"),
    ],
)
def test_masks(tmp_path, outlined, segmentation, message) -> None:
    error = refused(tmp_path, outlined, [{**GOOD, "category_id": "cat", "segmentation": segmentation}])
    assert message in error
    assert "entry 0 (from 0)" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "a detection without a mask"),
        ({"rle": {"size": [50, 99], "counts": [4950]}}, "a mask of 99 x 50 pixels for a picture of 100 x 50"),
        ({"polygon": [[0.1, 0.1, 0.2, 0.2]]}, "a ring of 4 numbers"),
        ({"polygon": [[0.1, 0.1, 0.2, 0.2, 0.3, None]]}, "not finite"),
    ],
)
def test_masks_of_json_lines(tmp_path, outlined, change, message) -> None:
    error = refused(tmp_path, outlined, json.dumps({"image_url": "7.jpg", "boxes": [{**ITEM, **change}]}))
    assert message in error
    assert "line 1, box 0 (from 0)" in error


def test_a_file_that_is_not_there(tmp_path, data) -> None:
    with pytest.raises(StorageError, match=r"none\.json: No such file"):
        evaluate(data, tmp_path / "out", predictions=tmp_path / "none.json")
    assert not (tmp_path / "out").exists()


def card(path, task, classes=("cat",)):
    crop = task in (Task.CLASSIFICATION, Task.MULTILABEL)
    preprocessing = CropPreprocessing() if crop else FitPreprocessing()
    ModelCard(task=task, model_name="m", classes=list(classes), preprocessing=preprocessing).save(path)
    return path


def test_tasks_and_models_that_do_not_fit(tmp_path, data, outlined) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="there is nothing to evaluate"):
        evaluate(data, out)
    with pytest.raises(DatasetError, match="is for image_object_detection, not for image_instance_segmentation"):
        evaluate(data, out, predictions="x", task="image_instance_segmentation")
    with pytest.raises(DatasetError, match="is for image_instance_segmentation, not for image_classification"):
        evaluate(outlined, out, predictions="x", task="image_classification")
    with pytest.raises(DatasetError, match="unknown task 'boxes'"):
        evaluate(data, out, predictions="x", task="boxes")
    with pytest.raises(ModelError, match=r"the model is for image_classification, the data .* for image_object_det"):
        evaluate(data, out, model=card(tmp_path / "classifier", Task.CLASSIFICATION))
    with pytest.raises(ModelError, match=r"the model is for image_object_detection, the data .* for image_instance"):
        evaluate(outlined, out, model=card(tmp_path / "boxes", Task.DETECTION))
    with pytest.raises(DatasetError, match=r"the model's classes \(ant.*the data's \(cat, dog.*none in common"):
        evaluate(data, out, model=card(tmp_path / "ants", Task.DETECTION, ["ant"]))
    with pytest.raises(DatasetError, match="the data set has no pictures"):
        evaluate(write(tmp_path / "empty", Task.DETECTION), out, predictions="x")
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iou_threshold": 0.05}, "0.05 is out of range"),
        ({"iou_threshold": 1.5}, "1.5 is out of range"),
        ({"score_threshold": float("nan")}, "a score threshold of nan"),
    ],
)
def test_thresholds_out_of_range(tmp_path, data, settings, message) -> None:
    with pytest.raises(HyperparameterError, match=message):
        evaluate(data, tmp_path / "out", predictions=tmp_path / "never read", **settings)


def test_settings_for_objects_mean_nothing_for_classes(tmp_path) -> None:
    with DatasetWriter(tmp_path / "data", Task.CLASSIFICATION) as writer:
        writer.write(ClassificationRow(image_url="/a.jpg", label="cat"))
    with pytest.raises(HyperparameterError, match="iou_threshold, eleven_points mean nothing for image_classification"):
        evaluate(tmp_path / "data", tmp_path / "out", predictions="x", iou_threshold=0.5, eleven_points=True)
