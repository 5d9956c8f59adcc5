"""The loop that all engines share, under an engine of plain numbers whose every epoch can be worked out by hand."""

import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubesight.errors import DatasetError, ModelError
from kubesight.sweep.policies import parse_policy
from kubesight.train import loop as loops
from kubesight.train.early_termination import EarlyTermination
from kubesight.train.loop import SECONDS_BETWEEN_CHECKPOINTS, Loop
from kubesight.train.progress import BEST_FILE, Progress, check_resumable, difference
from kubesight.train.stop import Interrupted

STEPS = 3
SETTINGS: dict[str, Any] = {
    "number_of_epochs": 4,
    "random_seed": 7,
    "early_stopping": False,
    "early_stopping_patience": 2,
}


class Sums(Loop):
    """Its weight is the sum of (epoch + 1) over the steps done; epoch e validates to `scores[e]`."""

    def __init__(self, output: Path, scores: list[float], *, changes: dict[str, Any] | None = None, **options: Any):
        super().__init__({**SETTINGS, **(changes or {})}, output=output, primary_metric="accuracy", **options)
        self.scores = scores
        self.weight = 0
        self.saves = 0
        self.on_step: Callable[[int, int], None] = lambda epoch, step: None
        self._begin(self._read())

    def _read(self) -> Progress | None:
        path = self.checkpoints / "last.json"
        if not path.exists():
            return None
        found = orjson.loads(path.read_bytes())
        self.weight = found["weight"]
        return Progress(**found["progress"])

    def _train_epoch(self) -> None:
        progress = self.progress
        while progress.step < STEPS:
            self.on_step(progress.epoch, progress.step)
            self.weight += progress.epoch + 1
            progress.loss_sum += 2.0 * (progress.epoch + 1)
            progress.samples += 4
            progress.step += 1
            if self._any(self.stop.asked):
                raise Interrupted
            if self._is_due(SECONDS_BETWEEN_CHECKPOINTS):
                self._save()

    def _validate(self) -> dict[str, float]:
        return {"accuracy": self.scores[self.progress.epoch], "weight": self.weight}

    def _save_weights(self, name: str) -> None:
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        (self.checkpoints / name).write_text(str(self.weight))

    def _save_state(self) -> None:
        self.saves += 1
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        state = {"weight": self.weight, "progress": asdict(self.progress)}
        (self.checkpoints / "last.json").write_bytes(orjson.dumps(state))

    def _learning_rate(self) -> float:
        return 0.5 / (self.progress.epoch + 1)


def records(output: Path) -> list[dict[str, Any]]:
    lines = (output / "metrics.jsonl").read_bytes().splitlines()
    return [
        {k: v for k, v in orjson.loads(line).items() if k not in ("seconds", "images_per_second")} for line in lines
    ]


def test_fit_judges_every_epoch_and_keeps_the_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kubesight")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".best.safetensors.0.partial").write_text("half")
    loop = Sums(tmp_path, [0.25, 0.75, 0.5, 0.5], metrics_file=tmp_path / "lines.log")
    progress = loop.fit()
    # Weights after the epochs: 3, 3 + 6, 9 + 9, 18 + 12. Losses: 3 steps of 2 (e + 1) over 12 samples.
    assert records(tmp_path) == [
        {"epoch": 0, "accuracy": 0.25, "weight": 3, "training_loss": 0.5, "learning_rate": 0.5},
        {"epoch": 1, "accuracy": 0.75, "weight": 9, "training_loss": 1.0, "learning_rate": 0.25},
        {"epoch": 2, "accuracy": 0.5, "weight": 18, "training_loss": 1.5, "learning_rate": 0.5 / 3},
        {"epoch": 3, "accuracy": 0.5, "weight": 30, "training_loss": 2.0, "learning_rate": 0.125},
    ]
    assert (progress.epoch, progress.step, progress.samples, progress.loss_sum) == (4, 0, 0, 0.0)
    assert (progress.best_score, progress.best_epoch, progress.best_metrics["weight"]) == (0.75, 1, 9)
    assert (progress.stopped_early, progress.termination) == (False, None)
    # Of the settings that some models lack: every epoch is judged, and only the best one's weights are kept.
    assert sorted(path.name for path in loop.checkpoints.iterdir()) == [BEST_FILE, "last.json"]
    assert (loop.checkpoints / BEST_FILE).read_text() == "9"
    lines = (tmp_path / "lines.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines][:1] == [
        "epoch=0 accuracy=0.25 weight=3 training_loss=0.5 learning_rate=0.5"
    ]
    assert len(lines) == 4
    assert "epoch 1: accuracy 0.7500, training loss 1.0000, " in caplog.text


def test_ties_go_to_the_later_epoch(tmp_path: Path) -> None:
    loop = Sums(tmp_path, [0.5, 0.75, 0.75, 0.5])
    assert loop.fit().best_epoch == 2
    assert (loop.checkpoints / BEST_FILE).read_text() == "18"


def test_evaluation_and_weights_at_the_asked_for_epochs(tmp_path: Path) -> None:
    changes = {"number_of_epochs": 6, "evaluation_frequency": 2, "checkpoint_frequency": 3}
    loop = Sums(tmp_path, [0.1] * 6, changes=changes)
    loop.fit()
    assert [record["epoch"] for record in records(tmp_path)] == [0, 2, 4, 5]
    assert sorted(path.name for path in loop.checkpoints.glob("epoch*")) == [
        "epoch_2.safetensors",
        "epoch_5.safetensors",
    ]


# In 64ths, with a least improvement of 2: 32; 34 is no more than 32 + 2, 1 without; 35 is, and the new reference; 36
# and 37 are not, 2 without. The best epoch is the one of the greatest score, improvement or not.
MIN_DELTA = [32, 34, 35, 36, 37, 60]


def test_an_improvement_is_one_by_more_than_the_least(tmp_path: Path) -> None:
    changes = {"number_of_epochs": 6, "early_stopping": True}
    scores = [score / 64 for score in MIN_DELTA]
    with_delta = Sums(tmp_path / "a", scores, changes={**changes, "early_stopping_min_delta": 2 / 64}).fit()
    assert (with_delta.epoch, with_delta.stopped_early, with_delta.no_improvement) == (5, True, 2)
    assert (with_delta.stopping_score, with_delta.best_score, with_delta.best_epoch) == (35 / 64, 37 / 64, 4)
    without = Sums(tmp_path / "b", scores, changes=changes).fit()
    assert (without.epoch, without.stopped_early, without.no_improvement) == (6, False, 0)


def test_epochs_before_the_delay_do_not_count(tmp_path: Path) -> None:
    changes = {"number_of_epochs": 8, "early_stopping": True, "early_stopping_delay": 3}
    progress = Sums(tmp_path, [0.5] * 8, changes=changes).fit()
    assert (progress.epoch, progress.stopped_early) == (5, True)


def test_without_early_stopping_patience_is_without_end(tmp_path: Path) -> None:
    progress = Sums(tmp_path, [0.5] * 4).fit()
    assert (progress.epoch, progress.stopped_early, progress.no_improvement) == (4, False, 3)


@pytest.mark.parametrize("stop_at", [(0, 0), (1, 2), (2, 1), (3, 2)])
def test_after_sigterm_it_goes_on_where_it_was(tmp_path: Path, stop_at: tuple[int, int]) -> None:
    scores = [0.25, 0.75, 0.5, 0.5]
    unbroken = Sums(tmp_path / "unbroken", scores)
    unbroken.fit()
    broken = Sums(tmp_path / "broken", scores)
    broken.on_step = lambda epoch, step: os.kill(os.getpid(), signal.SIGTERM) if (epoch, step) == stop_at else None
    earlier = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        broken.fit()
    assert broken.stop.asked
    assert signal.getsignal(signal.SIGTERM) == earlier
    resumed = Sums(tmp_path / "broken", scores)
    assert (resumed.progress.epoch, resumed.progress.step) == (stop_at[0], stop_at[1] + 1)
    resumed.fit()
    assert resumed.weight == unbroken.weight
    assert records(tmp_path / "broken") == records(tmp_path / "unbroken")


def test_patience_goes_on_after_an_interruption(tmp_path: Path) -> None:
    changes = {"number_of_epochs": 6, "early_stopping": True, "early_stopping_min_delta": 2 / 64}
    scores = [score / 64 for score in MIN_DELTA]
    broken = Sums(tmp_path, scores, changes=changes)
    broken.on_step = lambda epoch, step: os.kill(os.getpid(), signal.SIGTERM) if epoch == 4 else None
    with pytest.raises(Interrupted):
        broken.fit()
    resumed = Sums(tmp_path, scores, changes=changes)
    assert (resumed.progress.stopping_score, resumed.progress.no_improvement) == (35 / 64, 1)
    assert resumed.fit().epoch == 5
    assert Sums(tmp_path, scores, changes=changes).fit().epoch == 5  # it is at its end


def test_a_picture_that_cannot_be_read_leaves_a_checkpoint(tmp_path: Path) -> None:
    def fail(epoch: int, step: int) -> None:
        if (epoch, step) == (1, 1):
            raise DatasetError("no picture")

    loop = Sums(tmp_path, [0.5] * 4)
    loop.on_step = fail
    with pytest.raises(DatasetError):
        loop.fit()
    again = Sums(tmp_path, [0.5] * 4)
    assert (again.progress.epoch, again.progress.step, again.weight) == (1, 1, 5)
    again.fit()
    assert again.weight == 30
    # Other processes would wait for the one that failed.
    several = Sums(tmp_path / "several", [0.5] * 4, processes=2)
    several.on_step = fail
    several._saved_at += 3600
    with pytest.raises(DatasetError):
        several.fit()
    assert several.saves == 0


@pytest.mark.parametrize(("within", "between", "saves"), [(-1, 1e9, 13), (1e9, -1, 5), (1e9, 1e9, 1)])
def test_checkpoints_come_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within: float, between: float, saves: int
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SECONDS_BETWEEN_CHECKPOINTS", within)
    monkeypatch.setattr(loops, "SECONDS_BETWEEN_EPOCH_CHECKPOINTS", between)
    loop = Sums(tmp_path, [0.5] * 4)
    loop.fit()
    assert loop.saves == saves  # 4 epochs of 3 steps, and the end


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path: Path) -> None:
    loop = Sums(tmp_path / "out", [0.25, 0.75, 0.5, 0.5], is_main=False, processes=2)
    progress = loop.fit()
    assert (progress.best_epoch, len(progress.history), loop.weight) == (1, 4, 30)
    assert not (tmp_path / "out").exists()


def test_a_policy_ends_the_training_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "metrics.jsonl").write_text('{"epoch": 0, "accuracy": 0.8}\n{"epoch": 1, "accuracy": 0.9}\n')
    policy = parse_policy({"type": "bandit", "slack_amount": 0.1, "evaluation_interval": 2})
    output = tmp_path / "trial"
    output.mkdir()
    loop = Sums(output, [0.5, 0.7, 0.9, 0.9], termination=EarlyTermination(policy, output, "accuracy"))
    progress = loop.fit()
    assert (progress.epoch, progress.stopped_early) == (2, False)
    assert progress.termination is not None
    # Ours is 0.7 at the second report, the peer's best 0.9: 0.1 is the slack.
    assert (progress.termination["value"], progress.termination["threshold"]) == (0.7, pytest.approx(0.8))
    assert [record.get("es_stop") for record in records(output)] == [None, 1.0]
    again = Sums(output, [0.5, 0.7, 0.9, 0.9], termination=EarlyTermination(policy, output, "accuracy"))
    assert again.fit().epoch == 2


def test_the_last_epoch_is_not_asked_about(tmp_path: Path) -> None:
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "metrics.jsonl").write_text('{"epoch": 0, "accuracy": 0.9}\n' * 4)
    policy = parse_policy({"type": "bandit", "slack_amount": 0.1, "evaluation_interval": 4})
    output = tmp_path / "trial"
    output.mkdir()
    loop = Sums(output, [0.1] * 4, termination=EarlyTermination(policy, output, "accuracy"))
    assert loop.fit().termination is None
    assert not (output / "decisions.jsonl").exists()


def test_an_engine_tells_more_of_its_training(tmp_path: Path) -> None:
    class Counting(Sums):
        def _trained(self) -> dict[str, float]:
            return {**super()._trained(), "training_accuracy": self.progress.right / self.progress.samples}

    loop = Counting(tmp_path, [0.5] * 4)

    def count(epoch: int, step: int) -> None:
        loop.progress.right += epoch  # of 4 samples a step

    loop.on_step = count
    assert loop.fit().right == 0
    assert [record["training_accuracy"] for record in records(tmp_path)] == [0.0, 0.25, 0.5, 0.75]


def test_a_loss_that_is_no_number_is_told_with_its_pictures(tmp_path: Path) -> None:
    loop = Sums(tmp_path, [0.5] * 4)
    loop.progress.epoch = 2
    said = str(loop._divergence(float("nan"), [f"{number}.png" for number in range(11)]))
    assert "the training loss became nan in epoch 2" in said
    assert "6.png, 7.png and 3 more" in said
    assert str(loop._divergence(float("inf"), ["a.png", "b.png"])).partition(". ")[0].endswith("batch of a.png, b.png")


def test_a_metric_that_is_not_defined_is_named(tmp_path: Path) -> None:
    loop = Sums(tmp_path, [0.5] * 4)
    loop.primary_metric = "AUC_macro"
    with pytest.raises(ModelError, match="AUC_macro is not defined"):
        loop.fit()


def test_progress_of_an_older_checkpoint_stops_by_its_best_score() -> None:
    written = {"epoch": 3, "best_score": 0.5, "best_epoch": 1, "no_improvement": 1}
    assert Progress(**written).stopping_score == 0.5
    assert Progress().stopping_score is None
    assert Progress(**written, stopping_score=0.25).stopping_score == 0.25


def test_a_checkpoint_of_other_settings_is_refused_by_their_names(tmp_path: Path) -> None:
    earlier, now = {"learning_rate": 0.1, "same": 1, "gone": True}, {"learning_rate": 0.2, "same": 1, "new": "x"}
    said = difference(earlier, now)
    assert said == "learning_rate: was 0.1, now 0.2; gone: was True, now None; new: was None, now 'x'"
    with pytest.raises(ModelError, match=r"learning_rate: was 0\.1, now 0\.2") as error:
        check_resumable(tmp_path / "last.pt", earlier, now)
    assert error.value.where == str(tmp_path / "last.pt")
    check_resumable(tmp_path / "last.pt", earlier, dict(earlier))


def test_stopping_agrees_with_keras(tmp_path: Path) -> None:
    import kubesight.models.keras  # chooses its backend  # noqa: F401

    callbacks = pytest.importorskip("keras").callbacks
    chance = random.Random(5)
    ends = set()
    for number in range(60):
        scores = [chance.randrange(16) / 16 for _ in range(12)]
        delta, patience = chance.choice((0.0, 1 / 16, 3 / 16)), chance.choice((1, 2, 4))
        theirs = callbacks.EarlyStopping("accuracy", min_delta=delta, patience=patience, mode="max")
        theirs.set_model(type("Model", (), {"stop_training": False})())
        theirs.on_train_begin()
        for epoch, score in enumerate(scores):
            theirs.on_epoch_end(epoch, {"accuracy": score})
            if theirs.model.stop_training:
                break
        changes = {"number_of_epochs": 12, "early_stopping": True}
        changes |= {"early_stopping_patience": patience, "early_stopping_min_delta": delta}
        ours = Sums(tmp_path / str(number), scores, changes=changes, metrics_file=tmp_path / f"{number}.log").fit()
        assert (ours.epoch, ours.stopped_early) == (epoch + 1, theirs.model.stop_training)
        ends.add(ours.epoch)
    assert len(ends) > 5
