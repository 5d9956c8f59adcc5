"""A trained Keras network as a SavedModel, from picture files to probabilities, that plain TensorFlow loads and runs.

`serving_default` takes `image_bytes`, a string [n], and gives `probabilities`, float32 [n, classes]. TensorFlow Serving
and SageMaker decode base64 for inputs whose names end in `_bytes`: `{"instances": [{"b64": "..."}]}`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, ModelError
from kubesight.modelcard import LABEL_INDEX_FILE, LABELS_INFO_FILE, SAVED_MODEL_FOLDER, ModelCard
from kubesight.models.keras.devices import device_name
from kubesight.models.keras.pictures import to_pixels
from kubesight.storage.files import write_json

SIGNATURE = "serving_default"
INPUT = "image_bytes"
OUTPUT = "probabilities"

_CONTEXT = ("Detected at node", "[[", "(", "<", "Graph execution error")
_AT_ONCE = 8
"""Pictures that are decoded side by side, where there are so many threads. A large PNG takes 15 bytes a pixel."""

Run = Callable[[Sequence[bytes]], np.ndarray]


def write_saved_model(model: keras.Model, card: ModelCard, model_dir: Path) -> None:
    """Write the folder `saved_model` into a model folder.

    Args:
        model: the trained network, in float32, from pixels 0..255 [n, size, size, 3] to logits.
        card: says how pictures are resized, and what the logits mean.
        model_dir: the model folder; a SavedModel that is there already is replaced.

    Raises:
        ModelError: the network's outputs are not the card's, or the folder cannot be written.
    """
    outputs = 1 if card.binary else len(card.classes)
    if model.output_shape[-1] != outputs:
        raise ModelError(f"the network has {model.output_shape[-1]} outputs, its card {outputs}", where=str(model_dir))
    preprocessing = card.stretch
    picture = tf.TensorSpec((preprocessing.size, preprocessing.size, 3), tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=INPUT)], autograph=False)
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.map_fn(
            lambda data: to_pixels(data, preprocessing),
            image_bytes,
            fn_output_signature=picture,
            parallel_iterations=_AT_ONCE,
        )
        logits = model(tf.cast(pixels, tf.float32), training=False)
        return {OUTPUT: _probabilities(logits, card)}

    # The variables alone, without Keras' layers around them: all that the graph needs, and three times as fast.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    folder = model_dir / SAVED_MODEL_FOLDER
    try:
        tf.saved_model.save(module, str(folder), signatures={SIGNATURE: serve.get_concrete_function()})
    except (OSError, tf.errors.OpError) as error:
        raise ModelError(f"cannot be written: {_first_line(error)}", where=str(folder)) from error


def write_label_files(card: ModelCard, model_dir: Path) -> None:
    """Write the class names into a model folder in both forms that SageMaker's handlers read.

    Args:
        card: the model's card.
        model_dir: the model folder.
    """
    write_json(model_dir / LABELS_INFO_FILE, {"labels": card.classes})
    write_json(model_dir / LABEL_INDEX_FILE, {name: index for index, name in enumerate(card.classes)})


def load_saved_model(model_dir: Path | str, device: str | None = None) -> Run:
    """What runs the SavedModel of a model folder: from files as `encoded_picture` gives them to probabilities.

    Args:
        model_dir: the model folder.
        device: `cpu`, `cuda` or `cuda:N`; by default the first GPU when there is one.

    Returns:
        A function from n files to probabilities, float32 [n, classes]. It raises DatasetError when one of the files
        cannot be decoded, which TensorFlow does not name.

    Raises:
        ModelError: no SavedModel is there, or a damaged one; there is no such device.
    """
    folder = Path(model_dir) / SAVED_MODEL_FOLDER
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(
            "no SavedModel here",
            where=str(folder),
            hint="Name a folder that `kubesight train` wrote for a keras/ model.",
        )
    place = device_name(device)
    try:
        with tf.device(place):
            loaded = tf.saved_model.load(str(folder))
        loaded.signatures[SIGNATURE]
    except Exception as error:  # whatever the broken part of the files happens to lead to
        raise ModelError(f"cannot be read as a SavedModel: {_first_line(error)}", where=str(folder)) from error

    def run(files: Sequence[bytes]) -> np.ndarray:
        data = tf.constant(list(files), tf.string, shape=(len(files),))
        try:
            with tf.device(place):
                # Through the model, which keeps its variables alive.
                return loaded.signatures[SIGNATURE](**{INPUT: data})[OUTPUT].numpy()
        except tf.errors.InvalidArgumentError as error:
            raise DatasetError(f"TensorFlow cannot decode a picture: {_cause(error)}") from error

    return run


def _probabilities(logits: tf.Tensor, card: ModelCard) -> tf.Tensor:
    if card.binary:
        return tf.concat([tf.sigmoid(-logits), tf.sigmoid(logits)], axis=1)
    return tf.sigmoid(logits) if card.task is Task.MULTILABEL else tf.nn.softmax(logits)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _cause(error: tf.errors.OpError) -> str:
    """What the operation itself said, without where in the graph it is."""
    lines = [line.strip() for line in (error.message or "").splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(_CONTEXT)]
    return next(iter(said), "unknown")
