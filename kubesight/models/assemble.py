"""The parts of a detector put together, with random weights."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from kubesight.errors import ModelError
from kubesight.models.backbones import TimmPyramid, known_timm_name
from kubesight.models.names import ModelSpec
from kubesight.models.transform import DetectorTransform

_ANCHOR = 8  # sides of a level's anchors in strides of that level, as published: 32 pixels at stride 4
_RATIOS = (0.5, 1.0, 2.0)

Settings = Mapping[str, Any]


class PatientBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes its running statistics where a batch has a single value a channel.

    Such a batch has no variance, and torch refuses it. SSDs meet it in every batch of one picture, as the last one of
    an epoch may be: their last map is one cell.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise [n, channels, height, width]."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def assemble(spec: ModelSpec, classes: int, settings: Settings) -> nn.Module:
    """A detector with random weights, all of them trainable.

    Args:
        spec: the architecture.
        classes: how many classes, without the background.
        settings: `nms_iou_threshold`, `box_detections_per_image`, `min_size` and `max_size` (not for SSDs).

    Raises:
        ModelError: the architecture is not known, or cannot be a detector.
    """
    if spec.library == "timm":
        module = _on_timm(spec, classes, settings)
    elif spec.library_name.startswith("resnet"):
        backbone = resnet_fpn_backbone(
            backbone_name=spec.library_name, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
        )
        network = MaskRCNN if spec.family == "maskrcnn" else FasterRCNN
        module = network(backbone, num_classes=classes + 1, **_options(spec, settings))
    else:
        module = _of_torchvision(spec, classes, settings)
    # RetinaNet and FCOS judge each class by itself and have none for the background.
    module.transform = DetectorTransform.like(module.transform, 0 if isinstance(module, RetinaNet | FCOS) else 1)
    if isinstance(module, FasterRCNN):
        _settle_scales(module)
    return module


@torch.no_grad()
def _settle_scales(module: FasterRCNN) -> None:
    """Let the pools of regions find their levels' scales in a picture that needs no padding.

    torchvision's pools guess them from the first picture that they see, for good. The guess is wrong where most of that
    picture is padding (a long strip): what is found in all others would depend on which one came first.
    """
    if next(module.parameters()).is_meta:
        return  # nobody runs it
    training, side = module.training, 64
    levels = module.backbone.eval()(torch.zeros(1, 3, side, side))
    module.backbone.train(training)
    region = [torch.tensor([[0.0, 0.0, side, side]])]
    for pool in (module.roi_heads.box_roi_pool, module.roi_heads.mask_roi_pool):
        if pool is not None:
            pool(levels, region, [(side, side)])


def _options(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    """The settings by torchvision's names; nothing is left out for its score here, only in predictions."""
    prefix = "box_" if spec.family in ("fasterrcnn", "maskrcnn") else ""
    options = {
        f"{prefix}score_thresh": 0.0,
        f"{prefix}nms_thresh": settings["nms_iou_threshold"],
        f"{prefix}detections_per_img": settings["box_detections_per_image"],
    }
    if spec.family != "ssd":
        options |= {"min_size": settings["min_size"], "max_size": settings["max_size"]}
    return options


def _of_torchvision(spec: ModelSpec, classes: int, settings: Settings) -> nn.Module:
    """One of torchvision's own detectors."""
    known = torchvision.models.list_models(module=torchvision.models.detection)
    known = [name for name in known if not name.startswith("keypoint")]
    if spec.library_name not in known:
        near = difflib.get_close_matches(spec.library_name, known, n=3, cutoff=0.5) or known
        raise ModelError(
            f"torchvision {torchvision.__version__} knows no detector {spec.library_name!r}",
            where="model_name",
            hint=f"Did you mean {' or '.join(f'torchvision/{name}' for name in near)}?",
        )
    background = spec.family not in ("retinanet", "fcos")
    module = torchvision.models.get_model(
        spec.library_name,
        weights=None,
        weights_backbone=None,
        num_classes=classes + background,
        **_options(spec, settings),
    )
    for layer in module.modules():
        if spec.family == "ssd" and type(layer) is nn.BatchNorm2d:
            layer.__class__ = PatientBatchNorm
    return module


def _on_timm(spec: ModelSpec, classes: int, settings: Settings) -> nn.Module:
    """Faster R-CNN or Mask R-CNN on a timm network, anchors and regions fitted to the levels that it has."""
    backbone = TimmPyramid(known_timm_name(spec))
    config = backbone.body.pretrained_cfg  # type: ignore[union-attr]
    strides = (*backbone.strides, 2 * backbone.strides[-1])
    levels = [str(level) for level in range(len(backbone.strides))]
    options = _options(spec, settings) | {
        "rpn_anchor_generator": AnchorGenerator(
            tuple((_ANCHOR * stride,) for stride in strides), (_RATIOS,) * len(strides)
        ),
        "box_roi_pool": MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        "image_mean": list(config["mean"]),  # type: ignore[index]
        "image_std": list(config["std"]),  # type: ignore[index]
    }
    if spec.family != "maskrcnn":
        return FasterRCNN(backbone, num_classes=classes + 1, **options)
    width = backbone.out_channels
    module = MaskRCNN(
        backbone,
        num_classes=classes + 1,
        mask_roi_pool=MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        **options,
    )
    module.roi_heads.mask_predictor = MaskRCNNPredictor(width, width, classes + 1)  # its own takes 256 channels
    return module
