"""`validate` over small data sets of each task: hand-counted statistics, planted faults, reports that keep."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kubesight.dataset.advice import advise
from kubesight.dataset.dataset import DatasetWriter
from kubesight.dataset.integrity import Integrity
from kubesight.dataset.report import Finding, Report
from kubesight.dataset.rows import (
    Box,
    ClassificationRow,
    DetectionRow,
    ImageDetails,
    Instance,
    MultilabelRow,
    Rle,
    SegmentationRow,
    Task,
)
from kubesight.dataset.statistics import Statistics, bounding_box
from kubesight.dataset.validation import validate
from kubesight.errors import DatasetError


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> str:
    """Write a picture of noise (so that no two are equal) of width and height `size`; give its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def details(width: int = 40, height: int = 30, kind: str = "png") -> ImageDetails:
    return ImageDetails(format=kind, width=width, height=height)


def classification(folder: Path, labels: list[str], *, seed: int = 0, split: dict | None = None) -> Path:
    """A data set with one new picture a label."""
    with DatasetWriter(folder / "data", Task.CLASSIFICATION, split=split) as writer:
        for index, label in enumerate(labels):
            url = picture(folder / "pictures" / f"{index}.png", seed + index)
            writer.write(ClassificationRow(image_url=url, label=label, image_details=details()))
    return folder / "data"


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def codes(folder: Path) -> set[str]:
    return {remark["code"] for remark in report(folder)["warnings"]}


def test_classification_is_counted(tmp_path):
    data = classification(tmp_path, ["cat"] * 12 + ["dog"] * 11)
    summary = validate([data])
    assert summary["images"] == summary["annotations"] == 23
    assert summary["classes"] == 2
    assert summary["unreadable_images"] == summary["duplicate_images"] == summary["background_images"] == 0
    assert summary["warnings"] == ["Tiny pictures: 23 pictures have a side under 32 pixels"]
    assert summary["report"] == str(data / "report.html")
    statistics = report(data)["statistics"]
    assert statistics["per_class"] == {
        "cat": {"images": {"all": 12}, "annotations": {"all": 12}},
        "dog": {"images": {"all": 11}, "annotations": {"all": 11}},
    }
    assert statistics["formats"] == {"png": 23}
    assert statistics["picture_width"]["min"] == statistics["picture_width"]["max"] == 40
    assert statistics["picture_aspect_ratio"]["median"] == pytest.approx(4 / 3, abs=1e-5)
    assert sum(statistics["picture_height"]["histogram"]["counts"]) == 23
    assert report(data)["checked"] == {"decoded": 23, "remote": 0, "check_images": True}


def test_multilabel_counts_pictures_without_labels(tmp_path):
    labels = [["a", "b"], ["b"], [], ["b"]]
    with DatasetWriter(tmp_path / "data", Task.MULTILABEL, classes=["c"]) as writer:
        for index, names in enumerate(labels):
            writer.write(MultilabelRow(image_url=picture(tmp_path / f"{index}.png", index), label=names))
    summary = validate([tmp_path / "data"])
    assert (summary["annotations"], summary["background_images"], summary["classes"]) == (4, 1, 3)
    statistics = report(tmp_path / "data")["statistics"]
    assert statistics["annotations_per_picture"]["mean"] == 1.0
    assert statistics["pictures_of_unknown_size"] == 4
    assert {"empty_class", "few_pictures", "unknown_size"} <= codes(tmp_path / "data")
    assert "Classes without pictures: “c”" in summary["warnings"]


def test_detection_measures_boxes(tmp_path):
    boxes = [
        [Box("car", 0.0, 0.0, 0.5, 0.5), Box("car", 0.0, 0.0, 0.5, 0.5), Box("bus", 0.2, 0.2, 0.205, 0.9, difficult=1)],
        [Box("car", 0.0, 0.0, 1.0, 1.0, isCrowd=1, truncated=1)],
        [],
    ]
    with DatasetWriter(tmp_path / "data", Task.DETECTION) as writer:
        for index, label in enumerate(boxes):
            url = picture(tmp_path / f"{index}.png", index, (200, 100))
            writer.write(DetectionRow(image_url=url, label=label, image_details=details(200, 100)))
    summary = validate([tmp_path / "data"])
    assert (summary["images"], summary["annotations"], summary["background_images"]) == (3, 4, 1)
    statistics = report(tmp_path / "data")["statistics"]
    assert statistics["per_class"]["car"] == {"images": {"all": 2}, "annotations": {"all": 3}}
    assert statistics["box_sqrt_area_share"]["max"] == 1.0
    assert statistics["box_sqrt_area_share"]["median"] == 0.5
    assert statistics["box_sqrt_area_pixels"]["max"] == pytest.approx(np.sqrt(200 * 100), rel=1e-5)
    assert statistics["boxes_thinner_than_1_percent"] == 1
    assert statistics["repeated_objects"] == 1
    assert statistics["marks"] == {"isCrowd": 1, "difficult": 1, "truncated": 1}
    assert {"small_boxes", "repeated_objects", "few_pictures"} <= codes(tmp_path / "data")
    page = (tmp_path / "data" / "report.html").read_text()
    assert "Box size, relative" in page
    assert page.count("data:image/jpeg") == 3


def test_segmentation_reads_polygons_and_masks(tmp_path):
    square = Instance("a", polygon=[[0.1, 0.2, 0.5, 0.2, 0.5, 0.6], [0.2, 0.3, 0.3, 0.3, 0.3, 0.4]])
    # A 30 x 40 mask: in columns 10 to 19, rows 5 to 9.
    runs = [10 * 30 + 5, *([5, 25] * 9), 5]
    mask = Instance("b", rle=Rle((30, 40), [*runs, 30 * 40 - sum(runs)]))
    assert bounding_box(square) == (0.1, 0.2, 0.5, 0.6)
    assert bounding_box(mask) == pytest.approx((10 / 40, 5 / 30, 20 / 40, 10 / 30))
    assert bounding_box(Instance("empty")) == (0, 0, 0, 0)
    with DatasetWriter(tmp_path / "data", Task.SEGMENTATION) as writer:
        url = picture(tmp_path / "0.png", 0)
        writer.write(SegmentationRow(image_url=url, label=[square, mask], image_details=details()))
    validate([tmp_path / "data"])
    statistics = report(tmp_path / "data")["statistics"]
    assert statistics["marks"] == {"rle": 1, "several_rings": 1}
    assert statistics["box_sqrt_area_share"]["max"] == pytest.approx(0.4, abs=1e-5)
    assert (tmp_path / "data" / "report.html").read_text().count("data:image/jpeg") == 1


def test_unreadable_pictures_are_named_with_file_and_line(tmp_path):
    data = classification(tmp_path, ["a"] * 5)
    (tmp_path / "pictures" / "1.png").write_bytes(b"not a picture")
    (tmp_path / "pictures" / "3.png").unlink()
    summary = validate([data])
    assert summary["unreadable_images"] == 2
    found = report(data)["unreadable"]
    assert [(Path(row["image_url"]).name, row["line"], row["part"]) for row in found] == [
        ("1.png", 2, "all"),
        ("3.png", 4, "all"),
    ]
    assert found[0]["file"] == str(data / "annotations.jsonl")
    assert "No such file" in found[1]["message"]
    assert report(data)["checked"]["decoded"] == 3
    page = (data / "report.html").read_text()
    assert "Unreadable pictures" in page
    assert "1.png" in page


def test_without_checking_images_only_missing_files_are_found(tmp_path):
    data = classification(tmp_path, ["a"] * 5)
    (tmp_path / "pictures" / "1.png").write_bytes(b"not a picture")
    (tmp_path / "pictures" / "3.png").unlink()
    assert validate([data], check_images=False)["unreadable_images"] == 1
    assert report(data)["checked"] == {"decoded": 0, "remote": 0, "check_images": False}
    assert "were not decoded" in (data / "report.html").read_text()


def test_a_picture_replaced_since_conversion_is_noticed(tmp_path):
    data = classification(tmp_path, ["a"] * 3)
    picture(tmp_path / "pictures" / "2.png", 99, (50, 30))
    validate([data])
    assert [row["line"] for row in report(data)["changed"]] == [3]
    assert "50x30" in report(data)["changed"][0]["message"]
    assert "changed" in codes(data)


@pytest.mark.parametrize("check_images", [True, False])
def test_duplicates_within_and_across_parts_and_contradictions(tmp_path, check_images):
    train = classification(tmp_path / "a", ["cat", "cat", "dog", "dog"], split={"part": "train"})
    test = classification(tmp_path / "b", ["cat", "dog"], seed=50, split={"part": "test"})
    pictures_a, pictures_b = tmp_path / "a" / "pictures", tmp_path / "b" / "pictures"
    (pictures_a / "1.png").write_bytes((pictures_a / "0.png").read_bytes())  # cat and cat, both in train
    (pictures_b / "0.png").write_bytes((pictures_a / "2.png").read_bytes())  # dog in train, cat in test
    summary = validate([train, test], tmp_path / "out", check_images=check_images)
    assert summary["parts"] == {"train": 4, "test": 2}
    assert (summary["duplicate_images"], summary["duplicates_across_parts"], summary["conflicting_duplicates"]) == (
        2,
        1,
        1,
    )
    groups = report(tmp_path / "out")["duplicates"]["found"]
    named = [{(place["part"], Path(place["image_url"]).name) for place in group["pictures"]} for group in groups]
    assert named == [{("train", "0.png"), ("train", "1.png")}, {("train", "2.png"), ("test", "0.png")}]
    assert [group["different_labels"] for group in groups] == [False, True]
    assert [group["across_parts"] for group in groups] == [False, True]
    assert {"duplicates", "duplicates_across_parts", "conflicting_duplicates"} <= codes(tmp_path / "out")
    assert "labels differ" in (tmp_path / "out" / "report.html").read_text()


def test_equal_sizes_alone_are_no_duplicates(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.CLASSIFICATION) as writer:
        for index in range(4):
            path = tmp_path / f"{index}.bmp"
            picture(path, index)
            writer.write(ClassificationRow(image_url=str(path), label="a"))
    assert len({os.path.getsize(tmp_path / f"{index}.bmp") for index in range(4)}) == 1
    assert validate([tmp_path / "data"])["duplicate_images"] == 0


def test_boxes_in_another_order_do_not_contradict(tmp_path):
    one, two = Box("a", 0.1, 0.1, 0.5, 0.5), Box("b", 0.2, 0.2, 0.9, 0.9)
    other = Box("b", 0.2, 0.2, 0.9, 0.8)
    for name, labels, conflicts in (("same", [one, two], 0), ("other", [one, other], 1)):
        with DatasetWriter(tmp_path / name, Task.DETECTION) as writer:
            for copy, label in (("x", [one, two]), ("y", labels[::-1])):
                url = picture(tmp_path / f"{name}{copy}.png", 1)
                writer.write(DetectionRow(image_url=url, label=label))
        assert validate([tmp_path / name])["conflicting_duplicates"] == conflicts


def test_remote_pictures_are_counted_and_not_opened(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.CLASSIFICATION) as writer:
        for index in range(20):
            writer.write(ClassificationRow(image_url=f"s3://bucket/{index}.jpg", label="ab"[index % 2]))
    summary = validate([tmp_path / "data"])
    assert summary["unreadable_images"] == summary["duplicate_images"] == 0
    assert report(tmp_path / "data")["checked"] == {"decoded": 0, "remote": 20, "check_images": True}
    assert "remote" in codes(tmp_path / "data")


def conversion_report(folder: Path, count: int = 3) -> None:
    found = Report(max_dropped=0.5)
    found.images_read, found.annotations_read = 30, 40
    for index in range(count):
        found.add(Finding("dropped", "degenerate_box", f"box {index} <b>", "labels.xml", index + 1))
    found.add(Finding("repaired", "clipped_box", "a box went out", "labels.xml", subject="annotation", count=2))
    found.save(folder)


def test_conversion_findings_survive_any_number_of_runs(tmp_path):
    data = classification(tmp_path, ["a", "b"])
    conversion_report(data)
    before = Report.load(data).to_dict()
    first = validate([data])
    once = report(data)
    second = validate([data])
    assert (first, once) == (second, report(data))
    assert Report.load(data).to_dict() == before
    assert first["annotations_dropped"] == 3
    page = (data / "report.html").read_text()
    assert "box 2 &lt;b&gt;" in page
    assert "30 pictures and 40 annotations read" in page


def test_parts_with_a_copy_of_the_same_conversion_report_count_it_once(tmp_path):
    parts = [classification(tmp_path / part, ["a", "b"], split={"part": part}) for part in ("train", "validation")]
    for part in parts:
        conversion_report(part)
    validate(parts, tmp_path / "out")
    merged = Report.load(tmp_path / "out")
    assert (merged.images_read, merged.dropped("annotation"), len(merged.findings)) == (30, 3, 4)
    conversion_report(parts[1], count=5)
    validate(parts, tmp_path / "out")
    assert Report.load(tmp_path / "out").dropped("annotation") == 8


def test_parts_come_from_rows_where_the_set_is_not_split(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.CLASSIFICATION) as writer:
        for index, part in enumerate(["train", "train", "validation", None]):
            url = picture(tmp_path / f"{index}.png", index)
            writer.write(ClassificationRow(image_url=url, label="a", split=part))
    assert validate([tmp_path / "data"])["parts"] == {"train": 2, "validation": 1, "all": 1}


def test_parts_without_names_take_those_of_their_folders(tmp_path):
    one, two = classification(tmp_path / "one", ["a"]), classification(tmp_path / "two", ["a"], seed=9)
    one, two = one.rename(tmp_path / "first"), two.rename(tmp_path / "second")
    assert validate([one, two], tmp_path / "out")["parts"] == {"first": 1, "second": 1}
    again = classification(tmp_path / "x", ["a"], seed=20), classification(tmp_path / "y", ["a"], seed=30)
    assert validate(again, tmp_path / "out")["parts"] == {str(path): 1 for path in again}


def test_an_empty_part_and_missing_classes_are_told(tmp_path):
    train = classification(tmp_path / "a", ["cat", "dog"], split={"part": "train"})
    check = classification(tmp_path / "b", ["cat"], seed=9, split={"part": "validation"})
    test = classification(tmp_path / "c", [], split={"part": "test"})
    summary = validate([train, check, test], tmp_path / "out")
    assert summary["parts"] == {"train": 2, "validation": 1, "test": 0}
    assert "Empty part: test has no pictures" in summary["warnings"]
    assert "Classes missing in a part: validation has no picture of “dog”" in summary["warnings"]


def test_an_empty_data_set_still_gets_a_report(tmp_path):
    summary = validate([classification(tmp_path, [])])
    assert summary["images"] == 0
    assert summary["warnings"] == ["Empty: there are no pictures"]


def test_mistakes_in_the_call_are_named(tmp_path):
    one, two = classification(tmp_path / "one", ["a"]), classification(tmp_path / "two", ["a"])
    with DatasetWriter(tmp_path / "boxes", Task.DETECTION):
        pass
    with pytest.raises(DatasetError, match="no data set"):
        validate([])
    with pytest.raises(DatasetError, match="--output"):
        validate([one, two])
    with pytest.raises(DatasetError, match="overwrite"):
        validate([one, two], one)
    with pytest.raises(DatasetError, match="image_object_detection"):
        validate([one, tmp_path / "boxes"], tmp_path / "out")
    with pytest.raises(DatasetError, match="no data set here"):
        validate([tmp_path / "nowhere"])
    assert not (tmp_path / "out").exists()


def test_advice_on_imbalance_few_pictures_and_single_classes():
    statistics = Statistics(Task.CLASSIFICATION, ["big", "small"])
    for index in range(100):
        label = "small" if index < 9 else "big"
        statistics.add("train", ClassificationRow(image_url=f"{index}", label=label, image_details=details(64, 64)))
    found = {remark.code: remark.message for remark in advise(statistics, Integrity())}
    assert set(found) == {"few_pictures", "class_imbalance"}
    assert "“big” has 91 labels and “small” 9, 10.1 to 1" in found["class_imbalance"]
    single = Statistics(Task.CLASSIFICATION, ["only"])
    for index in range(10):
        single.add("train", ClassificationRow(image_url=f"{index}", label="only", image_details=details(64, 64)))
    assert [(remark.code, remark.level) for remark in advise(single, Integrity())] == [("one_class", "bad")]


def test_advice_on_sizes():
    statistics = Statistics(Task.MULTILABEL, ["a"])
    for width, height in [(640, 480)] * 10 + [(1000, 300), (300, 1000), (20, 20), (9000, 9000)]:
        statistics.add("train", MultilabelRow(image_url="x", label=["a"], image_details=details(width, height)))
    found = {remark.code: remark.message for remark in advise(statistics, Integrity())}
    assert set(found) == {"odd_aspect", "small_pictures", "large_pictures"}
    assert found["odd_aspect"].startswith("2 pictures")
    assert found["small_pictures"].startswith("1 picture ")


def test_samples_are_few_of_each_class_and_the_same_each_time():
    def gather() -> Statistics:
        statistics = Statistics(Task.CLASSIFICATION, [f"class {i}" for i in range(10)])
        for index in range(5000):
            statistics.add("train", ClassificationRow(image_url=str(index), label=f"class {index % 10}"))
        return statistics

    first, second = gather(), gather()
    assert first.samples == second.samples
    assert {name: len(kept) for name, kept in first.samples.items()} == {f"class {i}": 4 for i in range(10)}
    places = [int(row.image_url) for kept in first.samples.values() for _, row in kept]
    assert 1500 < np.mean(places) < 3500  # spread over the whole, not the first ones
    assert len(set(places)) == 40


def test_page_of_many_classes_findings_and_nasty_names_stays_under_a_megabyte(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.CLASSIFICATION) as writer:
        for index in range(3000):
            name = f"<script>alert({index})</script>" + "long" * 30
            url = picture(tmp_path / "p" / f"{index}.png", index, (64, 64)) if index < 100 else f"{tmp_path}/no/{index}"
            writer.write(ClassificationRow(image_url=url, label=name, image_details=details(64 + index, 64)))
        found = Report()
        for index in range(5000):
            found.add(Finding("repaired", "odd", "<img src=x onerror=alert(1)>" * 40, "<b>" * 200, index))
        found.save(writer.folder)
    summary = validate([tmp_path / "data"])
    page = (tmp_path / "data" / "report.html").read_text()
    assert len(page.encode()) < 1_000_000
    assert summary["unreadable_images"] == 2900
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert "4,800 more rows are in report.json" in page
    assert "2,700 more classes are in report.json" in page
    assert page.count("data:image/jpeg") > 3


def test_rows_are_not_held(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.DETECTION) as writer:
        for index in range(20_000):
            boxes = [Box("a", 0.1, 0.1, 0.5, 0.5 + step / 100) for step in range(5)]
            writer.write(DetectionRow(image_url=f"s3://bucket/{index:09}.jpg", label=boxes, image_details=details()))
    tracemalloc.start()
    validate([tmp_path / "data"])
    assert tracemalloc.get_traced_memory()[1] < 8_000_000  # 20,000 such rows as objects are over 20 MB
    tracemalloc.stop()


def test_progress_goes_to_standard_error(tmp_path, capsys):
    data = classification(tmp_path, ["a", "b"])
    validate([data], progress=True)
    out, err = capsys.readouterr()
    assert ("reading pictures" in err, out) == (True, "")


def test_a_broken_mask_is_named_with_its_line(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.SEGMENTATION) as writer:
        for index, runs in enumerate(([0, 1200], [1, 2])):
            url = picture(tmp_path / f"{index}.png", index)
            writer.write(SegmentationRow(image_url=url, label=[Instance("a", rle=Rle((30, 40), runs))]))
    with pytest.raises(DatasetError, match=r"annotations.jsonl, line 2: .* add up to 3"):
        validate([tmp_path / "data"])
    assert not (tmp_path / "data" / "report.html").exists()
