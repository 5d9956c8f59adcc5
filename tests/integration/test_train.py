"""Training through the public function: tasks, resuming after kill -9, several processes, cached features."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import digit_scenes_dataset, digits_dataset
from safetensors.torch import load_file

from kubesight.dataset import Dataset
from kubesight.errors import DatasetError, HyperparameterError, ModelError
from kubesight.modelcard import ModelCard
from kubesight.train.trainer import train

SMALL = {
    "training_crop_size": 32,
    "validation_crop_size": 32,
    "validation_resize_size": 32,
    "training_batch_size": 16,
    "number_of_epochs": 2,
    "number_of_workers": 0,
    "horizontal_flip": False,
    "color_jitter": False,
    "random_resized_crop_min_scale": 0.6,
    "warmup_cosine_lr_warmup_epochs": 1,
}
MODEL = "timm/resnet10t"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("digits")
    return (
        digits_dataset(folder / "train", 0, 96, classes=3),
        digits_dataset(folder / "validation", 96, 45, classes=3),
    )


def fit(sets: tuple[Dataset, Dataset], output: Path, model_name: str = MODEL, **changes: Any) -> ModelCard:
    weights, processes = changes.pop("weights", "none"), changes.pop("processes", 1)
    settings = {**SMALL, **changes}
    if settings.get("learning_rate_scheduler") == "step":
        del settings["warmup_cosine_lr_warmup_epochs"]
    card = train(
        sets[0].path,
        sets[1].path,
        output,
        model_name=model_name,
        hyperparameters=settings,
        weights=weights,
        metrics_file=output / "metrics.log",
        processes=processes,
    )
    assert card is not None
    return card


def tensors(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "weights.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_learns_and_the_shipped_folder_is_the_one_that_was_scored(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    from kubesight.serving.predictor import load_predictor

    card = fit(digits, tmp_path, number_of_epochs=6)
    assert card.metrics["accuracy"] > 0.9
    rows = list(digits[1].rows())
    predictions = load_predictor(tmp_path / "model").predict(row.image_url for row in rows)
    right = [prediction.predicted == row.label for prediction, row in zip(predictions, rows, strict=True)]
    assert np.mean(right) == pytest.approx(card.metrics["accuracy"], abs=1e-12)
    assert card.data["training"]["content_hash"] == digits[0].info.content_hash
    assert json.loads((tmp_path / "model" / "labels.json").read_text()) == ["0", "1", "2"]


def test_multilabel_training_learns(tmp_path: Path) -> None:
    sets = digit_scenes_dataset(tmp_path / "a", 0, 160), digit_scenes_dataset(tmp_path / "b", 200, 60)
    card = fit(sets, tmp_path / "out", number_of_epochs=8, learning_rate=0.2, random_resized_crop_min_scale=0.9)
    first = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert card.metrics["iou"] > first["iou"] + 0.05


def test_the_same_seed_gives_the_same_weights_and_workers_do_not_matter(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    fit(digits, tmp_path / "a")
    fit(digits, tmp_path / "b", number_of_workers=2)
    fit(digits, tmp_path / "c", random_seed=5)
    assert same(tensors(tmp_path / "a"), tensors(tmp_path / "b"))
    assert not same(tensors(tmp_path / "a"), tensors(tmp_path / "c"))


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 0.2},
        {"mixup_alpha": 0.4},
        {"cutmix_alpha": 1.0},
        {"mixup_alpha": 0.4, "cutmix_alpha": 1.0},
        {"randaugment_magnitude": 9},
        {"ema_decay": 0.9},
        {"gradient_clip_norm": 0.5},
        {"mixed_precision": "bf16"},
        {"optimizer": "adamw", "learning_rate": 0.001},
        {"learning_rate_scheduler": "step", "step_lr_step_size": 1},
        {"gradient_accumulation_step": 2},
        {"layers_to_freeze": 2},
        {"color_jitter": True},
        {"horizontal_flip": True},
        {"random_resized_crop_min_scale": 0.2},
        {"weight_decay": 0.1},
        {"momentum": 0.5},
        {"nesterov": 0},
        {"training_batch_size": 8},
        {"warmup_cosine_lr_cycles": 0.3},
        {"channels_last": False, "image_mean": "0.5,0.5,0.5", "image_std": "0.5,0.5,0.5"},
    ],
    ids=lambda change: "+".join(change),
)
def test_each_setting_changes_what_is_learnt(
    digits: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, change: dict[str, Any]
) -> None:
    plain = tmp_path_factory.getbasetemp() / "plain"
    if not plain.exists():
        fit(digits, plain)
    fit(digits, tmp_path, **change)
    assert not same(tensors(plain), tensors(tmp_path))


def test_layers_that_are_frozen_stay_as_they_were(digits: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    fit(digits, tmp_path / "start", "resnet18", number_of_epochs=1)
    fit(digits, tmp_path / "on", "resnet18", weights=str(tmp_path / "start" / "model"), layers_to_freeze=2)
    before, after = tensors(tmp_path / "start"), tensors(tmp_path / "on")
    for name in (name for name in before if not name.endswith("num_batches_tracked")):
        frozen = name.startswith(("conv1.", "bn1.", "layer1."))
        assert torch.equal(before[name], after[name]) == frozen, name


SCRIPT = """
import logging, sys, json
from kubesight.train.trainer import train
logging.basicConfig(level=logging.INFO)
card = train(sys.argv[1], sys.argv[2], sys.argv[3], model_name=sys.argv[4], hyperparameters=json.loads(sys.argv[5]),
             weights="none", device="cpu")
"""


def command(sets: tuple[Dataset, Dataset], output: Path, **changes: Any) -> list[str]:
    settings = json.dumps({**SMALL, **changes})
    return ["-c", SCRIPT, str(sets[0].path), str(sets[1].path), str(output), MODEL, settings]


def finish(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, **options)


def test_kill_nine_at_random_moments_then_resume_equals_an_unbroken_run(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    changes = {"number_of_epochs": 6, "ema_decay": 0.9, "mixup_alpha": 0.2}
    finish(command(digits, tmp_path / "unbroken", **changes))
    # As a process leaves it that is killed while it writes.
    (tmp_path / "broken" / "checkpoints").mkdir(parents=True)
    (tmp_path / "broken" / "checkpoints" / ".best.safetensors.0.partial").write_bytes(b"half")
    chance = random.Random(7)
    kills = 0
    while not (tmp_path / "broken" / "model" / "modelcard.json").exists():
        process = subprocess.Popen(
            [sys.executable, *command(digits, tmp_path / "broken", **changes)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        checkpoint = tmp_path / "broken" / "checkpoints" / "last.pt"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        # Wait for one checkpoint more, so that every round comes further, then for a random moment.
        while process.poll() is None and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0) == before:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.8)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
    assert kills >= 2
    assert same(tensors(tmp_path / "unbroken"), tensors(tmp_path / "broken"))
    cards = [ModelCard.load(tmp_path / name / "model") for name in ("unbroken", "broken")]
    assert cards[0].metrics == cards[1].metrics
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(6))
    assert not list((tmp_path / "broken").glob("**/*.safetensors.*"))


def test_sigterm_ends_with_zero_and_a_checkpoint_within_seconds(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, *command(digits, tmp_path, number_of_epochs=500)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " epoch=0 accuracy=" in line
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "checkpoints" / "last.pt").exists()
    assert not (tmp_path / "model").exists()


def test_two_processes_train_one_model_and_count_every_picture_once(
    digits: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubesight.serving.predictor import load_predictor

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    card = fit(digits, tmp_path / "two", training_batch_size=8, processes=2)
    rows = list(digits[1].rows())
    predictions = load_predictor(tmp_path / "two" / "model").predict(row.image_url for row in rows)
    right = [prediction.predicted == row.label for prediction, row in zip(predictions, rows, strict=True)]
    # 45 pictures over two processes: one that counted twice would show in the share.
    assert np.mean(right) == pytest.approx(card.metrics["accuracy"], abs=1e-12)
    with pytest.raises(ModelError, match="number_of_epochs: was 2, now 3"):
        fit(digits, tmp_path / "two", training_batch_size=8, processes=2, number_of_epochs=3)


def test_a_second_call_finds_the_finished_model(digits: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    first = fit(digits, tmp_path)
    stamp = (tmp_path / "model" / "weights.safetensors").stat().st_mtime_ns
    assert fit(digits, tmp_path) == first
    assert (tmp_path / "model" / "weights.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(ModelError, match="number_of_epochs: was 2, now 3"):
        fit(digits, tmp_path, number_of_epochs=3)


def test_frozen_features_are_cached_and_reused(
    digits: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    caplog.set_level("INFO", logger="kubesight")
    frozen = {"train_only_top_layer": True, "learning_rate": 0.05, "random_resized_crop_min_scale": 0.08}
    card = fit(digits, tmp_path / "a", **frozen)
    assert "without augmentation" in caplog.text
    kept = sorted((tmp_path / "cache" / "features").iterdir())
    assert len(kept) == 2
    stamps = [path.stat().st_mtime_ns for path in kept]
    fit(digits, tmp_path / "b", **{**frozen, "learning_rate": 0.01})
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "cache" / "features").iterdir())] == stamps
    kept[0].write_bytes(kept[0].read_bytes()[:-100])
    assert fit(digits, tmp_path / "d", **frozen).metrics == card.metrics
    assert "damaged" in caplog.text
    fit(digits, tmp_path / "c", **frozen, feature_views=3)
    assert "3 augmented views" in caplog.text
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 3
    from kubesight.serving.predictor import load_predictor

    rows = list(digits[1].rows())
    predictions = load_predictor(tmp_path / "a" / "model").predict(row.image_url for row in rows)
    right = [prediction.predicted == row.label for prediction, row in zip(predictions, rows, strict=True)]
    assert np.mean(right) == pytest.approx(card.metrics["accuracy"], abs=1e-12)


@pytest.mark.parametrize("name", ["mixup_alpha", "cutmix_alpha", "randaugment_magnitude"])
def test_augmentation_that_a_frozen_backbone_would_ignore_is_refused(
    digits: tuple[Dataset, Dataset], tmp_path: Path, name: str
) -> None:
    with pytest.raises(HyperparameterError, match=name):
        fit(digits, tmp_path, train_only_top_layer=True, **{name: 1})


def test_a_corrupt_picture_in_the_middle_of_training_is_named(tmp_path: Path) -> None:
    sets = digits_dataset(tmp_path / "a", 0, 40, classes=3), digits_dataset(tmp_path / "b", 40, 20, classes=3)
    broken = Path(list(sets[0].rows())[17].image_url)
    broken.write_bytes(broken.read_bytes()[:60])
    for workers in (0, 1):
        with pytest.raises(DatasetError, match=broken.name):
            fit(sets, tmp_path / f"out{workers}", number_of_workers=workers)
        assert not (tmp_path / f"out{workers}" / "model").exists()


def test_data_that_do_not_fit_are_refused(digits: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    scenes = digit_scenes_dataset(tmp_path / "scenes", 0, 4)
    with pytest.raises(DatasetError, match="validation data for image_classification_multilabel"):
        fit((digits[0], scenes), tmp_path / "out")
    with pytest.raises(ModelError, match="image_object_detection"):
        fit(digits, tmp_path / "out", "fasterrcnn_resnet50_fpn")
    one = digits_dataset(tmp_path / "one", 0, 5, classes=1)
    with pytest.raises(DatasetError, match="only one class"):
        fit((one, digits[1]), tmp_path / "out")
    with pytest.raises(HyperparameterError, match="learning_rate"):
        fit(digits, tmp_path / "out", learning_rat=1)
    assert not (tmp_path / "out").exists()


FULL_DISK = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
code = open(sys.argv[0]).read()
import kubesight.train.torch_training
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
from kubesight.errors import StorageError
try:
    exec(code)
except StorageError as error:
    print("StorageError:", error)
    sys.exit(2)
"""


def test_a_disk_that_fills_up_while_checkpointing_leaves_nothing_half_written(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    script, wrapper = tmp_path / "script.py", tmp_path / "wrapper.py"
    script.write_text(SCRIPT)
    wrapper.write_text(FULL_DISK)
    arguments = command(digits, tmp_path / "out")[2:]
    done = subprocess.run([sys.executable, str(wrapper), str(script), *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "StorageError" in done.stdout
    assert "safetensors" in done.stdout or "last.pt" in done.stdout
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size >= 2_000_000]
    assert not (tmp_path / "out" / "model").exists()
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_the_primary_metric_chooses_the_epoch(digits: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    card = train(
        digits[0].path, digits[1].path, tmp_path, model_name=MODEL, weights="none", primary_metric="AUC_macro",
        hyperparameters={**SMALL, "number_of_epochs": 4}, metrics_file=tmp_path / "metrics.log",
    )  # fmt: skip
    assert card is not None
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    best = max(records, key=lambda record: (record["AUC_macro"], record["epoch"]))
    assert (card.training["best_epoch"], card.metrics["AUC_macro"]) == (best["epoch"], best["AUC_macro"])
    with pytest.raises(ModelError, match="'iou' does not judge image_classification"):
        train(digits[0].path, digits[1].path, tmp_path / "b", model_name=MODEL, primary_metric="iou")


def test_settings_of_the_split_are_refused(digits: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match="split_ratio has no effect on a training"):
        fit(digits, tmp_path, split_ratio=0.3)


@pytest.mark.slow
def test_sigterm_stops_several_processes_at_one_checkpoint_and_they_go_on(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    script = SCRIPT.replace('device="cpu"', 'device="cpu", processes=2')
    arguments = [script, *command(digits, tmp_path / "out", number_of_epochs=6, training_batch_size=8)[2:]]
    process = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while " epoch=1 " not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "out" / "checkpoints" / "last.pt").exists()
    assert not (tmp_path / "out" / "model").exists()
    finish(["-c", *arguments])
    unbroken = [script, *command(digits, tmp_path / "unbroken", number_of_epochs=6, training_batch_size=8)[2:]]
    finish(["-c", *unbroken])
    assert same(tensors(tmp_path / "out"), tensors(tmp_path / "unbroken"))


@pytest.mark.slow
def test_a_compiled_network_trains_and_ships_under_its_plain_names(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    fit(digits, tmp_path / "plain")
    card = fit(digits, tmp_path / "compiled", compile=True)
    assert tensors(tmp_path / "compiled").keys() == tensors(tmp_path / "plain").keys()
    assert card.hyperparameters["compile"] is True
