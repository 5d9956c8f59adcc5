"""Networks of keras.applications from pixels to logits: built, taken apart, given a new head, saved and loaded.

Every network here is one functional model: `images` (pixels 0..255, red, green, blue, [n, size, size, 3]) -> the
layers that scale pixels as the architecture wants them -> `backbone` (the network of keras.applications as it is,
pooled) -> `dropout` -> `classification` (logits). So pixels are scaled inside, and exactly once.
"""

import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kubesight.errors import ModelError
from kubesight.models.keras.apps import APPS, App, Scaling
from kubesight.models.names import ModelSpec

IMAGES, BACKBONE, DROPOUT, CLASSIFICATION = "images", "backbone", "dropout", "classification"
"""Names of the layers."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, of 1
_BGR_MEAN = (103.939, 116.779, 123.68)  # of its blue, green and red, of 255, as the Caffe networks were trained
_WEIGHT_FILES = (".weights.h5", ".h5", ".hdf5", ".keras")


def scaling_of(spec: ModelSpec) -> Scaling:
    """How the network wants its pixels."""
    return APPS[spec.library_name].scaling


def build_network(
    spec: ModelSpec,
    *,
    outputs: int,
    size: int,
    dropout_rate: float = 0.2,
    regularizers_l2: float = 0.0,
    weights: str | Path | None = None,
) -> keras.Model:
    """Build a network under the dtype policy that is set.

    Args:
        spec: the architecture, from `find_model`.
        outputs: how many logits: one a class, or 1 of two classes.
        size: width and height of the pictures in pixels.
        dropout_rate: share of the features that training leaves out, 0 to 1.
        regularizers_l2: factor of the L2 penalty on the kernel of the last layer.
        weights: of the backbone: None for random ones, "imagenet" for those that Keras finds in its cache or
            downloads, or a file (`.h5`, `.weights.h5`, `.keras`) of the same network without its top.

    Returns:
        float32 pixels [n, size, size, 3] (uint8 ones are taken too) -> float32 logits [n, outputs].

    Raises:
        ModelError: pictures too small for the architecture, or weights that cannot be read or do not fit.
    """
    app = APPS[spec.library_name]
    if size < app.minimum:
        raise ModelError(
            f"{spec.name} needs pictures of at least {app.minimum} by {app.minimum} pixels, not {size}",
            where="image_size",
            hint=f"Its own size is {spec.size or app.size}.",
        )
    images = keras.Input((size, size, 3), name=IMAGES, dtype="float32")
    backbone = _backbone(spec, app, size, weights)
    features = backbone(_scaled(images, app.scaling))
    outcome = _head(features, outputs, dropout_rate, regularizers_l2)
    return keras.Model(images, outcome, name=app.name)


def features_of(model: keras.Model) -> keras.Model:
    """The part of a network from pixels to pooled features [n, width]; it shares the layers."""
    return keras.Model(model.input, _features(model), name=f"{model.name}_features")


def head_of(model: keras.Model) -> keras.Model:
    """The part of a network from pooled features to logits, dropout inside; it shares the layers."""
    features = keras.Input(_features(model).shape[1:], name="features", dtype="float32")
    outcome = model.get_layer(CLASSIFICATION)(model.get_layer(DROPOUT)(features))
    return keras.Model(features, outcome, name=f"{model.name}_head")


def with_new_head(
    model: keras.Model, *, outputs: int, dropout_rate: float = 0.2, regularizers_l2: float = 0.0
) -> keras.Model:
    """The same backbone, shared, under a new head of random weights; arguments as of `build_network`."""
    return keras.Model(
        model.input, _head(_features(model), outputs, dropout_rate, regularizers_l2), name=model.name
    )  # fmt: skip


def float32_twin(model: keras.Model) -> keras.Model:
    """A copy of a network that computes in float32 whatever the policy of the first; it shares nothing with it."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # for models inside: Keras makes those anew under the policy that is set
    try:
        twin = keras.Model.from_config(_in_float32(model.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    copy_weights(model, twin)
    return twin


def copy_weights(source: keras.Layer, target: keras.Layer) -> None:
    """Give a network or one of its layers the variables of another that is built alike."""
    target.set_weights(source.get_weights())
    _finish_normalization(target)


def save_network(model: keras.Model, file: Path) -> None:
    """Write a network as a `.keras` file that plain `keras.models.load_model` reads; whole or not at all.

    Raises:
        ModelError: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".") as folder:
            part = Path(folder) / "network.keras"
            model.save(part)
            os.replace(part, file)
    except OSError as error:
        raise ModelError(f"cannot write the network: {error}", where=str(file)) from error


def load_network(file: Path) -> keras.Model:
    """Read a network that `save_network` wrote. Nothing of the file is run as code.

    Raises:
        ModelError: no such file, a damaged one, or a model of another shape than those of this module.
    """
    if not file.is_file():
        raise ModelError("no such file", where=str(file), hint="A model folder of TensorFlow holds model.keras.")
    try:
        model = keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # keras raises whatever the broken part of the file happens to lead to
        raise ModelError(
            f"cannot be read as a Keras model: {_first_line(error)}",
            where=str(file),
            hint="The file is damaged, or holds code of its own, which is not run.",
        ) from error
    names = {layer.name for layer in model.layers}
    if not {BACKBONE, DROPOUT, CLASSIFICATION} <= names or len(model.inputs) != 1:
        raise ModelError(
            f"a Keras model without the layers {BACKBONE}, {DROPOUT} and {CLASSIFICATION}",
            where=str(file),
            hint="Only networks that kubesight trained can be read here.",
        )
    return model


def _features(model: keras.Model) -> Any:
    return model.get_layer(DROPOUT).input  # of its first call, which is that of the network


def _head(features: Any, outputs: int, dropout_rate: float, regularizers_l2: float) -> Any:
    penalty = keras.regularizers.L2(regularizers_l2) if regularizers_l2 else None
    kept = keras.layers.Dropout(dropout_rate, name=DROPOUT)(features)
    # In float32 under every policy: the loss is taken of these.
    return keras.layers.Dense(outputs, name=CLASSIFICATION, kernel_regularizer=penalty, dtype="float32")(kept)


def _scaled(images: Any, scaling: Scaling) -> Any:
    """Pixels as the architecture wants them, in float32 under every policy."""
    if scaling == "tf":
        return keras.layers.Rescaling(1 / 127.5, -1.0, dtype="float32", name="to_unit_range")(images)
    if scaling == "torch":
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
        return keras.layers.Rescaling(scale, offset, dtype="float32", name="standardize")(images)
    if scaling == "caffe":
        bgr = keras.ops.flip(images, axis=-1)
        return keras.layers.Rescaling(1.0, [-mean for mean in _BGR_MEAN], dtype="float32", name="minus_mean")(bgr)
    return images


def _backbone(spec: ModelSpec, app: App, size: int, weights: str | Path | None) -> keras.Model:
    named = "imagenet" if weights == "imagenet" else None
    try:
        backbone = getattr(keras.applications, app.name)(
            include_top=False, weights=named, input_shape=(size, size, 3), pooling="avg", **dict(spec.options)
        )
    except Exception as error:  # of the download, of the file's reader or of the architecture's own checks
        if named is None:
            raise
        raise ModelError(f"the weights of {spec.name} cannot be had: {_first_line(error)}", where="weights") from error
    backbone.name = BACKBONE  # after the weights: those of ConvNeXt are found by the network's own name
    if weights is not None and named is None:
        _load(backbone, spec, Path(weights))
    return backbone


def _load(backbone: keras.Model, spec: ModelSpec, file: Path) -> None:
    if not file.is_file():
        raise ModelError("no such file of weights", where=str(file))
    if not file.name.endswith(_WEIGHT_FILES):
        raise ModelError(
            "not a file of Keras' weights", where=str(file), hint=f"They end in {' or '.join(_WEIGHT_FILES)}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning for each layer that is not found, before the error
            backbone.load_weights(file)
    except Exception as error:  # of h5py, of zipfile or of keras, by what is wrong
        raise ModelError(
            f"these weights do not fit {spec.name}: {_misfit(error)}",
            where=str(file),
            hint='It takes the weights of the same network without its top, "no_top" or "notop" in Keras\' file names.',
        ) from error
    _fold_deviation(backbone)


def _misfit(error: Exception) -> str:
    """What does not fit, out of Keras's message, which goes on with the numbers in the variable."""
    said = str(error)
    first = re.search(
        r"variable\.shape=(\(.*?\)), Received: value\.shape=(\(.*?\)).*?Variable path=([^,]+),", said, re.S
    )
    if first:
        count = re.match(r"A total of (\d+) objects", said)
        layers = f"{count[1]} layers, of which the first: " if count else ""
        return f"{layers}{first[3]} is {first[2]}, not {first[1]}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


def _fold_deviation(backbone: keras.Model) -> None:
    """Let EfficientNetB0..B7 standardise its pixels when its published weights come from a file.

    Its published files hold ImageNet's standard deviations where the normalization layer wants variances. Keras mends
    that by one more layer, which divides by their square roots, but builds it for `weights="imagenet"` only
    (tensorflow issue 49930). The right variances in the layer that is there come to the same.
    """
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            variance = np.ravel(keras.ops.convert_to_numpy(layer.adapt_variance))
            if variance.shape == (3,) and np.allclose(variance, _DEVIATION, rtol=0, atol=1e-3):
                factors = np.sqrt(_DEVIATION).astype(np.float32)
                layer.adapt_variance.assign(variance * factors**2)
                layer.finalize_state()


def _finish_normalization(model: keras.Layer) -> None:
    """Let normalization layers compute with the statistics that were put into their variables."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _in_float32(config: Any) -> Any:
    """The same configuration of a model with every dtype policy in it set to float32, and every half-precision input.

    ConvNeXt has such inputs: the layers of its stem stand in a model of their own.
    """
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        half = {"dtype": "float32"} if config.get("dtype") in ("bfloat16", "float16") else {}
        return {key: _in_float32(value) for key, value in {**config, **half}.items()}
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(value) for value in config)
    return config


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
