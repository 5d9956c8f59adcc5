"""Training speed: resnet18 at 224 pixels against a plain loop, and a frozen backbone with and without its cache."""

import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

from kubesight.convert import convert
from kubesight.dataset import Dataset
from kubesight.split import split
from kubesight.train.trainer import train

BATCH, STEPS = 32, 8


def plain_loop(folder: Path, workers: int) -> float:
    """Images per second of an ordinary torchvision loop: ImageFolder, transforms, SGD."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.4)], p=0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    pictures = torchvision.datasets.ImageFolder(folder, transform)
    loader = torch.utils.data.DataLoader(pictures, BATCH, shuffle=True, num_workers=workers)
    module = torchvision.models.resnet18(num_classes=len(pictures.classes)).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    done, started = 0, 0.0
    for step, (images, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 0:
            started = time.perf_counter()
        else:
            done += len(images)
        if step == STEPS:
            break
    return done / (time.perf_counter() - started)


def quietly(**arguments: Any) -> None:
    """Train without metric lines on the screen."""
    with contextlib.redirect_stdout(io.StringIO()):
        train(**arguments)


def our_loop(parts: dict[str, Dataset], folder: Path) -> float:
    """Images per second of the engine, the loader and the evaluation's start-up left out."""
    from kubesight.dataset.rows import Task
    from kubesight.hyperparameters import resolve
    from kubesight.modelcard import ModelCard, Preprocessing
    from kubesight.models.build import build_model
    from kubesight.models.names import find_model
    from kubesight.train.distributed import join_world
    from kubesight.train.engine import Engine
    from kubesight.train.tasks.build import build_task

    settings = resolve("resnet18", Task.CLASSIFICATION, {"training_batch_size": BATCH})
    built = build_model(find_model("resnet18"), len(parts["train"].classes))
    built.module.to(memory_format=torch.channels_last)
    card = ModelCard(
        task=Task.CLASSIFICATION, model_name="resnet18", classes=parts["train"].classes,
        preprocessing=Preprocessing(mean=built.mean, std=built.std), hyperparameters=settings,
    )  # fmt: skip
    world = join_world("cpu")
    task = build_task(built.module, card, (parts["train"], parts["validation"]), world=world, workers=2)
    engine = Engine(task, settings, world, output=folder, fingerprint={})
    engine.steps_per_epoch = 1000
    task.train_mode()
    done, started = 0, 0.0
    order = torch.randperm(task.train_size).tolist()
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)][: STEPS + 1]
    for step, batch in enumerate(task.train_batches(0, batches)):
        engine._update([batch])
        if step == 0:
            started = time.perf_counter()
        else:
            done += task.size(batch)
    return done / (time.perf_counter() - started)


def frozen(parts: dict[str, Dataset], folder: Path, name: str) -> float:
    """Seconds of 15 epochs with the backbone frozen."""
    started = time.perf_counter()
    quietly(
        training_data=parts["train"].path, validation_data=parts["validation"].path, output=folder / name,
        model_name="resnet18", weights="none", hyperparameters={"train_only_top_layer": True, "number_of_epochs": 15},
    )  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    """Print the ratios."""
    default = Path(__file__).parents[3] / "shared" / "data"
    source = Path(os.environ.get("KUBESIGHT_DATA", default)) / "grocery10"
    if not source.is_dir():
        sys.exit(f"no pictures at {source}: set KUBESIGHT_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["KUBESIGHT_CACHE"] = str(folder / "cache")
        convert(str(source / "train"), folder / "data")
        parts = split(folder / "data", folder / "parts")
        rates = {workers: plain_loop(source / "train", workers) for workers in (0, 2)}
        ours = our_loop(parts, folder / "ours")
        best = max(rates.values())
        told = ", ".join(f"{rate:.1f} with {workers} workers" for workers, rate in rates.items())
        print(f"resnet18 at 224, batch {BATCH}: plain loop {told}; ours {ours:.1f} images/s: {ours / best:.2f} times")
        first, second = frozen(parts, folder, "first"), frozen(parts, folder, "second")
        print(f"frozen resnet18, 15 epochs: {first:.1f} s, again {second:.1f} s: {first / second:.1f} times")


if __name__ == "__main__":
    main()
