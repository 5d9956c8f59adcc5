"""Small detectors with random weights that see differences: scores and boxes that depend on the picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from kubesight.dataset import Task
from kubesight.hyperparameters import resolve
from kubesight.modelcard import WEIGHTS_FILE, FitPreprocessing, ModelCard
from kubesight.models.detectors import build_detector
from kubesight.models.names import find_model
from kubesight.models.weights import save_weights

CLASSES = ["cat", "dog", "emu"]
NETWORK = {Task.DETECTION: "fasterrcnn_timm/test_resnet", Task.SEGMENTATION: "maskrcnn_timm/test_resnet"}
INFERENCE = (
    "box_score_threshold", "nms_iou_threshold", "box_detections_per_image",
    "tile_grid_size", "tile_overlap_ratio", "tile_predictions_nms_threshold",
    "mask_pixel_score_threshold", "max_number_of_polygon_points", "export_as_image", "image_type",
)  # fmt: skip


def small_detector(
    folder: Path, task: Task = Task.DETECTION, name: str | None = None, *, spread: float = 1.0, **settings: Any
) -> Path:
    """A model folder of a detector that has learnt nothing but whose answers are far apart.

    Args:
        folder: where to write it.
        task: detection or segmentation.
        name: the model's; a tiny one by default.
        spread: how far the classes' scores are apart, as the standard deviation of what they are computed from.
        settings: hyperparameters.
    """
    name = name or NETWORK[task]
    own = {} if "ssd" in name else {"min_size": 96, "max_size": 160}
    values = resolve(name, task, {**own, "box_detections_per_image": 20, **settings})
    torch.manual_seed(4)
    built = build_detector(find_model(name), CLASSES, settings=values)
    enliven(built.module, spread)
    card = ModelCard(
        task=task, model_name=name, classes=CLASSES,
        preprocessing=FitPreprocessing(
            min_size=values.get("min_size") or 320, max_size=values.get("max_size") or 320,
            mean=built.mean, std=built.std,
        ),
        inference={key: values[key] for key in INFERENCE if key in values},
        weights=built.weights,
    )  # fmt: skip
    folder.mkdir(parents=True)
    save_weights(built.module, folder / WEIGHTS_FILE)
    card.save(folder)
    return folder


@torch.no_grad()
def enliven(module: nn.Module, spread: float) -> None:
    """Scale the layers so that what they give varies by 1, and what the last ones give by `spread`, in a picture."""
    picture = torch.from_numpy(scene(0, (150, 200))).permute(2, 0, 1).float() / 255
    layers = [one for one in module.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    wanted = {"cls_logits": spread, "cls_score": spread, "mask_fcn_logits": 2 * spread, "bbox_pred": 0.3}
    wanted |= {"classification_head": spread, "regression_head": 0.3, "bbox_reg": 0.3}
    target = {part: value for name, one in module.named_modules() for part in one.modules()
              for ending, value in wanted.items() if name.endswith(ending)}  # fmt: skip

    def fit(layer: nn.Module, _: Any, result: torch.Tensor) -> torch.Tensor:
        if layer in done or result.numel() < 2 or not result.std() > 0:  # heads are shared by all levels
            return result
        done.add(layer)
        factor = target.get(layer, 1.0) / result.std()
        layer.weight.mul_(factor)
        return result * factor

    done: set[nn.Module] = set()
    hooks = [layer.register_forward_hook(fit) for layer in layers]
    module.eval()([picture])
    for hook in hooks:
        hook.remove()


def scene(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A picture of coloured blocks on a plain ground, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    height, width = size
    pixels = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(8):
        y, x = rng.integers(0, height), rng.integers(0, width)
        pixels[y : y + height // 4 + 1, x : x + width // 5 + 1] = rng.integers(0, 256, 3)
    return pixels


def scene_files(folder: Path, sizes: Iterable[tuple[int, int]]) -> list[str]:
    """Such pictures as PNG files, one of each (height, width)."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, size in enumerate(sizes):
        files.append(str(folder / f"scene{index}.png"))
        Image.fromarray(scene(index + 1, size)).save(files[-1])
    return files
