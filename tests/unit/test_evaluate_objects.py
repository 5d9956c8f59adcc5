"""Judging files of detections: hand-worked numbers, every way to name pictures and classes, what is written."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from kubesight.dataset import Box, DatasetWriter, DetectionRow, ImageDetails, Instance, SegmentationRow, Task
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import FitPreprocessing, ModelCard

WIDTH, HEIGHT = 100, 50
DETAILS = ImageDetails(width=WIDTH, height=HEIGHT)
CLASSES = ["cat", "dog"]


def box(label: str, x: float, y: float, width: float, height: float, **more: object) -> Box:
    return Box(label, x / WIDTH, y / HEIGHT, (x + width) / WIDTH, (y + height) / HEIGHT, **more)


def square(label: str, x: float, y: float, side: float) -> Instance:
    ring = [x, y, x + side, y, x + side, y + side, x, y + side]
    return Instance(label, [(np.reshape(ring, (-1, 2)) / (WIDTH, HEIGHT)).ravel().tolist()])


def mask_of(x: int, y: int, side: int, height: int = HEIGHT, width: int = WIDTH) -> dict:
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + side, x : x + side] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def write(path, rows, source=None):
    task = Task.SEGMENTATION if isinstance(rows[0], SegmentationRow) else Task.DETECTION
    with DatasetWriter(path, task, classes=CLASSES, source=source) as writer:
        for row in rows:
            writer.write(row)
    return path


@pytest.fixture
def data(tmp_path):
    """Three pictures: two cats and a dog; a cat; background. Named by their source as 7, 9 and 11."""
    rows = [
        ("a/000007.jpg", 7, [box("cat", 0, 0, 20, 20), box("cat", 40, 0, 20, 20), box("dog", 70, 10, 20, 20)]),
        ("a/000009.jpg", 9, [box("cat", 10, 10, 30, 30)]),
        ("a/000011.jpg", 11, []),
    ]
    return write(
        tmp_path / "data",
        [DetectionRow(image_url=f"/nowhere/{n}", image_id=k, image_details=DETAILS, label=b) for n, k, b in rows],
        {"category_ids": {"3": "cat", "5": "dog"}},
    )


RESULTS = [
    {"image_id": 7, "category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.9},  # right
    {"image_id": 7, "category_id": 3, "bbox": [0, 0, 20, 16], "score": 0.8},  # a duplicate: IoU 0.8
    {"image_id": 9, "category_id": 3, "bbox": [10, 10, 30, 20], "score": 0.7},  # right at 0.5: IoU 2/3
    {"image_id": 7, "category_id": 5, "bbox": [70, 10, 20, 20], "score": 0.6},  # right
    {"image_id": 11, "category_id": 5, "bbox": [0, 0, 20, 20], "score": 0.2},  # nothing there
]


def judge(tmp_path, data, results, **more):
    """Write the results, judge them, and read back what was written."""
    path = tmp_path / "given.json"
    path.write_text(json.dumps(results) if isinstance(results, list) else results)
    metrics = evaluate(data, tmp_path / "out", predictions=path, **more)
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert summary["metrics"] == metrics
    return summary


def test_hand_worked_numbers(tmp_path, data) -> None:
    """Cat: hits at rank 1 and 3 of 3 objects. Area: 1/3 * 1 + 1/3 * 2/3 = 5/9. Dog: hit, miss: 1."""
    summary = judge(tmp_path, data, RESULTS, task="image_object_detection")
    metrics = summary["metrics"]
    assert metrics["voc.AP.cat"] == pytest.approx(5 / 9, abs=1e-12)
    assert metrics["voc.AP.dog"] == 1
    assert metrics["voc.mAP"] == pytest.approx(7 / 9, abs=1e-12) == metrics["mean_average_precision"]
    # COCO's AP at 0.5 takes precision at 101 recalls: 1 up to 0.33 (34 of them), 2/3 up to 0.66 (33), then 0.
    assert metrics["coco.AP50"] == pytest.approx(((34 + 33 * 2 / 3) / 101 + 1) / 2, abs=1e-12)
    # At 0.3: 4 kept, 3 right, 4 objects.
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (0.75, 0.75, 0.75)
    cat, dog = summary["per_class"]
    assert [cat[key] for key in ("name", "ground_truths", "detections", "hits", "false", "missed")] == [
        *["cat", 3, 3, 2, 1, 1]
    ]
    assert (cat["precision"], cat["recall"], cat["f1"]) == (2 / 3, 2 / 3, 2 / 3)
    # F1 is 2/4, 2/5, 4/6 as the threshold falls.
    assert (cat["best_threshold"], cat["best_f1"]) == (0.7, pytest.approx(2 / 3))
    assert (dog["best_threshold"], dog["best_precision"], dog["best_recall"], dog["coco_AP50"]) == (
        0.6,
        1,
        1,
        pytest.approx(1),
    )
    assert summary["confusion_matrix"] == {
        "classes": ["cat", "dog", "(background)"],
        "matrix": [[2, 0, 1], [0, 1, 0], [1, 0, 0]],
    }
    assert {kind: row["count"] for kind, row in summary["errors"].items() if row["count"]} == {
        "duplicate": 1,
        "missed": 1,
    }
    low = next(row for row in summary["thresholds"] if row["threshold"] == 0.1)
    assert (low["found"], low["false"], low["missed"], low["precision"]) == (3, 2, 1, 0.6)
    assert [row["ground_truths"] for row in summary["sizes"]] == [4, 0, 0]
    assert (summary["objects"], summary["detections"], summary["images"]) == (4, 5, 3)
    assert summary["warnings"] == []
    assert summary["settings"] == {
        "metric_type": "voc",
        "iou_threshold": 0.5,
        "score_threshold": 0.3,
        "eleven_points": False,
        "inclusive_pixels": False,
    }
    assert len(summary["predictions"]["sha256"]) == 64
    assert summary["model"] is None


def test_the_rules_can_be_chosen(tmp_path, data) -> None:
    summary = judge(tmp_path, data, RESULTS, iou_threshold=0.7, score_threshold=0.85)
    # The cat of picture 9 overlaps by 2/3 only.
    assert summary["metrics"]["voc.AP.cat"] == pytest.approx(1 / 3)
    assert (summary["metrics"]["precision"], summary["metrics"]["recall"]) == (1.0, 0.25)
    assert summary["settings"]["iou_threshold"] == 0.7
    eleven = judge(tmp_path, data, RESULTS, eleven_points=True)["metrics"]
    # Recall 0, ..., 0.3: 1; 0.4, 0.5, 0.6: 2/3.
    assert eleven["voc.AP.cat"] == pytest.approx((4 + 3 * 2 / 3) / 11)
    assert eleven["mean_average_precision"] == pytest.approx(7 / 9)


def test_inclusive_pixels(tmp_path, data) -> None:
    """4 x 4 of 6 x 6 pixels: IoU 16/36 < 0.45, but 25/49 > 0.45 when the last pixel is part of a box."""
    rows = [DetectionRow(image_url="/a.jpg", image_details=DETAILS, label=[box("cat", 10, 10, 6, 6)])]
    small = write(tmp_path / "small", rows)
    given = [{"image_id": "a", "category_id": "cat", "bbox": [10, 10, 4, 4], "score": 0.5}]
    assert judge(tmp_path, small, given, iou_threshold=0.45)["metrics"]["voc.mAP"] == 0
    inclusive = judge(tmp_path, small, given, iou_threshold=0.45, inclusive_pixels=True)["metrics"]
    assert inclusive["voc.mAP"] == 1
    assert inclusive["mean_average_precision"] == 0  # what training logs knows no such pixels


def test_difficult_objects_count_neither_way(tmp_path) -> None:
    labels = [box("cat", 0, 0, 20, 20), box("cat", 40, 0, 20, 20, difficult=1)]
    data = write(tmp_path / "data", [DetectionRow(image_url="/a.jpg", image_details=DETAILS, label=labels)])
    given = [{"image_id": "a.jpg", "category_id": "cat", "bbox": [x, 0, 20, 20], "score": 0.5} for x in (0, 40)]
    metrics = judge(tmp_path, data, given)["metrics"]
    assert (metrics["voc.mAP"], metrics["precision"], metrics["recall"]) == (1, 1, 1)
    del given[0]
    metrics = judge(tmp_path, data, given)["metrics"]
    assert (metrics["voc.mAP"], metrics["recall"], metrics["coco.AR100"]) == (0, 0, 0.5)


@pytest.mark.parametrize(
    ("picture", "category"),
    [
        (lambda n: n, {3: 3, 5: 5}),
        (str, {3: "3", 5: "5"}),
        (float, {3: 3.0, 5: 5.0}),
        (lambda n: f"{n:06}.jpg", {3: "cat", 5: "dog"}),
        (lambda n: f"{n:06}", {3: "cat", 5: "dog"}),
        (lambda n: f"C:\\mine\\a\\{n:06}.jpg", {3: "cat", 5: "dog"}),
        (lambda n: f"/nowhere/a/{n:06}.jpg", {3: "cat", 5: 5}),
    ],
)
def test_pictures_and_classes_go_by_any_of_their_names(tmp_path, data, picture, category) -> None:
    expected = judge(tmp_path, data, RESULTS)
    renamed = [{**r, "image_id": picture(r["image_id"]), "category_id": category[r["category_id"]]} for r in RESULTS]
    summary = judge(tmp_path, data, renamed)
    assert summary["metrics"] == expected["metrics"]
    assert summary["warnings"] == []


def test_without_ids_numbers_are_guessed_and_that_is_said(tmp_path, data) -> None:
    rows = [
        DetectionRow(image_url=f"/voc/{n}.jpg", image_details=DETAILS, label=[box("dog", 70, 10, 20, 20)])
        for n in ("000007", "img_9", "2011_11")
    ]
    voc = write(tmp_path / "voc", [*rows, DetectionRow(image_url="/voc/x.jpg", image_details=DETAILS, label=[])])
    given = [{"image_id": k, "category_id": 2, "bbox": [70, 10, 20, 20], "score": 0.9} for k in (7, 9)]
    summary = judge(tmp_path, voc, given)
    assert summary["metrics"]["recall"] == 2 / 3
    assert summary["warnings"] == [
        "The data have no image ids: numbers were taken for those in the pictures' file names.",
        "The data have no category ids: they were taken as places in the alphabet from 1: 1 cat, 2 dog.",
        "2 of 4 pictures have no detection.",
    ]


def lines(summary_path) -> str:
    return (summary_path / "out" / "predictions.jsonl").read_text()


def test_what_is_written_is_judged_the_same(tmp_path, data) -> None:
    first = judge(tmp_path, data, RESULTS)
    text = lines(tmp_path)
    rows = [json.loads(line) for line in text.splitlines()]
    assert [len(row["boxes"]) for row in rows] == [3, 1, 1]
    assert rows[1] == {
        "image_url": "/nowhere/a/000009.jpg",
        "boxes": [
            {"box": {"topX": 0.1, "topY": 0.2, "bottomX": 0.4, "bottomY": 0.6}, "label": "cat", "score": 0.7},
        ],
    }
    again = judge(tmp_path, data, text)
    assert {key: again[key] for key in again if key != "predictions"} == {
        key: first[key] for key in first if key != "predictions"
    }
    assert lines(tmp_path) == text


def test_lines_as_azure_s_endpoints_write_them(tmp_path, data) -> None:
    expected = judge(tmp_path, data, RESULTS)["metrics"]
    rows = [json.loads(line) for line in lines(tmp_path).splitlines()]
    renamed = [{"filename": f"/tmp/xyz/{row['image_url'].split('/')[-1]}", "boxes": row["boxes"]} for row in rows]
    text = "\n".join(["", *(json.dumps(row) for row in renamed[::-1]), "", ""])
    assert judge(tmp_path, data, text)["metrics"] == expected


@pytest.fixture
def outlined(tmp_path):
    """One picture with two squares of 10 pixels a side, and one of 20 pixels (as COCO fills them)."""
    instances = [square("cat", 5, 5, 10), square("cat", 40, 5, 10), square("dog", 70, 5, 20)]
    return write(tmp_path / "outlined", [SegmentationRow(image_url="/a.jpg", image_details=DETAILS, label=instances)])


def masks(x: int, side: int, category: str, score: float) -> dict:
    return {"image_id": "a", "category_id": category, "segmentation": mask_of(x, 5, side), "score": score}


def test_masks_are_judged_and_their_boxes_beside(tmp_path, outlined) -> None:
    """The second mask, half of an object beside nothing, has IoU 0.5; that of its box is 1."""
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[5:15, 40:50] = np.tri(10)[:, ::-1]
    rle = coco_mask.encode(np.asfortranarray(half))
    second = {**masks(40, 10, "cat", 0.8), "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}
    given = [masks(5, 10, "cat", 0.9), second, masks(70, 20, "dog", 0.7)]
    metrics = judge(tmp_path, outlined, given, iou_threshold=0.6)["metrics"]
    assert (metrics["voc.AP.cat"], metrics["voc.AP.dog"], metrics["voc.mAP"]) == (0.5, 1, 0.75)
    assert metrics["voc.box.mAP"] == 1
    assert metrics["coco.box.AP"] == pytest.approx(1)
    assert metrics["coco.AP"] < 0.9
    assert metrics["coco.AP50"] == pytest.approx(1)  # 55 of 100 pixels
    text = lines(tmp_path)
    assert json.loads(text)["boxes"][1]["rle"] == second["segmentation"]
    assert judge(tmp_path, outlined, text, iou_threshold=0.6)["metrics"] == metrics


def test_rings_and_listed_run_lengths_are_masks_too(tmp_path, outlined) -> None:
    expected = judge(tmp_path, outlined, [masks(5, 10, "cat", 0.9), masks(70, 20, "dog", 0.7)])["metrics"]
    ring = [70, 5, 90, 5, 90, 25, 70, 25]
    runs = [5 * HEIGHT + 5, *([10, 40] * 10)]
    runs[-1] = HEIGHT * WIDTH - sum(runs[:-1])
    given = [
        {**masks(5, 10, "cat", 0.9), "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs}},
        {**masks(70, 20, "dog", 0.7), "segmentation": [ring]},
    ]
    assert judge(tmp_path, outlined, given)["metrics"] == expected
    ours = {
        "image_url": "a.jpg",
        "boxes": [
            {"label": "cat", "score": 0.9, "rle": {"size": [HEIGHT, WIDTH], "counts": runs}},
            {"label": "dog", "score": 0.7, "polygon": square("dog", 70, 5, 20).polygon},
        ],
    }
    assert judge(tmp_path, outlined, json.dumps(ours))["metrics"] == expected


def test_masks_can_be_judged_by_their_boxes_and_that_is_said(tmp_path, outlined) -> None:
    given = [masks(5, 10, "cat", 0.9), {**masks(70, 20, "dog", 0.7), "bbox": [70, 5, 20, 20]}]
    summary = judge(tmp_path, outlined, given, task="image_object_detection")
    assert summary["task"] == "image_object_detection"
    assert summary["metrics"]["recall"] == 2 / 3
    assert "coco.box.AP" not in summary["metrics"]
    assert summary["warnings"] == [
        "The data set has outlines; their boxes were compared.",
        "1 detections have no box; the boxes around their masks were judged.",
        "1 detections have masks, which were not used: boxes were judged.",
    ]
    boxes = [{"image_id": "a", "category_id": "cat", "bbox": [5, 5, 10, 10], "score": 0.9}]
    assert judge(tmp_path, outlined, boxes, task="image_object_detection")["metrics"]["precision"] == 1


def test_no_detection_at_all(tmp_path, data) -> None:
    summary = judge(tmp_path, data, [])
    assert summary["metrics"]["mean_average_precision"] == summary["metrics"]["coco.AP"] == 0
    assert summary["metrics"]["recall"] == 0
    assert summary["warnings"] == ["3 of 3 pictures have no detection."]
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    assert judge(tmp_path, data, "")["metrics"] == summary["metrics"]


def test_only_background_has_no_average_precision(tmp_path) -> None:
    data = write(tmp_path / "data", [DetectionRow(image_url="/a.jpg", image_details=DETAILS, label=[])])
    given = [{"image_id": "a", "category_id": "cat", "bbox": [0, 0, 9, 9], "score": 0.9}]
    summary = judge(tmp_path, data, given)
    assert summary["metrics"] == {"precision": 0.0, "f1": 0.0}
    assert summary["confusion_matrix"]["matrix"] == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def card(path, classes, **inference):
    ModelCard(
        task=Task.DETECTION,
        model_name="fasterrcnn_resnet18_fpn",
        classes=classes,
        preprocessing=FitPreprocessing(),
        inference={"box_score_threshold": 0.3, **inference},
        hyperparameters={"validation_metric_type": "coco", "validation_iou_threshold": 0.7},
    ).save(path)
    return path


def test_a_model_s_card_tells_classes_and_rules(tmp_path, data) -> None:
    model = card(tmp_path / "model", ["ant", "cat", "dog"], box_score_threshold=0.65)
    summary = judge(tmp_path, data, RESULTS, model=model)
    assert summary["classes"] == ["ant", "cat", "dog"]
    assert summary["settings"]["score_threshold"] == 0.65
    assert summary["settings"]["iou_threshold"] == 0.7
    assert summary["metrics"]["mean_average_precision"] == summary["metrics"]["coco.AP50"]
    assert summary["model"]["model_name"] == "fasterrcnn_resnet18_fpn"
    extra = {"label": "ant", "score": 0.1, "box": {"topX": 0, "topY": 0, "bottomX": 1, "bottomY": 1}}
    text = json.dumps({"image_url": "a/000011.jpg", "boxes": [extra]})
    assert judge(tmp_path, data, text, model=model)["detections"] == 1
    assert judge(tmp_path, data, RESULTS, model=model, score_threshold=0.0)["settings"]["score_threshold"] == 0.0


def test_a_class_that_the_model_does_not_know_counts_as_missed(tmp_path, data) -> None:
    model = card(tmp_path / "model", ["cat", "emu"])
    given = [result for result in RESULTS if result["category_id"] == 3]
    summary = judge(tmp_path, data, given, model=model, score_threshold=0.1)
    assert summary["classes"] == ["cat", "dog", "emu"]
    assert summary["metrics"]["voc.AP.dog"] == 0
    assert "voc.AP.emu" not in summary["metrics"]
    assert summary["warnings"][0] == (
        "The model does not know 1 of the 2 classes (dog); their 1 objects count as missed."
    )


def test_the_report_shows_pictures(tmp_path, data) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(tmp_path / "000007.jpg")
    row = DetectionRow(image_url=str(tmp_path / "000007.jpg"), image_details=DETAILS, label=[box("cat", 0, 0, 20, 20)])
    shown = write(tmp_path / "shown", [row])
    judge(tmp_path, shown, [{"image_id": 7, "category_id": "dog", "bbox": [0, 0, 20, 20], "score": 0.9}])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image" in page
    assert "could not be opened" not in page


def test_many_classes_leave_the_matrix_out(tmp_path) -> None:
    names = [f"class {k:02}" for k in range(60)]
    rows = [DetectionRow(image_url="/a.jpg", image_details=DETAILS, label=[box(n, 0, 0, 9, 9) for n in names])]
    with DatasetWriter(tmp_path / "data", Task.DETECTION) as writer:
        writer.write(rows[0])
    given = [{"image_id": "a", "category_id": names[3], "bbox": [50, 20, 9, 9], "score": 0.9}]
    summary = judge(tmp_path, tmp_path / "data", given)
    assert "confusion_matrix" not in summary
    assert len(summary["confusions"]) == 30
