"""Training detectors through the public function: what is learnt, resuming after kill -9, several processes."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import digit_objects_dataset
from safetensors.torch import load_file

from kubesight.dataset import Dataset, DatasetWriter, Task
from kubesight.dataset.rows import Box, DetectionRow
from kubesight.errors import DatasetError, HyperparameterError, ModelError
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import ModelCard
from kubesight.train.trainer import train

SMALL = {
    "min_size": 96,
    "max_size": 128,
    "number_of_epochs": 2,
    "training_batch_size": 2,
    "number_of_workers": 0,
    "horizontal_flip": False,
    "learning_rate": 0.02,
    "box_detections_per_image": 20,
    "warmup_cosine_lr_warmup_epochs": 1,
}
DETECTOR = "fasterrcnn_timm/test_efficientnet"
SEGMENTER = "maskrcnn_timm/test_efficientnet"
Sets = tuple[Dataset, Dataset]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    folder = tmp_path_factory.mktemp("boxes")
    return (
        digit_objects_dataset(folder / "train", 0, 4, Task.DETECTION, background=1),
        digit_objects_dataset(folder / "validation", 100, 3, Task.DETECTION, background=1),
    )


@pytest.fixture(scope="module")
def outlines(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    folder = tmp_path_factory.mktemp("outlines")
    return (
        digit_objects_dataset(folder / "train", 0, 3, Task.SEGMENTATION, background=1),
        digit_objects_dataset(folder / "validation", 100, 2, Task.SEGMENTATION, background=0),
    )


def fit(sets: Sets, output: Path, model_name: str = DETECTOR, **changes: Any) -> ModelCard:
    weights, processes = changes.pop("weights", "none"), changes.pop("processes", 1)
    card = train(
        sets[0].path, sets[1].path, output, model_name=model_name, hyperparameters={**SMALL, **changes},
        weights=weights, metrics_file=output / "metrics.log", processes=processes,
    )  # fmt: skip
    assert card is not None
    return card


def tensors(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("task", "model_name"), [(Task.DETECTION, DETECTOR), (Task.SEGMENTATION, SEGMENTER)])
def test_a_detector_learns(task: Task, model_name: str, tmp_path: Path) -> None:
    sets = (
        digit_objects_dataset(tmp_path / "train", 0, 48, task, background=2),
        digit_objects_dataset(tmp_path / "validation", 100, 16, task, background=1),
    )
    card = fit(sets, tmp_path, model_name, number_of_epochs=12, validation_metric_type="coco_voc")
    history = records(tmp_path)
    assert history[-1]["training_loss"] < 0.6 * history[0]["training_loss"]
    assert card.metrics["mean_average_precision"] > 0.3


def test_the_shipped_folder_is_the_one_that_was_scored(boxes: Sets, tmp_path: Path) -> None:
    card = fit(boxes, tmp_path, number_of_epochs=3, validation_metric_type="coco_voc", log_training_metrics="Enable")
    history = records(tmp_path)
    assert history[-1]["training_loss"] < history[0]["training_loss"]
    assert {"training_mean_average_precision", "coco_AP", "coco_AP50", "validation_loss"} <= card.metrics.keys()
    assert card.classes == ["0", "1", "2"]
    assert card.inference["box_detections_per_image"] == 20
    best = max(history, key=lambda record: (record["mean_average_precision"], record["epoch"]))
    assert card.training["best_epoch"] == best["epoch"]
    again = evaluate(boxes[1].path, tmp_path / "evaluation", model=tmp_path / "model")
    assert again["mean_average_precision"] == card.metrics["mean_average_precision"]
    assert again["coco.AP"] == card.metrics["coco_AP"]
    of_training = evaluate(boxes[0].path, tmp_path / "evaluation", model=tmp_path / "model")
    assert of_training["mean_average_precision"] == card.metrics["training_mean_average_precision"]


def test_a_segmenter_scores_masks(outlines: Sets, tmp_path: Path) -> None:
    card = fit(outlines, tmp_path, SEGMENTER, number_of_epochs=1, validation_metric_type="coco", tile_grid_size="2x1")
    assert card.metrics["mean_average_precision"] == card.metrics["coco_AP50"]
    assert card.inference["mask_pixel_score_threshold"] == 0.5
    again = evaluate(outlines[1].path, tmp_path / "evaluation", model=tmp_path / "model")
    assert again["mean_average_precision"] == card.metrics["mean_average_precision"]


def test_the_same_seed_gives_the_same_weights_and_workers_do_not_matter(boxes: Sets, tmp_path: Path) -> None:
    first = fit(boxes, tmp_path / "a", number_of_epochs=1, horizontal_flip=True)
    second = fit(boxes, tmp_path / "b", number_of_epochs=1, horizontal_flip=True, number_of_workers=2)
    assert first.metrics == second.metrics
    assert same(tensors(tmp_path / "a"), tensors(tmp_path / "b"))
    fit(boxes, tmp_path / "c", number_of_epochs=1, horizontal_flip=True, random_seed=1)
    assert not same(tensors(tmp_path / "a"), tensors(tmp_path / "c"))


@pytest.mark.parametrize(
    "changes",
    [
        {"random_crop_expand": False},
        {"horizontal_flip": True},
        {"min_size": 80},
        {"tile_grid_size": "2x2"},
        {"gradient_accumulation_step": 2},
        {"ema_decay": 0.5},
        {"layers_to_freeze": 2},
        {"channels_last": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_changes_what_is_learnt(
    boxes: Sets, tmp_path: Path, plain: dict[str, torch.Tensor], changes: dict[str, Any]
) -> None:
    fit(boxes, tmp_path, number_of_epochs=1, **changes)
    assert not same(tensors(tmp_path), plain)


@pytest.fixture(scope="module")
def plain(boxes: Sets, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    output = tmp_path_factory.mktemp("plain")
    fit(boxes, output, number_of_epochs=1)
    return tensors(output)


def test_augmentation_is_switched_off_by_azures_setting(boxes: Sets, tmp_path: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name != "horizontal_flip"} | {"number_of_epochs": 1}
    off = {"advanced_settings": json.dumps({"apply_automl_train_augmentations": False})}
    train(
        boxes[0].path, boxes[1].path, tmp_path / "a", model_name=DETECTOR, hyperparameters=settings | off,
        weights="none", metrics_file=tmp_path / "a.log",
    )  # fmt: skip
    fit(boxes, tmp_path / "b", number_of_epochs=1, random_crop_expand=False)
    assert same(tensors(tmp_path / "a"), tensors(tmp_path / "b"))


def test_without_a_metric_the_least_validation_loss_is_the_best(boxes: Sets, tmp_path: Path) -> None:
    card = fit(boxes, tmp_path, validation_metric_type="none", number_of_epochs=3, learning_rate=0.005)
    losses = [record["validation_loss"] for record in records(tmp_path)]
    assert card.training["best_epoch"] == losses.index(min(losses))
    assert card.metrics == {"validation_loss": min(losses)}
    with pytest.raises(HyperparameterError, match="validation_metric_type"):
        fit(boxes, tmp_path / "b", validation_metric_type="none", log_validation_loss="Disable")


def test_the_validation_loss_can_be_left_out(boxes: Sets, tmp_path: Path) -> None:
    with_loss = fit(boxes, tmp_path / "a", number_of_epochs=1)
    without = fit(boxes, tmp_path / "b", number_of_epochs=1, log_validation_loss="Disable")
    assert "validation_loss" not in without.metrics
    assert {name: value for name, value in with_loss.metrics.items() if name != "validation_loss"} == without.metrics


def test_validation_does_not_disturb_training(boxes: Sets, tmp_path: Path) -> None:
    fit(boxes, tmp_path / "a", evaluation_frequency=1, log_validation_loss="Enable")
    fit(boxes, tmp_path / "b", evaluation_frequency=1, log_validation_loss="Disable", validation_metric_type="coco")
    a, b = (torch.load(tmp_path / n / "checkpoints" / "last.pt", weights_only=True)["states"]["model"] for n in "ab")
    assert same(a, b)


SCRIPT = """
import json, sys
from kubesight.train.trainer import train
training, validation, output, model, settings, processes = sys.argv[1:]
train(training, validation, output, model_name=model, weights="none", hyperparameters=json.loads(settings),
      device="cpu", processes=int(processes))
"""


def command(sets: Sets, output: Path, *, model: str = DETECTOR, processes: int = 1, **changes: Any) -> list[str]:
    settings = json.dumps({**SMALL, **changes})
    paths = [str(sets[0].path), str(sets[1].path), str(output)]
    return [sys.executable, "-c", SCRIPT, *paths, model, settings, str(processes)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "outlines"])
def test_kill_nine_at_a_random_moment_then_resume_equals_an_unbroken_run(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sets = request.getfixturevalue(kind)
    options: dict[str, Any] = {"model": DETECTOR if kind == "boxes" else SEGMENTER, "number_of_epochs": 3}
    subprocess.run(command(sets, tmp_path / "unbroken", **options), check=True, capture_output=True)
    process = subprocess.Popen(
        command(sets, tmp_path / "killed", **options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # an epoch has been told
    time.sleep(random.uniform(0, 1.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model").exists()
    subprocess.run(command(sets, tmp_path / "killed", **options), check=True, capture_output=True)
    assert same(tensors(tmp_path / "killed"), tensors(tmp_path / "unbroken"))
    assert (
        ModelCard.load(tmp_path / "killed" / "model").metrics == ModelCard.load(tmp_path / "unbroken" / "model").metrics
    )


@pytest.mark.slow
def test_two_processes_judge_the_same_pictures_as_one(boxes: Sets, tmp_path: Path) -> None:
    subprocess.run(command(boxes, tmp_path, processes=2, training_batch_size=2), check=True, capture_output=True)
    card = ModelCard.load(tmp_path / "model")
    alone = evaluate(boxes[1].path, tmp_path / "evaluation", model=tmp_path / "model")
    assert alone["mean_average_precision"] == card.metrics["mean_average_precision"]


def test_only_background_is_refused(boxes: Sets, tmp_path: Path) -> None:
    empty = digit_objects_dataset(tmp_path / "empty", 0, 4, Task.DETECTION, background=4)
    with pytest.raises(DatasetError, match="object"):
        fit((empty, boxes[1]), tmp_path / "out")


def test_labels_that_cannot_be_are_refused_with_the_picture_named(boxes: Sets, tmp_path: Path) -> None:
    picture = next(iter(boxes[0].rows())).image_url
    for number, box in enumerate((Box("0", 0.5, 0.1, 0.2, 0.3), Box("0", 0.1, 0.1, 0.1, 0.3), Box("0", 0, 0, 1.2, 1))):
        with DatasetWriter(tmp_path / f"bad{number}", Task.DETECTION) as writer:
            writer.write(DetectionRow(image_url=picture, label=[box]))
        with pytest.raises(DatasetError, match=Path(picture).name):
            fit((Dataset(tmp_path / f"bad{number}"), boxes[1]), tmp_path / f"out{number}")


def test_a_model_for_another_task_is_refused(boxes: Sets, outlines: Sets, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="image_object_detection"):
        fit(outlines, tmp_path / "out")
    with pytest.raises(ModelError, match="image_instance_segmentation"):
        fit(boxes, tmp_path / "out", SEGMENTER)


def test_training_goes_on_from_an_earlier_model(boxes: Sets, tmp_path: Path) -> None:
    first = fit(boxes, tmp_path / "a")
    second = fit(boxes, tmp_path / "b", number_of_epochs=1, learning_rate=1e-6, weights=str(tmp_path / "a" / "model"))
    assert second.weights["source"] == "model"
    assert second.metrics["mean_average_precision"] == pytest.approx(first.metrics["mean_average_precision"], abs=0.1)


def test_evaluation_runs_a_model_with_other_inference_settings(boxes: Sets, tmp_path: Path) -> None:
    fit(boxes, tmp_path, number_of_epochs=1)
    model, output = tmp_path / "model", tmp_path / "evaluation"

    def most_found(**overrides: Any) -> int:
        evaluate(boxes[1].path, output, model=model, overrides=overrides)
        lines = (output / "predictions.jsonl").read_text().splitlines()
        return max(len(json.loads(line)["boxes"]) for line in lines)

    assert most_found() > 2
    assert most_found(box_detections_per_image=2) == 2
    assert most_found(tile_grid_size="2x1") > 2
    with pytest.raises(HyperparameterError, match="learning_rate"):
        most_found(learning_rate=0.1)
    with pytest.raises(HyperparameterError, match="no model is run"):
        evaluate(boxes[1].path, output, predictions=output / "predictions.jsonl", overrides={"tile_grid_size": "2x1"})
