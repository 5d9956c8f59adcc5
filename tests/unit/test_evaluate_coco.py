"""A COCO file judged as it is: the numbers are those of pycocotools on the same two files."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kubesight.dataset import Task
from kubesight.errors import DatasetError, StorageError
from kubesight.evaluate.coco_truth import coco_truth
from kubesight.evaluate.evaluate import evaluate
from kubesight.metrics.coco import SUMMARY

SIZE = {"width": 200, "height": 150}
CATEGORIES = [{"id": 4, "name": "zebra"}, {"id": 9, "name": "ant"}, {"id": 6, "name": "unused"}]


def reference(annotations: dict, results: list, kind: str) -> dict[str, float]:
    """What pycocotools says; its annotations are numbered from 1, since it takes id 0 for no match."""
    annotations = copy.deepcopy(annotations)
    for number, annotation in enumerate(annotations["annotations"], start=1):
        annotation["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: value for name, value in zip(SUMMARY, evaluation.stats.tolist(), strict=True) if value > -1}


def judge(tmp_path: Path, annotations: dict, results: list, task: Task, **more: Any) -> dict[str, Any]:
    (tmp_path / "truth.json").write_text(json.dumps(annotations))
    (tmp_path / "results.json").write_text(json.dumps(results))
    evaluate(tmp_path / "truth.json", tmp_path / "out", predictions=tmp_path / "results.json", task=task, **more)
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def coco(summary: dict[str, Any], prefix: str = "coco.") -> dict[str, float]:
    return {name: summary["metrics"][prefix + name] for name in SUMMARY if prefix + name in summary["metrics"]}


def polygon(generator: np.random.Generator, x: float, y: float, side: float) -> list[float]:
    angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
    points = np.stack([x + side / 2 + side / 2 * np.cos(angles), y + side / 2 + side / 2 * np.sin(angles)], axis=1)
    return points.round(2).ravel().tolist()


def compressed(segmentation: Any) -> dict[str, Any]:
    rle = coco_mask.frPyObjects(segmentation, SIZE["height"], SIZE["width"])
    rle = coco_mask.merge(rle) if isinstance(rle, list) else rle
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def scene(seed: int) -> tuple[dict, list, list]:
    """Unsorted ids, crowds as listed run lengths, overlapping rings, empty pictures, boxes over the edge, ties."""
    generator = np.random.default_rng(seed)
    images = [{"id": key, "file_name": f"{key}.jpg", **SIZE} for key in (30, 4, 17, 8)]
    annotations, boxes, masks = [], [], []
    for image in images[:-1]:
        for _ in range(12):
            x, y, side = generator.uniform(-5, 190), generator.uniform(-5, 140), generator.uniform(2, 90)
            rings: Any = [polygon(generator, x, y, side)]
            if generator.random() < 0.3:
                rings.append(polygon(generator, x + side / 3, y, side))  # overlaps the first: COCO joins them
            crowd = int(generator.random() < 0.2)
            if crowd:
                mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, SIZE["height"], SIZE["width"])))
                flat = np.concatenate([[0], mask.ravel(order="F"), [0]])
                edges = np.flatnonzero(np.diff(flat))
                runs = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
                rings = {"size": [SIZE["height"], SIZE["width"]], "counts": runs}
            bbox = [round(value, 2) for value in (x, y, side, side)]
            found = {"image_id": image["id"], "category_id": int(generator.choice([4, 9]))}
            annotations.append(
                {"bbox": bbox, "area": round(side**2 * 0.7, 1), "iscrowd": crowd, "segmentation": rings, **found}
            )
            for _ in range(generator.integers(0, 4)):
                score = round(float(generator.random()), 1)
                moved = (np.array(bbox) + generator.normal(0, side / 12, 4)).round(2)
                moved[2:] = np.maximum(moved[2:], 0.5)
                guess = (
                    {**found, "score": score}
                    if generator.random() < 0.8
                    else {**found, "category_id": 6, "score": score}
                )
                boxes.append({**guess, "bbox": moved.tolist()})
                masks.append({**guess, "segmentation": compressed([polygon(generator, *moved[:3])])})
    order = generator.permutation(len(annotations))
    content = {"images": images, "annotations": [annotations[k] for k in order], "categories": CATEGORIES}
    return content, boxes, masks


@pytest.mark.parametrize("seed", range(6))
def test_boxes_as_pycocotools_judges_them(tmp_path, seed) -> None:
    content, boxes, _ = scene(seed)
    summary = judge(tmp_path, content, boxes, Task.DETECTION)
    assert coco(summary) == pytest.approx(reference(content, boxes, "bbox"), abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_masks_as_pycocotools_judges_them(tmp_path, seed) -> None:
    content, _, masks = scene(seed)
    summary = judge(tmp_path, content, masks, Task.SEGMENTATION)
    assert coco(summary) == pytest.approx(reference(content, masks, "segm"), abs=1e-9)
    boxes = [{**each, "bbox": coco_mask.toBbox(each["segmentation"]).tolist()} for each in masks]
    boxes = [{key: value for key, value in each.items() if key != "segmentation"} for each in boxes]
    assert coco(summary, "coco.box.") == pytest.approx(reference(content, boxes, "bbox"), abs=1e-9)


def entry(**more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0, **more}


def small(*annotations: dict, images: Any = None, names: Any = None) -> dict[str, Any]:
    return {
        "images": images or [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": list(annotations),
        "categories": names or [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


RESULT = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}


def read(tmp_path: Path, content: Any, task: Task = Task.DETECTION):
    path = tmp_path / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return coco_truth(path, task)


def test_areas_are_the_file_s_or_the_object_s_own(tmp_path) -> None:
    ring = [[10, 10, 20, 10, 20, 20, 10, 20]]
    bare = {key: value for key, value in entry(segmentation=ring).items() if key != "area"}
    content = small(entry(area=7), bare, {**bare, "bbox": None})
    assert read(tmp_path, content).objects.area.tolist() == [7, 400]
    outlined = small(*[{**each, "segmentation": ring} for each in content["annotations"]])
    truth = read(tmp_path, outlined, Task.SEGMENTATION)
    assert truth.objects.area.tolist() == [7, 100, 100]
    assert truth.objects.box.tolist() == [[0, 0, 20, 20], [0, 0, 20, 20], [10, 10, 20, 20]]


def test_what_cannot_be_judged_is_left_out_and_counted(tmp_path) -> None:
    content = small(entry(), entry(image_id=5), entry(category_id=9), entry(bbox=[]))
    summary = judge(tmp_path, content, [RESULT], Task.DETECTION)
    assert summary["objects"] == 1
    assert summary["warnings"] == [
        "2 annotations of a picture or category that is not listed were left out.",
        "1 annotations without a box were left out.",
    ]
    assert (
        "1 annotations without an outline were left out." in read(tmp_path, small(entry()), Task.SEGMENTATION).warnings
    )


def test_categories_of_one_name_are_one_class(tmp_path) -> None:
    names = [{"id": 0, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]
    summary = judge(tmp_path, small(entry(category_id=3), names=names), [{**RESULT, "category_id": 0}], Task.DETECTION)
    assert summary["metrics"]["mean_average_precision"] == 1
    assert summary["classes"] == ["cat", "dog"]
    assert summary["warnings"] == ["The categories 0 and 3 are both named 'cat'; they were judged as one class."]


def test_pictures_are_found_where_they_are_said_to_be(tmp_path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "a.jpg").write_bytes(b"")
    (tmp_path / "truth.json").write_text(json.dumps(small(entry())))
    folders = [tmp_path / "elsewhere", tmp_path / "shown"]
    assert coco_truth(tmp_path / "truth.json", Task.DETECTION, folders).urls == [str(tmp_path / "shown" / "a.jpg")]
    assert coco_truth(tmp_path / "truth.json", Task.DETECTION).urls == [str(tmp_path / "a.jpg")]


def test_lines_of_ours_are_judged_against_a_coco_file(tmp_path) -> None:
    first = judge(tmp_path, small(entry(), entry(category_id=2)), [RESULT], Task.DETECTION)
    text = (tmp_path / "out" / "predictions.jsonl").read_text()
    (tmp_path / "lines.jsonl").write_text(text.replace(str(tmp_path), "/another/machine"))
    metrics = evaluate(
        tmp_path / "truth.json", tmp_path / "again", predictions=tmp_path / "lines.jsonl", task="image_object_detection"
    )
    assert metrics == first["metrics"]
    assert first["data"]["path"] == str(tmp_path / "truth.json")
    assert len(first["data"]["content_hash"]) == 64


RING = [10, 10, 20, 10, 20, 20]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (entry(bbox=[1, 2, 3]), "annotation 1: a box of 3 numbers"),
        (entry(bbox=[1, 2, -3, 4]), "annotation 1: the box .* has a negative side"),
        (entry(bbox=[1, 2, None, 4]), "annotation 1: the box .* has a side that is no number"),
        (entry(segmentation=[[1, 2, 3, 4]]), "annotation 1: a ring of 4 numbers"),
        (entry(segmentation=[[*RING, 3]]), "a ring of 7 numbers"),
        (entry(segmentation=RING), "its segmentation is unusable"),
        (entry(segmentation={"size": [1, 1], "counts": [1]}), "a mask of 1 x 1 pixels for a picture of 100 x 50"),
        (entry(segmentation={"size": [50, 100], "counts": [1]}), "runs add up to 1"),
    ],
)
def test_annotations_that_are_none_are_named(tmp_path, annotation, message) -> None:
    task = Task.SEGMENTATION if "segmentation" in annotation else Task.DETECTION
    with pytest.raises(DatasetError, match=message) as caught:
        read(tmp_path, small(entry(segmentation=[RING]), annotation), task)
    assert str(tmp_path / "truth.json") in str(caught.value)
    assert caught.value.hint


def test_a_damaged_bbox_hints_at_converting(tmp_path) -> None:
    with pytest.raises(DatasetError, match="`kubesight convert` makes a data set of it without such annotations"):
        read(tmp_path, small(entry(bbox=[1, 2, float("nan"), 4])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a COCO file: Expected `object`, got `array`"),
        ({"images": [], "annotations": []}, "missing required field `categories`"),
        ({"images": [], "annotations": [], "categories": []}, "the file has no pictures"),
        (small(images=[{"id": 1, "file_name": "a.jpg"}]), "the size of 'a.jpg' is not given"),
        (small(images=[{"id": k, "file_name": "a.jpg", **SIZE} for k in (1, "1")]), "two images have the id 1"),
    ],
)
def test_files_that_are_none(tmp_path, content, message) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, content)


def test_a_coco_file_needs_a_task_and_no_model(tmp_path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(small(entry())))
    with pytest.raises(DatasetError, match="Say --task image_object_detection or --task image_instance_segmentation"):
        evaluate(tmp_path / "truth.json", tmp_path / "out", predictions="x")
    with pytest.raises(DatasetError, match="a model is run on a data set, not on an annotation file"):
        evaluate(tmp_path / "truth.json", tmp_path / "out", model="x", task="image_object_detection")
    with pytest.raises(StorageError, match="No such file"):
        coco_truth(tmp_path / "none.json", Task.DETECTION)
