"""A folder per class: parts, nested and hidden folders, and files that are no pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import converted, picture

from kubesight.convert import convert
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "cat/2.jpg", "dog/1.png"):
        picture(tmp_path / "source" / name)
    return tmp_path / "source"


def test_the_folder_is_the_class(source: Path) -> None:
    result = converted(source, source.parent / "out")
    assert result.dataset.task is Task.CLASSIFICATION
    assert result.dataset.info.source["format"] == "folder"
    assert [(row.image_url, row.label, row.split) for row in result.rows] == [
        (str(source / "cat" / "1.png"), "cat", None),
        (str(source / "cat" / "2.jpg"), "cat", None),
        (str(source / "dog" / "1.png"), "dog", None),
    ]
    details = result.rows[1].image_details
    assert (details.format, details.width, details.height) == ("jpeg", 100, 50)
    assert result.report["findings"] == []
    assert result.report["images_read"] == 3


def test_hidden_nested_and_foreign_files(source: Path) -> None:
    picture(source / "cat" / "deep" / "er" / "3.png")
    picture(source / "cat" / ".thumbnails" / "4.png")
    picture(source / ".cache" / "5.png")
    picture(source / "__MACOSX" / "6.png")
    picture(source / "stray.png")
    shutil.copy(source / "cat" / "1.png", source / "cat" / "no_ending")
    (source / "cat" / "notes.txt").write_text("nothing")
    (source / "dog" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (source / "README.md").write_text("about")
    (source / "cat" / "loop").symlink_to(source / "cat")
    result = converted(source, source.parent / "out")
    names = [str(Path(row.image_url).relative_to(source)) for row in result.rows]
    assert sorted(names) == ["cat/1.png", "cat/2.jpg", "cat/deep/er/3.png", "cat/no_ending", "dog/1.png"]
    assert result.reasons == {
        "warning": {"not_a_picture": 2},
        "dropped": {"no_class_folder": 1, "unreadable_picture": 1},
    }
    assert {Path(f["file"]).name for f in result.findings("not_a_picture")} == {"notes.txt", "README.md"}
    assert result.findings("unreadable_picture")[0]["subject"] == "image"


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_parts_above_the_classes(tmp_path: Path, names: tuple) -> None:
    for part in names:
        for label in ("cat", "dog"):
            picture(tmp_path / "s" / part / label / "1.png")
    result = converted(tmp_path / "s", tmp_path / "out")
    found = {Path(row.image_url).parts[-3]: row.split for row in result.rows}
    assert found == dict(zip(names, ("train", "validation", "test"), strict=True))
    assert result.dataset.classes == ["cat", "dog"]


def test_one_part_alone_is_none_and_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        picture(tmp_path / "one" / "train" / label / "1.png")
    assert [row.split for row in converted(tmp_path / "one", tmp_path / "out").rows] == [None, None]
    for label in ("train", "bus"):
        picture(tmp_path / "two" / label / "1.png")
    assert converted(tmp_path / "two", tmp_path / "out").dataset.classes == ["bus", "train"]


def test_separate_sources_for_the_parts(source: Path, tmp_path: Path) -> None:
    for name in ("cat/9.png", "dog/9.png", "fox/9.png"):
        picture(tmp_path / "other" / name)
    result = converted(source, tmp_path / "out", validation_source=str(tmp_path / "other"))
    assert [row.split for row in result.rows] == ["train"] * 3 + ["validation"] * 3
    assert result.dataset.classes == ["cat", "dog", "fox"]
    assert "'fox'" in result.findings("class_not_in_training")[0]["message"]
    for part in ("train", "test"):
        shutil.copytree(source, tmp_path / "parts" / part)
    with pytest.raises(DatasetError, match="parts of its own"):
        convert(str(tmp_path / "parts"), tmp_path / "out", test_source=str(tmp_path / "other"))


def test_an_empty_class_is_an_error_unless_another_part_has_it(source: Path, tmp_path: Path) -> None:
    (source / "fox").mkdir()
    with pytest.raises(DatasetError, match="the class 'fox' has no usable picture"):
        convert(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(source / "fox")
    shutil.copytree(source, tmp_path / "parts" / "train")
    picture(tmp_path / "parts" / "val" / "cat" / "1.png")
    (tmp_path / "parts" / "val" / "dog").mkdir()
    result = converted(tmp_path / "parts", tmp_path / "out")
    assert result.reasons == {"warning": {"empty_class": 1}}
    assert result.findings("empty_class")[0]["file"].endswith("val/dog")


def test_a_class_lost_to_damage_is_an_error(source: Path, tmp_path: Path) -> None:
    (source / "dog" / "1.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="1 of 3 images would be dropped"):
        convert(str(source), tmp_path / "out")
    with pytest.raises(DatasetError, match="the class 'dog' has no usable picture"):
        convert(str(source), tmp_path / "out", max_dropped=0.9)


def test_checking_pictures_finds_a_cut_one(source: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    Image.fromarray(pixels).save(source / "cat" / "2.jpg")
    data = (source / "cat" / "2.jpg").read_bytes()
    (source / "cat" / "2.jpg").write_bytes(data[: len(data) * 2 // 3])
    assert len(converted(source, tmp_path / "out").rows) == 3
    result = converted(source, tmp_path / "out", check_images=True)
    assert len(result.rows) == 2
    assert result.findings("unreadable_picture")[0]["file"].endswith("2.jpg")


def test_trusted_pictures_are_not_opened(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "2.jpg").write_bytes(b"nothing")
    result = converted(source, tmp_path / "out", options={"trust_sizes": "true"})
    assert len(result.rows) == 3
    assert result.rows[0].image_details is None


def test_only_accepted_classes(source: Path, tmp_path: Path) -> None:
    picture(source / "fox" / "1.png")
    result = converted(source, tmp_path / "out", options={"classes": "cat,dog"})
    assert result.dataset.classes == ["cat", "dog"]
    assert result.reasons["dropped"] == {"unknown_label": 1}
