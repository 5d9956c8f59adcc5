"""The one function: formats found by name and by sight, and one clear error for each kind of bad source."""

from pathlib import Path

import orjson
import pytest
from sources import converted, picture, write_coco

from kubesight.convert import FORMATS, convert
from kubesight.convert.registry import Reader, register
from kubesight.dataset.rows import ClassificationRow, Task
from kubesight.errors import DatasetError, StorageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "dog/1.png"):
        picture(tmp_path / "source" / name)
    return tmp_path / "source"


def test_a_new_format_is_one_class_and_a_name_is_taken_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubesight.convert.registry.FORMATS", known := dict(FORMATS))
    for place in ("conversion",):
        monkeypatch.setattr(f"kubesight.convert.{place}.FORMATS", known)

    @register("marker")
    class MarkerReader(Reader):
        @classmethod
        def mismatch(cls, source, options):
            return None if (source / "marker").exists() else "no marker"

        def tasks(self):
            return (Task.CLASSIFICATION,)

        def rows(self, task):
            for name in ("a", "b"):
                yield ClassificationRow(image_url=f"/{name}.png", label=name)

    (source / "marker").touch()
    assert [row.label for row in converted(source, source.parent / "out").rows] == ["a", "b"]
    with pytest.raises(ValueError, match="'marker' is registered twice"):
        register("marker")(MarkerReader)


def test_an_unknown_format_or_option_names_the_nearest(source: Path) -> None:
    with pytest.raises(DatasetError, match=r"unknown format 'cocoa'\. Did you mean 'coco'"):
        convert(str(source), source.parent / "out", format="cocoa")
    with pytest.raises(DatasetError, match=r"no option 'image'\. Did you mean 'images'"):
        convert(str(source), source.parent / "out", options={"image": "x"})
    with pytest.raises(DatasetError, match="trust_sizes is 'maybe'"):
        convert(str(source), source.parent / "out", options={"trust_sizes": "maybe"})


def test_every_format_says_why_it_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError) as caught:
        convert(str(tmp_path / "empty"), tmp_path / "out")
    for name in FORMATS:
        assert f"{name}: " in str(caught.value)


def test_two_annotation_formats_in_one_place_must_be_chosen(source: Path) -> None:
    image = {"id": 1, "file_name": "cat/1.png", "width": 100, "height": 50}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}
    write_coco(source / "labels.json", [image], [box])
    (source / "labels.csv").write_text("image,label\ncat/1.png,cat\ndog/1.png,dog\n")
    with pytest.raises(DatasetError, match=r"several formats fit: coco, csv.*--format"):
        convert(str(source), source.parent / "out")
    assert converted(source, source.parent / "out", format="csv").dataset.task is Task.CLASSIFICATION
    assert converted(source / "labels.json", source.parent / "out").dataset.task is Task.DETECTION
    assert converted(source, source.parent / "out", format="folder").dataset.info.source["format"] == "folder"


@pytest.mark.parametrize(
    ("where", "message"),
    [("nowhere", "there is no such file"), ("s3://bucket/set", "local files only"), ("source/cat", "no known")],
)
def test_sources_that_are_not_there(source: Path, where: str, message: str) -> None:
    path = where if "://" in where else str(source.parent / where)
    with pytest.raises(DatasetError, match=message):
        convert(path, source.parent / "out")


def test_one_class_no_class_and_more_classes_than_pictures(tmp_path: Path) -> None:
    def fails(text: str, message: str, task: Task | None = None) -> None:
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(DatasetError, match=message):
            convert(str(tmp_path / "labels.csv"), tmp_path / "out", task=task, max_dropped=1.0)
        assert not (tmp_path / "out").exists()

    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    fails("image,label\na.png,cat\nb.png,cat\n", "one class only")
    fails("image,label\na.png,x;y;z\nb.png,x\n", r"fewer pictures \(2\) than classes \(3\)")
    fails("image,label\na.png,\nb.png,\n", "no picture has a label", Task.MULTILABEL)
    fails("image,label\ngone.png,cat\nlost.png,dog\n", "there are no pictures")
    (tmp_path / "labels.csv").write_text("image,label\na.png,cat\nb.png,cat\n")
    assert converted(tmp_path / "labels.csv", tmp_path / "out", task=Task.MULTILABEL).dataset.classes == ["cat"]


def test_the_output_is_never_somebody_elses_folder(source: Path) -> None:
    before = sorted(source.rglob("*"))
    with pytest.raises(StorageError, match="not one that this command wrote"):
        convert(str(source), source)
    assert sorted(source.rglob("*")) == before
    first = convert(str(source), source.parent / "out")
    again = convert(str(source), source.parent / "out")
    assert first.info == again.info


def test_the_hash_does_not_depend_on_the_place(source: Path, tmp_path: Path) -> None:
    first = convert(str(source), tmp_path / "1")
    source.rename(tmp_path / "moved")
    second = convert(str(tmp_path / "moved"), tmp_path / "2")
    assert first.info.content_hash == second.info.content_hash
    assert first.info.source["root"] != second.info.source["root"]


def test_relative_and_file_uri_sources_give_absolute_urls(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    for name in ("source", "./source/", source.as_uri()):
        rows = converted(name, source.parent / "out").rows
        assert [row.image_url for row in rows] == [str(source / "cat" / "1.png"), str(source / "dog" / "1.png")]


def test_progress_goes_to_standard_error(source: Path, capfd: pytest.CaptureFixture) -> None:
    convert(str(source), source.parent / "out", progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "cat" in captured.err


def test_names_in_other_unicode_forms_and_odd_characters(tmp_path: Path) -> None:
    names = ["cafe\u0301 1.png", "\u0443\u043b\u0438\u0446\u0430.png", "a b%20c.png", "\U0001f600.png"]
    for name in names:
        picture(tmp_path / "s" / name)
    lines = [{"image_url": name, "label": str(k % 2)} for k, name in enumerate(names)]
    lines[0]["image_url"] = "caf\u00e9 1.png"
    (tmp_path / "s" / "labels.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    rows = converted(tmp_path / "s", tmp_path / "out").rows
    assert [row.image_url for row in rows] == [str(tmp_path / "s" / name) for name in names]


def test_two_names_are_never_taken_for_one_picture(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "deep/3.png"):
        picture(tmp_path / "s" / name)
    names = ["cats/1.png", "dogs/1.png", "D:\\all\\2.png", "/mnt/deep/3.png"]
    lines = [{"image_url": name, "label": str(k % 2)} for k, name in enumerate(names)]
    (tmp_path / "s" / "labels.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    result = converted(tmp_path / "s", tmp_path / "out")
    assert [row.image_url for row in result.rows] == [
        str(tmp_path / "s" / name) for name in ("1.png", "2.png", "deep/3.png")
    ]
    assert result.reasons["dropped"] == {"missing_picture": 1}
    assert "dogs/1.png" in result.findings("missing_picture")[0]["message"]
    assert len(result.findings("found_by_ending")) == 1


def test_the_option_images_names_a_folder_or_a_prefix(source: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_bytes(
        b"\n".join(orjson.dumps({"image_url": f"{name}/1.png", "label": name}) for name in ("cat", "dog"))
    )
    file = tmp_path / "labels.jsonl"
    local = converted(file, tmp_path / "out", options={"images": str(source)})
    assert local.rows[0].image_url == str(source / "cat" / "1.png")
    remote = converted(file, tmp_path / "out", options={"images": "s3://bucket/p/"})
    assert remote.rows[0].image_url == "s3://bucket/p/cat/1.png"
    assert local.dataset.info.source["root"] == str(source)
    with pytest.raises(DatasetError, match="images names no folder"):
        convert(str(file), tmp_path / "out", options={"images": "nowhere"})
    listed = converted(source, tmp_path / "out", options={"images": "s3://bucket/p", "trust_sizes": True})
    assert [row.image_url for row in listed.rows] == ["s3://bucket/p/cat/1.png", "s3://bucket/p/dog/1.png"]


def test_a_task_that_does_not_exist_is_refused(source: Path) -> None:
    with pytest.raises(DatasetError, match=r"unknown task 'detection'.*image_object_detection"):
        convert(str(source), source.parent / "out", task="detection")


def test_a_share_out_of_range_is_refused(source: Path) -> None:
    with pytest.raises(DatasetError, match=r"max_dropped is 5"):
        convert(str(source), source.parent / "out", max_dropped=5)
