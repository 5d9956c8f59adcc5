"""See component.py."""

from kubesight.components.train_keras_model.component import train_keras_model

__all__ = ["train_keras_model"]
