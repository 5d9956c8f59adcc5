"""The training engine on TensorFlow."""

from kubesight.models.keras import load_tensorflow

load_tensorflow()
