"""Networks of keras.applications on TensorFlow: their names, weights, pictures and files."""

import os

# Read when Keras is first imported, which is why they are set here, before any module of this package can do so.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
