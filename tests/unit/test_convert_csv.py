"""CSV: what columns mean, with and without a header, in every dialect."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import converted, picture

from kubesight.convert import convert
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        picture(tmp_path / "source" / f"{name}.png")
    return tmp_path / "source"


def read(folder: Path, text: str | bytes, **more):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "labels.csv").write_bytes(data)
    return converted(folder, folder.parent / "out", **more)


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na.png,cat\nb.png,dog\nc.png,cat\n",
        "a.png,cat\nb.png,dog\nc.png,cat\n",
        "cat;a.png\r\ndog;b.png\r\ncat;c.png",
        "\ufeffimage\tclass\na.png\tcat\nb.png\tdog\n\nc.png\tcat\n",
        'id|species\n"a"|cat\n"b"|dog\n"c"|cat\n',
        "path,species\nsomewhere/else/a.png,cat\nC:\\there\\b.png,dog\n./c.png,cat\n",
        "filename,label\na.png,cat\nb.png,dog\nc.png,cat\n".encode("utf-16"),
    ],
)
def test_one_label_a_line(folder: Path, text: str | bytes) -> None:
    result = read(folder, text)
    assert result.dataset.task is Task.CLASSIFICATION
    assert [(Path(row.image_url), row.label) for row in result.rows] == [
        (folder / "a.png", "cat"),
        (folder / "b.png", "dog"),
        (folder / "c.png", "cat"),
    ]
    assert set(result.reasons) <= {"warning"}
    assert len(result.findings("found_by_ending")) == ("somewhere" in str(text))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("image,tags\na.png,cat;dog\nb.png,\nc.png,dog\n", {}),
        ("image,tags\na.png,dog | cat\nb.png,\nc.png,dog\n", {}),
        ('image,tags\na.png,"cat,dog"\nb.png,\nc.png,dog\n', {}),
        ("image,tags\na.png,cat dog\nb.png,\nc.png,dog\n", {"label_delimiter": " "}),
        ("image,tags\na.png,\"['cat', 'dog']\"\nb.png,[]\nc.png,['dog']\n", {}),
        ("image,cat,dog\na.png,1,1\nb.png,0,0\nc.png,0,1\n", {}),
        ("image,cat,dog\na.png,true,1.0\nb.png,,False\nc.png,0.0,TRUE\n", {}),
        ("image,label\na.png,cat\nb.png,\nc.png,dog\na.png,dog\n", {}),
    ],
)
def test_several_labels_a_picture(folder: Path, text: str, options: dict) -> None:
    result = read(folder, text, options=options, max_dropped=0.05)
    assert result.dataset.task is Task.MULTILABEL
    assert {name: row.label for name, row in result.by_name().items()} == {
        "a.png": ["cat", "dog"],
        "b.png": [],
        "c.png": ["dog"],
    }


def test_one_hot_with_one_each_is_classification(folder: Path) -> None:
    text = "image,cat,dog\na.png,1,0\nb.png,0,1\nc.png,0,1\n"
    assert [row.label for row in read(folder, text).rows] == ["cat", "dog", "dog"]
    assert read(folder, text, task=Task.MULTILABEL).rows[0].label == ["cat"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("image,label,xmin,ymin,xmax,ymax\na.png,cat,10,10,30,30\na.png,dog,0,0,100,50\nb.png,cat,10,10,30,30\n", {}),
        ("filename,width,height,class,xmin,ymin,xmax,ymax\na.png,100,50,cat,10,10,30,30\n"
         "a.png,100,50,dog,0,0,100,50\nb.png,100,50,cat,10,10,30,30\n", {}),
        ("a.png,10,10,30,30,cat\na.png,0,0,100,50,dog\nb.png,10,10,30,30,cat\n", {}),
        ("image,x,y,width,height,label\na.png,10,10,20,20,cat\na.png,0,0,100,50,dog\nb.png,10,10,20,20,cat\n", {}),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.1,0.3,0.2,0.6\na,dog,0,1,0,1\nb,cat,0.1,0.3,0.2,0.6\n", {}),
        ("a.png;.1;.2;.3;.6;cat\na.png;0;0;1;1;dog\nb.png;.1;.2;.3;.6;cat\n", {}),
        ("image;l;t;r;b;what\na.png;10;10;30;30;cat\nb.png;10;10;30;30;cat\na.png;0;0;100;50;dog\n",
         {"box_columns": "l,t,r,b", "label_column": "what"}),
    ],
)  # fmt: skip
def test_boxes(folder: Path, text: str, options: dict) -> None:
    result = read(folder, text, options=options)
    assert result.dataset.task is Task.DETECTION
    found = {
        name: [(b.label, b.topX, b.topY, b.bottomX, b.bottomY) for b in row.label]
        for name, row in result.by_name().items()
    }
    assert found == {
        "a.png": [("cat", 0.1, 0.2, 0.3, 0.6), ("dog", 0, 0, 1, 1)],
        "b.png": [("cat", 0.1, 0.2, 0.3, 0.6)],
    }
    assert set(result.reasons) <= {"warning"}
    assert len(result.findings("relative_boxes")) == (".3" in text)


def test_an_empty_box_is_background_and_relative_can_be_forced(folder: Path) -> None:
    text = "image,xmin,ymin,xmax,ymax,label\na.png,,,,,\nb.png,0,0,1,1,cat\n"
    result = read(folder, text)
    assert result.rows[0].label == []
    assert result.rows[1].label[0].bottomX == 1
    pixels = read(folder, text, options={"relative": "false"})
    assert pixels.rows[1].label[0].bottomX == 0.01


def test_parts_groups_and_unread_columns(folder: Path) -> None:
    text = "image,label,split,group,camera\na.png,cat,train,g1,x\nb.png,dog,valid,,y\nc.png,dog,holiday,,z\n"
    result = read(folder, text)
    assert [(row.split, row.group) for row in result.rows] == [("train", "g1"), ("validation", None), (None, None)]
    assert "camera" in result.findings("unused_columns")[0]["message"]
    assert result.findings("unknown_part")[0]["line"] == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b.png", "malformed_line"),
        ("b.png,dog,extra", "malformed_line"),
        (",dog", "malformed_line"),
        ("gone.png,dog", "missing_picture"),
    ],
)
def test_lines_that_cannot_be_used_have_file_and_line(folder: Path, line: str, reason: str) -> None:
    result = read(folder, f'image,label\na.png,"cat"\n{line}\nc.png,dog\n', format="csv", options={"delimiter": ","})
    assert result.reasons == {"dropped": {reason: 1}}
    finding = result.findings(reason)[0]
    assert (finding["file"], finding["line"]) == (str(folder / "labels.csv"), 3)
    assert list(result.by_name()) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("b.png,30,10,30,40,cat", "degenerate_box"),
        ("b.png,200,10,300,40,cat", "box_outside"),
        ("b.png,x,10,300,40,cat", "not_a_number"),
        ("b.png,10,10,30,40,", "empty_label"),
        ("b.png,10,10,30,40,fox", "unknown_label"),
    ],
)
def test_boxes_that_cannot_be_used_have_file_and_line(folder: Path, cells: str, reason: str) -> None:
    text = f"image,x1,y1,x2,y2,label\nb.png,10,10,30,40,cat\n{cells}\na.png,1,1,9,9,dog\n"
    result = read(folder, text, options={"classes": "cat,dog"})
    assert result.reasons["dropped"] == {reason: 1}
    assert result.findings(reason)[0]["line"] == 3
    assert len(result.by_name()["b.png"].label) == 1


def test_conflicts_duplicates_and_empty_labels_in_classification(folder: Path) -> None:
    text = "image,label\na.png,cat\na.png,cat\nb.png,dog\nc.png,dog\nb.png,cat\n"
    assert read(folder, text, max_dropped=0.05).dataset.task is Task.MULTILABEL
    result = read(folder, text, max_dropped=0.5)
    assert list(result.by_name()) == ["a.png", "c.png"]
    assert result.reasons == {"warning": {"duplicate_line": 1}, "dropped": {"conflicting_label": 1}}
    assert result.findings("conflicting_label")[0]["line"] == 6


def test_a_cell_that_is_neither_0_nor_1_is_reported(folder: Path) -> None:
    lines = "".join(f"a.png,{k % 2},1\n" for k in range(300))
    result = read(folder, f"image,cat,dog\n{lines}b.png,0,maybe\nc.png,1,0\n")
    assert result.findings("empty_label")[0]["line"] == 302


def test_files_by_part(tmp_path: Path) -> None:
    picture(tmp_path / "s" / "a.png")
    picture(tmp_path / "s" / "b.png")
    for part in ("train", "valid"):
        (tmp_path / "s" / f"{part}.csv").write_text("image,label\na.png,cat\nb.png,dog\n")
    assert [row.split for row in converted(tmp_path / "s", tmp_path / "out").rows] == ["train"] * 2 + ["validation"] * 2
    one = converted(tmp_path / "s" / "train.csv", tmp_path / "out")
    assert [row.split for row in one.rows] == [None, None]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no lines of CSV"),
        ("image,weather,time\na.png,fine,noon\n", {}, r"no label column.*label_column=NAME"),
        ("size,label\n3,cat\n", {}, "no column of picture names"),
        ("image,label\na.png,cat\n", {"label_column": "kind"}, "'kind', which is not there.*image, label"),
        ("image,label\na.png,cat\n", {"header": "perhaps"}, "header is 'perhaps'"),
        ("image,label\na.png,cat\n", {"delimiter": ",,"}, "not one character"),
        ("image,label\na.png,cat\n", {"label_colum": "x"}, "Did you mean 'label_column'"),
        ("image,label\na.png,cat\n", {"encoding": "utf-99"}, "encoding"),
        ("a.png,1,2,3,4\n", {"box_columns": "2,3,4,5"}, "no label column"),
        ("image,label\na.png,caf\xe9\n".encode("latin-1"), {}, "--option encoding"),
    ],
)
def test_files_whose_columns_do_not_tell(folder: Path, text: str | bytes, options: dict, message: str) -> None:
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=message):
        convert(str(folder / "labels.csv"), folder.parent / "out", format="csv", options=options)
    assert not (folder.parent / "out").exists()


words = st.text("abcdefgh ,;\"'|\t", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(words, min_size=2, max_size=5, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_label_survives_quoting(tmp_path: Path, labels: list[str]) -> None:
    import csv

    with open(tmp_path / "labels.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label"])
        writer.writerows([f"{number}.png", label] for number, label in enumerate(labels))
    options = {"trust_sizes": "true", "delimiter": ","}
    result = converted(
        tmp_path / "labels.csv", tmp_path / "out", task=None, options={**options, "label_delimiter": "\x1f"}
    )
    assert [row.label for row in result.rows] == [[label] for label in labels]
