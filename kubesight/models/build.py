"""From a model's name to a network with its starting weights, and from a model folder to the trained network."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from kubesight.errors import ModelError
from kubesight.modelcard import CARD_FILE, WEIGHTS_FILE, ModelCard
from kubesight.models.backbones import known_timm_name
from kubesight.models.built import BuiltModel
from kubesight.models.detectors import load_detector
from kubesight.models.files import fetch
from kubesight.models.head import head_prefixes, start_anew
from kubesight.models.names import CLASSIFICATION_TASKS, ModelSpec, find_model
from kubesight.models.weights import fit, library_weights, load_weights, model_folder_state, read_state_dict
from kubesight.storage.files import sha256_file

_log = logging.getLogger("kubesight")


def build_model(
    spec: ModelSpec,
    num_classes: int,
    *,
    weights: str = "none",
    image_size: int | None = None,
    classes: Sequence[str] | None = None,
) -> BuiltModel:
    """Build a classification network.

    Args:
        spec: the architecture, from `find_model`.
        num_classes: the number of logits.
        weights: `none` (random, from torch's current seed), `default` (those the library publishes), a file or URL of
            a state dict (safetensors, or torch's format without pickled objects), or a model folder to go on from.
            On weights that have learnt, the classifier of other classes starts at zero.
        image_size: height and width of the pictures to come, in pixels; some architectures are built for one size.
        classes: the class names in index order; with a model folder of the same classes its classifier is kept.

    Raises:
        ModelError: the name is not known, nothing trains this model here, or the weights cannot be had or do not fit.
    """
    if spec.library != "timm":
        raise ModelError(
            f"{spec.name} has no trainer for image classification in this installation",
            where="model_name",
            hint="`kubesight models` lists the models of each task; any model of timm is `timm/NAME`.",
        )
    name = known_timm_name(spec)
    options = _size_option(spec, name, image_size)
    if weights == "default":
        return _from_library(spec, name, num_classes, options, image_size)
    module = timm.create_model(name, pretrained=False, num_classes=num_classes, **options)
    _try_size(spec, module, image_size)
    if weights == "none":
        return _built(module, {"source": "none", "detail": "random"})
    if (Path(weights) / CARD_FILE).is_file():
        return _from_model_folder(spec, module, Path(weights), classes)
    file, source = fetch(weights)
    record = {"source": source, "detail": weights, "sha256": sha256_file(file)}
    record["fit"] = fit(module, read_state_dict(file), head_prefixes(module), name=weights)
    _log.info("weights: %s (sha256 %s): %s", weights, record["sha256"], record["fit"])
    return _built(module, record)


def load_trained(model_dir: Path | str, device: torch.device | str = "cpu") -> tuple[nn.Module, ModelCard]:
    """The network of a model folder, in evaluation mode on `device`, and its card.

    Raises:
        ModelError: the folder holds no model, or weights that are not the card's model's.
    """
    card = ModelCard.load(model_dir)
    if card.framework != "torch":
        raise ModelError(
            f"{card.model_name} was trained with {card.framework}, so torch cannot load it", where=str(model_dir),
            hint="Load it by kubesight.serving.predictor.load_predictor, as predict and evaluate do.",
        )  # fmt: skip
    if card.task not in CLASSIFICATION_TASKS:
        return load_detector(model_dir, card).to(device).eval(), card
    built = build_model(find_model(card.model_name), len(card.classes), image_size=card.crop.crop_size)
    load_weights(built.module, Path(model_dir) / WEIGHTS_FILE)
    return built.module.to(device).eval(), card


def _size_option(spec: ModelSpec, name: str, image_size: int | None) -> dict[str, Any]:
    """What `create_model` must be told so that the network takes pictures of `image_size`."""
    if image_size is None or image_size == spec.size:
        return {}
    if spec.size is not None:
        raise ModelError(
            f"{spec.name} takes pictures of {spec.size} by {spec.size} pixels, not {image_size}",
            where="model_name",
            hint=f"Set training_crop_size and validation_crop_size to {spec.size}.",
        )
    config = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(name.partition(".")[0])
    fixed = config is not None and config.fixed_input_size and config.input_size[-1] != image_size
    return {"img_size": image_size} if fixed else {}


def _try_size(spec: ModelSpec, module: nn.Module, image_size: int | None) -> None:
    """Run one empty picture through an architecture that may not take this size: only some of timm's declare it."""
    own = _config(module)["input_size"][-1]
    if spec.family != "timm" or image_size is None or image_size == own:
        return
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"{spec.name} does not take pictures of {image_size} by {image_size} pixels ({error})",
            where="model_name",
            hint=f"Set training_crop_size and validation_crop_size to {own}, the size that it was made for.",
        ) from error
    module.train(training)


def _config(module: nn.Module) -> dict[str, Any]:
    """What timm knows of the weights that a network has, or would have by default."""
    return module.pretrained_cfg  # type: ignore[return-value]


def _built(module: nn.Module, record: dict[str, Any]) -> BuiltModel:
    config = _config(module)
    mean, std = tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
    if len(mean) != 3 or len(std) != 3:
        raise ModelError(f"the network takes {len(mean)} channels; pictures here have 3", where="model_name")
    return BuiltModel(module, mean, std, record)  # type: ignore[arg-type]


def _from_library(
    spec: ModelSpec, name: str, num_classes: int, options: dict[str, Any], image_size: int | None
) -> BuiltModel:
    """Start from the weights that timm publishes; it fits them to the number of classes and to the size itself."""
    file = library_weights(name)
    overlay = {"file": str(file), "custom_load": file.suffix == ".npz"}
    module = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes, **options
    )
    _try_size(spec, module, image_size)
    config = _config(module)
    if config["num_classes"] != num_classes:
        start_anew(module)
    tag = f"timm/{config['architecture']}.{config.get('tag') or 'default'}"
    return _built(module, {"source": "default", "detail": tag, "sha256": sha256_file(file)})


def _from_model_folder(spec: ModelSpec, module: nn.Module, folder: Path, classes: Sequence[str] | None) -> BuiltModel:
    """Go on from an earlier training; the classifier is kept only when its classes are the same."""
    state, record, card = model_folder_state(spec, module, folder, classes)
    record["fit"] = fit(module, state, head_prefixes(module), name=str(folder / WEIGHTS_FILE))
    return BuiltModel(module, card.crop.mean, card.crop.std, record)
