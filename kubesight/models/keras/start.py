"""What a Keras network starts from: published weights, random ones, a file, or an earlier training's model folder."""

import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kubesight.errors import DatasetError, HyperparameterError, ModelError
from kubesight.modelcard import CARD_FILE, KERAS_FILE, ModelCard
from kubesight.models.files import fetch
from kubesight.models.keras.network import BACKBONE, CLASSIFICATION, build_network, copy_weights, load_network
from kubesight.models.keras.weights import place_weights
from kubesight.models.names import ModelSpec, find_model
from kubesight.storage.files import sha256_file

_log = logging.getLogger("kubesight")


def start_network(
    spec: ModelSpec,
    *,
    classes: Sequence[str],
    outputs: int,
    size: int,
    weights: str,
    settings: Mapping[str, Any],
) -> tuple[keras.Model, dict[str, Any]]:
    """Build a network with its starting weights, under the dtype policy that is set.

    `reinitialize_top_layer` decides about the last layer. Only an earlier training's model folder has one to keep:
    it is kept for `Auto` and `False`, and starts anew for `True`. Everything else starts a new one for `Auto` and
    `True`; `False` is then an error.

    Args:
        spec: the architecture, from `find_model`.
        classes: the class names in index order.
        outputs: how many logits: one a class, or 1 of two classes.
        size: width and height of the pictures in pixels.
        weights: `default` (those that Keras publishes), `none` (random), a file or `https://` URL of the backbone's
            weights (`.weights.h5`, legacy `.h5`, `.keras`), or a model folder to go on from.
        settings: `dropout_rate`, `regularizers_l2` and `reinitialize_top_layer` are read; SageMaker's defaults without.

    Returns:
        The network, and the record of its weights for the model card: `source`, `detail`, `sha256`, `fit` (what was
        taken, in words) and, where they apply, `checkpoint` (the weights are another training's than those of the
        model that was named) and `substitute` (another architecture stands in).

    Raises:
        ModelError: the weights cannot be had, are broken, or do not fit.
        DatasetError: the last layer is to be kept, and was trained on other classes.
        HyperparameterError: a last layer is to be kept where there is none, or one of another width.
    """
    network = _Network(spec, outputs, size, settings)
    anew = str(settings.get("reinitialize_top_layer", "Auto"))
    if weights not in ("default", "none") and (Path(weights) / CARD_FILE).is_file():
        built, record = _from_model_folder(network, Path(weights), classes, keep=anew != "True")
    elif anew == "False":
        raise HyperparameterError(
            f"False keeps a trained classifier, and weights: {weights} has none",
            where="reinitialize_top_layer", hint="Set it to Auto, or weights to an earlier training's model folder.",
        )  # fmt: skip
    elif weights == "none":
        built, record = network.build(None), {"source": "none", "detail": "random"}
    elif weights == "default":
        file, record = place_weights(spec, size)
        built = network.build(file)
        record["fit"] = "the backbone's; the classifier starts anew"
        if spec.match == "architecture":
            record["checkpoint"] = f"same architecture, other checkpoint than that of {spec.name}"
    else:
        built, record = _from_file(network, weights)
    if spec.match == "none":
        record["substitute"] = f"{spec.nearest}, since Keras lacks the architecture of {spec.name}"
    _log.info("weights: %s", "; ".join(f"{key} {value}" for key, value in record.items()))
    return built, record


class _Network:
    """The network to build, whatever its weights."""

    def __init__(self, spec: ModelSpec, outputs: int, size: int, settings: Mapping[str, Any]) -> None:
        self.spec, self.outputs, self.size = spec, outputs, size
        self._head = {name: settings[name] for name in ("dropout_rate", "regularizers_l2") if name in settings}

    def build(self, weights: Path | None) -> keras.Model:
        return build_network(self.spec, outputs=self.outputs, size=self.size, weights=weights, **self._head)


def _from_file(network: _Network, weights: str) -> tuple[keras.Model, dict[str, Any]]:
    """Start from a file of the backbone's weights, or from the backbone of a whole network that kubesight saved."""
    file, source = fetch(weights)
    record = {"source": source, "detail": weights, "sha256": sha256_file(file)}
    if _is_whole(file):
        built = network.build(None)
        _take(built, load_network(file), BACKBONE, str(file))
        fit = "the backbone of a whole network; the classifier starts anew"
    else:
        built = network.build(file)
        fit = "the backbone's; the classifier starts anew"
    return built, {**record, "fit": fit}


def _is_whole(file: Path) -> bool:
    """Whether this is a `.keras` file of a network with a backbone inside, as kubesight saves them."""
    if not file.name.endswith(".keras"):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
            return any(layer["config"].get("name") == BACKBONE for layer in layers)
    except (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError):
        return False  # what is wrong with it is said by whoever reads it


def _from_model_folder(
    network: _Network, folder: Path, classes: Sequence[str], *, keep: bool
) -> tuple[keras.Model, dict[str, Any]]:
    """Go on from an earlier training."""
    card = ModelCard.load(folder)
    _check_architecture(network.spec, card, folder)
    if keep:
        _check_classes(classes, card.classes, folder)
    file = folder / KERAS_FILE
    earlier = load_network(file)
    width = earlier.get_layer(CLASSIFICATION).units
    if keep and width != network.outputs:
        raise HyperparameterError(
            f"the classifier in {folder} has {width} output{'s' if width > 1 else ''}, not {network.outputs}",
            where="binary_mode", hint="Set it as in the earlier training, or reinitialize_top_layer to True.",
        )  # fmt: skip
    built = network.build(None)
    for name in (BACKBONE, CLASSIFICATION) if keep else (BACKBONE,):
        _take(built, earlier, name, str(file))
    fit = "the backbone's and the classifier's" if keep else "the backbone's; the classifier starts anew"
    return built, {"source": "model", "detail": str(folder), "sha256": sha256_file(file), "fit": fit}


def _check_architecture(spec: ModelSpec, card: ModelCard, folder: Path) -> None:
    def same(theirs: ModelSpec) -> bool:
        return theirs.library == "keras" and _built(theirs) == _built(spec)

    if not same(find_model(card.model_name)):
        raise ModelError(
            f"the model to go on from is a {card.model_name}, not a {spec.name}", where=str(folder),
            hint=f"Set model_name to {card.model_name}, or name other weights.",
        )  # fmt: skip


def _built(spec: ModelSpec) -> tuple[str, dict[str, Any]]:
    """What a network is built as; its width is 1 where none is given."""
    return spec.library_name, {"alpha": 1.0, "minimalistic": False, **dict(spec.options)}


def _check_classes(classes: Sequence[str], theirs: Sequence[str], folder: Path) -> None:
    """Raise unless the classes are the same, in the same order."""
    if list(classes) == list(theirs):
        return
    added = [name for name in classes if name not in set(theirs)]
    missing = [name for name in theirs if name not in set(classes)]
    said = [f"{what}: {', '.join(names)}" for what, names in (("added", added), ("missing", missing)) if names]
    raise DatasetError(
        f"its classes are not those of the model to go on from, {folder} ({'; '.join(said) or 'another order'})",
        where="training_data",
        hint="Set reinitialize_top_layer to True, and the backbone goes on under a new classifier.",
    )


def _take(network: keras.Model, earlier: keras.Model, part: str, name: str) -> None:
    """Copy one layer's weights out of an earlier network."""
    mine, theirs = network.get_layer(part).weights, earlier.get_layer(part).weights
    problems = [
        f"{ours.path} is {list(other.shape)}, not {list(ours.shape)}"
        for ours, other in zip(mine, theirs, strict=False)
        if tuple(ours.shape) != tuple(other.shape)
    ]
    if len(mine) != len(theirs):
        problems.append(f"the {part} there has {len(theirs)} variables, not {len(mine)}")
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ModelError(
            f"the weights do not fit the network: {shown}", where=name, hint="Use weights of the same architecture."
        )  # fmt: skip
    copy_weights(earlier.get_layer(part), network.get_layer(part))
