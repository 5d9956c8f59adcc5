"""The engine on a small task of its own: order, resuming, memory, moving average, early stopping."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from torch import nn

from kubesight.errors import ModelError
from kubesight.train.checkpoint import LAST_FILE
from kubesight.train.distributed import World
from kubesight.train.engine import Engine
from kubesight.train.order import epoch_batches
from kubesight.train.progress import BEST_FILE
from kubesight.train.stop import Interrupted
from kubesight.train.tasks.base import Outputs, TrainingTask

ALONE = World(0, 1, torch.device("cpu"))
SETTINGS = {
    "number_of_epochs": 4,
    "training_batch_size": 8,
    "validation_batch_size": 8,
    "gradient_accumulation_step": 1,
    "early_stopping": False,
    "early_stopping_patience": 5,
    "early_stopping_delay": 5,
    "learning_rate": 0.1,
    "learning_rate_scheduler": "warmup_cosine",
    "warmup_cosine_lr_cycles": 0.45,
    "warmup_cosine_lr_warmup_epochs": 1,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "evaluation_frequency": 1,
    "checkpoint_frequency": None,
    "random_seed": 3,
    "ema_decay": 0.0,
    "gradient_clip_norm": 0.0,
    "mixed_precision": "auto",
    "compile": False,
}


class Blobs(TrainingTask):
    """Three clouds of points; dropout and noise make every step draw random numbers."""

    primary_metric = "accuracy"

    def __init__(self, *, limit: int | None = None) -> None:
        generator = np.random.default_rng(0)
        self.labels = np.arange(50) % 3
        self.points = (generator.normal(size=(50, 4)) + self.labels[:, None]).astype(np.float32)
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        self.train_size = self.validation_size = 50
        self.limit = limit
        self.sizes: list[int] = []
        self.on_step: Callable[[int], None] = lambda step: None
        self.steps = 0

    def train_batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        for batch in batches:
            noise = np.stack([np.random.default_rng((epoch, i)).normal(size=4) for i in batch]).astype(np.float32)
            yield torch.tensor(batch), torch.from_numpy(self.points[list(batch)] + 0.1 * noise)

    def validation_batches(self, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        for batch in batches:
            yield torch.tensor(batch), torch.from_numpy(self.points[list(batch)])

    def split(self, batch: Any, parts: int) -> list[tuple[Any, float]]:
        total = len(batch[0])
        parts = max(1, min(parts, total // 2))
        pairs = zip(batch[0].tensor_split(parts), batch[1].tensor_split(parts), strict=True)
        return [((i, x), len(i) / total) for i, x in pairs]

    def size(self, batch: Any) -> int:
        return len(batch[0])

    def loss(self, forward: Callable[..., Any], batch: Any) -> torch.Tensor:
        index, points = batch
        self.sizes.append(len(index))
        if self.limit is not None and len(index) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        self.steps += 1
        self.on_step(self.steps)
        return nn.functional.cross_entropy(forward(points), torch.from_numpy(self.labels)[index])

    def predict(self, module: nn.Module, batch: Any) -> Outputs:
        return batch[0].numpy(), module(batch[1]).numpy()

    def metrics(self, outputs: Sequence[Outputs]) -> dict[str, float]:
        right = [logits.argmax(1) == self.labels[index] for index, logits in outputs]
        return {"accuracy": float(np.concatenate(right).mean())}

    def names(self, batch: Any) -> list[str]:
        return [f"point {index}" for index in batch[0].tolist()]


def run(output: Path, task: Blobs | None = None, **changes: Any) -> Engine:
    engine = Engine(
        task or Blobs(),
        {**SETTINGS, **changes},
        ALONE,
        output=output,
        fingerprint={"epochs": changes.get("number_of_epochs", 4)},
        metrics_file=output / "metrics.log",
    )
    engine.fit()
    return engine


def weights(engine: Engine) -> torch.Tensor:
    return torch.cat([value.flatten().float() for value in engine.scored_module.state_dict().values()])


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 3), (2, 3)])
def test_every_picture_comes_once_an_epoch(rank: int, world: int) -> None:
    parts = [epoch_batches(50, 8, seed=1, epoch=2, rank=r, world=world) for r in range(world)]
    seen = [index for part in parts for batch in part for index in batch]
    assert set(seen) == set(range(50))
    assert len(seen) - 50 < world
    assert len({len(part) for part in parts}) == 1
    assert epoch_batches(50, 8, seed=1, epoch=2, rank=rank, world=world) == parts[rank]
    assert epoch_batches(50, 8, seed=1, epoch=3, rank=rank, world=world) != parts[rank]


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    assert [len(batch) for batch in epoch_batches(17, 8, seed=0, epoch=0)] == [8, 9]
    assert [len(batch) for batch in epoch_batches(1, 8, seed=0, epoch=0)] == [1]
    assert [len(batch) for batch in epoch_batches(17, 8, seed=0, epoch=0, least=1)] == [8, 8, 1]
    assert [len(batch) for batch in epoch_batches(19, 8, seed=0, epoch=0, least=4)] == [8, 11]
    assert [len(batch) for batch in epoch_batches(20, 8, seed=0, epoch=0, least=4)] == [8, 8, 4]
    batches = epoch_batches(19, 8, seed=0, epoch=0, least=4)
    assert sorted(index for batch in batches for index in batch) == list(range(19))


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop_at", [1, 5, 7, 12, 20])
def test_a_training_stopped_anywhere_ends_as_an_unbroken_one(
    tmp_path: Path, stop_at: int, accumulate: int, ema: float
) -> None:
    changes = {"gradient_accumulation_step": accumulate, "ema_decay": ema}
    unbroken = run(tmp_path / "unbroken", **changes)
    task = Blobs()
    task.on_step = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == stop_at else None
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", task, **changes)
    resumed = run(tmp_path / "broken", **changes)
    assert torch.equal(weights(resumed), weights(unbroken))
    assert resumed.progress.best_score == unbroken.progress.best_score
    records = [
        [
            {key: value for key, value in orjson.loads(line).items() if key not in {"seconds", "images_per_second"}}
            for line in (tmp_path / name / "metrics.jsonl").read_bytes().splitlines()
        ]
        for name in ("broken", "unbroken")
    ]
    assert records[0] == records[1]


def test_random_numbers_matter_to_the_comparison(tmp_path: Path) -> None:
    assert not torch.equal(weights(run(tmp_path / "a")), weights(run(tmp_path / "b", random_seed=4)))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ModelError, match="epochs: was 4, now 5"):
        run(tmp_path, number_of_epochs=5)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "checkpoints" / LAST_FILE).write_bytes(b"PK damaged")
    with pytest.raises(ModelError, match=r"last\.pt"):
        run(tmp_path)


def test_out_of_memory_halves_the_batch_and_doubles_the_accumulation(tmp_path: Path) -> None:
    task = Blobs(limit=3)
    engine = run(tmp_path, task, training_batch_size=10, number_of_epochs=1)
    assert engine.progress.batch_parts == 4
    assert task.sizes[:3] == [10, 5, 3]
    assert engine.progress.epoch == 1
    with pytest.raises(ModelError, match="training_batch_size"):
        run(tmp_path / "none", Blobs(limit=-1), training_batch_size=2)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    def gradient(parts: int) -> torch.Tensor:
        task = Blobs()
        task.module = nn.Linear(4, 3)
        nn.init.constant_(task.module.weight, 0.1)
        nn.init.zeros_(task.module.bias)
        engine = Engine(task, SETTINGS, ALONE, output=tmp_path / str(parts), fingerprint={})
        engine.progress.batch_parts = parts
        engine._gradients(list(task.train_batches(0, [list(range(7)), list(range(7, 14))])))
        return task.module.weight.grad

    assert torch.allclose(gradient(1), gradient(3), atol=1e-7)


def test_the_moving_average_is_what_is_scored_and_shipped(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    engine = run(tmp_path, ema_decay=0.5, number_of_epochs=1)
    raw, shipped = engine.task.module.state_dict(), load_file(tmp_path / "checkpoints" / BEST_FILE)
    assert not torch.equal(raw["0.weight"], shipped["0.weight"])
    assert torch.equal(engine.average.module.state_dict()["0.weight"], shipped["0.weight"])


def test_early_stopping_counts_evaluations_from_the_delay(tmp_path: Path) -> None:
    scores = iter([0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6])
    task = Blobs()
    task.metrics = lambda outputs: {"accuracy": next(scores)}
    engine = run(
        tmp_path,
        task,
        number_of_epochs=7,
        early_stopping=True,
        early_stopping_patience=2,
        early_stopping_delay=3,
    )
    # Epochs 3 and 4 are the first two without improvement that count; ties go to the later epoch.
    assert (engine.progress.epoch, engine.progress.stopped_early, engine.progress.best_epoch) == (5, True, 4)


def test_evaluation_frequency_and_the_last_epoch(tmp_path: Path) -> None:
    engine = run(tmp_path, number_of_epochs=6, evaluation_frequency=2)
    assert [record["epoch"] for record in engine.progress.history] == [0, 2, 4, 5]


def test_checkpoint_frequency_keeps_weights_of_epochs(tmp_path: Path) -> None:
    run(tmp_path, number_of_epochs=5, checkpoint_frequency=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        BEST_FILE,
        "epoch_1.safetensors",
        "epoch_3.safetensors",
        LAST_FILE,
    ]


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path: Path) -> None:
    task = Blobs()
    task.points[:] = np.inf
    with pytest.raises(ModelError, match="learning_rate"):
        run(tmp_path, task)


def test_gradients_are_clipped_by_norm(tmp_path: Path) -> None:
    task = Blobs()
    norms = []
    step = torch.optim.SGD.step

    class Watched(torch.optim.SGD):
        def step(self, *args: Any, **kwargs: Any) -> Any:
            grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            norms.append(torch.linalg.vector_norm(torch.cat([g.flatten() for g in grads])).item())
            return step(self, *args, **kwargs)

    engine = Engine(task, {**SETTINGS, "gradient_clip_norm": 0.01}, ALONE, output=tmp_path, fingerprint={})
    engine.optimizer.__class__ = Watched
    engine.fit()
    assert norms
    assert max(norms) <= 0.01 + 1e-6


def test_a_loss_that_is_no_number_names_the_batch_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, number_of_epochs=2)
    kept = (tmp_path / "checkpoints" / "last.pt").read_bytes()
    best = (tmp_path / "checkpoints" / "best.safetensors").read_bytes()
    task = Blobs()
    task.points[17] = np.nan
    engine = Engine(
        task, {**SETTINGS, "number_of_epochs": 3}, ALONE, output=tmp_path, fingerprint={"epochs": 2},
        metrics_file=tmp_path / "metrics.log",
    )  # fmt: skip
    with pytest.raises(ModelError, match="nan in epoch 2") as error:
        engine.fit()
    assert "point 17" in str(error.value)
    assert (tmp_path / "checkpoints" / "last.pt").read_bytes() == kept
    assert (tmp_path / "checkpoints" / "best.safetensors").read_bytes() == best
