"""Feature pyramids on timm's networks, and the stages of every detector's body."""

import contextlib
import difflib
from collections import OrderedDict
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d

from kubesight.errors import ModelError
from kubesight.models.head import shortest_prefixes
from kubesight.models.names import ModelSpec

STRIDES = (4, 8, 16, 32)
"""Strides of the levels that a pyramid takes from a body, in pixels of the picture, as far as it has them."""

_WIDE = 1024

# The maps of some bodies are many times larger than those of a ResNet (EfficientNet's end in no normalisation), and new
# heads on them start with losses from which training diverges. Normalised by groups (Wu and He, 2018), which does not
# depend on the batch, every body's pyramid has one scale.
_GROUPS = 32


def known_timm_name(spec: ModelSpec) -> str:
    """The name of a network in timm.

    Raises:
        ModelError: timm has no such network, or no such weights of it; the nearest known names are given.
    """
    name = spec.library_name
    prefix = spec.name.removesuffix(name)  # `timm/`, `fasterrcnn_timm/`, or nothing
    if timm.is_model(name):
        architecture, _, tag = name.partition(".")
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in tags:
            raise ModelError(
                f"timm has no weights {tag!r} of {architecture}",
                where="model_name",
                hint=f"Its weights are {', '.join(tags)}." if tags else f"Name it {prefix}{architecture}.",
            )
        return name
    near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
    raise ModelError(
        f"timm {timm.__version__} knows no model {name!r}",
        where="model_name",
        hint=f"Did you mean {' or '.join(f'{prefix}{one}' for one in near)}?" if near else None,
    )


class TimmPyramid(nn.Module):
    """A timm network's feature maps, and a feature pyramid on them (Lin et al., 2017).

    Args:
        name: the network's name in timm.

    Attributes:
        body: the network, without its classifier.
        strides: of the levels taken from the body; the pyramid adds one of twice the last stride.
        out_channels: channels of every level of the pyramid. It is 256, as published, on bodies whose last level has
            1024 channels or more, and 128 on narrow ones. Those are chosen for their speed on a CPU, where the
            pyramid and the heads, whose cost grows with the square of this number, would take most of the time.

    Raises:
        ModelError: the network gives no maps of several strides, or not for pictures of any size.
    """

    def __init__(self, name: str) -> None:
        """Build the body with random weights."""
        super().__init__()
        levels = _levels(name)
        self.body = _features(name, out_indices=tuple(levels))
        self.strides = tuple(levels.values())
        self.channels = tuple(self.body.feature_info.channels())  # type: ignore[union-attr, operator]
        self.out_channels = 256 if self.channels[-1] >= _WIDE else 128
        self.fpn = FeaturePyramidNetwork(
            list(self.channels),
            self.out_channels,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=partial(nn.GroupNorm, _GROUPS),
        )
        self._channels_at_end = _channels_at_end(name, self)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The levels of the pyramid, `0`, `1` ... and `pool`, each [n, out_channels, height, width]."""
        maps = self.body(images)
        if self._channels_at_end:
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        return self.fpn(OrderedDict((str(level), one) for level, one in enumerate(maps)))


def _features(name: str, **options: Any) -> nn.Module:
    """A timm network that gives its feature maps."""
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        with contextlib.suppress(TypeError):  # Swin transformers, once asked, take pictures of any size
            return timm.create_model(name, features_only=True, strict_img_size=False, **options)
    return timm.create_model(name, features_only=True, **options)


def _levels(name: str) -> dict[int, int]:
    """The indices of a network's feature maps that a pyramid takes, and their strides."""
    try:
        with torch.device("meta"):  # only to ask what it has
            info: Any = _features(name).feature_info
    except (RuntimeError, AttributeError, NotImplementedError, TypeError, ValueError, AssertionError) as error:
        raise _no_pyramid(name, f"timm gives none of its feature maps ({error})") from error
    strides = info.reduction()
    levels = {index: stride for index, stride in zip(info.out_indices, strides, strict=True) if stride in STRIDES}
    if len(levels) < 2 or len(set(levels.values())) < len(levels):
        found = ", ".join(map(str, strides))
        raise _no_pyramid(name, f"its feature maps have strides {found}, where two or more of 4, 8, 16, 32 are needed")
    return levels


def _no_pyramid(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name} cannot be a detector's backbone: {why}",
        where="model_name",
        hint="Take a network with stages, such as resnet18, efficientnet_lite0 or convnext_atto.",
    )


@torch.no_grad()
def _channels_at_end(name: str, pyramid: TimmPyramid) -> bool:
    """Whether maps are [n, height, width, channels], as those of many transformers; a picture, not square, tells.

    It also tells whether the network takes pictures of any size, and that its maps have the strides that timm says.
    """
    height, width, training = 96, 160, pyramid.training
    pyramid.eval()
    try:
        shapes = [tuple(one.shape[1:]) for one in pyramid.body(torch.zeros(1, 3, height, width))]
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise _no_pyramid(name, f"it does not take pictures of any size ({error})") from error
    finally:
        pyramid.train(training)
    sizes = [(height // stride, width // stride) for stride in pyramid.strides]
    wanted = [(channels, *size) for channels, size in zip(pyramid.channels, sizes, strict=True)]
    at_end = [(*size, channels) for channels, size in zip(pyramid.channels, sizes, strict=True)]
    if shapes not in (wanted, at_end):
        raise _no_pyramid(name, f"its feature maps of a picture of 96 by 160 pixels are {shapes}, not {wanted}")
    return shapes == at_end


def body_prefix(module: nn.Module) -> str:
    """Where a detector's body lies in it: all of an SSD's backbone, else what the pyramid stands on."""
    return "backbone.body" if hasattr(module.backbone, "body") else "backbone"


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a detector's body has batch normalisation, frozen or not."""
    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d, FrozenBatchNormAct2d)
    return any(isinstance(layer, kinds) for layer in module.get_submodule(body_prefix(module)).modules())


def freeze_batch_norm(module: nn.Module, eps: float | None = None) -> None:
    """Replace the batch normalisation of a detector's body, in place, by one that never changes.

    Args:
        module: the detector.
        eps: what to add to variances; None leaves each layer's own.
    """
    body = module.get_submodule(body_prefix(module))
    freeze_batch_norm_2d(body)
    for layer in body.modules():
        if eps is not None and isinstance(layer, FrozenBatchNorm2d):
            layer.eps = eps


def body_stages(module: nn.Module) -> list[list[str]]:
    """The stem and the stages of a detector's body from the input on, as prefixes of parameter names.

    ResNets: Azure's `conv1` (with `bn1`) and `layer1` to `layer4`. timm's networks: what comes before the first map
    that timm counts, then what leads to each further one. torchvision's MobileNets and VGG: the stages by which
    torchvision itself freezes them.
    """
    prefix = body_prefix(module)
    body = module.get_submodule(prefix)
    if isinstance(module.backbone, TimmPyramid):
        stages = _timm_stages(body)
    elif hasattr(body, "layer1"):
        stages = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
    elif isinstance(module, FasterRCNN):
        stages = _mobile_stages([(name, block) for name, block in body.named_children()])
    elif hasattr(body, "scale_weight"):
        stages = _vgg_stages(body)
    else:
        first, last = body.features  # type: ignore[misc]
        blocks = [(f"features.0.{name}", block) for name, block in first.named_children()]
        blocks += [(f"features.1.{name}", block) for name, block in last.named_children()]
        stages = _mobile_stages(blocks, starts={len(first) - 1})
    return [[f"{prefix}.{name}" for name in stage] for stage in stages]


def _timm_stages(body: nn.Module) -> list[list[str]]:
    """Parameters up to the end of each module that timm takes a feature map from; those before the first as a stem."""
    modules = [name.replace(".", "_") for name, _ in body.named_modules()]
    maps = [info["module"].replace(".", "_") for info in body.feature_info.info]  # type: ignore[union-attr]
    starts = [modules.index(one) for one in maps if one in modules]
    ends = [
        max(place for place, name in enumerate(modules) if f"{name}_".startswith(f"{modules[start]}_"))
        for start in starts
    ]
    stages: list[list[str]] = [[] for _ in range(len(ends) + 1)]
    every = [name for name, _ in body.named_parameters()]
    for name in every:
        place = modules.index(name.rpartition(".")[0].replace(".", "_"))
        level = next((level for level, end in enumerate(ends) if place <= end), len(ends) - 1)
        stages[0 if not starts or place < starts[0] else level + 1].append(name)
    return [shortest_prefixes(stage, every) for stage in stages if stage]


def _mobile_stages(blocks: Sequence[tuple[str, nn.Module]], starts: Collection[int] = ()) -> list[list[str]]:
    """A stage begins with each block that strides, and the last block is one of its own."""
    stages: list[list[str]] = [[]]
    for place, (name, block) in enumerate(blocks):
        if place and (getattr(block, "_is_cn", False) or place in starts or place == len(blocks) - 1):
            stages.append([])
        stages[-1].append(name)
    return stages


def _vgg_stages(body: nn.Module) -> list[list[str]]:
    """The convolutions between poolings; the fifth part of them is the start of the extra layers."""
    stages: list[list[str]] = [[]]
    for name, layer in body.features.named_children():  # type: ignore[union-attr]
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
        elif isinstance(layer, nn.Conv2d):
            stages[-1].append(f"features.{name}")
    fifth = body.extra[0].named_children()  # type: ignore[index, union-attr]
    return [*stages, [f"extra.0.{name}" for name, layer in fifth if isinstance(layer, nn.Conv2d)]]
