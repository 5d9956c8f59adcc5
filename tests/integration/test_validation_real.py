"""`validate` over the real data sets, converted as a user would; the pages are opened in a browser."""

import json
from pathlib import Path

import pytest
from browser import open_page

from kubesight.convert import convert
from kubesight.dataset.dataset import Dataset
from kubesight.dataset.report import Report
from kubesight.dataset.validation import validate
from kubesight.split import split

PAGE_LIMIT = 1_000_000


def check_page(folder: Path, shots: Path) -> str:
    """The page is small, complete and silent, in light and in dark."""
    page = folder / "report.html"
    markup = page.read_text(encoding="utf-8")
    assert page.stat().st_size < PAGE_LIMIT
    assert markup.rstrip().endswith("</html>")
    for dark in (False, True):
        assert open_page(page, shots / f"{folder.name}-{dark}.png", dark=dark).console == []
    return markup


@pytest.fixture
def shots(tmp_path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    return folder


def test_grocery_by_its_own_parts(real_data, tmp_path, shots):
    source = real_data / "grocery10"
    data = convert(str(source / "train"), tmp_path / "grocery", validation_source=str(source / "val"))
    summary = validate([data.path])
    assert summary["images"] == 447
    assert summary["parts"] == {"validation": 51, "train": 396}
    assert summary["classes"] == 10
    assert summary["unreadable_images"] == 0
    statistics = json.loads((data.path / "report.json").read_text())["statistics"]
    assert statistics["per_class"]["Orange"]["images"] == {"validation": 5, "train": 57}
    assert statistics["per_class"]["Pineapple"]["images"] == {"validation": 5, "train": 26}
    assert list(statistics["formats"].values()) == [447]
    markup = check_page(data.path, shots)
    assert markup.count("data:image/jpeg") == 40


def test_bccd_lists_its_degenerate_boxes_and_truncated_objects(real_data, tmp_path, shots):
    data = convert(str(real_data / "bccd_voc"), tmp_path / "bccd")
    before = Report.load(data.path).to_dict()
    summary = validate([data.path])
    assert Report.load(data.path).to_dict() == before
    assert summary["images"] == 364
    assert summary["annotations_dropped"] == 2
    value = json.loads((data.path / "report.json").read_text())
    dropped = [finding for finding in value["findings"] if finding["severity"] == "dropped"]
    assert {Path(finding["file"]).stem for finding in dropped} == {"BloodImage_00338", "BloodImage_00343"}
    assert all(finding["line"] > 1 for finding in dropped)
    assert value["statistics"]["marks"]["truncated"] == 1131
    (imbalance,) = (remark for remark in value["warnings"] if remark["code"] == "class_imbalance")
    assert "weighted_loss" not in imbalance["message"], "detectors have no such hyperparameter"
    markup = check_page(data.path, shots)
    assert "BloodImage_00338.xml" in markup
    assert markup.count("data:image/jpeg") == 24


@pytest.mark.parametrize(("kind", "marked"), [("rle", "exact masks"), ("polygons", None)])
def test_nuclei_with_masks_and_with_polygons(real_data, tmp_path, shots, kind, marked):
    folder = real_data / "nuclei_coco"
    data = convert(
        str(folder / "train" / f"instances_{kind}.json"),
        tmp_path / kind,
        validation_source=str(folder / "val" / f"instances_{kind}.json"),
    )
    summary = validate([data.path])
    assert summary["images"] == 140
    assert summary["annotations"] + summary["annotations_dropped"] == 3985
    assert summary["parts"] == {"validation": 30, "train": 110}
    markup = check_page(data.path, shots)
    assert (marked is None) or marked in markup


def test_facade_reports_its_small_classes_and_doubled_category(real_data, tmp_path, shots):
    data = convert(str(real_data / "facade_coco"), tmp_path / "facade")
    summary = validate([data.path])
    assert summary["images"] == 35
    assert summary["annotations"] == 953
    value = json.loads((data.path / "report.json").read_text())
    assert "facade" in json.dumps(value["findings"])
    assert {"few_pictures", "class_imbalance", "small_boxes"} <= {remark["code"] for remark in value["warnings"]}
    check_page(data.path, shots)


def test_the_parts_of_a_split_together(real_data, tmp_path, shots):
    data = convert(str(real_data / "bccd_voc"), tmp_path / "bccd")
    parts = split(data.path, tmp_path / "parts", test_ratio=0.1)
    summary = validate([part.path for part in parts.values()], tmp_path / "report")
    assert sum(summary["parts"].values()) == 364
    assert set(summary["parts"]) == {"train", "validation", "test"}
    assert summary["annotations"] == Dataset(data.path).info.counts["annotations"]
    assert summary["duplicates_across_parts"] == 0
    check_page(tmp_path / "report", shots)
