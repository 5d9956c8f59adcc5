"""Rows of Azure AutoML's image classification, multi-class and multilabel."""

from kubesight.hyperparameters.spec import (
    CLASSIFICATION,
    POSITIVE,
    TORCH_CLASSIFICATION,
    Case,
    Hyperparameter,
    Range,
    family,
)

_VITS = ("vits16r224", "vitb16r224", "vitl16r224")
_SERESNEXT = "seresnext does not take an arbitrary size"


def _crop_cases() -> tuple[Case, ...]:
    only = Range(224, 224)
    return (
        Case(family("seresnext"), 224, range=only, reason=_SERESNEXT),
        *(Case(family(name), 224, range=only, reason=f"{name} takes pictures of 224 by 224 pixels") for name in _VITS),
    )


_SIZES = "The service replaces other sizes of seresnext by these with a warning; here they are an error."

ROWS = (
    Hyperparameter(
        "weighted_loss", "choice", "Weight rare classes up: 0 not at all, 1 by the root of their weights, 2 fully.",
        0, choices=(0, 1, 2), applies=CLASSIFICATION,
    ),
    Hyperparameter(
        "validation_resize_size", "int", "Pixels of the short side before the centre is cut out for validation.",
        256, ("valid_resize_size",), POSITIVE, applies=TORCH_CLASSIFICATION,
        cases=(Case(family("seresnext"), 256, range=Range(256, 256), reason=_SERESNEXT),), note=_SIZES,
    ),
    Hyperparameter(
        "validation_crop_size", "int", "Pixels of the sides of what the network sees in validation and later use.",
        224, ("valid_crop_size",), POSITIVE, applies=TORCH_CLASSIFICATION, cases=_crop_cases(), note=_SIZES,
    ),
    Hyperparameter(
        "training_crop_size", "int", "Pixels of the sides of what the network sees in training.",
        224, ("train_crop_size",), POSITIVE, applies=TORCH_CLASSIFICATION, cases=_crop_cases(), note=_SIZES,
    ),
)  # fmt: skip
