"""The predictor of detectors: what it answers, under which settings, and which files it writes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from small_detectors import CLASSES, scene, scene_files, small_detector

from kubesight.dataset import Task
from kubesight.dataset.detections import Detections, full_mask
from kubesight.dataset.objects import polygon_rle
from kubesight.dataset.outlines import mask_rings
from kubesight.dataset.tiling import Grid, detect
from kubesight.errors import DatasetError, HyperparameterError, KubesightError, ModelError
from kubesight.modelcard import ModelCard
from kubesight.models.build import load_trained
from kubesight.models.detectors import detect_batch, set_inference
from kubesight.serving.answers import answers
from kubesight.serving.files import FileNames
from kubesight.serving.predictor import load_predictor

SIZES = [(150, 200), (120, 90), (64, 256)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[Task, Path]:
    root = tmp_path_factory.mktemp("models")
    return {task: small_detector(root / task, task) for task in (Task.DETECTION, Task.SEGMENTATION)}


def predictor(folder: Path, **overrides: Any) -> Any:
    return load_predictor(folder, device="cpu", threads=2, overrides=overrides)


def by_hand(folder: Path, file: str) -> Detections:
    module, _ = load_trained(folder)
    return detect_batch(module, [torch.from_numpy(np.array(Image.open(file)))])[0]


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_answers_are_the_networks_from_the_threshold_on(task, models, tmp_path) -> None:
    files = scene_files(tmp_path, SIZES)
    ours = predictor(models[task])
    for file, answer, everything in zip(files, ours.predict(iter(files)), ours.all_detections(files), strict=True):
        expected = by_hand(models[task], file)
        np.testing.assert_array_equal(everything.scores, expected.scores)
        np.testing.assert_array_equal(ours.detections(file).boxes, expected.boxes)
        line = answer.to_dict()
        kept = expected.select(expected.scores >= 0.3)
        assert 0 < len(kept) < len(expected) or len(kept) == 20
        assert line["image_url"] == file
        assert [one["label"] for one in line["boxes"]] == [CLASSES[index] for index in kept.labels]
        np.testing.assert_allclose([one["score"] for one in line["boxes"]], kept.scores, atol=1e-6)
        boxes = [[one["box"][corner] for corner in ("topX", "topY", "bottomX", "bottomY")] for one in line["boxes"]]
        np.testing.assert_allclose(boxes, kept.boxes, atol=1e-6)
        assert all(("polygon" in one) is (task is Task.SEGMENTATION) for one in line["boxes"])


def test_polygons_are_the_masks(models, tmp_path) -> None:
    (file,) = scene_files(tmp_path, [(150, 200)])
    found = by_hand(models[Task.SEGMENTATION], file)
    for threshold, points, least in ((0.5, 100, 0.85), (0.7, 30, 0.85)):
        settings = {"mask_pixel_score_threshold": threshold, "max_number_of_polygon_points": points}
        (answer,) = predictor(models[Task.SEGMENTATION], box_score_threshold=0, **settings).predict([file])
        lines = answer.to_dict()["boxes"]
        assert len(lines) == len(found)
        seen = 0
        for line, mask, box in zip(lines, found.masks, found.pixel_boxes(150, 200), strict=True):
            pixels = full_mask(mask, box, 150, 200, threshold)
            assert bool(line["polygon"]) == bool(pixels.any())
            assert sum(map(len, line["polygon"])) <= 2 * points
            if pixels.sum() > 100 and len(mask_rings(pixels)) < 20:  # not mere noise
                filled = polygon_rle(line["polygon"], 150, 200)
                own = coco_mask.encode(np.asfortranarray(pixels, np.uint8))
                assert coco_mask.iou([filled], [own], [0])[0, 0] > least
                seen += 1
        assert seen > 3


def test_thresholds_of_the_card_hold_and_can_be_overridden(models, tmp_path) -> None:
    (file,) = scene_files(tmp_path, [(150, 200)])
    folder = models[Task.DETECTION]
    scores = by_hand(folder, file).scores
    for value in (0.0, float(scores[4]), 1.0):
        (answer,) = predictor(folder, box_score_thresh=str(value)).predict([file])
        assert len(answer.found) == (scores >= np.float32(value)).sum()
    assert len(predictor(folder, box_score_threshold=1.0).detections(file)) == len(scores)  # all scores, still


def test_suppression_and_limit_reach_the_network(models, tmp_path) -> None:
    (file,) = scene_files(tmp_path, [(150, 200)])
    folder = models[Task.DETECTION]
    module, _ = load_trained(folder)
    set_inference(module, nms_iou_threshold=0.1, box_detections_per_image=6)
    (expected,) = detect_batch(module, [torch.from_numpy(np.array(Image.open(file)))])
    found = predictor(folder, nms_iou_threshold="0.1", box_detections_per_img=6).detections(file)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert len(found) <= 6
    assert found.boxes.tolist() != by_hand(folder, file).boxes[:6].tolist()


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_tiles(task, models, tmp_path) -> None:
    (file,) = scene_files(tmp_path, [(150, 200)])
    module, _ = load_trained(models[task])

    def network(picture: np.ndarray) -> Detections:
        return detect_batch(module, [torch.from_numpy(picture)])[0]

    expected = detect(network, np.array(Image.open(file)), Grid(2, 3, 0.3), 0.2, 20)
    overrides = {"tile_grid_size": "2x3", "tile_overlap_ratio": 0.3, "tile_predictions_nms_threshold": 0.2}
    found = predictor(models[task], **overrides).detections(file)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.boxes.tolist() != by_hand(models[task], file).boxes.tolist()


def test_a_card_with_tiles_and_their_override(tmp_path) -> None:
    folder = small_detector(tmp_path / "model", tile_grid_size="2x2", tile_overlap_ratio=0.1)
    (file,) = scene_files(tmp_path, [(150, 200)])
    assert predictor(folder).grid == Grid(2, 2, 0.1)
    assert predictor(folder, tile_overlap_ratio=0.5).grid == Grid(2, 2, 0.5)
    whole = predictor(folder, tile_grid_size="none")
    assert whole.grid is None
    np.testing.assert_array_equal(whole.detections(file).boxes, by_hand(folder, file).boxes)


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        (
            Task.DETECTION,
            {"box_score_threshold": 1.2},
            r"box_score_threshold is 1\.2, but must be a number in \[0, 1\]",
        ),
        (
            Task.DETECTION,
            {"box_score_treshold": 0.5},
            "unknown hyperparameter 'box_score_treshold'. Did you mean box_sc",
        ),
        (Task.DETECTION, {"learning_rate": 0.1}, "learning_rate is a setting of training"),
        (
            Task.DETECTION,
            {"mask_pixel_score_threshold": 0.5},
            "mask_pixel_score_threshold does not apply to fasterrcnn",
        ),
        (
            Task.DETECTION,
            {"tile_overlap_ratio": 0.5},
            "tile_overlap_ratio is 0.5, but it has no effect, because tile_gr",
        ),
        (Task.SEGMENTATION, {"image_type": "png"}, "image_type is png, but it has no effect, because export_as_image"),
        (Task.SEGMENTATION, {"max_number_of_polygon_points": 2}, "an outline has 3 points at least"),
        (Task.SEGMENTATION, {"nms_iou_threshold": 0.5, "nms_iou_thresh": 0.5}, "nms_iou_threshold is given twice"),
    ],
)
def test_overrides_that_make_no_sense(task, overrides, message, models) -> None:
    with pytest.raises(HyperparameterError, match=message):
        predictor(models[task], **overrides)


def test_a_batch_gives_what_single_pictures_give_where_sizes_are_equal(models, tmp_path) -> None:
    files = scene_files(tmp_path, [(96, 128)] * 5)
    folder = models[Task.DETECTION]
    single = list(load_predictor(folder, device="cpu").all_detections(files))
    batched = list(load_predictor(folder, device="cpu", batch_size=3).all_detections(files))
    for one, other in zip(single, batched, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_sizes_are_those_of_the_picture_as_shown(models, tmp_path) -> None:
    # A photograph of 800 x 600 on its side: decoded at a quarter, answered in fractions of 600 x 800.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(3, (600, 800))).save(tmp_path / "photo.jpg", exif=exif)
    (answer,) = predictor(models[Task.SEGMENTATION]).predict([str(tmp_path / "photo.jpg")])
    assert (answer.height, answer.width) == (800, 600)
    region, (x, y) = answer.region(0)
    left, top, right, bottom = answer.found.pixel_boxes(800, 600)[0]
    margin = 1 + max(right - left, bottom - top) / 56
    assert x >= left - margin
    assert y >= top - margin
    assert x + region.shape[1] <= right + margin
    assert y + region.shape[0] <= bottom + margin


def test_a_bad_picture_is_named_when_its_turn_comes(models, tmp_path) -> None:
    files = scene_files(tmp_path, [(64, 64)] * 3)
    Path(files[1]).write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    found = predictor(models[Task.DETECTION]).predict(files)
    assert next(found).url == files[0]
    with pytest.raises(DatasetError, match=r"scene1\.png"):
        next(found)


@pytest.mark.parametrize(("kind", "exact"), [("png", True), ("bmp", True), ("jpg", False)])
def test_masks_as_pictures(kind, exact, models, tmp_path) -> None:
    files = scene_files(tmp_path, [(120, 160), (90, 110)])
    ours = predictor(models[Task.SEGMENTATION], export_as_image="true", image_type=kind)
    lines = list(answers(ours, files, masks=tmp_path / "masks"))
    written = [Path(one["mask"]) for line in lines for one in line["boxes"]]
    assert sorted(written) == sorted((tmp_path / "masks").iterdir())
    assert written[0].name == f"scene0.0.{kind}"
    for line, answer in zip(lines, ours.predict(files), strict=True):
        for index, one in enumerate(line["boxes"]):
            pixels = np.array(Image.open(one["mask"]))
            box = answer.found.pixel_boxes(answer.height, answer.width)[index]
            expected = full_mask(answer.found.masks[index], box, answer.height, answer.width, 0.5)
            np.testing.assert_array_equal(pixels > 127, expected)
            assert one["polygon"] == answer.polygon(index)
            assert not exact or set(np.unique(pixels)) <= {0, 255}


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_drawings(task, models, tmp_path) -> None:
    files = scene_files(tmp_path, [(90, 120)])
    (line,) = answers(predictor(models[task], box_score_threshold=0.5), files, drawings=tmp_path / "drawn")
    assert line["drawing"] == str(tmp_path / "drawn" / "scene0.jpg")
    drawn = np.array(Image.open(line["drawing"])).astype(int)
    assert drawn.shape == (720, 960, 3)  # enlarged, so that the tags can be read
    plain = cv2.resize(np.array(Image.open(files[0])), (960, 720), interpolation=cv2.INTER_LINEAR).astype(int)
    changed = np.abs(drawn - plain).max(axis=2) > 40
    edges = np.zeros((720, 960), bool)
    for one in line["boxes"]:
        box = one["box"]
        x0, y0, x1, y1 = (round(box[c] * side) for c, side in zip(box, (959, 719) * 2, strict=True))
        edges[y0, x0:x1] = edges[y1, x0:x1] = True
        edges[y0:y1, x0] = edges[y0:y1, x1] = True
    assert line["boxes"]
    assert changed[edges].mean() > 0.9
    assert changed.mean() < 0.9


def test_folders_that_would_stay_empty_or_are_missing(models, tmp_path) -> None:
    files = scene_files(tmp_path, [(64, 64)])
    boxes, masks = models[Task.DETECTION], models[Task.SEGMENTATION]
    for ours, message in (
        (predictor(boxes), "--output: nothing would be written there.* Leave --output out"),
        (predictor(masks), "--output: nothing would be written there.* Add --export-as-image true"),
    ):
        with pytest.raises(KubesightError, match=message):
            next(answers(ours, files, masks=tmp_path / "masks"))
    with pytest.raises(KubesightError, match="export_as_image is true, but no folder is named"):
        next(answers(predictor(masks, export_as_image=True), files))
    (tmp_path / "file").write_text("")
    with pytest.raises(KubesightError, match="file"):
        next(answers(predictor(boxes), files, drawings=tmp_path / "file"))
    assert not (tmp_path / "masks").exists()


def test_files_of_pictures_of_one_name() -> None:
    names = FileNames()
    given = ["/a/x.jpg", "/b/x.png", "/c/x-2.png", "/d/x.jpg", "/e/y.jpg"]
    stems = [names.stem(url) for url in given]
    assert stems[:2] == ["x", "x-2"]
    assert len(set(stems)) == 5


def test_not_exported(models) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx: not exported yet.*kubesight export --model"):
        load_predictor(models[Task.DETECTION], backend="onnx")
    assert ModelCard.load(models[Task.DETECTION]).onnx is None
