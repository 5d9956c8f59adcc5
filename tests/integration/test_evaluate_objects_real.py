"""Real data sets judged by the program: the numbers are those of pycocotools on the original files."""

import contextlib
import copy
import io
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kubesight.cli import main as program
from kubesight.convert import convert
from kubesight.dataset import Task
from kubesight.evaluate.evaluate import evaluate
from kubesight.metrics.coco import SUMMARY


def reference(annotations: Path, results: list, kind: str) -> dict[str, float]:
    """What pycocotools says; its annotations are numbered from 1, since it takes id 0 for no match."""
    content = json.loads(annotations.read_text())
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number
        annotation.setdefault("iscrowd", 0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return {name: value for name, value in zip(SUMMARY, judged.stats.tolist(), strict=True) if value > -1}


def guesses(annotations: Path, kind: str, *, whole_pixels: bool = False) -> list[dict[str, Any]]:
    """Detections near the labelled objects, some of another class, some twice, no two scores alike."""
    content = json.loads(annotations.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    used = sorted({annotation["category_id"] for annotation in content["annotations"]})
    generator = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for annotation in content["annotations"]:
        for _ in range(generator.integers(0, 3)):
            category = annotation["category_id"] if generator.random() < 0.85 else int(generator.choice(used))
            guess = {"image_id": annotation["image_id"], "category_id": category, "score": float(generator.random())}
            if kind == "bbox":
                x, y, width, height = annotation["bbox"]
                box = np.array([x, y, width, height]) + generator.normal(0, 0.08, 4) * [width, height, width, height]
                box[2:] = np.maximum(box[2:], 1)
                guess["bbox"] = box.round(0 if whole_pixels else 2).tolist()
            else:
                outline = annotation["segmentation"]
                height, width = sizes[annotation["image_id"]]
                if isinstance(outline, list):
                    outline = coco_mask.merge(coco_mask.frPyObjects(outline, height, width))
                moved = np.roll(coco_mask.decode(outline), generator.integers(-2, 3, 2), (0, 1))
                rle = coco_mask.encode(np.asfortranarray(moved))
                guess["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            found.append(guess)
    return found


def coco(metrics: dict[str, float], prefix: str = "coco.") -> dict[str, float]:
    return {name: metrics[prefix + name] for name in SUMMARY if prefix + name in metrics}


FACADE = "facade_coco/valid/_annotations.coco.json"
CASES = [
    (FACADE, "bbox"),
    (FACADE, "segm"),
    ("nuclei_coco/val/instances_rle.json", "segm"),
    ("nuclei_coco/val/instances_polygons.json", "segm"),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_coco_file(real_data: Path, tmp_path: Path, name: str, kind: str) -> None:
    task = Task.DETECTION if kind == "bbox" else Task.SEGMENTATION
    results = guesses(real_data / name, kind)
    (tmp_path / "results.json").write_text(json.dumps(results))
    expected = reference(real_data / name, results, kind)
    metrics = evaluate(real_data / name, tmp_path / "out", predictions=tmp_path / "results.json", task=task)
    assert coco(metrics) == pytest.approx(expected, abs=1e-9)
    again = evaluate(
        real_data / name, tmp_path / "again", predictions=tmp_path / "out" / "predictions.jsonl", task=task
    )
    assert again == metrics


@pytest.mark.parametrize(
    ("name", "kind", "tolerance"),
    # Conversion cuts 84 of the 953 boxes of facade_coco at the picture's edge, by up to half a pixel each.
    [(FACADE, "bbox", 1e-3), (FACADE, "segm", 1e-9), ("nuclei_coco/val/instances_rle.json", "segm", 1e-9)],
)
def test_a_data_set_made_of_a_coco_file(
    real_data: Path, tmp_path: Path, name: str, kind: str, tolerance: float
) -> None:
    task = Task.DETECTION if kind == "bbox" else Task.SEGMENTATION
    results = guesses(real_data / name, kind)
    (tmp_path / "results.json").write_text(json.dumps(results))
    convert(str(real_data / name), tmp_path / "data", task=task)
    metrics = evaluate(tmp_path / "data", tmp_path / "out", predictions=tmp_path / "results.json")
    assert coco(metrics) == pytest.approx(reference(real_data / name, results, kind), abs=tolerance)


def as_coco(folder: Path, path: Path) -> Path:
    """A VOC folder as a COCO file, by the standard: inclusive pixels from 1. Boxes without area are left out."""
    classes = ["Platelets", "RBC", "WBC"]
    images, annotations = [], []
    for file in sorted((folder / "Annotations").glob("*.xml")):
        root = ElementTree.parse(file).getroot()
        number = int(re.findall(r"\d+", file.stem)[0])
        size = {side: int(root.findtext(f"size/{side}") or 0) for side in ("width", "height")}
        images.append({"id": number, "file_name": f"{file.stem}.jpg", **size})
        for element in root.findall("object"):
            x0, y0, x1, y1 = (int(element.findtext(f"bndbox/{n}") or 0) for n in ("xmin", "ymin", "xmax", "ymax"))
            if x0 == x1 or y0 == y1:
                continue
            box = [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]
            category = classes.index(element.findtext("name") or "") + 1
            annotations.append({"image_id": number, "category_id": category, "bbox": box, "area": box[2] * box[3]})
    names = [{"id": k, "name": name} for k, name in enumerate(classes, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return path


def test_a_voc_folder_through_the_program(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Whole pixels, so that many overlaps are exactly 0.5, 0.6, 0.75 ...: none may fall on the other side."""
    truth = as_coco(real_data / "bccd_voc", tmp_path / "truth.json")
    results = guesses(truth, "bbox", whole_pixels=True)
    (tmp_path / "results.json").write_text(json.dumps(results))
    words = ["--task", "image_object_detection", "--predictions", tmp_path / "results.json", "-o", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["kubesight", "evaluate", "--data", str(real_data / "bccd_voc"), *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert not ended.value.code
    printed = capsys.readouterr()
    assert "dropped: 2 degenerate_box" in printed.err
    assert "voc.AP.Platelets" in printed.out
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert coco(summary["metrics"]) == pytest.approx(reference(truth, results, "bbox"), abs=1e-9)
    assert summary["data"]["path"] == str(real_data / "bccd_voc")
    assert summary["classes"] == ["Platelets", "RBC", "WBC"]
    assert sum("numbers were taken for those in the pictures' file names" in each for each in summary["warnings"]) == 1
    assert "data:image" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "report.html").stat().st_size < 3_000_000


def test_the_outlines_of_nuclei_agree_with_their_masks(real_data: Path, tmp_path: Path) -> None:
    """The polygons run through the centres of the outermost pixels: as detections of the masks, nearly all are found.

    A nucleus of r pixels loses about half a pixel all around: IoU about (1 - 0.5 / r)^2, over 0.5 from r = 1.7 on.
    """
    truth = real_data / "nuclei_coco" / "val" / "instances_rle.json"
    outlines = json.loads((real_data / "nuclei_coco" / "val" / "instances_polygons.json").read_text())["annotations"]
    results = [
        {"image_id": each["image_id"], "category_id": 1, "segmentation": each["segmentation"], "score": 1.0}
        for each in outlines
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    metrics = evaluate(truth, tmp_path / "out", predictions=tmp_path / "results.json", task=Task.SEGMENTATION)
    assert metrics["recall"] > 0.95
    assert metrics["voc.mAP"] > 0.95
    assert metrics["coco.AP"] < 0.9
