"""Pascal VOC: where boxes begin, which picture is meant, and XML that cannot be used."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import converted, picture

from kubesight.convert import convert
from kubesight.convert.voc import pixel_edges
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError


def element(box: tuple, name: str = "cat", extra: str = "") -> str:
    values = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object>\n<name>{name}</name>{extra}<bndbox>{values}</bndbox>\n</object>\n"


def write(folder: Path, stem: str, objects: str, *, filename: str | None = None, size: str = "100,50") -> Path:
    width, height = size.split(",")
    filename = f"{stem}.png" if filename is None else filename
    text = (
        f"<annotation>\n<folder>x</folder><filename>{filename}</filename><path>C:\\somewhere\\{filename}</path>\n"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.xml").write_text(text)
    return folder / f"{stem}.xml"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for stem in ("a", "b"):
        picture(tmp_path / "source" / "JPEGImages" / f"{stem}.png")
        write(tmp_path / "source" / "Annotations", stem, element((11, 11, 30, 30)))
    return tmp_path / "source"


def corners(row) -> list[tuple]:
    return [(b.topX, b.topY, b.bottomX, b.bottomY) for b in row.label]


def test_boxes_count_from_one_and_include_their_last_pixel(source: Path) -> None:
    flags = "<truncated>1</truncated><difficult>1</difficult><occluded>0</occluded>"
    objects = element((1, 1, 100, 50), "dog", flags) + element((10.5, 11, 30, 30.5))
    write(source / "Annotations", "a", objects)
    result = converted(source, source.parent / "out")
    assert result.dataset.task is Task.DETECTION
    assert corners(result.rows[0]) == [(0, 0, 1, 1), pytest.approx((0.095, 0.2, 0.3, 0.61))]
    first = result.rows[0].label[0]
    assert (first.label, first.truncated, first.difficult, first.occluded) == ("dog", 1, 1, 0)
    assert result.report["findings"] == []
    assert result.rows[0].image_url == str(source / "JPEGImages" / "a.png")


def test_a_minimum_of_zero_anywhere_makes_the_set_count_from_zero(source: Path) -> None:
    write(source / "Annotations", "b", "\n" + element((0, 11, 30, 30)))
    result = converted(source, source.parent / "out")
    assert corners(result.rows[0]) == [(0.11, 0.22, 0.3, 0.6)]
    (finding,) = result.findings("zero_based_boxes")
    assert finding["file"].endswith("b.xml")
    assert finding["line"] == 6
    forced = converted(source, source.parent / "out", options={"box_origin": "1"})
    assert corners(forced.rows[0]) == [(0.1, 0.2, 0.3, 0.6)]
    assert corners(forced.rows[1]) == [(0, 0.2, 0.3, 0.6)]
    with pytest.raises(DatasetError, match="box_origin is '2'"):
        convert(str(source), source.parent / "out", options={"box_origin": "2"})


@given(*(st.integers(1, 400) for _ in range(4)))
def test_edges_are_the_exact_inverse_of_inclusive_pixels(a: int, b: int, c: int, d: int) -> None:
    xmin, xmax, ymin, ymax = min(a, b), max(a, b), min(c, d), max(c, d)
    left, top, right, bottom = pixel_edges(xmin, ymin, xmax, ymax, zero_based=False)
    assert (left + 1, top + 1, right, bottom) == (xmin, ymin, xmax, ymax)
    assert right - left == len(range(xmin, xmax + 1))
    assert pixel_edges(xmin, ymin, xmax, ymax, zero_based=True) == (xmin, ymin, xmax, ymax)


@pytest.mark.parametrize(
    ("bad", "severity", "reason"),
    [
        (element((20, 20, 20, 20)), "dropped", "degenerate_box"),
        (element((300, 20, 400, 30)), "dropped", "box_outside"),
        (element(("x", 20, 40, 30)), "dropped", "malformed_box"),
        (element(("nan", 20, 40, 30)), "dropped", "not_a_number"),
        ("<object>\n<name>cat</name></object>\n", "dropped", "malformed_box"),
        (element((20, 20, 40, 30), "  "), "dropped", "empty_label"),
        (element((40, 30, 20, 20)), "repaired", "reversed_box"),
        (element((40, 30, 150, 40)), "repaired", "box_clipped"),
    ],
)
def test_objects_that_cannot_be_used_have_file_and_line(source: Path, bad: str, severity: str, reason: str) -> None:
    path = write(source / "Annotations", "a", element((11, 11, 30, 30)) + bad)
    result = converted(source, source.parent / "out")
    assert result.reasons == {severity: {reason: 1}}
    (finding,) = result.findings(reason)
    assert (finding["file"], finding["line"]) == (str(path), 7)
    assert len(result.rows[0].label) == (1 if severity == "dropped" else 2)
    assert corners(result.rows[0])[0] == (0.1, 0.2, 0.3, 0.6)


def test_parts_inside_an_object_are_not_objects(source: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>12</xmin><ymin>12</ymin><xmax>14</xmax><ymax>14</ymax></bndbox></part>"
    path = source / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("</object>", f"{part}</object>"))
    result = converted(source, source.parent / "out")
    assert corners(result.rows[0]) == [(0.1, 0.2, 0.3, 0.6)]
    assert result.dataset.classes == ["cat"]


@pytest.mark.parametrize("filename", ["elsewhere.jpg", "a", "", "C:\\pictures\\other.png"])
def test_the_stem_finds_the_picture_when_the_filename_does_not(source: Path, filename: str) -> None:
    write(source / "Annotations", "a", element((11, 11, 30, 30)), filename=filename)
    result = converted(source, source.parent / "out")
    assert Path(result.rows[0].image_url).name == "a.png"
    assert result.reasons == {"repaired": {"wrong_filename": 1}}


def test_background_missing_and_unlabelled_pictures(source: Path) -> None:
    write(source / "Annotations", "a", "")
    write(source / "Annotations", "c", element((11, 11, 30, 30)))
    picture(source / "JPEGImages" / "d.png")
    result = converted(source, source.parent / "out")
    assert [len(row.label) for row in result.rows] == [0, 1]
    assert result.reasons == {"dropped": {"missing_picture": 1}, "warning": {"unlabelled_picture": 1}}
    assert result.findings("unlabelled_picture")[0]["file"].endswith("d.png")


def test_a_declared_size_of_zero_is_not_believed(source: Path) -> None:
    write(source / "Annotations", "a", element((11, 11, 30, 30)), size="0,0")
    assert corners(converted(source, source.parent / "out").rows[0]) == [(0.1, 0.2, 0.3, 0.6)]


@pytest.mark.parametrize(
    "text",
    [
        "<annotation><object>",
        '<!DOCTYPE x [<!ENTITY a "boom">]><annotation><filename>&a;</filename></annotation>',
        "",
    ],
)
def test_xml_that_is_broken_or_hostile(source: Path, text: str) -> None:
    (source / "Annotations" / "a.xml").write_text(text)
    result = converted(source, source.parent / "out", format="voc")
    assert list(result.by_name()) == ["b.png"]
    assert result.reasons["dropped"] == {"unreadable_annotations": 1}


def test_image_sets_give_the_parts_when_asked(source: Path) -> None:
    lists = source / "ImageSets" / "Main"
    with pytest.raises(DatasetError, match="lists that are not there"):
        convert(str(source), source.parent / "out", options={"image_sets": "true"})
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b 1\n")
    (lists / "trainval.txt").write_text("a\nb\n")
    assert [row.split for row in converted(source, source.parent / "out").rows] == [None, None]
    result = converted(source, source.parent / "out", options={"image_sets": "true"})
    assert [row.split for row in result.rows] == ["train", "validation"]
    (lists / "val.txt").write_text("")
    (lists / "trainval.txt").write_text("")
    result = converted(source, source.parent / "out", options={"image_sets": "true"})
    assert result.reasons["dropped"] == {"not_in_image_sets": 1}


def test_xml_beside_pictures_in_part_folders(tmp_path: Path) -> None:
    for part, stem in (("train", "a"), ("valid", "b")):
        picture(tmp_path / "s" / part / f"{stem}.png")
        write(tmp_path / "s" / part, stem, element((11, 11, 30, 30)))
    result = converted(tmp_path / "s", tmp_path / "out")
    assert [(Path(row.image_url).name, row.split) for row in result.rows] == [
        ("a.png", "train"),
        ("b.png", "validation"),
    ]
    presence = converted(tmp_path / "s", tmp_path / "out", task=Task.MULTILABEL)
    assert [row.label for row in presence.rows] == [["cat"], ["cat"]]
    with pytest.raises(DatasetError, match="do not fit the task image_classification"):
        convert(str(tmp_path / "s"), tmp_path / "out", task=Task.CLASSIFICATION)


def test_the_annotations_folder_itself_is_a_source(source: Path) -> None:
    rows = converted(source / "Annotations", source.parent / "out").rows
    assert [row.image_url for row in rows] == [str(source / "JPEGImages" / f"{stem}.png") for stem in "ab"]
