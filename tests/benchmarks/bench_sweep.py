"""A sweep of many short trainings: 50 trials x 20 epochs of a classifier's settings on 5,000 pictures, two at a time.

The backbone is frozen and its features are cached by one training beforehand, which is timed apart. Prints the sweep's
seconds (the goal is 60 on two cores), milliseconds a trial, and in the same run what one training costs when its
process is started cold. Then, for real pictures where they are (`KUBESIGHT_DATA`), pictures read a second with and
without decoded ones kept.

    python tests/benchmarks/bench_sweep.py [TRIALS]
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from sklearn.datasets import load_digits

from kubesight.convert import convert
from kubesight.dataset.images import read_image
from kubesight.job.job import load_job
from kubesight.job.plan import sweep_of
from kubesight.models.weights import save_weights
from kubesight.split import split
from kubesight.tune.katib.experiment import Experiment, read_experiment
from kubesight.tune.katib.render import experiment_of
from kubesight.tune.runner import run_sweep

PICTURES, EPOCHS, TRIALS = 5000, 20, 50
JOB = """
task: image_classification
primary_metric: accuracy
training_data: {folder}/parts/train
validation_data: {folder}/parts/validation
training_parameters:
  model_name: timm/resnet10t
  train_only_top_layer: true
  number_of_epochs: {epochs}
  early_stopping: false
  training_crop_size: 64
  validation_resize_size: 64
  validation_crop_size: 64
search_space:
  - learning_rate: {{type: uniform, min_value: 0.001, max_value: 0.1}}
    weight_decay: {{type: uniform, min_value: 0.0, max_value: 0.01}}
    optimizer: {{type: choice, values: [sgd, adamw]}}
sweep:
  sampling_algorithm: random
limits:
  max_trials: {trials}
  max_concurrent_trials: {parallel}
kubesight:
  model:
    weights: {folder}/weights.safetensors
"""


def write_pictures(folder: Path) -> None:
    """Write handwritten digits, moved and with noise, as 64 x 64 JPEGs: `PICTURES` to train on, a quarter more."""
    digits, chance = load_digits(), np.random.default_rng(0)
    for number in range(PICTURES * 5 // 4):
        index = number % len(digits.target)
        grey = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
        move = np.array([[1, 0, chance.uniform(-4, 4)], [0, 1, chance.uniform(-4, 4)]], np.float32)
        moved = cv2.warpAffine(cv2.resize(grey, (64, 64), interpolation=cv2.INTER_CUBIC), move, (64, 64))
        noisy = np.clip(moved + chance.normal(0, 12, moved.shape), 0, 255).astype(np.uint8)
        path = folder / str(digits.target[index]) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", noisy)[1].tobytes())


def prepare(folder: Path) -> None:
    """Pictures, a data set in two parts, and a file of weights for the backbone."""
    write_pictures(folder / "digits")
    convert(str(folder / "digits"), folder / "set")
    split(folder / "set", folder / "parts", split_ratio=0.2, seed=0)
    torch.manual_seed(0)
    save_weights(timm.create_model("resnet10t", num_classes=10), folder / "weights.safetensors")


def experiment(folder: Path, output: Path, trials: int) -> Experiment:
    """The Experiment that `kubesight experiment` would print for the job."""
    job = folder / "job.yaml"
    job.write_text(JOB.format(folder=folder, epochs=EPOCHS, trials=trials, parallel=min(2, trials)))
    loaded = load_job(job)
    document = experiment_of(
        sweep_of(loaded),
        training_data=str(folder / "parts" / "train"),
        validation_data=str(folder / "parts" / "validation"),
        output=str(output / "trials"),
        weights=loaded.kubesight.model.weights,
        resources=loaded.kubesight.resources,
    )
    return read_experiment(document)


def swept(folder: Path, name: str, trials: int, *, warm: bool) -> float:
    """Seconds of a sweep of `trials` trials."""
    output = folder / name
    began, used = time.perf_counter(), cpu_seconds()
    result = run_sweep(experiment(folder, output, trials), output, warm_workers=warm)
    seconds, used = time.perf_counter() - began, cpu_seconds() - used
    assert [trial.condition for trial in result.trials] == ["Succeeded"] * trials, result.status
    assert {trial.epochs for trial in result.trials} == {EPOCHS}
    assert result.best is not None
    hits = sum(trial.cache_hits for trial in result.trials)
    print(
        f"{name}: {trials} trials x {EPOCHS} epochs in {seconds:.1f} s, {seconds / trials * 1000:.0f} ms each "
        f"({used / trials * 1000:.0f} ms of a core each, the start of the server included); best accuracy"
        f" {result.best.value:.3f}; {hits} cache hits"
    )
    return seconds


def cpu_seconds() -> float:
    """Of this process and of all that it has started, once they have ended: a busy machine does not change them."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def read_rates(folder: Path) -> None:
    """Pictures a second of one process: decoded, decoded and kept, and read from what was kept."""
    data = Path(os.environ.get("KUBESIGHT_DATA", Path(__file__).parents[3] / "shared" / "data"))
    pictures = [str(path) for path in sorted((data / "grocery10").rglob("*.jpg"))][:300]
    if not pictures:
        return

    def rate() -> float:
        began = time.perf_counter()
        for picture in pictures:
            read_image(picture, min_size=256)
        return len(pictures) / (time.perf_counter() - began)

    rate()
    decoded = rate()
    os.environ["KUBESIGHT_PICTURES"] = str(folder / "pictures")
    keeping, kept = rate(), rate()
    print(f"grocery10: {decoded:.0f} pictures/s decoded, {keeping:.0f} decoded and kept, {kept:.0f} from those kept")
    print(f"ratio kept to decoded: {kept / decoded:.1f}")


def main() -> None:
    """Measure and print."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KUBESIGHT_CACHE"] = str(folder / "cache")
        # The runner shares the cores out among trials, unless somebody has said how many threads each gets.
        os.environ.pop("OMP_NUM_THREADS", None)
        prepare(folder)
        swept(folder, "features computed", 1, warm=False)
        cold = swept(folder, "cold", 2, warm=False) / 2
        warm = swept(folder, "warm", trials, warm=True) / trials
        print(f"ratio warm to cold a trial: {warm / cold:.2f}; {trials} warm trials took {warm * trials:.1f} s")
        read_rates(folder)


if __name__ == "__main__":
    main()
