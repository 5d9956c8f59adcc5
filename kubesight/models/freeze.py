"""Which layers `layers_to_freeze` counts, and freezing them.

Azure's hosted service freezes the parameters of the first N groups but lets their batch-norm layers go on updating
running statistics, so that "frozen" layers still change what they compute. Here a frozen layer computes the same
function all through training: the engine sets `frozen_modules` to evaluation mode at each epoch's start. Only so can
the features of a frozen backbone be computed once and cached.
"""

import logging

from timm.models import group_parameters
from torch import nn

from kubesight.models.backbones import body_stages
from kubesight.models.head import has_prefix, head_prefixes, is_detector, shortest_prefixes
from kubesight.models.names import ModelSpec

_TRAINABLE = {"ssd300_vgg16": 4, "ssdlite320_mobilenet_v3_large": 6}
_log = logging.getLogger("kubesight")


def freeze_groups(spec: ModelSpec, module: nn.Module) -> list[list[str]]:
    """The groups of layers that `layers_to_freeze` counts, from the input on; the classifier is in none.

    The groups of the named models are Azure's: stem and `layer1`..`layer4` of the ResNets, ResNeSts and SE-ResNeXt;
    stem, 17 blocks and the last convolution of MobileNetV2; patch embedding and each block of the ViTs (24 of the
    large one, where Azure stops at 12). Those of another timm model are the stages that timm itself defines. Those of a
    detector are the stages of its body.

    Returns:
        Prefixes of parameter names (`["conv1", "bn1"]`, `["layer1"]`, ...). Together they hold every parameter but
        the classifier's, each once; of a detector, every parameter of its body.
    """
    if is_detector(module):
        return body_stages(module)
    if spec.name == "mobilenetv2":  # timm's own stages of it hold several of Azure's groups
        blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(module.blocks) for j in range(len(stage))]  # type: ignore
        return [["conv_stem", "bn1"], *([block] for block in blocks), ["conv_head", "bn2"]]
    heads = head_prefixes(module)
    layers = group_parameters(module, module.group_matcher(coarse=True))  # type: ignore[operator]
    groups = [[name for name in layers[key] if not has_prefix(name, heads)] for key in sorted(layers)]
    every = [name for name, _ in module.named_parameters()]
    return [shortest_prefixes(group, every) for group in groups if group]


def freeze(spec: ModelSpec, module: nn.Module, layers_to_freeze: int) -> list[str]:
    """Freeze the first groups of `freeze_groups`, and make everything else trainable.

    Args:
        spec: the architecture.
        module: its network, changed in place.
        layers_to_freeze: how many groups; more than there are freezes them all, and the log says so.

    Returns:
        The prefixes of the frozen parameters.
    """
    groups = freeze_groups(spec, module)
    if layers_to_freeze > len(groups):
        _log.warning(
            "layers_to_freeze is %d and %s has %d groups of layers: all of them are frozen, only %s learns",
            layers_to_freeze, spec.name, len(groups), "what follows" if is_detector(module) else "the classifier",
        )  # fmt: skip
    frozen = [prefix for group in groups[:layers_to_freeze] for prefix in group]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not has_prefix(name, frozen))
    return frozen


def freeze_detector(spec: ModelSpec, module: nn.Module, layers_to_freeze: int | None, *, pretrained: bool) -> list[str]:
    """Freeze the first layers of a detector's body, and say so in the log.

    Args:
        spec: the architecture.
        module: its network, changed in place.
        layers_to_freeze: how many stages of the body; None leaves the last three trainable, as published for networks
            on learnt weights (four for VGG and all for SSDlite, as torchvision has them). Random weights are
            trained, all of them: frozen, they would never come to anything.
        pretrained: whether the body has learnt.

    Returns:
        The prefixes of the frozen parameters.
    """
    groups = len(freeze_groups(spec, module))
    if layers_to_freeze is None:
        trainable = _TRAINABLE.get(spec.library_name, 3) if pretrained else groups
        layers_to_freeze = max(0, groups - trainable)
    frozen = freeze(spec, module, layers_to_freeze)
    if frozen:
        _log.info("frozen: %s", ", ".join(frozen) if len(frozen) < 10 else f"{len(frozen)} layers from the input on")
    if frozen and not pretrained:
        _log.warning("the frozen layers have random weights and will never learn: layers_to_freeze with weights none")
    return frozen


def freeze_backbone(module: nn.Module) -> None:
    """Freeze everything but the classifier, in place."""
    heads = head_prefixes(module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(has_prefix(name, heads))


def is_backbone_frozen(module: nn.Module) -> bool:
    """Whether nothing but the classifier learns, so that features of a picture never change."""
    heads = head_prefixes(module)
    return all(has_prefix(name, heads) for name, parameter in module.named_parameters() if parameter.requires_grad)


def frozen_modules(module: nn.Module) -> list[nn.Module]:
    """The largest parts of `module` of which nothing learns; set them to `eval()` after each `module.train()`.

    Their batch-norm statistics then stay as they are, and their dropout is off. With the backbone frozen, parts
    without parameters (activations, pooling, stochastic depth between layers) are among them.
    """
    whole = is_backbone_frozen(module)
    heads = head_prefixes(module)

    def walk(part: nn.Module, prefix: str) -> list[nn.Module]:
        found = []
        for name, child in part.named_children():
            full = f"{prefix}{name}"
            learns = [parameter.requires_grad for parameter in child.parameters()]
            if any(learns) or (not learns and (not whole or has_prefix(full, heads))):
                found += walk(child, f"{full}.") if any(learns) else []
            else:
                found.append(child)
        return found

    return walk(module, "")
