"""Azure's JSON lines: its forms, old and new, and our own data sets."""

from pathlib import Path

import orjson
import pytest
from sources import converted, picture

from kubesight.convert import convert
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError

BOX = {"label": "cat", "topX": 0.1, "topY": 0.2, "bottomX": 0.3, "bottomY": 0.6}
OUTLINE = {"label": "cat", "isCrowd": 0, "polygon": [[0.1, 0.2, 0.3, 0.2, 0.3, 0.6]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        picture(tmp_path / "source" / f"{name}.png")
    return tmp_path / "source"


def read(folder: Path, lines: list, **more):
    data = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
    (folder / "labels.jsonl").write_bytes(data)
    return converted(folder, folder.parent / "out", **more)


def line(name: str, label: object, **more: object) -> dict:
    return {"image_url": f"{name}.png", "label": label, **more}


@pytest.mark.parametrize(
    ("labels", "task", "expected"),
    [
        (["cat", "dog"], Task.CLASSIFICATION, ["cat", "dog"]),
        ([3, 4], Task.CLASSIFICATION, ["3", "4"]),
        ([[], ["dog", "cat", "dog"]], Task.MULTILABEL, [[], ["cat", "dog"]]),
    ],
)
def test_labels_of_pictures(folder: Path, labels: list, task: Task, expected: list) -> None:
    result = read(folder, [line(name, label) for name, label in zip("ab", labels, strict=True)])
    assert result.dataset.task is task
    assert [row.label for row in result.rows] == expected
    assert [row.image_url for row in result.rows] == [str(folder / f"{name}.png") for name in "ab"]


def test_boxes_with_text_for_numbers_and_crowd(folder: Path) -> None:
    text = {"label": 5, "topX": "0.1", "topY": "0.2", "bottomX": "0.3", "bottomY": "0.6", "isCrowd": "true"}
    details = {"format": "png", "width": "100px", "height": "50px"}
    result = read(folder, [line("a", [BOX, text], image_details=details), line("b", [])])
    assert result.dataset.task is Task.DETECTION
    assert [(b.label, b.topX, b.bottomY, b.isCrowd) for b in result.rows[0].label] == [
        ("cat", 0.1, 0.6, 0),
        ("5", 0.1, 0.6, 1),
    ]
    assert result.rows[1].label == []
    assert result.report["findings"] == []


def test_the_old_form_of_one_box_a_line_is_merged(folder: Path) -> None:
    other = {**BOX, "label": "dog"}
    result = read(folder, [line("a", BOX), line("b", other), line("a", other), b"", line("c", [BOX])])
    assert [Path(row.image_url).name for row in result.rows] == ["a.png", "b.png", "c.png"]
    assert [[b.label for b in row.label] for row in result.rows] == [["cat", "dog"], ["dog"], ["cat"]]
    assert (result.report["images_read"], result.report["annotations_read"]) == (3, 4)


def test_outlines_serve_three_tasks(folder: Path) -> None:
    lines = [line("a", [OUTLINE, {**OUTLINE, "polygon": [], "label": "dog"}]), line("b", [OUTLINE])]
    result = read(folder, lines)
    assert result.dataset.task is Task.SEGMENTATION
    assert result.rows[0].label[0].polygon == OUTLINE["polygon"]
    assert result.reasons["dropped"] == {"no_outline": 1}
    boxes = read(folder, lines[1:], task=Task.DETECTION).rows[0].label
    assert [(b.topX, b.topY, b.bottomX, b.bottomY) for b in boxes] == [(0.1, 0.2, 0.3, 0.6)]
    assert read(folder, lines[1:], task=Task.MULTILABEL).rows[0].label == ["cat"]
    with pytest.raises(DatasetError, match="do not fit the task image_classification"):
        read(folder, lines, task=Task.CLASSIFICATION)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({**BOX, "bottomX": 0.1}, "degenerate_box"),
        ({**BOX, "topX": 1.5, "bottomX": 1.8}, "box_outside"),
        ({**BOX, "topX": "left"}, "not_a_number"),
        ({k: v for k, v in BOX.items() if k != "topY"}, "not_a_number"),
        ({k: v for k, v in BOX.items() if k != "label"}, "empty_label"),
        ("cat", "no_box"),
    ],
)
def test_labels_that_cannot_be_used_have_file_and_line(folder: Path, bad: object, reason: str) -> None:
    result = read(folder, [line("a", [BOX]), line("b", [BOX, bad])])
    assert result.reasons["dropped"] == {reason: 1}
    finding = result.findings(reason)[0]
    assert (finding["file"], finding["line"]) == (str(folder / "labels.jsonl"), 2)
    assert len(result.rows[1].label) == 1


def test_lines_that_cannot_be_used_have_file_and_line(folder: Path) -> None:
    lines = [line("a", "cat"), b"{not json", {"label": "cat"}, line("gone", "cat"), line("b", None), line("c", "dog")]
    result = read(folder, lines)
    assert list(result.by_name()) == ["a.png", "c.png"]
    found = {(f["reason"], f["line"]) for f in result.report["findings"]}
    assert found >= {("malformed_line", 2), ("no_image_url", 3), ("missing_picture", 4), ("empty_label", 5)}
    assert result.report["images_read"] == 6


def test_a_picture_with_two_classes_is_refused_and_with_one_twice_kept(folder: Path) -> None:
    lines = [line("a", "cat"), line("a", "dog"), line("b", "cat"), line("b", "cat"), line("c", "dog")]
    result = read(folder, lines)
    assert list(result.by_name()) == ["b.png", "c.png"]
    assert result.reasons["warning"] == {"duplicate_line": 1}
    assert result.findings("conflicting_label")[0]["line"] == 2


def test_azure_addresses_are_mapped_or_refused(folder: Path) -> None:
    prefix = "azureml://subscriptions/1/resourcegroups/2/workspaces/3/datastores/4/paths/"
    lines = [
        {"image_url": f"{prefix}a.png", "label": "cat"},
        {"imageUrl": "AmlDatastore://store/b.png", "label": "dog"},
        {"image_url": "https://host/c.png", "label": "dog", "imageDetails": {"width": "10px", "height": 20}},
    ]
    prefixes = {prefix: str(folder), "AmlDatastore://store/": f"{folder}/", "AmlDatastore://": "/nowhere"}
    result = read(folder, lines, url_prefixes=prefixes)
    assert [row.image_url for row in result.rows] == [
        str(folder / "a.png"),
        str(folder / "b.png"),
        "https://host/c.png",
    ]
    assert (result.rows[2].image_details.width, result.rows[2].image_details.height) == (10, 20)
    with pytest.raises(DatasetError, match=r"labels\.jsonl, line 1.*--url-prefix"):
        read(folder, lines)


def test_parts_groups_and_unknown_fields(folder: Path) -> None:
    lines = [
        line("a", "cat", split="val", group="g1", camera=1),
        line("b", "dog", split="train", camera=2),
        line("c", "dog", split="holiday"),
    ]
    result = read(folder, lines)
    assert [(row.split, row.group) for row in result.rows] == [("validation", "g1"), ("train", None), (None, None)]
    assert "camera" in result.findings("unused_fields")[0]["message"]
    assert result.findings("unknown_part")[0]["line"] == 3


def test_another_field_holds_the_labels(folder: Path) -> None:
    lines = [{"image_url": f"{name}.png", "species": name} for name in "ab"]
    assert [row.label for row in read(folder, lines, options={"label_column": "species"}).rows] == ["a", "b"]
    with pytest.raises(DatasetError, match=r"no line has a usable 'label'.*label_column"):
        read(folder, lines)


def test_a_mark_of_byte_order_and_windows_line_ends(folder: Path) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join(orjson.dumps(line(name, name)) for name in "ab")
    (folder / "labels.jsonl").write_bytes(data)
    assert [row.label for row in converted(folder, folder.parent / "out").rows] == ["a", "b"]


def test_our_own_data_set_and_its_parts_come_back_unchanged(folder: Path) -> None:
    lines = [line("a", [{**BOX, "difficult": 1}], split="train", group="g"), line("b", [BOX, OUTLINE]), line("c", [])]
    first = read(folder, lines, task=Task.DETECTION)
    again = converted(first.dataset.path, folder.parent / "again")
    assert again.rows == first.rows
    assert again.dataset.info.content_hash == first.dataset.info.content_hash
    parts = folder.parent / "parts"
    for part in ("train", "validation"):
        converted(first.dataset.path, parts / part)
    rows = converted(parts, folder.parent / "both").rows
    assert [row.split for row in rows] == ["train"] * 4 + ["validation"] * 2


def test_background_alone_tells_no_class(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no picture has a label"):
        read(folder, [line("a", []), line("b", [])])
    assert not (folder.parent / "out").exists()


def test_a_field_of_another_type_is_a_finding(folder: Path) -> None:
    result = read(folder, [line("a", "cat"), line("b", True), line("c", "dog")])
    assert result.findings("empty_label")[0]["line"] == 2
    (folder / "more.jsonl").write_bytes(orjson.dumps(line("a", "cat")))
    with pytest.raises(DatasetError, match="several annotation files"):
        convert(str(folder), folder.parent / "out2")
