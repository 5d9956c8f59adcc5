"""Detectors by name: built with their starting weights, asked about pictures, and read back from a model folder."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN

from kubesight.dataset.detections import Detections
from kubesight.modelcard import WEIGHTS_FILE, ModelCard
from kubesight.models.assemble import assemble
from kubesight.models.backbones import freeze_batch_norm, has_batch_norm
from kubesight.models.built import BuiltModel
from kubesight.models.detector_weights import load_start
from kubesight.models.freeze import freeze_detector
from kubesight.models.names import ModelSpec, find_model
from kubesight.models.weights import load_weights

_log = logging.getLogger("kubesight")


def build_detector(
    spec: ModelSpec, classes: Sequence[str], *, weights: str = "none", settings: Mapping[str, Any]
) -> BuiltModel:
    """Build a detector, of boxes or of boxes and masks, with its first layers frozen.

    The module is torchvision's: in training mode `module(pictures, targets)` gives a dict of losses, in evaluation mode
    `module(pictures)` a list of dicts, one a picture. Pictures are float [3, height, width] in [0, 1], of any sizes;
    targets hold `boxes` (float32 [k, 4], x0, y0, x1, y1 in pixels), `labels` (int64 [k], from 1) and, for masks,
    `masks` (uint8 [k, height, width]). Answers hold `boxes`, `labels`, `scores` and, for masks, `masks`
    (float32 [n, 1, 28, 28], on a grid over each box). No answer is left out for its score.

    Args:
        spec: the architecture, from `find_model`.
        classes: the class names in index order.
        weights: `none` (random, from torch's current seed), `default` (trained on COCO, where torchvision publishes
            such weights of this detector, else a backbone trained on ImageNet), a file or URL of a state dict of the
            detector or of its backbone, or a model folder to go on from.
        settings: the resolved hyperparameters.

    Raises:
        ModelError: the name is not known, or the weights cannot be had or do not fit.
    """
    module = assemble(spec, len(classes), settings)
    record = load_start(spec, module, weights, classes)
    record["batch_norm"] = _settle_batch_norm(module, record)
    freeze_detector(spec, module, settings.get("layers_to_freeze"), pretrained=record["source"] != "none")
    transform: Any = module.transform
    mean = tuple(settings.get("image_mean") or transform.image_mean)
    std = tuple(settings.get("image_std") or transform.image_std)
    _set_colours(module, mean, std)
    return BuiltModel(module, mean, std, record)


def _settle_batch_norm(module: nn.Module, record: dict[str, Any]) -> str:
    """Freeze the batch normalisation of a body that has learnt, and say what was done: frozen, learnt or none.

    A few pictures a batch, as detectors have them, give poor statistics; those of the weights are better. Random
    weights have no statistics worth keeping: with frozen ones, of mean 0 and variance 1, a deep network would not
    learn at all. Then the layers are ordinary ones, as torchvision has them.
    """
    if not has_batch_norm(module):
        return "none"
    if record["source"] == "none":
        _log.info("weights: none, all random, and all of them are trained; batch normalisation learns its statistics")
        return "learnt"
    freeze_batch_norm(module, record.get("batch_norm_eps"))
    _log.info("batch normalisation of the backbone is frozen")
    return "frozen"


def _set_colours(module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    transform: Any = module.transform
    transform.image_mean, transform.image_std = list(mean), list(std)


def load_detector(model_dir: Path | str, card: ModelCard) -> nn.Module:
    """The network of a detector's model folder.

    Args:
        model_dir: the folder.
        card: its card.

    Raises:
        ModelError: the weights are missing, or are not those of the card's model.
    """
    sizes = {name: getattr(card.fit, name) for name in ("min_size", "max_size")}
    module = assemble(find_model(card.model_name), len(card.classes), {**card.inference, **sizes})
    _set_colours(module, card.fit.mean, card.fit.std)
    if card.weights.get("batch_norm") == "frozen":
        freeze_batch_norm(module, card.weights.get("batch_norm_eps"))
    load_weights(module, Path(model_dir) / WEIGHTS_FILE)
    return module


def set_inference(
    module: nn.Module, *, nms_iou_threshold: float | None = None, box_detections_per_image: int | None = None
) -> None:
    """Change, in place, which boxes a detector suppresses and how many it gives; None leaves a setting as it is.

    Args:
        module: the detector.
        nms_iou_threshold: overlap from which the lower of two boxes of a class is dropped, in [0, 1].
        box_detections_per_image: the most boxes of a picture, of all classes together.
    """
    holder: Any = module.roi_heads if isinstance(module, FasterRCNN) else module
    if nms_iou_threshold is not None:
        holder.nms_thresh = nms_iou_threshold
    if box_detections_per_image is not None:
        holder.detections_per_img = box_detections_per_image


@torch.no_grad()
def detect_batch(module: nn.Module, pictures: Sequence[torch.Tensor]) -> list[Detections]:
    """What a detector finds in pictures.

    Args:
        module: the detector, in evaluation mode.
        pictures: uint8 [height, width, 3], RGB, of any sizes.

    Returns:
        One for each picture, with every box of an area, whatever its score.
    """
    device = next(module.parameters()).device
    # All in one order of memory: another one may round differently.
    images = [picture.to(device).permute(2, 0, 1).contiguous().float().div_(255) for picture in pictures]
    return [
        _detections(answer, image.shape[1], image.shape[2])
        for answer, image in zip(module(images), images, strict=True)
    ]


def _detections(answer: dict[str, torch.Tensor], height: int, width: int) -> Detections:
    found = {name: value.cpu().numpy() for name, value in answer.items()}
    boxes = np.clip(found["boxes"] / np.array([width, height, width, height], np.float32), 0, 1).astype(np.float32)
    masks = found["masks"][:, 0] if "masks" in found else None
    scores = found["scores"].astype(np.float32)
    everything = Detections(boxes, found["labels"].astype(np.int64) - 1, scores, masks)
    order = np.argsort(-scores, kind="stable")
    return everything.select(order[((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))[order]])
