"""COCO: every shape of its fields, and what becomes of those that cannot be used."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from sources import converted, picture, write_coco

from kubesight.convert import convert
from kubesight.dataset.rle import rle_mask
from kubesight.dataset.rows import Instance, Task
from kubesight.errors import DatasetError

IMAGE = {"id": 1, "file_name": "a.png", "width": 100, "height": 50}
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def box(image: object = 1, category: object = 1, bbox: object = (10, 10, 20, 20), **more: object) -> dict:
    return {"id": 7, "image_id": image, "category_id": category, "bbox": bbox, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "source" / "a.png")
    picture(tmp_path / "source" / "b.png")
    return tmp_path / "source"


def read(folder: Path, annotations: list, images: list | None = None, names: object = ("cat", "dog"), **more):
    write_coco(folder / "labels.json", images or [IMAGE], annotations, names)
    return converted(folder, folder.parent / "out", **more)


def test_boxes_become_fractions_and_the_other_image_background(folder: Path) -> None:
    images = [IMAGE, {**IMAGE, "id": 2, "file_name": "b.png"}]
    result = read(folder, [box(), box(category=2, bbox=[0, 0, 100, 50], iscrowd=1)], images)
    assert result.dataset.task is Task.DETECTION
    assert result.dataset.classes == ["cat", "dog"]
    first, second = result.rows
    assert first.image_url == str(folder / "a.png")
    assert (first.image_details.width, first.image_details.height) == (100, 50)
    assert first.image_details.bytes == (folder / "a.png").stat().st_size
    found = [(b.label, b.topX, b.topY, b.bottomX, b.bottomY, b.isCrowd) for b in first.label]
    assert found == [("cat", 0.1, 0.2, 0.3, 0.6, 0), ("dog", 0, 0, 1, 1, 1)]
    assert second.label == []
    assert result.report["findings"] == []
    assert (result.report["images_read"], result.report["annotations_read"]) == (2, 2)
    assert result.dataset.info.source["format"] == "coco"


@pytest.mark.parametrize(
    ("image_id", "used", "category", "category_used"),
    [(0, 0, 0, 0), ("x-1", "x-1", "c", "c"), (5, "5", 90, "90"), ("5", 5, "90", 90), (5.0, 5, 3, 3.0)],
)
def test_ids_of_any_kind(folder: Path, image_id, used, category, category_used) -> None:
    names = [{"id": category, "name": "cat"}, {"id": 77, "name": "dog"}]
    result = read(folder, [box(used, category_used)], [{**IMAGE, "id": image_id}], names)
    assert [b.label for b in result.rows[0].label] == ["cat"]
    assert result.dataset.classes == ["cat"]
    assert result.reasons == {"warning": {"unused_class": 1}}


def test_categories_of_one_name_are_merged_and_reported(folder: Path) -> None:
    names = [{"id": 0, "name": "wall"}, {"id": 3, "name": "wall"}, {"id": 4, "name": "roof"}]
    result = read(folder, [box(category=3), box(category=0), box(category=4)], names=names)
    assert result.dataset.info.counts["per_class"] == {"roof": 1, "wall": 2}
    (finding,) = result.findings("duplicate_category")
    assert "0 and 3" in finding["message"]
    assert "'wall'" in finding["message"]


def test_one_category_id_with_two_names_is_an_error(folder: Path) -> None:
    with pytest.raises(DatasetError, match="'wall' and 'roof'"):
        read(folder, [box()], names=[{"id": 1, "name": "wall"}, {"id": 1, "name": "roof"}])


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (box(bbox=[10, 10, 0, 20]), "degenerate_box"),
        (box(bbox=[200, 10, 20, 20]), "box_outside"),
        (box(bbox=[1, 2, 3]), "malformed_box"),
        (box(bbox=None), "malformed_box"),
        (box(bbox=[1, 2, None, 3]), "not_a_number"),
        (box(bbox=["a", 2, 3, 4]), "malformed_annotation"),
        (box(category=9), "unknown_category"),
        (box(image=9), "unknown_image"),
        ({"id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}, "malformed_annotation"),
        ({"id": 7, "image_id": 1, "bbox": [1, 2, 3, 4]}, "malformed_annotation"),
    ],
)
def test_annotations_that_cannot_be_used_are_findings(folder: Path, annotation: dict, reason: str) -> None:
    result = read(folder, [box(), annotation])
    assert result.reasons["dropped"] == {reason: 1}
    (finding,) = result.findings(reason)
    assert finding["file"] == str(folder / "labels.json")
    assert "annotation 7" in finding["message"]
    assert len(result.rows[0].label) == 1
    with pytest.raises(DatasetError, match=reason):
        read(folder, [box(), annotation], max_dropped=0.05)
    with pytest.raises(DatasetError, match=r"labels\.json.*--strict"):
        read(folder, [box(), annotation], strict=True)


def test_text_numbers_and_a_nan_written_by_python(folder: Path) -> None:
    write_coco(folder / "labels.json", [IMAGE], [box(bbox=["10", "10", "20", "20"], iscrowd="1"), box()], ["cat"])
    text = (folder / "labels.json").read_text().replace("[10,10,20,20]", "[NaN,10,20, Infinity]")
    (folder / "labels.json").write_text(text)
    result = converted(folder, folder.parent / "out")
    assert [b.isCrowd for b in result.rows[0].label] == [1]
    assert result.reasons["dropped"] == {"not_a_number": 1}


def test_an_image_without_one_usable_annotation_is_not_background(folder: Path) -> None:
    images = [IMAGE, {**IMAGE, "id": 2, "file_name": "b.png"}]
    result = read(folder, [box(bbox=[1, 1, 0, 0]), box(2)], images)
    assert list(result.by_name()) == ["b.png"]
    assert result.reasons["dropped"] == {"degenerate_box": 1, "no_valid_annotation": 1}


def test_reversed_and_overreaching_boxes_are_repaired(folder: Path) -> None:
    result = read(folder, [box(bbox=[30, 30, -20, -20]), box(bbox=[90, 40, 50, 50])])
    assert [(b.topX, b.topY, b.bottomX, b.bottomY) for b in result.rows[0].label] == [
        (0.1, 0.2, 0.3, 0.6),
        (0.9, 0.8, 1, 1),
    ]
    assert result.reasons == {"repaired": {"reversed_box": 1, "box_clipped": 1}, "warning": {"unused_class": 1}}


def test_attributes_and_a_box_from_its_outline(folder: Path) -> None:
    flags = {"occluded": True, "truncated": 1, "difficult": False}
    annotations = [box(bbox=None, segmentation=SQUARE, attributes=flags), box()]
    result = read(folder, annotations, task=Task.DETECTION)
    first = result.rows[0].label[0]
    assert (first.topX, first.topY, first.bottomX, first.bottomY) == (0.1, 0.2, 0.3, 0.6)
    assert (first.occluded, first.truncated, first.difficult) == (1, 1, 0)
    assert result.reasons["repaired"] == {"box_from_outline": 1}


def test_fields_that_no_task_uses_are_mentioned_once(folder: Path) -> None:
    result = read(folder, [box(keypoints=[1, 2, 2], num_keypoints=1), box(keypoints=[], num_keypoints=0)])
    (finding,) = result.findings("unused_fields")
    assert "keypoints, num_keypoints" in finding["message"]
    assert finding["count"] == 2


def test_the_task_follows_the_outlines(folder: Path) -> None:
    outlined = box(segmentation=SQUARE)
    assert read(folder, [outlined] * 3).dataset.task is Task.SEGMENTATION
    some = read(folder, [outlined, box(segmentation=[])], max_dropped=0.05)
    assert some.dataset.task is Task.DETECTION
    assert "1 of 2 annotations have no outline" in some.findings("few_outlines")[0]["message"]
    assert read(folder, [outlined], task=Task.DETECTION).dataset.task is Task.DETECTION
    with pytest.raises(DatasetError, match="do not fit the task image_instance_segmentation"):
        read(folder, [box(segmentation=[])], task=Task.SEGMENTATION)
    with pytest.raises(DatasetError, match="do not fit the task image_classification"):
        read(folder, [box()], task=Task.CLASSIFICATION)


def test_presence_is_the_sorted_set_of_classes(folder: Path) -> None:
    images = [IMAGE, {**IMAGE, "id": 2, "file_name": "b.png"}]
    annotations = [box(category=2), box(category=1), box(category=2), {"id": 1, "image_id": 2, "category_id": 2}]
    result = read(folder, annotations, images, task=Task.MULTILABEL)
    assert [row.label for row in result.rows] == [["cat", "dog"], ["dog"]]


def mask_of(instance: Instance, width: int, height: int, scale: int = 8) -> np.ndarray:
    """The rings by XOR, drawn `scale` times larger."""
    mask = np.zeros((height * scale, width * scale), bool)
    for ring in instance.polygon:
        canvas = Image.new("1", (width * scale, height * scale))
        points = [
            (x * width * scale - 0.5, y * height * scale - 0.5) for x, y in zip(ring[::2], ring[1::2], strict=True)
        ]
        ImageDraw.Draw(canvas).polygon(points, fill=1)
        mask ^= np.asarray(canvas)
    return mask


def test_a_hole_is_cut_out_by_xor_and_parts_add_up(folder: Path) -> None:
    hole = [[10, 10, 40, 10, 40, 40, 10, 40], [20, 20, 30, 20, 30, 30, 20, 30], [60, 10, 70, 10, 70, 20, 60, 20]]
    result = read(folder, [box(segmentation=hole)])
    assert mask_of(result.rows[0].label[0], 100, 50).sum() / 64 == pytest.approx(900 - 100 + 100, rel=0.02)
    assert "warning" not in result.reasons or "overlapping_rings" not in result.reasons["warning"]
    crossing = [[10, 10, 40, 10, 40, 40, 10, 40], [30, 30, 49, 30, 49, 49, 30, 49]]
    assert len(read(folder, [box(segmentation=crossing)]).findings("overlapping_rings")) == 1


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 2, 3, 4]], "short_polygon"),
        ([[1, 2, 3, 4, 5, 6, 7]], "odd_polygon"),
        ([[1, 2, None, 4, 5, 6]], "not_a_number"),
        ([[1, 2, "x", 4, 5, 6]], "malformed_outline"),
        ({"size": [50, 100], "counts": [1, 2, 3]}, "bad_rle"),
        ({"size": [50, 100], "counts": "~~~~~~~~~"}, "bad_rle"),
        ({"size": [50, 100], "counts": [5000]}, "empty_mask"),
        ({"size": [100, 50], "counts": [10, 20, 4970]}, "mask_size"),
        ({"size": [50, 100]}, "malformed_outline"),
        ([], "no_outline"),
        (None, "no_outline"),
    ],
)
def test_outlines_that_cannot_be_used_are_findings(folder: Path, segmentation: object, reason: str) -> None:
    result = read(folder, [box(segmentation=SQUARE), box(segmentation=segmentation)], task=Task.SEGMENTATION)
    assert result.reasons["dropped"] == {reason: 1}
    assert len(result.rows[0].label) == 1


def test_a_bare_ring_is_taken_and_reported(folder: Path) -> None:
    result = read(folder, [box(segmentation=SQUARE[0])])
    assert result.rows[0].label[0].polygon == [[0.1, 0.2, 0.3, 0.2, 0.3, 0.6, 0.1, 0.6]]
    assert result.reasons["repaired"] == {"flat_polygon": 1}


@given(seed=st.integers(0, 2**32 - 1), compressed=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_run_lengths_are_kept_exactly(tmp_path: Path, seed: int, compressed: bool) -> None:
    mask = np.asfortranarray(np.random.default_rng(seed).random((50, 100)) > 0.6, np.uint8)
    theirs = coco_mask.encode(mask)
    counts: object = theirs["counts"].decode()
    if not compressed:
        flat = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0, append=2))
        counts = np.diff(flat, prepend=0).tolist()
    picture(tmp_path / "source" / "a.png")
    result = read(tmp_path / "source", [box(segmentation={"size": [50, 100], "counts": counts})])
    instance = result.rows[0].label[0]
    assert instance.rle.counts == counts
    assert (rle_mask(instance.rle) == mask).all()
    assert instance.polygon
    # A second reading, of what was written, changes nothing.
    again = converted(result.dataset.path, tmp_path / "again")
    assert again.rows == result.rows
    assert again.dataset.info.content_hash == result.dataset.info.content_hash


coordinates = st.integers(0, 4000).map(lambda value: value / 10)


@given(st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_boxes_survive_there_and_back(tmp_path: Path, corners: list) -> None:
    image = {"id": 1, "file_name": "a.png", "width": 400, "height": 400}
    boxes = [(min(a, c), min(b, d), abs(a - c), abs(b - d)) for a, b, c, d in corners]
    boxes = [b for b in boxes if b[2] * b[3] >= 1.1]
    source = write_coco(tmp_path / "labels.json", [image], [box(bbox=b) for b in boxes] + [box(bbox=[1, 1, 9, 9])])
    result = converted(source, tmp_path / "out", options={"trust_sizes": "true"})
    back = [
        (b.topX * 400, b.topY * 400, (b.bottomX - b.topX) * 400, (b.bottomY - b.topY) * 400)
        for b in result.rows[0].label
    ]
    assert np.array(back[:-1]).reshape(-1, 4) == pytest.approx(np.array(boxes).reshape(-1, 4), abs=1e-9)


def test_images_listed_twice(folder: Path) -> None:
    images = [IMAGE, {**IMAGE, "id": 2}, {**IMAGE, "file_name": "b.png"}]
    result = read(folder, [box(1), box(2, 2)], images)
    assert [b.label for b in result.rows[0].label] == ["cat", "dog"]
    assert len(result.rows) == 1
    assert result.reasons == {"repaired": {"duplicate_image": 1}, "dropped": {"duplicate_image_id": 1}}


def test_missing_and_damaged_pictures(folder: Path) -> None:
    (folder / "c.png").write_bytes(b"no picture")
    images = [{**IMAGE, "id": k, "file_name": name} for k, name in enumerate(["a.png", "c.png", "gone.png"])]
    result = read(folder, [box(0), box(1), box(2)], [*images, {"id": 5}])
    assert list(result.by_name()) == ["a.png"]
    assert result.reasons["dropped"] == {"malformed_image": 1, "unreadable_picture": 1, "missing_picture": 1}
    assert result.report["images_read"] == 4


def test_trusting_sizes_opens_no_picture(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "labels.json", [IMAGE, {"id": 2, "file_name": "b.jpg"}], [box(), box(2)])
    result = converted(source, tmp_path / "out", options={"trust_sizes": "true", "images": "s3://bucket/pictures"})
    assert [row.image_url for row in result.rows] == ["s3://bucket/pictures/a.png"]
    assert result.rows[0].image_details.width == 100
    assert result.reasons["dropped"] == {"no_size": 1}


def test_remote_names_keep_their_declared_size_and_say_so(tmp_path: Path) -> None:
    images = [{**IMAGE, "file_name": "https://host/a.png"}, {**IMAGE, "id": 2, "file_name": "old://b.png"}]
    source = write_coco(tmp_path / "labels.json", images, [box(), box(2)])
    result = converted(source, tmp_path / "out", url_prefixes={"old://": "s3://bucket"})
    assert [row.image_url for row in result.rows] == ["https://host/a.png", "s3://bucket/b.png"]
    assert result.reasons["warning"]["remote_pictures"] == 1


def test_sizes_that_disagree_with_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    names = ["turned.jpg", "swapped.png", "scaled.png", "other.png"]
    picture(folder / names[0], orientation=6)
    for name in names[1:]:
        picture(folder / name)
    sizes = [(100, 50), (50, 100), (200, 100), (70, 70)]
    images = [
        {"id": k, "file_name": name, "width": w, "height": h}
        for k, (name, (w, h)) in enumerate(zip(names, sizes, strict=True))
    ]
    result = read(folder, [box(k, bbox=[10, 10, 20, 20]) for k in range(4)], images)
    assert result.reasons["repaired"] == {
        "exif_transposed": 1, "size_swapped": 1, "size_scaled": 1, "size_mismatch": 1,
    }  # fmt: skip
    found = {
        name: (row.label[0].topX, row.label[0].topY, row.label[0].bottomX, row.label[0].bottomY)
        for name, row in result.by_name().items()
    }
    # Stored 100 x 50, shown 50 x 100: x runs down, y runs from right to left.
    assert found["turned.jpg"] == pytest.approx((0.4, 0.1, 0.8, 0.3))
    assert found["swapped.png"] == found["other.png"] == (0.1, 0.2, 0.3, 0.6)
    assert found["scaled.png"] == (0.05, 0.1, 0.15, 0.3)
    assert result.by_name()["turned.jpg"].image_details.width == 50


def test_a_mask_is_turned_with_its_picture(tmp_path: Path) -> None:
    picture(tmp_path / "source" / "a.jpg", orientation=6)
    mask = np.zeros((50, 100), np.uint8, order="F")
    mask[5:15, 10:30] = 1
    rle = coco_mask.encode(mask)
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    result = read(tmp_path / "source", [box(segmentation=segmentation)], [{**IMAGE, "file_name": "a.jpg"}])
    assert (rle_mask(result.rows[0].label[0].rle) == np.rot90(mask, -1)).all()


def test_layouts_of_folders(tmp_path: Path) -> None:
    roboflow = tmp_path / "roboflow"
    for part in ("train", "valid", "test"):
        picture(roboflow / part / "a.png")
        write_coco(roboflow / part / "_annotations.coco.json", [IMAGE], [box(), box(category=2)])
    assert [row.split for row in converted(roboflow, tmp_path / "1").rows] == ["test", "train", "validation"]
    official = tmp_path / "official"
    for part in ("train2017", "val2017"):
        picture(official / part / "a.png")
        write_coco(official / "annotations" / f"instances_{part}.json", [IMAGE], [box(), box(category=2)])
    result = converted(official, tmp_path / "2")
    assert [(row.split, row.image_url) for row in result.rows] == [
        ("train", str(official / "train2017" / "a.png")),
        ("validation", str(official / "val2017" / "a.png")),
    ]
    write_coco(official / "annotations" / "captions_train2017.json", [IMAGE], [])
    with pytest.raises(DatasetError, match=r"captions_train2017.json, instances_train2017.json.*annotations=NAME"):
        convert(str(official), tmp_path / "3")
    chosen = converted(official, tmp_path / "3", options={"annotations": "instances_*.json"})
    assert len(chosen.rows) == 2
    single = converted(official / "annotations" / "instances_val2017.json", tmp_path / "4")
    assert [row.split for row in single.rows] == [None]


def test_a_part_without_annotations_is_mentioned(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        picture(tmp_path / "s" / part / "a.png")
        if part != "test":
            write_coco(tmp_path / "s" / part / "labels.json", [IMAGE], [box(), box(category=2)])
    result = converted(tmp_path / "s", tmp_path / "out")
    assert "test" in result.findings("unread_part")[0]["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [], "annotations": [], "categories": []', "not JSON"),
        (b'{"images": {}, "annotations": [], "categories": []}', "not a COCO file"),
        (orjson.dumps({"images": [], "annotations": [], "categories": []}), "no pictures"),
    ],
)
def test_files_that_are_no_coco(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.json").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        convert(str(tmp_path / "labels.json"), tmp_path / "out", format="coco")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


def test_only_the_accepted_classes(folder: Path) -> None:
    result = read(folder, [box(), box(category=2)], options={"classes": "dog, fox"})
    assert result.dataset.classes == ["dog"]
    assert result.reasons["dropped"] == {"unknown_label": 1}
    assert [b.label for b in result.rows[0].label] == ["dog"]


def test_an_outline_that_crosses_itself_is_kept_and_told_of(folder: Path) -> None:
    bow_tie = [[10, 10, 30, 30, 30, 10, 10, 30]]
    result = read(folder, [box(segmentation=bow_tie), box(segmentation=SQUARE)], task=Task.SEGMENTATION)
    assert len(result.rows[0].label) == 2
    assert result.reasons["warning"]["self_crossing"] == 1
