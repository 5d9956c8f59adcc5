"""What the trainer checks and hands on, without any framework."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pictures import digit_scenes_dataset, digits_dataset

from kubesight.dataset import Dataset, Task
from kubesight.errors import DatasetError, HyperparameterError, JobError, KubesightError, ModelError
from kubesight.modelcard import CropPreprocessing, ModelCard
from kubesight.sweep.policies import parse_policy
from kubesight.train.progress import CHECKPOINT_FOLDER, Progress
from kubesight.train.request import (
    Ending,
    Request,
    classes_of,
    described,
    discard_checkpoints,
    fingerprint,
    finished_card,
    is_finished,
    shipped_card,
    termination_of,
    versions,
)
from kubesight.train.trainer import check_request, train

KERAS = "keras/MobileNetV2"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("digits")
    return digits_dataset(folder / "train", 0, 24, classes=3), digits_dataset(folder / "validation", 96, 12, classes=3)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Request, dict[str, Any]]]:
    """What the frameworks' trainings are called with; they train nothing."""
    calls: list[tuple[str, Request, dict[str, Any]]] = []
    for name in ("torch_training", "keras.training"):
        module = ModuleType(name)
        module.train_here = lambda request, _name=name, **options: calls.append((_name, request, options))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"kubesight.train.{name}", module)
    return calls


def ask(sets: tuple[Dataset, Dataset], model: str = KERAS, **options: Any) -> None:
    train(sets[0].path, sets[1].path, Path("out"), model_name=model, **options)


FREE = """
import importlib, sys
for name in ("trainer", "loop", "progress", "request", "table", "scores", "feature_cache", "order", "schedule",
             "metric_log", "early_termination", "cache_counts", "stop"):
    importlib.import_module(f"kubesight.train.{name}")
print(sorted({"torch", "torchvision", "timm", "tensorflow", "keras"} & set(sys.modules)))
"""


def test_what_the_frameworks_share_imports_neither() -> None:
    done = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "training"),
    [(KERAS, "keras.training"), ("timm/resnet10t", "torch_training"), ("resnet18", "torch_training")],
)
def test_the_model_says_which_framework_trains(
    digits: tuple[Dataset, Dataset], asked: list[Any], model: str, training: str
) -> None:
    ask(digits, model, hyperparameters={"learning_rate": 0.25}, device="cpu", processes=3, metrics_file="lines.log")
    ((name, request, options),) = asked
    assert name == training
    assert options == {"device": "cpu", "metrics_file": Path("lines.log"), "processes": 3}
    assert (request.spec.name, request.task, request.output) == (model, Task.CLASSIFICATION, Path("out"))
    assert [data.path for data in request.sets] == [data.path for data in digits]
    assert (request.settings["learning_rate"], request.given) == (0.25, {"learning_rate": 0.25})
    assert (request.weights, request.primary_metric) == ("default", "accuracy")
    assert request.ending == Ending(None, False, False)


def test_how_it_ends_and_what_it_starts_from_are_handed_on(digits: tuple[Dataset, Dataset], asked: list[Any]) -> None:
    policy = {"type": "bandit", "slack_factor": 0.2, "evaluation_interval": 2}
    ask(
        digits, hyperparameters={"checkpoint_run_id": "/models/earlier"}, weights="none", primary_metric="AUC_macro",
        early_termination=policy, stop_by="guard", discard_checkpoints=True,
    )  # fmt: skip
    ((_, request, _),) = asked
    assert (request.weights, request.primary_metric) == ("/models/earlier", "AUC_macro")
    assert (request.ending.guarded, request.ending.discards) == (True, True)
    assert request.ending.policy == parse_policy(policy)
    asker = termination_of(request)
    assert asker is not None
    assert (asker.policy, asker.trial) == (request.ending.policy, "out")


@pytest.mark.parametrize(
    ("written", "named", "expected"),
    [
        ({}, None, "accuracy"),
        ({}, "f1_score_macro", "f1_score_macro"),
        ({"eval_metric": "accuracy"}, None, "accuracy"),
        ({"eval_metric": "accuracy"}, "accuracy", "accuracy"),
        ({"binary_mode": True}, None, "accuracy"),
        ({"binary_mode": True, "eval_metric": "prc"}, None, "prc"),
        ({"binary_mode": "True", "eval-metric": "recall"}, "recall", "recall"),
    ],
)
def test_what_judges_an_epoch(
    digits: tuple[Dataset, Dataset], asked: list[Any], written: dict[str, Any], named: str | None, expected: str
) -> None:
    ask(digits, hyperparameters=written, primary_metric=named)
    assert asked[0][1].primary_metric == expected


@pytest.mark.parametrize(
    ("written", "named", "kind", "said"),
    [
        (
            {"binary_mode": True, "eval_metric": "prc"},
            "accuracy",
            HyperparameterError,
            "prc and primary_metric accuracy",
        ),
        ({"eval_metric": "accuracy"}, "AUC_macro", HyperparameterError, "accuracy and primary_metric AUC_macro"),
        ({"binary_mode": True}, "prc", ModelError, "'prc' does not judge"),
        ({}, "iou", ModelError, "'iou' does not judge image_classification"),
        ({"validation_split_ratio": 0.3}, None, HyperparameterError, "is given its parts"),
        ({"momentums": 0.3}, None, HyperparameterError, "momentum"),
    ],
)
def test_what_cannot_be_is_refused(
    digits: tuple[Dataset, Dataset], asked: list[Any], written: dict[str, Any], named: str | None, kind: type, said: str
) -> None:
    with pytest.raises(kind, match=said):
        ask(digits, hyperparameters=written, primary_metric=named)
    with pytest.raises(kind, match=said):
        check_request(KERAS, written, task=Task.CLASSIFICATION, primary_metric=named)
    assert asked == []


def test_data_and_model_must_fit(digits: tuple[Dataset, Dataset], asked: list[Any], tmp_path: Path) -> None:
    scenes = digit_scenes_dataset(tmp_path / "scenes", 0, 4)
    with pytest.raises(DatasetError, match="validation data for image_classification_multilabel"):
        ask((digits[0], scenes))
    with pytest.raises(ModelError, match="does image_object_detection; the data are for image_classification"):
        ask(digits, "fasterrcnn_resnet50_fpn")
    with pytest.raises(ModelError, match="no trainer for yolov5"):
        check_request("yolov5", {})
    with pytest.raises(JobError, match="without a policy"):
        ask(digits, stop_by="guard")
    assert asked == []


def test_a_request_can_be_checked_before_its_task_is_known() -> None:
    assert check_request(KERAS, {"binary_mode": True, "eval_metric": "auc"}).framework == "tensorflow"
    assert check_request("resnet18", {}, primary_metric="iou").framework == "torch"
    with pytest.raises(ModelError, match="'iou' does not judge"):
        check_request("resnet18", {}, task=Task.CLASSIFICATION, primary_metric="iou")
    with pytest.raises(ModelError, match="'mean_average_precision' does not judge"):
        check_request("resnet18", {}, primary_metric="mean_average_precision")
    with pytest.raises(KubesightError, match="resnet18x"):
        check_request("resnet18x", {})


def request_of(sets: tuple[Dataset, Dataset], output: Path, *, discards: bool = False) -> Request:
    from kubesight.models.names import find_model

    spec, ending = find_model("resnet18"), Ending(None, False, discards)
    return Request(spec, Task.CLASSIFICATION, sets, output, {}, "none", "accuracy", ending)


def test_classes_are_those_of_both_parts(
    digits: tuple[Dataset, Dataset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = digits_dataset(tmp_path / "one", 0, 5, classes=1)
    five = digits_dataset(tmp_path / "five", 0, 25, classes=5)
    assert classes_of(request_of(digits, tmp_path)) == digits[0].classes
    assert "cannot be learnt" not in caplog.text
    assert classes_of(request_of((digits[0], five), tmp_path)) == five.classes
    unseen = ", ".join(sorted(set(five.classes) - set(digits[0].classes)))
    assert f"cannot be learnt: {unseen}" in caplog.text
    with pytest.raises(DatasetError, match="only one class"):
        classes_of(request_of((one, five), tmp_path))


def card_of(sets: tuple[Dataset, Dataset], **changes: Any) -> ModelCard:
    return ModelCard(
        task=Task.CLASSIFICATION, model_name="resnet18", classes=sets[0].classes,
        preprocessing=CropPreprocessing(resize_size=32, crop_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        hyperparameters={"learning_rate": 0.1, "number_of_workers": 2, "validation_batch_size": 8, **changes},
        weights={"source": "none"}, training={"primary_metric": "accuracy"},
        data={"training": described(sets[0]), "validation": described(sets[1])}, versions=versions(["numpy"]),
    )  # fmt: skip


def test_a_finished_training_is_known_by_its_fingerprint(digits: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    card = card_of(digits)
    assert not is_finished(tmp_path)
    assert finished_card(tmp_path, fingerprint(card, 1)) is None
    card.save(tmp_path / "model")
    assert is_finished(tmp_path)
    assert finished_card(tmp_path, fingerprint(card_of(digits, number_of_workers=0), 1)) == card
    with pytest.raises(ModelError, match=r"learning_rate: was 0\.1, now 0\.2"):
        finished_card(tmp_path, fingerprint(card_of(digits, learning_rate=0.2), 1))
    other = card_of((digits[1], digits[1]))
    with pytest.raises(ModelError, match=r"training_data: was"):
        finished_card(tmp_path, fingerprint(other, 1))


def test_the_shipped_card_tells_how_training_went(digits: tuple[Dataset, Dataset]) -> None:
    progress = Progress(epoch=5, best_score=0.75, best_epoch=3, best_metrics={"accuracy": 0.75}, stopped_early=True)
    card = shipped_card(card_of(digits), progress)
    assert card.metrics == {"accuracy": 0.75}
    told = {"primary_metric": "accuracy", "best_epoch": 3, "epochs": 5, "stopped_early": True}
    assert card.training == told
    progress.termination = {"policy": "bandit"}
    assert shipped_card(card, progress).training == {**told, "early_termination": {"policy": "bandit"}}
    assert set(card.versions) == {"kubesight", "numpy"}


@pytest.mark.parametrize("discards", [False, True])
def test_checkpoints_go_when_they_are_not_wanted(
    digits: tuple[Dataset, Dataset], tmp_path: Path, discards: bool
) -> None:
    (tmp_path / CHECKPOINT_FOLDER).mkdir()
    discard_checkpoints(request_of(digits, tmp_path, discards=discards))
    assert (tmp_path / CHECKPOINT_FOLDER).exists() != discards
