"""Networks of keras.applications on TensorFlow: their names, weights, pictures and files."""

import logging
import os
import sys

from kubesight.errors import ModelError

_QUIET = "3"
# Read when Keras and TensorFlow are first imported, so they are set before any module of this package can do so. What
# goes wrong in native code comes as an exception too; its own lines are about features of the processor.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _QUIET)


def load_tensorflow() -> None:
    """Import TensorFlow, without the lines that it writes to standard error before it knows its log level, or later.

    Where the user has set another `TF_CPP_MIN_LOG_LEVEL`, they stay.

    Raises:
        ModelError: Keras is told to run on another library.
    """
    if (backend := os.environ["KERAS_BACKEND"]) != "tensorflow":
        raise ModelError(
            f"Keras is told to run on {backend}; keras/* models are trained on TensorFlow here",
            where="environment KERAS_BACKEND",
            hint="Unset it, or set it to tensorflow.",
        )
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] != _QUIET or "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
    for name in ("tensorflow", "absl"):  # notes on saving and tracing, where a pipeline's step logs all it is told
        logging.getLogger(name).setLevel(logging.ERROR)
