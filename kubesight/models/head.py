"""The last layers of a network, which tell the classes apart, and the features that a classifier reads."""

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from kubesight.errors import ModelError


def _heads(module: nn.Module) -> list[nn.Module]:
    """The layers whose size depends on the number of classes."""
    if isinstance(module, FasterRCNN):
        masks = [module.roi_heads.mask_predictor.mask_fcn_logits] if isinstance(module, MaskRCNN) else []
        return [module.roi_heads.box_predictor, *masks]
    if isinstance(module, RetinaNet | FCOS):
        return [module.head.classification_head.cls_logits]
    if isinstance(module, SSD):
        blocks = module.head.classification_head.module_list  # one a level; those of SSDlite begin with a depthwise one
        return [block[-1] if isinstance(block, nn.Sequential) else block for block in blocks]
    found = module.get_classifier()  # type: ignore[operator]
    return list(found) if isinstance(found, tuple | list) else [found]


def head(module: nn.Module) -> nn.Module:
    """The layer that turns features [n, d] into logits [n, classes].

    Raises:
        ModelError: the architecture has several such layers, so that none of them gives the logits alone.
    """
    heads = _heads(module)
    if len(heads) != 1:
        raise ModelError(
            f"{type(module).__name__} has {len(heads)} classifier layers, so its features cannot be used alone",
            hint="Train it without caching features.",
        )
    return heads[0]


def head_prefixes(module: nn.Module) -> list[str]:
    """The names of the classifier's layers inside `module` (`fc` of a ResNet)."""
    heads = _heads(module)
    return [name for name, child in module.named_modules() if any(child is one for one in heads)]


def start_anew(module: nn.Module) -> None:
    """Set the classifier to zero, in place: the start for new classes on a body that has learnt already.

    Every class is then equally likely at first (loss ln(classes)). The initialisations meant for training the whole
    network from random weights give large random logits on learnt features: EfficientNet's, drawn from
    +-1/sqrt(classes), starts at a loss of 4 to 6 with ten classes, which a short training does not make up for.
    Zeros are the choice of Kolesnikov et al., "Big Transfer", and of Dosovitskiy et al., "An Image is Worth 16x16
    Words", when they fine-tune.

    The new heads of a detector keep the weights that they were made with: those of RetinaNet and FCOS begin, by their
    papers, at a probability of 0.01 for every class at every place, and zeros would say 0.5.
    """
    if not hasattr(module, "get_classifier"):
        return
    with torch.no_grad():
        for layer in _heads(module):
            for parameter in layer.parameters():
                parameter.zero_()


def is_detector(module: nn.Module) -> bool:
    """Whether a network finds objects; else it classifies whole pictures."""
    return isinstance(module, FasterRCNN | RetinaNet | FCOS | SSD)


def has_prefix(name: str, prefixes: list[str]) -> bool:
    """Whether a parameter's name is one of `prefixes` or lies under one of them."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def shortest_prefixes(group: list[str], every: list[str]) -> list[str]:
    """The shortest module names that hold the parameters of `group` and no others."""
    members = set(group)
    prefixes: list[str] = []
    for name in group:
        if has_prefix(name, prefixes):
            continue
        parts = name.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        prefixes.append(next(p for p in above if all(n in members for n in every if has_prefix(n, [p]))))
    return prefixes


def forward_features(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Everything before the classifier: `head(module)(forward_features(module, images))` is `module(images)`.

    Args:
        module: a timm classification network.
        images: the network's input, float [n, 3, height, width].

    Returns:
        float [n, d], pooled.
    """
    maps = module.forward_features(images)  # type: ignore[operator]
    return module.forward_head(maps, pre_logits=True)  # type: ignore[operator]


@torch.no_grad()
def head_stands_alone(module: nn.Module, image_size: int) -> bool:
    """Whether the classifier applied to the features gives the network's own logits, tried on random pictures.

    True for all named models; some of timm's do more between the two, and then features must not be cached.
    """
    training = module.training
    module.eval()
    try:
        like = next(module.parameters())
        images = torch.randn(2, 3, image_size, image_size, device=like.device, dtype=like.dtype)
        alone = head(module)(forward_features(module, images))
        return torch.allclose(alone, module(images), rtol=1e-3, atol=1e-4)
    except (ModelError, RuntimeError, AttributeError, TypeError):
        return False
    finally:
        module.train(training)
