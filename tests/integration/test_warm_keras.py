"""Trainings of keras/* models in processes forked from a server that has TensorFlow loaded."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pictures import digits_dataset

from kubesight.dataset import Dataset
from kubesight.tune.trials.processes import TrialProcess, start
from kubesight.tune.trials.warm import WarmWorkers

ENV = {
    **os.environ, "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
COMMAND = [sys.executable, "-m", "kubesight.cli.main"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("digits")
    return digits_dataset(folder / "train", 0, 24, classes=3), digits_dataset(folder / "validation", 24, 12, classes=3)


@pytest.fixture(scope="module")
def workers() -> Iterator[WarmWorkers]:
    with WarmWorkers() as warm:
        warm.start(ENV, "tensorflow")
        yield warm


def train_arguments(digits: tuple[Dataset, Dataset], output: Path, **changes: Any) -> list[str]:
    settings = {
        "training_data": digits[0].path, "validation_data": digits[1].path, "output": output,
        "model_name": "keras/mobilenet-v2-035-96", "weights": "none", "number_of_epochs": 1, "image_size": 32,
        "batch_size": 8, "train_only_top_layer": True, **changes,
    }  # fmt: skip
    return ["train", *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items())]


def until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def wait(process: TrialProcess) -> int:
    return int(until(lambda: [code] if (code := process.poll()) is not None else None)[0])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def history(output: Path) -> list[dict[str, float]]:
    """The evaluations, without how long they took."""
    rows = [orjson.loads(line) for line in (output / "metrics.jsonl").read_bytes().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_trainings_run_in_forks_of_one_thread(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    process = workers.run(train_arguments(digits, tmp_path / "out"), env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
    server = parent(process.pid)
    assert server != os.getpid()
    maps = Path(f"/proc/{server}/maps").read_text()
    assert "libtensorflow" in maps
    assert "libtorch" not in maps
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    assert wait(process) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "out" / "model" / "saved_model" / "saved_model.pb").is_file()
    assert len([line for line in (tmp_path / "log").read_text().splitlines() if " epoch=" in line]) == 1


def test_torch_gets_another_server_and_gpus_a_plain_process(
    workers: WarmWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The settings are refused before any data is read.
    for model, env, is_forked in [
        ("keras/VGG16", ENV, True),
        ("keras/VGG16", {**ENV, "CUDA_VISIBLE_DEVICES": "0"}, False),
        ("timm/resnet10t", {**ENV, "CUDA_VISIBLE_DEVICES": "0"}, True),
    ]:
        arguments = ["train", "--training-data=x", "--validation-data=x", "--output=x", f"--model-name={model}"]
        process = workers.run(arguments, env=env, cwd=tmp_path, stdout=tmp_path / "log")
        assert (parent(process.pid) != os.getpid()) == is_forked
        assert wait(process) == 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics_warm_and_cold(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    changes = {"train_only_top_layer": False, "augmentation": True, "number_of_epochs": 2}
    commands = {name: train_arguments(digits, tmp_path / name, **changes) for name in ("cold", "warm")}
    cold = start([*COMMAND, *commands["cold"]], env=ENV, cwd=tmp_path, stdout=tmp_path / "cold.log")
    warm = workers.run(commands["warm"], env=ENV, cwd=tmp_path, stdout=tmp_path / "warm.log")
    assert (wait(cold), wait(warm)) == (0, 0), (tmp_path / "warm.log").read_text()
    assert history(tmp_path / "warm") == history(tmp_path / "cold")
