"""`kubesight run`: the whole pipeline in processes of its own, as a user starts it."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from pictures import digit
from PIL import Image
from sklearn.datasets import load_digits

from kubesight.dataset import Dataset
from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import ModelCard

JOB = """
task: image_classification
primary_metric: f1_score_macro
training_data: pictures
test_data_size: 0.2
training_parameters:
  model_name: timm/resnet10t
  number_of_epochs: {epochs}
  training_batch_size: 16
  training_crop_size: 32
  validation_resize_size: 32
  validation_crop_size: 32
  number_of_workers: 0
  early_stopping: false
kubesight:
  source: {{format: folder}}
  model: {{weights: none}}
"""


@dataclass
class Ran:
    """One call of the program, from outside."""

    code: int
    out: str
    err: str


def command(job: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "kubesight.cli.main", "run", str(job), "--output", str(output)]


def run(job: Path, output: Path) -> Ran:
    done = subprocess.run(command(job, output), capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def write_job(folder: Path, epochs: int) -> Path:
    """150 digits of three classes, a folder each, and a job that trains on them."""
    labels = load_digits().target
    for index in [index for index, label in enumerate(labels) if label < 3][:150]:
        path = folder / "pictures" / str(labels[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit(index)).save(path)
    (folder / "job.yaml").write_text(JOB.format(epochs=epochs))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job"), epochs=2)


@pytest.fixture(scope="module")
def ran(job: Path) -> Ran:
    return run(job, job.parent / "out")


def test_run_ends_with_metrics_and_the_report(job: Path, ran: Ran) -> None:
    assert ran.code == 0, ran.err
    out = job.parent / "out"
    summary = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert (summary["data"]["part"], summary["images"]) == ("test", 30)
    rows = re.findall(r"│ (\w+) +│ +([\d.]+) │", ran.out)
    assert rows[0][0] == "f1_score_macro", "the metric that the job names comes first"
    assert dict(rows) == {name: f"{value:.4f}" for name, value in summary["metrics"].items()}
    assert ran.out.rstrip().endswith(f"report: {out / 'evaluation' / 'report.html'}")
    assert (out / "evaluation" / "report.html").stat().st_size > 10_000


def test_results_have_stable_names(job: Path, ran: Ran) -> None:
    out = job.parent / "out"
    assert len(Dataset(out / "dataset")) == 150
    parts = {name: Dataset(out / "split" / name) for name in ("train", "validation", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 90, "validation": 30, "test": 30}
    assert (out / "validation" / "report.html").exists()
    card = ModelCard.load(out / "model")
    assert card.training["primary_metric"] == "f1_score_macro"
    assert card.onnx is not None
    assert card.onnx["agreement"] == 1.0
    assert (out / "model" / "model.onnx").exists()
    assert len((out / "training" / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_folder_that_is_shipped_is_the_one_that_was_scored(job: Path, ran: Ran, tmp_path: Path) -> None:
    out = job.parent / "out"
    again = evaluate(out / "split" / "test", tmp_path / "again", model=out / "model")
    assert again == pytest.approx(json.loads((out / "evaluation" / "metrics.json").read_text())["metrics"])


def test_the_terminal_shows_steps_and_epochs_and_the_file_everything(job: Path, ran: Ran) -> None:
    steps = [line[3:] for line in ran.err.splitlines() if line.startswith("-- ")]
    assert steps == [
        *["check-settings", "convert-dataset", "validate-dataset", "split-dataset"],
        *["train-model", "evaluate-model", "export-model"],
    ]
    assert "   epoch 1: " in ran.err
    assert "executor" not in ran.err.lower()
    assert "Warning" not in ran.err
    assert "Got executor_input" in (job.parent / "out" / "run.log").read_text()


def test_the_same_run_again_takes_the_training_that_is_there(job: Path, ran: Ran) -> None:
    again = run(job, job.parent / "out")
    assert again.code == 0, again.err
    assert "already trained" in again.err
    assert re.findall(r"│.*│", again.out) == re.findall(r"│.*│", ran.out)


def test_a_failing_step_is_one_clear_message(tmp_path: Path) -> None:
    job = write_job(tmp_path, epochs=1)
    # The header is whole, so that only the training, which decodes it, stumbles.
    for path in (tmp_path / "pictures" / "1").iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    failed = run(job, tmp_path / "out")
    assert failed.code == 2
    assert "Traceback" not in failed.err
    errors = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(r"pictures/1/\d+\.png: ", errors[0])
    assert "Traceback" in (tmp_path / "out" / "run.log").read_text()
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.slow
def test_a_terminated_run_stops_its_step_and_goes_on_when_started_again(tmp_path: Path) -> None:
    job, output = write_job(tmp_path, epochs=25), tmp_path / "out"
    history = output / "training" / "metrics.jsonl"
    first = subprocess.Popen(command(job, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while (not history.exists() or len(history.read_text().splitlines()) < 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 128 + signal.SIGTERM
    first.stderr.close()
    done = history.read_text().splitlines()
    assert 3 <= len(done) < 25
    time.sleep(1)
    assert history.read_text().splitlines() == done, "the training process has ended too"
    again = run(job, output)
    assert again.code == 0, again.err
    epochs = [json.loads(line)["epoch"] for line in history.read_text().splitlines()]
    assert epochs == list(range(25))
    shown = [int(number) for number in re.findall(r"^   epoch (\d+): ", again.err, re.MULTILINE)]
    assert shown[0] >= len(done), "finished epochs are not trained again"
