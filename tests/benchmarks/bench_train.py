"""Training speed: resnet18 at 224 pixels against a plain loop, and a frozen backbone with and without its cache."""

import contextlib
import io
import json
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
    """Images per second of the engine's second epoch, when its loaders are warm."""
    quietly(
        training_data=parts["train"].path, validation_data=parts["validation"].path, output=folder,
        model_name="resnet18", weights="none",
        hyperparameters={"training_batch_size": BATCH, "number_of_epochs": 2, "number_of_workers": 2},
    )  # fmt: skip
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[1])["images_per_second"]


def frozen(parts: dict[str, Dataset], folder: Path, name: str, views: int = 1) -> float:
    """Seconds of 15 epochs with the backbone frozen."""
    settings = {"train_only_top_layer": True, "number_of_epochs": 15, "early_stopping": False, "feature_views": views}
    started = time.perf_counter()
    quietly(
        training_data=parts["train"].path, validation_data=parts["validation"].path, output=folder / name,
        model_name="resnet18", weights="none", hyperparameters=settings,
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
        # As many views as epochs: the backbone then runs as often as it would without a cache.
        first, second = frozen(parts, folder, "every", 15), frozen(parts, folder, "kept", 15)
        print(f"with the backbone run each epoch: {first:.1f} s, cached {second:.1f} s: {first / second:.0f} times")


if __name__ == "__main__":
    main()
