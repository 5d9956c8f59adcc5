"""See component.py."""

from kubesight.components.convert_dataset.component import convert_dataset

__all__ = ["convert_dataset"]
