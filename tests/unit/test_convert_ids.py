"""What a COCO file calls its pictures and classes, and the areas it gives, go with the rows wherever they go."""

import msgspec
import pytest
from sources import converted, picture, write_coco

from kubesight.convert.reading import join_categories
from kubesight.dataset import Dataset, Task
from kubesight.split import split

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
DOUBLE = {"id": 1, "file_name": "a.png", "width": 200, "height": 100}


def entry(image: object, category: object, **more: object) -> dict:
    return {"id": 1, "image_id": image, "category_id": category, "bbox": [10, 10, 20, 20], **more}


@pytest.fixture
def source(tmp_path):
    """Two pictures with ids that are no numbers in a row, and two classes of one name."""
    picture(tmp_path / "source" / "a.png")
    picture(tmp_path / "source" / "b.png", (100, 60))
    images = [
        {"id": 70, "file_name": "a.png", "width": 100, "height": 50},
        {"id": "x-1", "file_name": "b.png", "width": 100, "height": 60},
    ]
    names = [{"id": 0, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    annotations = [
        entry(70, 3, area=123.5, segmentation=SQUARE),
        entry("x-1", 9, segmentation=SQUARE),
        entry("x-1", 0, area=True, segmentation=SQUARE),
    ]
    write_coco(tmp_path / "source" / "labels.json", images, annotations, names)
    return tmp_path / "source"


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_ids_and_areas_are_kept(source, tmp_path, task) -> None:
    result = converted(source, tmp_path / "out", task=task)
    assert [row.image_id for row in result.rows] == [70, "x-1"]
    assert [item.area for row in result.rows for item in row.label] == [123.5, None, None]
    assert result.dataset.info.source["category_ids"] == {"0": "cat", "3": "cat", "9": "dog"}
    assert "unused_fields" not in result.reasons.get("warning", {})


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_they_survive_a_split_and_a_second_conversion(source, tmp_path, task) -> None:
    first = converted(source, tmp_path / "first", task=task)
    again = converted(first.dataset.path, tmp_path / "again")
    assert again.rows == first.rows
    assert again.dataset.info.source["category_ids"] == first.dataset.info.source["category_ids"]
    parts = split(first.dataset.path, tmp_path / "parts", split_ratio=0.5)
    rows = [row for part in parts.values() for row in part.rows()]
    assert sorted(rows, key=lambda row: row.image_url) == first.rows
    assert all(part.info.source["category_ids"] == {"0": "cat", "3": "cat", "9": "dog"} for part in parts.values())


def test_rows_of_other_formats_have_neither(tmp_path) -> None:
    for name in ("cat/a.png", "dog/b.png"):
        picture(tmp_path / "source" / name)
    result = converted(tmp_path / "source", tmp_path / "out")
    text = (result.dataset.path / "annotations.jsonl").read_text()
    assert "image_id" not in text
    assert "category_ids" not in result.dataset.info.source
    assert all("image_id" not in msgspec.to_builtins(row) for row in result.rows)


@pytest.mark.parametrize(
    ("area", "kept"), [(400, 100.0), (0, 0.0), (-4, None), ("9", None), (None, None), (True, None), (1e400, None)]
)
def test_an_area_is_in_pixels_of_the_picture(tmp_path, area, kept) -> None:
    """The picture is half as wide and half as high as declared: a quarter of the area."""
    picture(tmp_path / "source" / "a.png")
    write_coco(tmp_path / "source" / "labels.json", [DOUBLE], [entry(1, 1, area=area)])
    result = converted(tmp_path / "source", tmp_path / "out")
    assert [box.area for box in result.rows[0].label] == [kept]


def test_an_area_survives_a_turn(tmp_path) -> None:
    picture(tmp_path / "source" / "a.png", orientation=6)
    image = {"id": 1, "file_name": "a.png", "width": 100, "height": 50}
    write_coco(tmp_path / "source" / "labels.json", [image], [entry(1, 1, area=77.25)])
    result = converted(tmp_path / "source", tmp_path / "out")
    assert result.rows[0].image_details.width == 50
    assert result.rows[0].label[0].area == 77.25


def test_ids_that_mean_two_classes_are_left_out() -> None:
    assert join_categories([{"1": "cat", "2": "dog"}, {"1": "dog", "3": "cow"}]) == {"2": "dog", "3": "cow"}
    assert join_categories([]) == {}


def test_parts_with_ids_of_their_own_are_joined(tmp_path) -> None:
    for part, names in (("train", ("cat", "dog")), ("valid", ("cat", "fox", "dog"))):
        picture(tmp_path / "source" / part / f"{part}.png")
        image = {"id": 1, "file_name": f"{part}.png", "width": 100, "height": 50}
        write_coco(tmp_path / "source" / part / "labels.json", [image], [entry(1, 1), entry(1, 2)], names)
    info = Dataset(converted(tmp_path / "source", tmp_path / "out").dataset.path).info
    assert info.source["category_ids"] == {"1": "cat", "3": "dog"}
