"""Trainings of a Keras network that are terminated and killed, in processes of their own, end as an unbroken one."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pictures import digits_dataset
from safetensors.numpy import load_file

from kubesight.modelcard import ModelCard

# Dies where it is told to: at the Nth step of this process, after the first evaluation, or while it ships.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
from kubesight.train import loop
from kubesight.train.keras import engine, ship
from kubesight.train.trainer import train

data, output, how, step = json.loads(sys.argv[1])
output, steps = Path(output), 0

def before_dying(module, name, number, when=lambda: True):
    plain = getattr(module, name)
    def wrapped(*arguments, **named):
        result = plain(*arguments, **named)
        if when():
            os.kill(os.getpid(), number)
        return result
    setattr(module, name, wrapped)

def at_step():
    global steps
    steps += 1
    return steps == step

if how == "terminate":
    before_dying(engine.KerasEngine, "_update", signal.SIGTERM, at_step)
elif how == "kill at a step":
    engine.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    before_dying(engine.KerasEngine, "_save_state", signal.SIGKILL, at_step)
elif how == "kill between epochs":
    before_dying(engine.KerasEngine, "_tell", signal.SIGKILL)
elif how == "kill while shipping":
    before_dying(ship, "write_saved_model", signal.SIGKILL)
card = train(
    data[0], data[1], output, model_name="keras/mobilenet-v1-025-128", weights="none", device="cpu",
    hyperparameters={
        "image_size": 32, "epochs": 3, "batch_size": 10, "dropout_rate": 0.3, "augmentation": True,
        "learning_rate_scheduler": "warmup_cosine", "warmup_cosine_lr_warmup_epochs": 1,
    },
    metrics_file=output / "metrics.log",
)
print("finished" if card else "stopped")
"""


def run(data: list[str], output: Path, how: str = "", step: int = 0) -> tuple[int, str]:
    """The exit status of a training, and what it says at its end."""
    argument = json.dumps([data, str(output), how, step])
    done = subprocess.run([sys.executable, "-c", DRIVER, argument], capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout.strip() or done.stderr[-3000:]


def history(output: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in one.items() if key not in ("seconds", "images_per_second")} for one in records
    ]


def assert_same_tensors(found: Path, expected: Path) -> None:
    ours, theirs = load_file(found), load_file(expected)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    # 24 pictures in batches of 10: three steps an epoch.
    sets = digits_dataset(tmp_path / "a", 0, 24, classes=3), digits_dataset(tmp_path / "b", 96, 14, classes=3)
    data = [str(one.path) for one in sets]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert run(data, unbroken) == (0, "finished")

    assert run(data, broken, "terminate", 2) == (0, "stopped")
    assert (broken / "checkpoints" / "last.safetensors").exists()
    assert run(data, broken, "kill at a step", 3)[0] == -signal.SIGKILL
    assert run(data, broken, "kill between epochs")[0] == -signal.SIGKILL
    assert len(history(broken)) == 2  # the last evaluation is told, but the checkpoint knows nothing of it
    assert run(data, broken, "kill while shipping")[0] == -signal.SIGKILL
    assert not (broken / "model").exists()
    assert run(data, broken) == (0, "finished")

    assert history(broken) == history(unbroken)
    for file in ("last.safetensors", "best.safetensors"):
        assert_same_tensors(broken / "checkpoints" / file, unbroken / "checkpoints" / file)
    ours, theirs = (keras.models.load_model(one / "model" / "model.keras").get_weights() for one in (broken, unbroken))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert ModelCard.load(broken / "model").metrics == ModelCard.load(unbroken / "model").metrics
    assert not [one.name for one in broken.iterdir() if one.name.endswith(".partial")]
    lines = [line.partition(" ")[2] for line in (broken / "metrics.log").read_text().splitlines()]
    assert [line.split()[0] for line in lines] == ["epoch=0", "epoch=1", "epoch=2"]
