"""Rows of Azure AutoML's that only yolov5 has, and the size of pictures, which keras/* models have too."""

from kubesight.hyperparameters.spec import KERAS, POSITIVE, YOLOV5, Case, Hyperparameter, Range, Scope

_SQUARE = Scope("yolov5 and keras/* models", families=frozenset({"yolov5", "keras"}))

ROWS = (
    Hyperparameter(
        "image_size", "int", "Pixels of the sides of what the network sees; yolov5: rounded up to a multiple of 32.",
        640, ("img_size",), POSITIVE, applies=_SQUARE,
        cases=(Case(KERAS, None, range=Range(low=32), reason="keras.applications takes no smaller pictures"),),
        note="keras/* models: none is the size that the model was made for, the only one that SageMaker has.",
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
