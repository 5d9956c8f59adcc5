"""`kubesight run` of a sweep: the whole pipeline in processes of its own, as a user starts it."""

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

from kubesight.evaluate.evaluate import evaluate
from kubesight.modelcard import ModelCard
from kubesight.tune.records import read_trials

JOB = """
task: image_classification
name: digits
training_data: pictures
test_data_size: 0.2
training_parameters:
  number_of_epochs: {epochs}
  training_batch_size: 16
  training_crop_size: 32
  validation_resize_size: 32
  validation_crop_size: 32
  number_of_workers: 0
  early_stopping: false
search_space:
  - model_name: choice(timm/test_resnet)
    learning_rate: loguniform(-7, -3)
  - model_name: choice(timm/test_efficientnet)
    learning_rate: uniform(0.005, 0.05)
    optimizer: choice(adam, adamw)
sweep:
  sampling_algorithm: {{type: random, seed: 3}}
  early_termination: {{type: bandit, slack_factor: 0.2, evaluation_interval: 1}}
limits: {{max_trials: 3, max_concurrent_trials: {parallel}}}
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


def command(job: Path) -> list[str]:
    return [sys.executable, "-m", "kubesight.cli.main", "run", str(job), "--output", str(job.parent / "out")]


def run(job: Path) -> Ran:
    done = subprocess.run(command(job), capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def write_job(folder: Path, epochs: int, parallel: int = 2) -> Path:
    """150 digits of three classes, a folder each, and a job that sweeps over two models."""
    labels = load_digits().target
    for index in [index for index, label in enumerate(labels) if label < 3][:150]:
        path = folder / "pictures" / str(labels[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit(index)).save(path)
    (folder / "job.yaml").write_text(JOB.format(epochs=epochs, parallel=parallel))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job"), epochs=2)


@pytest.fixture(scope="module")
def ran(job: Path) -> Ran:
    return run(job)


def test_run_sweeps_and_judges_the_best_model(job: Path, ran: Ran) -> None:
    assert ran.code == 0, ran.err
    out = job.parent / "out"
    steps = [line[3:] for line in ran.err.splitlines() if line.startswith("-- ")]
    assert steps == [
        *["check-settings", "convert-dataset", "validate-dataset", "split-dataset"],
        *["tune-model", "evaluate-model", "export-model"],
    ]
    trials = read_trials(out / "sweep")
    assert len(trials) == 3
    assert len(re.findall(r"^   #\d digits-\w+ started: ", ran.err, re.MULTILINE)) == 3
    assert {each.condition for each in trials} <= {"Succeeded", "EarlyStopped"}
    best = max(trials, key=lambda each: each.value or 0)
    card = ModelCard.load(out / "model")
    assert card.metrics["accuracy"] == pytest.approx(best.value)
    assert card.model_name == ["timm/test_resnet", "timm/test_efficientnet"][int(best.assignments["group"])]
    summary = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert (summary["data"]["part"], summary["images"]) == ("test", 30)
    rows = dict(re.findall(r"│ (\w+) +│ +([\d.]+) │", ran.out))
    assert rows == {name: f"{value:.4f}" for name, value in summary["metrics"].items()}
    assert f"sweep report: {out / 'sweep' / 'report.html'}" in ran.out
    assert (out / "sweep" / "report.html").stat().st_size > 10_000


def test_the_folder_that_is_shipped_is_the_one_that_was_scored(job: Path, ran: Ran, tmp_path: Path) -> None:
    out = job.parent / "out"
    again = evaluate(out / "split" / "test", tmp_path / "again", model=out / "model")
    assert again == pytest.approx(json.loads((out / "evaluation" / "metrics.json").read_text())["metrics"])


@pytest.mark.slow
def test_the_same_run_again_takes_the_sweep_that_is_there(job: Path, ran: Ran) -> None:
    before = [(each.name, each.ended) for each in read_trials(job.parent / "out" / "sweep")]
    again = run(job)
    assert again.code == 0, again.err
    assert re.findall(r"│.*│", again.out) == re.findall(r"│.*│", ran.out)
    assert [(each.name, each.ended) for each in read_trials(job.parent / "out" / "sweep")] == before


@pytest.mark.slow
def test_a_terminated_sweep_goes_on_when_started_again(tmp_path: Path) -> None:
    job = write_job(tmp_path, epochs=6, parallel=1)
    folder = tmp_path / "out" / "sweep"
    first = subprocess.Popen(command(job), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "trials.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 128 + signal.SIGTERM
    first.stderr.close()
    done = [(each.name, each.ended) for each in read_trials(folder)]
    assert 1 <= len(done) < 3
    again = run(job)
    assert again.code == 0, again.err
    trials = read_trials(folder)
    assert [(each.name, each.ended) for each in trials[: len(done)]] == done
    assert len(trials) == 3
