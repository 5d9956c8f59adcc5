"""The four real sets: counts as their authors give them, quirks found, masks equal to pycocotools'."""

import ast
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
from pycocotools import mask as coco_mask
from sources import converted

from kubesight.convert import convert
from kubesight.dataset.rle import rle_box, rle_mask
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError


def test_bccd_is_read_whole_but_for_its_two_degenerate_boxes(real_data: Path, tmp_path: Path) -> None:
    result = converted(real_data / "bccd_voc", tmp_path / "out", max_dropped=0.05)
    assert result.dataset.task is Task.DETECTION
    assert len(result.dataset) == len(result.rows) == 364
    assert result.dataset.info.counts["per_class"] == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert result.report["annotations_read"] == 4888
    assert sum(box.truncated for row in result.rows for box in row.label) == 1131
    dropped = result.findings("degenerate_box")
    assert [Path(finding["file"]).stem for finding in dropped] == ["BloodImage_00338", "BloodImage_00343"]
    for finding in dropped:
        lines = Path(finding["file"]).read_text().splitlines()
        assert "<object>" in lines[finding["line"] - 1]
    assert result.reasons == {"dropped": {"degenerate_box": 2}}
    with pytest.raises(DatasetError, match=r"BloodImage_00338\.xml, line \d+.*degenerate_box"):
        convert(str(real_data / "bccd_voc"), tmp_path / "strict", strict=True)


def test_bccd_boxes_are_those_of_the_files(real_data: Path, tmp_path: Path) -> None:
    row = converted(real_data / "bccd_voc", tmp_path / "out").by_name()["BloodImage_00338.jpg"]
    first = row.label[0]  # 453, 81, 555, 182 in the file, of 640 x 480
    assert (first.topX, first.topY, first.bottomX, first.bottomY) == (452 / 640, 80 / 480, 555 / 640, 182 / 480)
    assert (row.image_details.width, row.image_details.height) == (640, 480)


def test_bccd_as_presence_in_the_authors_parts(real_data: Path, tmp_path: Path) -> None:
    options = {"image_sets": "true"}
    result = converted(real_data / "bccd_voc", tmp_path / "out", task=Task.MULTILABEL, options=options)
    assert Counter(row.split for row in result.rows) == {"train": 205, "validation": 87, "test": 72}
    assert {name for row in result.rows for name in row.label} == {"RBC", "WBC", "Platelets"}
    assert all(row.label == sorted(set(row.label)) for row in result.rows)


def test_grocery_counts_are_the_authors(real_data: Path, tmp_path: Path) -> None:
    result = converted(real_data / "grocery10", tmp_path / "out", check_images=True)
    text = (real_data / "grocery10" / "SOURCE.txt").read_text()
    counts = ast.literal_eval(text[text.index("{") : text.index("}") + 1])
    part = {"train": "train", "val": "validation"}
    wanted = {(part[k.split("/")[0]], k.split("/")[1]): n for k, n in counts.items() if not k.startswith("test")}
    assert Counter((row.split, row.label) for row in result.rows) == wanted
    assert result.report["findings"] == []
    separate = converted(
        real_data / "grocery10" / "train", tmp_path / "two", validation_source=str(real_data / "grocery10" / "val")
    )
    assert [row.image_url for row in separate.rows] == [row.image_url for row in result.rows]
    assert [row.split for row in separate.rows] == [row.split for row in result.rows]


def test_facade_merges_its_doubled_class(real_data: Path, tmp_path: Path) -> None:
    result = converted(real_data / "facade_coco", tmp_path / "out", max_dropped=0.0)
    assert result.dataset.task is Task.SEGMENTATION
    assert (len(result.rows), len(result.dataset.classes)) == (35, 10)
    assert result.dataset.info.counts["annotations"] == 953
    assert "0 and 3" in result.findings("duplicate_category")[0]["message"]
    boxes = converted(real_data / "facade_coco", tmp_path / "boxes", task=Task.DETECTION)
    assert boxes.dataset.info.counts["per_class"] == result.dataset.info.counts["per_class"]


def test_nuclei_need_a_choice_and_keep_every_mask_exactly(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "nuclei_coco"
    with pytest.raises(DatasetError, match=r"instances_polygons\.json, instances_rle\.json"):
        convert(str(source), tmp_path / "out")
    result = converted(source, tmp_path / "out", options={"annotations": "instances_rle.json"}, max_dropped=0.0)
    parts = Counter(row.split for row in result.rows for _ in row.label)
    assert parts == {"train": 3128, "validation": 857}
    content = orjson.loads((source / "train" / "instances_rle.json").read_bytes())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    theirs: dict[str, list] = {}
    for annotation in content["annotations"]:
        theirs.setdefault(names[annotation["image_id"]], []).append(annotation)
    rows = result.by_name()
    for name, annotations in theirs.items():
        for instance, annotation in zip(rows[name].label, annotations, strict=True):
            assert instance.rle.counts == annotation["segmentation"]["counts"]
            mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
            assert (rle_mask(instance.rle) == mask).all()
            left, top, right, bottom = (side * 256 for side in rle_box(instance.rle))
            assert [left, top, right - left, bottom - top] == annotation["bbox"]
            assert (even_odd(instance.polygon, 256) == mask).all()


def even_odd(polygon: list[list[float]], size: int) -> np.ndarray:
    """The XOR of rings whose edges run along pixels."""
    inside = np.zeros((size, size), bool)
    for ring in polygon:
        points = np.rint(np.array(ring).reshape(-1, 2) * size).astype(int).tolist()
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= True
    return inside


def test_nuclei_polygons_and_their_area(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "nuclei_coco" / "train" / "instances_polygons.json"
    result = converted(source, tmp_path / "out")
    assert result.dataset.info.counts == {"images": 110, "annotations": 3128, "per_class": {"nucleus": 3128}}
    content = orjson.loads(source.read_bytes())
    first = content["annotations"][0]["segmentation"][0]
    back = np.array(result.rows[0].label[0].polygon[0]) * 256
    assert back == pytest.approx(np.array(first), abs=1e-9)


@pytest.mark.parametrize("name", ["bccd_voc", "grocery10", "facade_coco"])
def test_a_written_set_read_again_is_the_same(real_data: Path, tmp_path: Path, name: str) -> None:
    first = converted(real_data / name, tmp_path / "first")
    again = converted(first.dataset.path, tmp_path / "again")
    assert again.rows == first.rows
    assert again.dataset.info.content_hash == first.dataset.info.content_hash
    assert again.report["findings"] == []
