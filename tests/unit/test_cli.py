"""The command line: what it offers, how it fails, and each command on a small data set."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import digits_dataset
from small_detectors import scene_files, small_detector

from kubesight.cli import main as program
from kubesight.cli.demo import write_demo
from kubesight.cli.options import number, pairs
from kubesight.dataset import Dataset, Task
from kubesight.errors import KubesightError
from kubesight.hyperparameters import resolve
from kubesight.job import load_job
from kubesight.modelcard import WEIGHTS_FILE, CropPreprocessing, ModelCard
from kubesight.models.build import build_model
from kubesight.models.names import find_model
from kubesight.models.weights import save_weights

COMMANDS = [
    *["convert", "validate", "split", "train", "evaluate", "predict", "export", "models", "hyperparameters"],
    *["run", "compile", "submit", "demo", "tune", "experiment", "weights"],
]
TINY = [
    *["--training-crop-size", "16", "--validation-crop-size", "16", "--validation-resize-size", "16"],
    *["--number-of-epochs", "1", "--training-batch-size=16", "--number_of_workers", "0"],
]


@pytest.fixture
def kubesight(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the program in this process and gives its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kubesight", *map(str, arguments)])
        try:
            program.main()
        except SystemExit as exit:
            return int(exit.code or 0)
        return 0

    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 60 digits of three classes."""
    return digits_dataset(tmp_path_factory.mktemp("digits"), 0, 60, classes=3).path


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a detector, beside a picture."""
    folder = tmp_path_factory.mktemp("detector")
    scene_files(folder, [(60, 80)])
    return small_detector(folder / "model")


def test_help_lists_the_commands_of_this_version(kubesight: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    assert kubesight("--help") == 0
    listed = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("│ ")]
    assert [name for name in listed if not name.startswith("-") and name in COMMANDS] == COMMANDS
    assert not {"serve", "deploy"} & set(listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, kubesight: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    assert kubesight(command, "--help") == 0
    assert f"kubesight {command}" in capsys.readouterr().out


def test_help_is_quick_because_it_imports_no_library() -> None:
    code = (
        "import sys\nsys.argv = ['kubesight', '--help']\nfrom kubesight.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'kfp', 'sklearn', 'cv2', 'numpy', 'pydantic', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # Processor time, which other work on the machine does not stretch.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_version(kubesight: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    assert kubesight("--version") == 0
    assert capsys.readouterr().out == "kubesight 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split", "{tmp}/none", "-o", "{tmp}/out"], "no data set here"),
        (["convert", "{tmp}/none", "-o", "{tmp}/out"], "{tmp}/none"),
        (["convert", "{tmp}", "-o", "{tmp}/out", "--task", "cats"], "--task: unknown task 'cats'. One of image_cl"),
        (["convert", "{tmp}", "-o", "{tmp}/out", "--option", "x"], "--option: 'x' is not NAME=VALUE"),
        (["hyperparameters", "resnet19"], "unknown model name 'resnet19'. Did you mean resnet1"),
        (["evaluate", "--data", "{tmp}/none", "-o", "{tmp}/out"], "there is nothing to evaluate"),
        (["export", "--model", "{tmp}/none"], "{tmp}/none"),
        (["predict", "--model", "{tmp}/none", "a.png"], "{tmp}/none/modelcard.json: no model here"),
        (["run", "{tmp}/job.yaml", "-o", "{tmp}/out"], "{tmp}/job.yaml"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    kubesight: Callable[..., int],
    capsys: pytest.CaptureFixture,
) -> None:
    assert kubesight(*(text.format(tmp=tmp_path) for text in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message.format(tmp=tmp_path) in error
    assert not (tmp_path / "out").exists()


def test_hyperparameters_are_flags_and_a_typo_is_told_before_anything_is_read(
    kubesight: Callable[..., int], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    base = ["train", "--training-data", tmp_path, "--validation-data", tmp_path, "-o", tmp_path / "out"]
    assert kubesight(*base, "--model-name", "resnet18", "--learning-rat", "0.1") == 2
    assert "unknown option --learning-rat. Did you mean --learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(
    place: str, kubesight: Callable[..., int], tmp_path: Path
) -> None:
    arguments = ["split", tmp_path / "none", "-o", tmp_path / "out"]
    with pytest.raises(KubesightError, match="no data set here"):
        kubesight(*(["--debug", *arguments] if place == "before" else [*arguments, "--debug"]))


def test_debug_after_two_dashes_is_an_argument() -> None:
    assert program._take_debug(["predict", "--", "--debug"]) == (["predict", "--", "--debug"], False)
    assert program._take_debug(["--debug", "predict"]) == (["predict"], True)


def test_ctrl_c_exits_with_130(
    kubesight: Callable[..., int], digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kubesight.dataset.validation.validate", interrupted)
    assert kubesight("validate", digits) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_is_a_message_and_a_bug_is_not(
    kubesight: Callable[..., int], digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/data/report.html")

    monkeypatch.setattr("kubesight.dataset.validation.validate", full)
    assert kubesight("validate", digits) == 2
    assert capsys.readouterr().err == "error: /data/report.html: No space left on device\n"

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kubesight.dataset.validation.validate", bug)
    with pytest.raises(ZeroDivisionError):
        kubesight("validate", digits)


def test_a_missing_library_names_the_extra(
    kubesight: Callable[..., int], digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    # None in sys.modules makes an import fail as a missing package does.
    monkeypatch.setitem(sys.modules, "kfp", None)
    for name in [name for name in sys.modules if name.startswith("kubesight.pipelines")]:
        monkeypatch.delitem(sys.modules, name)
    assert kubesight("compile", "train", "-o", digits / "train.yaml") == 2
    assert "this command needs kfp" in (error := capsys.readouterr().err)
    assert "pip install 'kubesight[pipelines]'" in error


def test_convert_and_split_say_what_they_wrote(
    kubesight: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    demo = write_demo(tmp_path / "demo").parent
    assert kubesight("convert", demo / "digits", "--format", "folder", "-o", tmp_path / "data") == 0
    assert "image_classification, 1,797 images, 1,797 labels, 10 classes" in capsys.readouterr().out
    assert kubesight("split", tmp_path / "data", "-o", tmp_path / "parts", "--test-ratio", "0.1", "--seed", 4) == 0
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines()]
    assert ["images", "1,258", "359", "180"] in rows
    assert Dataset(tmp_path / "parts" / "test").info.split["seed"] == 4


def test_train_evaluate_predict_export_follow_one_another(
    kubesight: Callable[..., int],
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tmp_path / "out" / "model"
    code = kubesight(
        "train", "--training-data", digits, "--validation-data", digits, "--model-name", "timm/resnet10t",
        "--weights", "none", "-o", tmp_path / "out", *TINY,
    )  # fmt: skip
    assert code == 0
    line = capsys.readouterr().out.splitlines()
    assert len(line) == 1, "standard output holds metric lines only"
    assert " epoch=0 accuracy=" in line[0]
    assert kubesight("evaluate", "--data", digits, "--model", model, "-o", tmp_path / "judged") == 0
    assert f"report: {tmp_path / 'judged' / 'report.html'}" in capsys.readouterr().out
    pictures = sorted(digits.parent.glob("pictures/*.png"))[:3]
    monkeypatch.chdir(digits.parent)
    assert kubesight("predict", "--model", model, *(path.relative_to(digits.parent) for path in pictures)) == 0
    answers = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [answer["image_url"] for answer in answers] == [str(path) for path in pictures]
    assert all(sum(answer["probabilities"]) == pytest.approx(1) for answer in answers)
    assert kubesight("export", "--model", model, "--samples", 4) == 0
    assert f"{model / 'model.onnx'}: " in capsys.readouterr().out
    assert kubesight("predict", "--model", model, "--backend", "onnx", pictures[0]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-4)


def test_validate_prints_counts_and_the_page(
    kubesight: Callable[..., int], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert kubesight("validate", digits, "-o", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "images: 60\n" in shown
    assert shown.endswith(f"report: {tmp_path / 'report.html'}\n")
    assert (tmp_path / "report.html").exists()


def test_models_lists_the_registry(kubesight: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    assert kubesight("models", "image_instance_segmentation") == 0
    shown = capsys.readouterr().out
    assert "maskrcnn_resnet50_fpn (default)" in shown
    assert "resnest50" not in shown


def test_models_lists_keras_and_sagemaker(kubesight: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    assert kubesight("models", "--keras") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("keras/" in line for line in lines) == 40
    assert any("keras/EfficientNetB3" in line and "300 px" in line for line in lines)
    assert kubesight("models", "--sagemaker") == 0
    text = capsys.readouterr().out
    assert text.count("tensorflow-ic-") == text.count("│ tensorflow-ic-") == 136
    assert "tensorflow-ic-imagenet-mobilenet-v2-035-96" in text
    assert kubesight("models", "--keras", "--sagemaker") == 2
    assert kubesight("models", "image_classification", "--keras") == 2


def test_hyperparameters_shows_the_defaults_of_a_model(
    kubesight: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    def default(name: str, *arguments: str) -> str:
        assert kubesight("hyperparameters", *arguments) == 0
        rows = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
        return next(row[1].strip() for row in rows if row[0].strip() == name)

    assert default("learning_rate", "resnet18") == "0.01"
    multilabel = resolve("vits16r224", Task.MULTILABEL, {})["learning_rate"]
    assert default("learning_rate", "vits16r224", "--task", "image_classification_multilabel") == str(multilabel)
    assert multilabel != 0.01
    assert default("tile_overlap_ratio") == "0.25"


def test_demo_writes_digits_and_a_job_that_is_valid(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    job = load_job(write_demo(tmp_path / "demo"))
    pictures = sorted((tmp_path / "demo" / "digits").glob("*/*.png"))
    assert len(pictures) == 1797
    assert {path.parent.name for path in pictures} == set("0123456789")
    with Image.open(pictures[0]) as picture:
        assert picture.size == (64, 64)
        assert np.ptp(np.asarray(picture)) > 200
    assert job.model_name == "resnet18"
    assert job.hyperparameters()["horizontal_flip"] is False
    assert job.notices == []


def test_pairs_are_read_and_checked() -> None:
    assert pairs(["a=1", "b=x=y"], "--option") == {"a": "1", "b": "x=y"}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(KubesightError, match="--option"):
            pairs(wrong, "--option")


def test_numbers_are_shown_short() -> None:
    assert [number(value) for value in (1234567, 0.123456, None, "x", True)] == ["1,234,567", "0.1235", "", "x", "True"]


def test_a_detector_predicts_exports_and_draws(
    kubesight: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = small_detector(tmp_path / "model", Task.SEGMENTATION)
    first, second = scene_files(tmp_path / "pictures", [(100, 140), (90, 60)])
    predict = ["predict", "--model", model, "--device", "cpu"]
    # Flags may stand between the pictures, in any spelling.
    assert kubesight(*predict, first, "--box-score-threshold", "0.6", second, "--mask_pixel_score_threshold=0.4") == 0
    answers = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [answer["image_url"] for answer in answers] == [first, second]
    scores = [one["score"] for answer in answers for one in answer["boxes"]]
    assert scores
    assert min(scores) >= 0.6
    flags = ["--export-as-image", "true", "--image-type", "png", "-o", tmp_path / "masks", "--draw", tmp_path / "drawn"]
    assert kubesight(*predict, *flags, first) == 0
    (answer,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert len(list((tmp_path / "masks").iterdir())) == len(answer["boxes"]) > 0
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["scene0.jpg"]
    assert kubesight("export", "--model", model, "--samples", 2) == 0
    assert re.search(r"model\.onnx: [\d,]+ bytes; on 2 pictures 100\.0% of \d+ boxes agree", capsys.readouterr().out)
    assert kubesight(*predict, "--backend", "onnx", first) == 0
    again = json.loads(capsys.readouterr().out)
    assert [one["score"] for one in again["boxes"]] == pytest.approx(
        [one["score"] for one in answer["boxes"]], abs=1e-4
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--box-score-treshold", "0.5"], "unknown option --box-score-treshold. Did you mean --box-score-threshold"),
        (["--box-score-threshold"], "--box-score-threshold has no value"),
        (["--box-score-threshold", "2"], "box_score_threshold is '2', but must be a number in [0, 1]"),
        (["--learning-rate", "0.1"], "learning_rate is a setting of training"),
        (["--export-as-image", "true"], "export_as_image does not apply to fasterrcnn_timm/test_resnet"),
        (["--output", "masks"], "--output: nothing would be written there"),
        (["--backend", "onnx"], "not exported yet"),
    ],
)
def test_mistakes_in_predicting_objects(
    flags: list[str], message: str, detector: Path, kubesight: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    assert kubesight("predict", "--model", detector, detector.parent / "scene0.png", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert kubesight("predict", "--model", detector, "--box-score-threshold", "0.5") == 2
    assert "no picture is named" in capsys.readouterr().err


def test_a_classifier_has_no_objects_to_set_or_draw(
    kubesight: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    module = build_model(find_model("timm/test_resnet"), 2).module
    card = ModelCard(
        task=Task.CLASSIFICATION, model_name="timm/test_resnet", classes=["a", "b"],
        preprocessing=CropPreprocessing(resize_size=40, crop_size=32),
    )  # fmt: skip
    (tmp_path / "model").mkdir()
    save_weights(module, tmp_path / "model" / WEIGHTS_FILE)
    card.save(tmp_path / "model")
    (picture,) = scene_files(tmp_path, [(50, 50)])
    predict = ["predict", "--model", tmp_path / "model", picture]
    assert kubesight(*predict, "--draw", tmp_path / "drawn") == 2
    assert "--draw: a classifier finds no objects to draw. Leave --draw out" in capsys.readouterr().err
    assert kubesight(*predict, "--box-score-threshold", "0.5") == 2
    assert "box_score_threshold does not apply to timm/test_resnet" in capsys.readouterr().err
    assert kubesight(*predict) == 0
    assert sum(json.loads(capsys.readouterr().out)["probabilities"]) == pytest.approx(1)
