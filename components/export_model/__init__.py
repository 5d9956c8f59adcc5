"""See component.py."""

from kubesight.components.export_model.component import export_model

__all__ = ["export_model"]
