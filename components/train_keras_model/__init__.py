"""The step that trains a model on TensorFlow."""
