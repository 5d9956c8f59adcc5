"""See component.py."""

from kubesight.components.tune_model.component import tune_model

__all__ = ["tune_model"]
