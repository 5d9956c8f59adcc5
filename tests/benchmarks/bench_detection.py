"""Training speed of a detector against a plain torchvision loop, and what judging it costs."""

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
from PIL import Image
from torchvision import tv_tensors
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.transforms import v2

from kubesight.convert import convert
from kubesight.dataset import Dataset, DatasetWriter
from kubesight.dataset.objects import found_objects, true_objects
from kubesight.metrics.summary import detection_metrics
from kubesight.serving.predictor import load_predictor
from kubesight.train.trainer import train

BATCH, STEPS, SIZE, PICTURES = 2, 12, 320, 300


class PlainSet(torch.utils.data.Dataset):
    """Pictures by Pillow, targets as torchvision's own examples make them."""

    def __init__(self, dataset: Dataset) -> None:
        self.rows = list(dataset.rows())
        self.classes = dataset.classes
        self.transforms = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomApply([v2.RandomChoice([v2.RandomZoomOut(side_range=(1, 2), p=1), v2.RandomIoUCrop()])]),
                v2.RandomHorizontalFlip(),
                v2.SanitizeBoundingBoxes(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        row = self.rows[index]
        image = Image.open(row.image_url).convert("RGB")
        size = (image.width, image.height, image.width, image.height)
        corners = [
            [c * s for c, s in zip((b.topX, b.topY, b.bottomX, b.bottomY), size, strict=True)] for b in row.label
        ]
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(image.height, image.width)),
            "labels": torch.tensor([self.classes.index(box.label) + 1 for box in row.label]),
        }
        return self.transforms(image, target)


def plain_loop(dataset: Dataset, workers: int) -> float:
    """Images per second of an ordinary torchvision loop."""
    loader = torch.utils.data.DataLoader(
        PlainSet(dataset),
        BATCH,
        shuffle=True,
        num_workers=workers,
        collate_fn=lambda items: tuple(zip(*items, strict=True)),
    )
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    module = FasterRCNN(backbone, len(dataset.classes) + 1, min_size=SIZE, max_size=1333).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.005, momentum=0.9, nesterov=True, weight_decay=1e-4)
    done, started = 0, 0.0
    for step, (images, targets) in enumerate(loader):
        loss = sum(module(list(images), list(targets)).values())
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


def our_loop(training: Dataset, validation: Dataset, folder: Path) -> float:
    """Images per second of the engine's second epoch, when its loaders are warm."""
    settings: dict[str, Any] = {
        "min_size": SIZE, "training_batch_size": BATCH, "number_of_epochs": 2, "number_of_workers": 2,
        "learning_rate": 0.005,
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        train(
            training.path, validation.path, folder, model_name="fasterrcnn_resnet18_fpn", weights="none",
            hyperparameters=settings,
        )  # fmt: skip
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[1])["images_per_second"]


def judging(model: Path, data: Dataset) -> tuple[float, float]:
    """Seconds of running the model over a data set, and of computing all metrics of its detections."""
    predictor = load_predictor(model)
    rows = list(data.rows())
    truth = true_objects(rows, data.classes)
    started = time.perf_counter()
    detections = [predictor.detections(row.image_url) for row in rows]
    middle = time.perf_counter()
    found = found_objects(detections, truth.sizes, None)
    detection_metrics(truth, found, data.classes, masks=False, metric_type="coco_voc", score_threshold=0.3)
    return middle - started, time.perf_counter() - middle


def part(dataset: Dataset, folder: Path, start: int, count: int) -> Dataset:
    """Some rows as a data set of their own."""
    with DatasetWriter(folder, dataset.task) as writer:
        for number, row in enumerate(dataset.rows()):
            if start <= number < start + count:
                writer.write(row)
    return Dataset(folder)


def main() -> None:
    """Print the ratios."""
    default = Path(__file__).parents[3] / "shared" / "data"
    source = Path(os.environ.get("KUBESIGHT_DATA", default)) / "bccd_voc"
    if not source.is_dir():
        sys.exit(f"no pictures at {source}: set KUBESIGHT_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = convert(str(source), folder / "data")
        training, validation = part(data, folder / "t", 0, BATCH * STEPS), part(data, folder / "v", 300, 60)
        plain = {workers: plain_loop(training, workers) for workers in (0, 2)}
        ours = our_loop(training, part(data, folder / "few", 300, 2), folder / "ours")
        told = ", ".join(f"{rate:.2f} with {workers} workers" for workers, rate in plain.items())
        times = ours / max(plain.values())
        print(f"fasterrcnn_resnet18_fpn at {SIZE}: plain loop {told}; ours {ours:.2f} images/s: {times:.2f} times")
        running, counting = judging(folder / "ours" / "model", validation)
        epoch = PICTURES / ours
        print(
            f"an epoch of {PICTURES} pictures takes {epoch:.0f} s; judging {len(validation)} pictures adds "
            f"{counting:.2f} s for the metrics ({counting / epoch:.1%} of it) and {running:.1f} s for running the "
            f"network ({running / epoch:.1%})"
        )


if __name__ == "__main__":
    main()
