"""A data set into training, validation and test parts."""

from kubesight.split.parts import split

__all__ = ["split"]
