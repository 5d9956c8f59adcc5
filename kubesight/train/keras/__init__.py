"""The training engine on TensorFlow."""
