"""Rows of Azure AutoML's that only yolov5 has."""

from kubesight.hyperparameters.spec import POSITIVE, YOLOV5, Hyperparameter

ROWS = (
    Hyperparameter(
        "image_size", "int", "Pixels of the sides of what the network sees; rounded up to a multiple of 32.",
        640, ("img_size",), POSITIVE, applies=YOLOV5,
    ),
    Hyperparameter(
        "model_size", "choice", "How large the network is.",
        "medium", choices=("small", "medium", "large", "extra_large"), spellings=(("xlarge", "extra_large"),),
        applies=YOLOV5, note="`xlarge` is the name of Azure's first version.",
    ),
    Hyperparameter(
        "multi_scale", "bool", "Vary the size of training pictures by up to half.", False, applies=YOLOV5,
    ),
)  # fmt: skip
