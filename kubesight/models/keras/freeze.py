"""Which layers of a Keras network learn.

A frozen layer's weights stay as they are, and so do the running statistics of a frozen batch normalization, which
computes with them in training too (Keras' own rule for `trainable = False`).
"""

import logging
import re

import keras

from kubesight.models.keras.network import BACKBONE

_log = logging.getLogger("kubesight")

_GROUPS = {
    "ConvNeXt": r"_(stem|stage_\d)(?:_|$)",
    "DenseNet": r"^(conv\d)",
    "EfficientNet": r"^(stem|block\d|top)",
    "InceptionResNetV2": r"^(mixed_5b|block35|block17|block8)",
    "InceptionV3": r"^(mixed\d+)$",
    "MobileNetV2": r"^(Conv1|expanded_conv|block_\d+|out)",
    "MobileNetV3": r"^(conv_bn|expanded_conv_\d+|expanded_conv(?=_[a-z])|conv_1)",
    "MobileNet": r"^(conv1|conv_pw_\d+)",
    "NASNet": r"^((?:normal|reduction)_concat_\w+)",
    "ResNet": r"^(conv\d)_",
    "VGG": r"^(block\d)",
    "Xception": r"^(block1_|add(?:_\d+)?$|block14)",
}
"""By how a network's name begins (the first that fits): a pattern of its layers' names that captures their group's."""


def freeze_groups(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """The groups of layers that `layers_to_freeze` counts, from the input on; the head is in none.

    They are the blocks that keras.applications itself tells apart by name: stem and stages of ResNets, DenseNets,
    VGGs and ConvNeXts; stem, seven stages and the last convolution of EfficientNets; stem, every block and the last
    convolution of MobileNets; every Inception module, cell (NASNet) or Xception block. Layers without a telling name
    belong to the first group that needs them, and those after the last group to that one.

    Args:
        model: a network of `build_network` or `load_network`.

    Returns:
        Name of the group -> its layers. Together they hold every layer of the backbone, each once.
    """
    backbone = model.get_layer(BACKBONE)
    pattern = next(re.compile(value) for key, value in _GROUPS.items() if model.name.startswith(key))
    ends: dict[str, keras.layers.Layer] = {}
    for layer in backbone.layers:  # in order from the input, so that the last of a name ends its group
        if found := pattern.search(layer.name):
            ends.pop(found[1], None)
            ends[found[1]] = layer
    groups: dict[str, list[keras.layers.Layer]] = {}
    taken: set[str] = set()
    last = next(reversed(ends))
    for name, end in ends.items():
        needed = backbone.layers if name == last else keras.Model(backbone.input, end.output).layers
        # The sums that end Xception's blocks have names that Keras numbers anew in every process.
        group = f"block{len(groups) + 1}" if name.startswith("add") else name.strip("_")
        groups[group] = [layer for layer in needed if layer.name not in taken]
        taken |= {layer.name for layer in needed}
    return groups


def freeze(model: keras.Model, *, train_only_top_layer: bool, layers_to_freeze: int | None) -> list[str]:
    """Freeze the backbone or its first groups of layers, and make everything else trainable, in place.

    What a network drops at random inside its backbone while it trains (EfficientNet and ConvNeXt have such layers) it
    still drops in frozen groups, as Keras does. A backbone that is frozen as a whole had better be called with
    `training=False`: then its features never change.

    Args:
        model: a network of `build_network` or `load_network`.
        train_only_top_layer: freeze everything but the last layer.
        layers_to_freeze: otherwise, how many of `freeze_groups`; more than there are freezes them all, and the log
            says so. None and 0 freeze nothing.

    Returns:
        What is frozen: `["backbone"]`, or the names of groups.
    """
    backbone = model.get_layer(BACKBONE)
    for layer in model._flatten_layers():  # each by itself: what is already true of a model is not handed down
        layer.trainable = True
    if train_only_top_layer:
        backbone.trainable = False
        return [BACKBONE]
    if not layers_to_freeze:
        return []
    groups = freeze_groups(model)
    if layers_to_freeze > len(groups):
        _log.warning(
            "layers_to_freeze is %d and %s has %d groups of layers: all of them are frozen, only the head learns",
            layers_to_freeze, model.name, len(groups),
        )  # fmt: skip
    frozen = list(groups)[:layers_to_freeze]
    for name in frozen:
        for layer in groups[name]:
            layer.trainable = False
    return frozen


def is_backbone_frozen(model: keras.Model) -> bool:
    """Whether nothing but the head learns, so that features of a picture need computing but once."""
    return not model.get_layer(BACKBONE).trainable_variables
