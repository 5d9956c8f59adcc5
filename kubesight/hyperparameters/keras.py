"""Rows of SageMaker's "Image Classification - TensorFlow" that Azure has no equal of, and of keras/* models alone.

Which optimiser uses which of momentum, beta1, epsilon, rho and initial_accumulator_value is SageMaker's matrix.
"""

from kubesight.hyperparameters.spec import KERAS, UNIT, Hyperparameter, Needs, Origin, Range

_SAGEMAKER: tuple[Origin, ...] = ("sagemaker",)
_OURS: tuple[Origin, ...] = ("kubesight",)
_AUGMENTED = (Needs("augmentation", (True,)),)
_TURN = Range(-1, 1)

ROWS = (
    Hyperparameter(
        "allow_substitute", "bool", "Train the nearest network where keras.applications lacks a SageMaker model.",
        False, applies=KERAS, origin=_OURS,
    ),
    Hyperparameter(
        "augmentation", "bool", "Flip, turn and zoom training pictures at random.",
        False, applies=KERAS, origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "augmentation_random_flip", "choice", "Which flips augmentation may draw.",
        "horizontal_and_vertical", choices=("horizontal_and_vertical", "horizontal", "vertical", "None"),
        applies=KERAS, needs=_AUGMENTED, origin=_SAGEMAKER,
        note="The page leaves out `horizontal`, which the service takes. The default turns photographs upside down.",
    ),
    Hyperparameter(
        "augmentation_random_rotation", "float", "How far augmentation may turn, as a share of a full turn.",
        0.2, (), _TURN, applies=KERAS, needs=_AUGMENTED, origin=_SAGEMAKER,
        note="The service is known to swap rotation and zoom; here each is what it says.",
    ),
    Hyperparameter(
        "augmentation_random_zoom", "float", "How far augmentation may zoom, as a share of the sides.",
        0.1, (), _TURN, applies=KERAS, needs=_AUGMENTED, origin=_SAGEMAKER,
        note="The page says vertical; the aspect ratio is kept.",
    ),
    Hyperparameter(
        "binary_mode", "bool", "Train one output for two classes, with the binary metrics.",
        False, applies=KERAS, origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "dropout_rate", "float", "Dropout before the classifier.", 0.2, (), UNIT, applies=KERAS, origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "early_stopping_min_delta", "float", "How much the metric must grow to count as an improvement.",
        0.0, (), UNIT, applies=KERAS, needs=(Needs("early_stopping", (True,)),), origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "epsilon", "float", "Small number that keeps the optimiser's division finite.",
        1e-7, ("eps",), UNIT, applies=KERAS,
        needs=(Needs("optimizer", ("adam", "adamw", "rmsprop", "adagrad", "adadelta")),),
        origin=_SAGEMAKER, note="SageMaker's tuning page calls it eps.",
    ),
    Hyperparameter(
        "eval_metric", "choice", "Metric that chooses the best epoch; all but accuracy need binary_mode.",
        "accuracy", choices=("accuracy", "precision", "recall", "auc", "prc"), applies=KERAS, origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "image_resize_interpolation", "choice", "How pictures are resized, in training and in use.",
        "bilinear",
        choices=("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"),
        applies=KERAS, origin=_SAGEMAKER, note="SageMaker's server resizes bilinearly whatever training did.",
    ),
    Hyperparameter(
        "initial_accumulator_value", "float", "What Adagrad's accumulators start from.",
        0.0001, (), UNIT, applies=KERAS, needs=(Needs("optimizer", ("adagrad",)),), stated_defaults=(0.1,),
        origin=_SAGEMAKER, note="The page says 0.0001, the service uses 0.1; the page is followed.",
    ),
    Hyperparameter(
        "regularizers_l2", "float", "L2 regularisation of the classifier's weights.",
        0.0001, (), UNIT, applies=KERAS, origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "reinitialize_top_layer", "choice", "Start the classifier anew; Auto: unless an earlier training left it.",
        "Auto", choices=("Auto", "True", "False"), applies=KERAS, origin=_SAGEMAKER,
    ),
    Hyperparameter(
        "rho", "float", "Decay of the running mean of squared gradients.",
        0.95, (), UNIT, applies=KERAS, needs=(Needs("optimizer", ("adadelta", "rmsprop")),), origin=_SAGEMAKER,
    ),
)  # fmt: skip
