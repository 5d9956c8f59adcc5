"""Trials that judge themselves against the trainings beside them: when they stop, and what they leave."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pictures import digits_dataset

from kubesight.dataset import Dataset
from kubesight.errors import JobError
from kubesight.modelcard import ModelCard
from kubesight.train.trainer import train

MODEL = "timm/resnet10t"
SMALL = {
    "training_crop_size": 32,
    "validation_crop_size": 32,
    "validation_resize_size": 32,
    "training_batch_size": 16,
    "number_of_epochs": 6,
    "number_of_workers": 0,
    "horizontal_flip": False,
    "color_jitter": False,
    "random_resized_crop_min_scale": 0.6,
    "warmup_cosine_lr_warmup_epochs": 1,
    "early_stopping": False,
}
HOPELESS = {"learning_rate": 1e-6, "weight_decay": 0}
BANDIT = {"type": "bandit", "slack_factor": 0.2, "evaluation_interval": 2, "delay_evaluation": 4}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("digits")
    return (
        digits_dataset(folder / "train", 0, 96, classes=3),
        digits_dataset(folder / "validation", 96, 45, classes=3),
    )


@pytest.fixture(scope="module")
def good(digits: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training that learnt."""
    folder = tmp_path_factory.mktemp("good") / "trial"
    fit(digits, folder)
    return folder


@pytest.fixture
def sweep(good: Path, tmp_path: Path) -> Path:
    """The folder of a sweep with that training in it."""
    shutil.copytree(good, tmp_path / "sweep" / "good")
    return tmp_path / "sweep"


def fit(sets: tuple[Dataset, Dataset], output: Path, **changes: Any) -> ModelCard:
    names = ("early_termination", "stop_by", "discard_checkpoints", "processes")
    others = {name: changes.pop(name) for name in names if name in changes}
    card = train(
        sets[0].path, sets[1].path, output, model_name=MODEL, hyperparameters={**SMALL, **changes}, weights="none",
        metrics_file=output / "metrics.log", device="cpu", **others,
    )  # fmt: skip
    assert card is not None
    return card


def curve(folder: Path) -> list[float]:
    return [json.loads(line)["accuracy"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def decisions(folder: Path) -> list[dict[str, Any]]:
    path = folder / "decisions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stops(folder: Path) -> list[int]:
    """On which metric lines a stop is told."""
    lines = (folder / "metrics.log").read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if re.search(r" es_stop=1$", line)]


def test_a_trial_that_lags_behind_stops_and_ships_its_best(
    digits: tuple[Dataset, Dataset], sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kubesight")
    card = fit(digits, sweep / "bad", **HOPELESS, early_termination=BANDIT)
    own, best = curve(sweep / "bad"), max(curve(sweep / "good")[:4])
    assert len(own) == 4
    (said,) = decisions(sweep / "bad")
    assert said.pop("time").endswith("Z")
    assert said.pop("settings") == BANDIT
    assert said == {
        "policy": "bandit", "trial": "bad", "interval": 4, "value": max(own), "threshold": best / 1.2, "peers": 1,
        "stop": True,
    }  # fmt: skip
    assert f"bad: bandit at interval 4: {max(own):.6g}, threshold {best / 1.2:.6g}, 1 peers: stop" in caplog.text
    assert (stops(sweep / "bad"), len((sweep / "bad" / "metrics.log").read_text().splitlines())) == ([4], 4)
    assert card.training["early_termination"] == said
    assert (card.training["epochs"], card.training["stopped_early"]) == (4, False)
    assert card.metrics["accuracy"] == max(own)
    assert ModelCard.load(sweep / "bad" / "model") == card


def test_a_trial_that_keeps_up_goes_on_to_the_end(digits: tuple[Dataset, Dataset], sweep: Path) -> None:
    card = fit(digits, sweep / "other", early_termination=json.dumps(BANDIT), random_seed=1)
    assert [(said["interval"], said["stop"]) for said in decisions(sweep / "other")] == [(4, False)]
    assert (card.training["epochs"], stops(sweep / "other")) == (6, [])
    assert "early_termination" not in card.training


def test_alone_or_beside_folders_that_are_no_peers_nothing_stops(digits: tuple[Dataset, Dataset], sweep: Path) -> None:
    lines = (sweep / "good" / "metrics.jsonl").read_text().splitlines(keepends=True)
    shutil.rmtree(sweep / "good")
    for name, content in {
        "torn": "".join(lines[:4])[:-1],
        "damaged": "".join([*lines[:2], "{no json\n", *lines[2:]]),
        "other": "".join(lines).replace('"accuracy"', '"loss"'),
    }.items():
        (sweep / name).mkdir()
        (sweep / name / "metrics.jsonl").write_text(content)
    (sweep / "empty").mkdir()
    (sweep / "file").write_text("")
    card = fit(digits, sweep / "bad", **HOPELESS, early_termination=BANDIT)
    (said,) = decisions(sweep / "bad")
    assert (said["threshold"], said["peers"], said["stop"], card.training["epochs"]) == (None, 0, False, 6)


def test_intervals_count_reports_not_epochs(digits: tuple[Dataset, Dataset], sweep: Path) -> None:
    policy = {"type": "bandit", "slack_amount": 0.1, "evaluation_interval": 3}
    card = fit(digits, sweep / "bad", **HOPELESS, evaluation_frequency=2, number_of_epochs=8, early_termination=policy)
    assert [said["interval"] for said in decisions(sweep / "bad")] == [3]
    assert card.training["epochs"] == 5
    records = [json.loads(line) for line in (sweep / "bad" / "metrics.jsonl").read_text().splitlines()]
    assert [(record["epoch"], record.get("es_stop")) for record in records] == [(0, None), (2, None), (4, 1)]


SCRIPT = """
import json, os, signal, sys
from kubesight.train import loop, torch_training, trainer
moment = sys.argv[6]
if moment == "before shipping":
    torch_training._ship = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
if moment == "before the checkpoint":
    save = loop.Loop._save
    def killed(self):
        if self.progress.termination:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self)
    loop.Loop._save = killed
trainer.train(sys.argv[1], sys.argv[2], sys.argv[3], model_name="timm/resnet10t", weights="none", device="cpu",
              hyperparameters=json.loads(sys.argv[4]), metrics_file=sys.argv[3] + "/metrics.log",
              **json.loads(sys.argv[5]))
"""


def command(sets: tuple[Dataset, Dataset], output: Path, moment: str, **options: Any) -> list[str]:
    settings, others = json.dumps({**SMALL, **HOPELESS}), json.dumps({"early_termination": BANDIT, **options})
    return [sys.executable, "-c", SCRIPT, str(sets[0].path), str(sets[1].path), str(output), settings, others, moment]


@pytest.mark.parametrize("moment", ["before shipping", "before the checkpoint"])
def test_a_trial_killed_after_its_decision_ends_as_decided(
    digits: tuple[Dataset, Dataset], sweep: Path, moment: str
) -> None:
    bad = sweep / "bad"
    done = subprocess.run(command(digits, bad, moment), check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (len(curve(bad)), stops(bad), (bad / "model").exists()) == (4, [4], False)
    stamp = (bad / "metrics.jsonl").read_bytes()
    # Without its peer nothing would stop it now.
    shutil.rmtree(sweep / "good")
    card = fit(digits, bad, **HOPELESS, early_termination=BANDIT)
    assert card.training["early_termination"]["interval"] == 4
    assert (len(decisions(bad)), stops(bad), len((bad / "metrics.log").read_text().splitlines())) == (1, [4], 4)
    if moment == "before shipping":
        assert (bad / "metrics.jsonl").read_bytes() == stamp


def test_another_policy_is_not_held_to_the_first_one_s_decisions(digits: tuple[Dataset, Dataset], sweep: Path) -> None:
    bad = sweep / "bad"
    subprocess.run(command(digits, bad, "before the checkpoint"), check=False, capture_output=True)
    assert decisions(bad)[-1]["stop"]
    with open(bad / "decisions.jsonl", "a") as stream:
        stream.write('{"time": "cut off')
    card = fit(digits, bad, **HOPELESS, early_termination={"type": "bandit", "slack_amount": 1.0})
    assert [said["stop"] for said in decisions(bad)] == [True, *[False] * (len(decisions(bad)) - 1)]
    assert (card.training["epochs"], len(curve(bad))) == (6, 6)


def test_a_finished_trial_tells_a_new_metrics_file_what_it_lacks(digits: tuple[Dataset, Dataset], sweep: Path) -> None:
    card = fit(digits, sweep / "bad", **HOPELESS, early_termination=BANDIT)
    lines = (sweep / "bad" / "metrics.log").read_text().splitlines()
    (sweep / "bad" / "metrics.log").write_text(lines[1] + "\n")
    assert fit(digits, sweep / "bad", **HOPELESS, early_termination=BANDIT) == card
    again = (sweep / "bad" / "metrics.log").read_text().splitlines()
    assert sorted(line.split(" ", 1)[1] for line in again) == sorted(line.split(" ", 1)[1] for line in lines)


def wait_for(path: Path, process: subprocess.Popen[Any], text: str = "") -> None:
    while not (path.exists() and text in path.read_text()):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("wait", ["for the line", "for the model"])
def test_a_guarded_trial_waits_for_sigterm_and_ends_with_its_model(
    digits: tuple[Dataset, Dataset], sweep: Path, wait: str
) -> None:
    process = subprocess.Popen(command(digits, sweep / "bad", "never", stop_by="guard"), stderr=subprocess.DEVNULL)
    wait_for(sweep / "bad" / "metrics.log", process, "es_stop=1")
    if wait == "for the model":
        wait_for(sweep / "bad" / "model" / "modelcard.json", process)
        time.sleep(0.5)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert ModelCard.load(sweep / "bad" / "model").training["early_termination"]["stop"]
    assert stops(sweep / "bad") == [4]


def test_a_guard_waits_no_longer_than_it_is_told() -> None:
    from kubesight.train.early_termination import wait_for_sigterm

    started = time.monotonic()
    wait_for_sigterm(lambda: False, seconds=0.2)
    assert time.monotonic() - started >= 0.2
    asked = iter([False, False, True])
    wait_for_sigterm(lambda: next(asked))
    assert not list(asked)


def test_several_processes_stop_alike(
    digits: tuple[Dataset, Dataset], sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = {"training_batch_size": 8, "processes": 2, "early_termination": BANDIT, "discard_checkpoints": True}
    card = fit(digits, sweep / "bad", **HOPELESS, **options)
    assert (card.training["epochs"], len(decisions(sweep / "bad")), stops(sweep / "bad")) == (4, 1, [4])
    assert card.training["early_termination"]["peers"] == 1
    assert not (sweep / "bad" / "checkpoints").exists()


@pytest.mark.slow
def test_several_guarded_processes_end_with_their_model_on_sigterm(
    digits: tuple[Dataset, Dataset], sweep: Path
) -> None:
    process = subprocess.Popen(
        command(digits, sweep / "bad", "never", stop_by="guard", processes=2), stderr=subprocess.DEVNULL
    )
    wait_for(sweep / "bad" / "metrics.log", process, "es_stop=1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert ModelCard.load(sweep / "bad" / "model").training["early_termination"]["stop"]


def test_discarded_checkpoints_leave_a_model_that_counts_as_trained(
    digits: tuple[Dataset, Dataset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kubesight")
    card = fit(digits, tmp_path / "trial", number_of_epochs=1, discard_checkpoints=True)
    kept = ["cache.json", "metrics.jsonl", "metrics.log", "model"]
    assert sorted(path.name for path in (tmp_path / "trial").iterdir()) == kept
    assert "already trained" not in caplog.text
    assert fit(digits, tmp_path / "trial", number_of_epochs=1, discard_checkpoints=True) == card
    assert "already trained" in caplog.text


def test_policies_that_cannot_be_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    nothing = tmp_path / "none"
    with pytest.raises(JobError, match="slack_factor or slack_amount"):
        train(nothing, nothing, nothing, model_name=MODEL, early_termination={"type": "bandit"})
    with pytest.raises(JobError, match="guard has no effect without a policy"):
        train(nothing, nothing, nothing, model_name=MODEL, stop_by="guard")
