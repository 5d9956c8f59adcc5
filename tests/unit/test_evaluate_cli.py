"""The command `evaluate` for boxes and masks: any annotations as data, its options, its refusals."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sources import converted, picture, write_coco

from kubesight.cli import main as program

IMAGES = [{"id": k, "file_name": f"{name}.png", "width": 100, "height": 50} for k, name in ((5, "a"), (2, "b"))]
TRUTH = [{"id": k, "image_id": image, "category_id": 1, "bbox": box} for k, (image, box) in enumerate(
    [(5, [0, 0, 20, 20]), (2, [40, 0, 30, 30]), (2, [-5, 10, 20, 20])]
)]  # fmt: skip
RESULTS = [
    {"image_id": 5, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9},
    {"image_id": 2, "category_id": 1, "bbox": [-5, 10, 20, 20], "score": 0.4},
]
XML = """<annotation><filename>{name}.png</filename><size><width>100</width><height>50</height></size>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `kubesight evaluate` with the predictions of `RESULTS` and gives the exit code."""
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))

    def run(data: Path, *more: object) -> int:
        words = ["--data", data, "--predictions", tmp_path / "results.json", "-o", tmp_path / "out", *more]
        monkeypatch.setattr(sys, "argv", ["kubesight", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            program.main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO file in `annotations/`, its pictures in `images/`."""
    for name in "ab":
        picture(tmp_path / "source" / "images" / f"{name}.png")
    return write_coco(tmp_path / "source" / "annotations" / "truth.json", IMAGES, TRUTH)


def summary(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_a_coco_file_is_taken_as_it_is(tmp_path, coco, judge, capsys) -> None:
    """The box over the edge is not cut: the detection that copies it has an overlap of 1 still."""
    assert judge(coco, "--task", "image_object_detection", "--iou-threshold", "1") == 0
    found = summary(tmp_path)
    assert found["metrics"]["recall"] == pytest.approx(2 / 3)
    assert found["settings"]["iou_threshold"] == 1
    assert "mean_average_precision" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["image_url"] for line in lines] == [
        str(tmp_path / "source" / "images" / n) for n in ("b.png", "a.png")
    ]
    assert "could not be opened" not in (tmp_path / "out" / "report.html").read_text()


def test_options_reach_the_judge(tmp_path, coco, judge) -> None:
    options = ["--score-threshold", "0.5", "--voc-eleven-points", "--voc-inclusive-pixels"]
    assert judge(coco, "--task", "image_object_detection", *options) == 0
    settings = summary(tmp_path)["settings"]
    assert (settings["score_threshold"], settings["eleven_points"], settings["inclusive_pixels"]) == (0.5, True, True)
    assert summary(tmp_path)["metrics"]["precision"] == 1
    assert summary(tmp_path)["metrics"]["recall"] == pytest.approx(1 / 3)


def test_a_data_set_s_folder(tmp_path, coco, judge, capsys) -> None:
    data = converted(coco, tmp_path / "data").dataset.path
    assert judge(data) == 0
    assert summary(tmp_path)["data"]["path"] == str(data)
    assert capsys.readouterr().err.count("images") == 0


@pytest.mark.parametrize("shape", ["folder", "jsonl"])
def test_other_sources_are_converted_on_the_way_and_what_was_found_is_said(
    tmp_path, coco, judge, capsys, shape
) -> None:
    source = tmp_path / "source"
    if shape == "jsonl":
        source = converted(coco, tmp_path / "data").dataset.path / "annotations.jsonl"
        source = source.rename(tmp_path / "lines.jsonl")
    assert judge(source) == 0
    error = capsys.readouterr().err
    assert f"{source}: image_object_detection, 2 images" in error
    assert ("repaired: 1 box_clipped" in error) == (shape == "folder")
    assert summary(tmp_path)["data"]["path"] == str(source)
    assert summary(tmp_path)["images"] == 2


def test_a_voc_folder(tmp_path, judge) -> None:
    """The results' numbers are those in the file names, their categories places in the alphabet."""
    for name in ("000002", "000005"):
        picture(tmp_path / "voc" / "JPEGImages" / f"{name}.png")
        (tmp_path / "voc" / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").write_text(XML.format(name=name))
    assert judge(tmp_path / "voc", "--task", "image_object_detection") == 0
    assert summary(tmp_path)["metrics"]["recall"] == 0.5
    assert len(summary(tmp_path)["warnings"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say --task image_object_detection or --task image_instance_segmentation"),
        (["--task", "boxes"], "unknown task 'boxes'"),
        (["--task", "image_classification"], "an annotation file does not tell what is to be judged"),
        (["--task", "image_object_detection", "--iou-threshold", "0.01"], "0.01 is out of range"),
    ],
)
def test_refusals(tmp_path, coco, judge, capsys, arguments, message) -> None:
    assert judge(coco, *arguments) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_there(tmp_path, judge, capsys) -> None:
    assert judge(tmp_path / "none") == 2
    assert "no data set here" in capsys.readouterr().err
