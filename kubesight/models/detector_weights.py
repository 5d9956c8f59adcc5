"""The weights that a detector starts from: of all of it, or of its backbone alone."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torchvision
from torch import nn
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    RetinaNet_ResNet50_FPN_Weights,
)

from kubesight.errors import ModelError
from kubesight.modelcard import CARD_FILE, ModelCard
from kubesight.models.backbones import body_prefix
from kubesight.models.files import fetch
from kubesight.models.head import head_prefixes
from kubesight.models.names import ModelSpec
from kubesight.models.weights import (
    State,
    fit,
    library_weights,
    model_folder_state,
    published,
    read_state_dict,
)
from kubesight.storage.files import sha256_file

_log = logging.getLogger("kubesight")

# These were trained with nothing added to the variances of frozen batch normalisation; the layers say 1e-5.
_WITHOUT_EPS = tuple(
    weights.COCO_V1.url.rpartition("-")[2].partition(".")[0]
    for weights in (FasterRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights, RetinaNet_ResNet50_FPN_Weights)
)

# Names of torchvision's first detectors, which its published files still have, and today's.
_RENAMED = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"(\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
        (r"^(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
    )
)


def load_start(spec: ModelSpec, module: nn.Module, weights: str, classes: Sequence[str]) -> dict[str, Any]:
    """Give a detector its starting weights, in place.

    Args:
        spec: the architecture.
        module: its network, made with random weights.
        weights: `none`, `default`, a file, a URL or a model folder; see `build_detector`.
        classes: the class names in index order; those of a model folder must be the same for its heads to be kept.

    Returns:
        The record of where they came from.

    Raises:
        ModelError: they cannot be had, or do not fit.
    """
    if weights == "none":
        return {"source": "none", "detail": "random"}
    if weights == "default":
        record = _default(spec, module)
    elif (Path(weights) / CARD_FILE).is_file():
        state, record, card = model_folder_state(spec, module, Path(weights), classes)
        record |= {"part": "detector", "fit": fit(module, state, head_prefixes(module), name=weights)}
        _inherit(module, card, record)
    else:
        file, source = fetch(weights)
        record = {"source": source, "detail": weights, "sha256": sha256_file(file)}
        record |= _take(spec, module, file, weights)
    if str(record["sha256"]).startswith(_WITHOUT_EPS):
        record["batch_norm_eps"] = 0.0
    _log.info("weights: %s (sha256 %s): %s", record["detail"], record["sha256"], record["fit"])
    return record


def _inherit(module: nn.Module, card: ModelCard, record: dict[str, Any]) -> None:
    """Take over from an earlier training what its weights expect: the colours, and what batch normalisation adds."""
    transform: Any = module.transform
    transform.image_mean, transform.image_std = list(card.fit.mean), list(card.fit.std)
    if "batch_norm_eps" in card.weights:
        record["batch_norm_eps"] = card.weights["batch_norm_eps"]


def _take(spec: ModelSpec, module: nn.Module, file: Path, name: str) -> dict[str, str]:
    """Load a file of a whole detector or of a backbone, whichever it holds."""
    state = _renamed(read_state_dict(file))
    if any(key.startswith("backbone.") for key in state):
        return {"part": "detector", "fit": fit(module, state, head_prefixes(module), name=name)}
    network, heads = _classifier(spec, name)
    how = fit(network, state, heads, name=name).partition(";")[0]
    _transplant(network, module)
    return {"part": "backbone", "fit": f"the backbone alone, {how}"}


def _renamed(state: State) -> State:
    def today(key: str) -> str:
        key = re.sub(r"mask_head\.mask_fcn(\d)\.", lambda found: f"mask_head.{int(found[1]) - 1}.0.", key)
        key = re.sub(
            r"(_head\.conv)\.(\d)\.(weight|bias)$", lambda found: f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}", key
        )
        for old, new in _RENAMED:
            key = old.sub(new, key)
        return key

    return {today(key): value for key, value in state.items()}


def _classifier(spec: ModelSpec, name: str) -> tuple[nn.Module, list[str]]:
    """The classification network whose body the detector has, and the names of its last layers."""
    if spec.library == "timm":
        network = timm.create_model(spec.library_name, pretrained=False)
        return network, head_prefixes(network)
    found = re.search(r"resnet\d+|mobilenet_v3_large", spec.library_name)
    if spec.family == "ssd" or not found:
        raise ModelError(
            f"these are not the weights of a whole {spec.name}, and a backbone's alone cannot be put into it",
            where=name,
            hint="Name weights of the whole detector, or take a detector on a ResNet or a timm network.",
        )
    network = torchvision.models.get_model(found[0], weights=None)
    return network, ["fc" if found[0].startswith("resnet") else "classifier"]


def _transplant(network: nn.Module, module: nn.Module) -> None:
    """Copy the body of a classification network into a detector; the libraries flatten names in their own ways."""

    def plain(key: str) -> str:
        return re.sub(r"^(model|features)[._]", "", key).replace(".", "_")

    given = {plain(key): value for key, value in network.state_dict().items()}
    body = module.get_submodule(body_prefix(module))
    body.load_state_dict({key: given[plain(key)] for key in body.state_dict()})


def _default(spec: ModelSpec, module: nn.Module) -> dict[str, Any]:
    """COCO weights of the detector where torchvision publishes them, else a backbone trained on ImageNet."""
    if spec.library == "timm":
        file = library_weights(spec.library_name)
        overlay = {"file": str(file), "custom_load": file.suffix == ".npz"}
        _transplant(timm.create_model(spec.library_name, pretrained=True, pretrained_cfg_overlay=overlay), module)
        how = {"part": "backbone", "fit": "the backbone alone, as timm publishes it"}
        return {"source": "default", "detail": f"timm/{spec.library_name}", "sha256": sha256_file(file), **how}
    whole = not spec.library_name.startswith("resnet")
    enum = torchvision.models.get_model_weights(spec.library_name)
    # The first ImageNet weights are those that torchvision itself puts under its detectors.
    chosen = next(iter(enum))
    file = published(chosen.url, f"{spec.name} ({'COCO' if whole else 'ImageNet, for its backbone'})")
    detail = f"torchvision/{spec.library_name}.{chosen.name} ({'COCO' if whole else 'ImageNet'})"
    return {"source": "default", "detail": detail, "sha256": sha256_file(file), **_take(spec, module, file, str(file))}
