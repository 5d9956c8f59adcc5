"""See component.py."""

from kubesight.components.split_dataset.component import split_dataset

__all__ = ["split_dataset"]
