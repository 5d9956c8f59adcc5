"""The data set folder: what is written is what is read, whole or not at all."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.dataset import (
    Box,
    ClassificationRow,
    Dataset,
    DatasetWriter,
    DetectionRow,
    ImageDetails,
    Instance,
    MultilabelRow,
    Rle,
    Row,
    SegmentationRow,
    Task,
)
from kubesight.errors import DatasetError, StorageError

NAMES = st.text(min_size=1, max_size=8)
SHARES = st.floats(0, 1)
FLAGS = {name: st.integers(0, 1) for name in ("isCrowd", "difficult", "truncated", "occluded")}
RINGS = st.lists(SHARES, min_size=6, max_size=8)
LABELS = {
    Task.CLASSIFICATION: NAMES,
    Task.MULTILABEL: st.lists(NAMES, max_size=3),
    Task.DETECTION: st.lists(
        st.builds(Box, label=NAMES, topX=SHARES, topY=SHARES, bottomX=SHARES, bottomY=SHARES, **FLAGS), max_size=3
    ),
    Task.SEGMENTATION: st.lists(
        st.builds(
            Instance,
            label=NAMES,
            polygon=st.lists(RINGS, max_size=2),
            rle=st.none() | st.builds(Rle, st.tuples(st.just(2), st.just(3)), st.just("02") | st.just([0, 6])),
            **FLAGS,
        ),
        max_size=3,
    ),
}
TYPES = {
    Task.CLASSIFICATION: ClassificationRow,
    Task.MULTILABEL: MultilabelRow,
    Task.DETECTION: DetectionRow,
    Task.SEGMENTATION: SegmentationRow,
}


@st.composite
def parts(draw: st.DrawFn) -> tuple[Task, list[Row]]:
    task = draw(st.sampled_from(list(Task)))
    row = st.builds(
        TYPES[task],
        image_url=NAMES,
        label=LABELS[task],
        image_details=st.none() | st.builds(ImageDetails, format=st.just("png"), width=st.integers(1, 9)),
        group=st.none() | NAMES,
        split=st.none() | st.sampled_from(["train", "validation", "test"]),
    )
    return task, draw(st.lists(row, max_size=5))


@settings(max_examples=80, deadline=None)
@given(parts())
def test_rows_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, part: tuple) -> None:
    task, rows = part
    folder = tmp_path_factory.mktemp("data") / "set"
    with DatasetWriter(folder, task, classes=["a class without pictures"]) as writer:
        for row in rows:
            writer.write(row)
    dataset = Dataset(folder)
    assert list(dataset.rows()) == rows
    assert (dataset.task, len(dataset)) == (task, len(rows))
    names = [name for row in rows for name in row.class_names()]
    assert dataset.classes == sorted({*names, "a class without pictures"})
    assert dataset.info.counts["annotations"] == len(names)
    assert dataset.info.counts["per_class"] == {name: names.count(name) for name in dataset.classes}


def write(folder: Path, labels: list[str], *, root: str = "/pictures") -> Dataset:
    with DatasetWriter(folder, Task.CLASSIFICATION, source={"root": root}) as writer:
        for number, label in enumerate(labels):
            writer.write(ClassificationRow(image_url=f"{root}/{number}.png", label=label))
    return Dataset(folder)


def test_the_content_hash_follows_rows_and_not_places(tmp_path: Path) -> None:
    first = write(tmp_path / "a", ["x", "y"]).info.content_hash
    assert write(tmp_path / "b", ["x", "y"], root="/elsewhere/pictures").info.content_hash == first
    assert write(tmp_path / "c", ["y", "x"]).info.content_hash != first
    assert write(tmp_path / "d", ["x", "y", "y"]).info.content_hash != first
    shutil.move(tmp_path / "a", tmp_path / "moved")
    assert Dataset(tmp_path / "moved").info.content_hash == first


def test_an_error_leaves_nothing_or_the_earlier_set(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with DatasetWriter(folder, Task.MULTILABEL) as writer:
            writer.write(MultilabelRow(image_url="a", label=[]))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    before = write(tmp_path / "old", ["x"]).info
    with pytest.raises(RuntimeError, match="in the middle"):
        fail(tmp_path / "old")
    assert Dataset(tmp_path / "old").info == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_earlier_set_is_replaced_and_other_folders_are_not(tmp_path: Path) -> None:
    write(tmp_path / "set", ["x"])
    assert write(tmp_path / "set", ["y", "z"]).classes == ["y", "z"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(StorageError, match=r"mine.*not replaced"):
        write(tmp_path / "mine", ["x"])
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    dataset = write(tmp_path / "set", ["x", "y", "z"])
    path = tmp_path / "set" / "annotations.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for bad in (b'{"image_url": "a"}\n', b'{"image_url": "a", "label": 3}\n', b"{\n", b"\n"):
        path.write_bytes(lines[0] + bad + lines[2])
        with pytest.raises(DatasetError, match=r"annotations\.jsonl, line 2"):
            list(dataset.rows())
    path.unlink()
    with pytest.raises(DatasetError, match="No such file"):
        list(dataset.rows())


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="kubesight convert"):
        Dataset(tmp_path)
    write(tmp_path / "set", ["x"])
    info = tmp_path / "set" / "dataset.json"
    text = info.read_text()
    info.write_text(text.replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(DatasetError, match="99 is later than 1"):
        Dataset(tmp_path / "set")
    info.write_text("[]")
    with pytest.raises(DatasetError, match="not the description"):
        Dataset(tmp_path / "set")
