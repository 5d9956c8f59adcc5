"""Rows of every task: Azure AutoML's model-agnostic table, with SageMaker's names where the meaning is the same."""

from kubesight.dataset.rows import Task
from kubesight.hyperparameters.spec import (
    ANY,
    BOXES,
    CLASSIFICATION,
    DETECTION,
    KERAS,
    MULTILABEL,
    NOT_NEGATIVE,
    POSITIVE,
    SEGMENTATION,
    TORCH,
    UNIT,
    YOLOV5,
    Case,
    Hyperparameter,
    Needs,
    Origin,
    Range,
    family,
)
from kubesight.models.names import DEFAULT_MODEL

BOTH: tuple[Origin, ...] = ("azure", "sagemaker")

_MODEL = Hyperparameter(
    "model_name", "str", "Which architecture is trained; `kubesight models` lists the names.",
    aliases=("model_id",), origin=BOTH,
    cases=(
        Case(KERAS, None),
        Case(CLASSIFICATION, DEFAULT_MODEL[Task.CLASSIFICATION]),
        Case(DETECTION, DEFAULT_MODEL[Task.DETECTION]),
        Case(SEGMENTATION, DEFAULT_MODEL[Task.SEGMENTATION]),
    ),
    note="Defaults of the hyperparameter page; the how-to page stars vitb16r224 and yolov5 instead.",
)  # fmt: skip

_LENGTH = (
    Hyperparameter(
        "number_of_epochs", "int", "How often training goes through the training pictures.",
        15, ("epochs",), POSITIVE, cases=(Case(YOLOV5, 30), Case(KERAS, 3)), origin=BOTH,
        note="SageMaker's page says 3 epochs, its service 5; the page is followed.",
    ),
    Hyperparameter(
        "training_batch_size", "int", "Pictures in a mini-batch of training, on each device.",
        78, ("batch_size",), POSITIVE, origin=BOTH,
        cases=(
            Case(family("vits16r224"), 128), Case(family("vitb16r224"), 48), Case(family("vitl16r224"), 10),
            Case(YOLOV5, 16), Case(BOXES, 2), Case(KERAS, 32),
        ),
        note="yolov5: the page says 16, the service uses 12; the page is followed. "
        "For keras/* models it is the batch of all devices together, as in SageMaker.",
    ),
    Hyperparameter(
        "validation_batch_size", "int", "Pictures in a mini-batch of validation.",
        78, (), POSITIVE,
        cases=(
            Case(family("vits16r224"), 128), Case(family("vitb16r224"), 48), Case(family("vitl16r224"), 10),
            Case(YOLOV5, 16), Case(BOXES, 1), Case(KERAS, 32),
        ),
    ),
    Hyperparameter(
        "gradient_accumulation_step", "int", "Mini-batches whose gradients are gathered for one update of the weights.",
        1, ("grad_accumulation_step",), POSITIVE, applies=TORCH,
    ),
    Hyperparameter(
        "early_stopping", "bool", "Stop when the primary metric on the validation part no longer improves.",
        True, cases=(Case(KERAS, False),), origin=BOTH,
    ),
    Hyperparameter(
        "early_stopping_patience", "int", "Evaluations without improvement after which training stops.",
        5, (), POSITIVE, needs=(Needs("early_stopping", (True,)),), origin=BOTH,
        note="In detection Azure's service waits for one evaluation more than its page says; the page is followed.",
    ),
    Hyperparameter(
        "early_stopping_delay", "int", "Epochs before improvement is watched for early stopping.",
        5, (), POSITIVE, applies=TORCH, needs=(Needs("early_stopping", (True,)),),
    ),
    Hyperparameter(
        "evaluation_frequency", "int", "Validate every so many epochs, and after the last.", 1, (), POSITIVE,
    ),
    Hyperparameter(
        "checkpoint_frequency", "int", "Keep the weights of every so many epochs, besides those of the best epoch.",
        None, (), POSITIVE,
        note="The page says that only the best epoch is kept, the service keeps every epoch; the page is followed. "
        "What resuming needs is always kept.",
    ),
)  # fmt: skip

_RATE = (
    Hyperparameter(
        "learning_rate", "float", "The learning rate that the schedule starts from.",
        0.01, ("adam_learning_rate",), UNIT, origin=BOTH,
        cases=(
            Case(family("vits16r224", multilabel=True), 0.025), Case(family("vitb16r224", multilabel=True), 0.025),
            Case(family("vitl16r224", multilabel=True), 0.002), Case(family("vits16r224"), 0.0125),
            Case(family("vitb16r224"), 0.0125), Case(family("vitl16r224"), 0.001),
            Case(KERAS, 0.001), Case(MULTILABEL, 0.035), Case(YOLOV5, 0.01), Case(BOXES, 0.005),
        ),
        note="yolov5: the page says 0.01, the service uses 0.0075; the page is followed.",
    ),
    Hyperparameter(
        "learning_rate_scheduler", "choice", "How the learning rate moves: per mini-batch, or per epoch.",
        "warmup_cosine", ("lr_scheduler",), choices=("warmup_cosine", "step", "constant"),
        cases=(Case(KERAS, "constant"),), note="`constant` leaves the learning rate as it is; SageMaker has no other.",
    ),
    Hyperparameter(
        "step_lr_gamma", "float", "What the learning rate is multiplied by at each step of the schedule.",
        0.5, (), UNIT, needs=(Needs("learning_rate_scheduler", ("step",)),),
    ),
    Hyperparameter(
        "step_lr_step_size", "int", "Epochs between the steps of the schedule.",
        5, (), POSITIVE, needs=(Needs("learning_rate_scheduler", ("step",)),),
    ),
    Hyperparameter(
        "warmup_cosine_lr_cycles", "float", "Cosine cycles after the warm-up; 0.5 ends at 0, 0.45 near 2 %.",
        0.45, (), UNIT, needs=(Needs("learning_rate_scheduler", ("warmup_cosine",)),),
    ),
    Hyperparameter(
        "warmup_cosine_lr_warmup_epochs", "int", "Epochs over which the learning rate rises from 0.",
        2, (), NOT_NEGATIVE, needs=(Needs("learning_rate_scheduler", ("warmup_cosine",)),),
        note="The page asks for a positive integer, the service also takes 0 (no warm-up); 0 is taken here.",
    ),
)  # fmt: skip

_ADAM = Needs("optimizer", ("adam", "adamw"))

_OPTIMIZER = (
    Hyperparameter(
        "optimizer", "choice", "What updates the weights.", "sgd", choices=("sgd", "adam", "adamw"), origin=BOTH,
        cases=(Case(KERAS, "adam", choices=("adam", "adamw", "sgd", "nesterov", "rmsprop", "adagrad", "adadelta")),),
        note="SageMaker has no adamw.",
    ),
    Hyperparameter(
        "momentum", "float", "Momentum of the optimiser.", 0.9, (), UNIT, origin=BOTH,
        needs=(Needs("optimizer", ("sgd", "nesterov", "rmsprop")),),
    ),
    Hyperparameter(
        "weight_decay", "float", "Weight decay of matrices and kernels; biases and normalisation have none.",
        1e-4, (), UNIT, cases=(Case(KERAS, 0.0),),
        note="SageMaker has none, so that keras/* models start without: adamw is then adam.",
    ),
    Hyperparameter(
        "nesterov", "bool", "Nesterov's form of momentum; without momentum it is off.",
        True, applies=TORCH, needs=(Needs("optimizer", ("sgd",)),),
    ),
    Hyperparameter(
        "beta1", "float", "Decay of the running mean of gradients.", 0.9, ("beta_1",), UNIT, needs=(_ADAM,),
        origin=BOTH,
    ),
    Hyperparameter(
        "beta2", "float", "Decay of the running mean of squared gradients.", 0.999, ("beta_2",), UNIT, needs=(_ADAM,),
        origin=BOTH,
    ),
    Hyperparameter(
        "ams_gradient", "bool", "The AMSGrad variant of the optimiser.", False, ("amsgrad",), needs=(_ADAM,),
    ),
)  # fmt: skip

_START = (
    Hyperparameter(
        "checkpoint_run_id", "str", "Model folder of an earlier training to start from (incremental training).",
        None, ("checkpoint_dataset_id", "checkpoint_filename"),
        note="In Azure the ID of a run; here the path or URL of the model folder that it left.",
    ),
    Hyperparameter(
        "layers_to_freeze", "int", "How many groups of layers, from the input on, keep their weights.",
        None, (), NOT_NEGATIVE, needs=(Needs("train_only_top_layer", (False,)),),
        note="The page asks for a positive integer, but Azure's own examples sweep over 0 and 2; 0 freezes nothing. "
        "Frozen batch normalisation keeps its statistics too, which in the service still move. Detectors count the "
        "stages of their backbone; none leaves the last three of them trainable, or all when weights are none.",
    ),
    Hyperparameter(
        "random_seed", "int", "Seed of everything random: weights of new layers, order, augmentation.",
        0, ("seed",), Range(0, 2**32 - 1), cases=(Case(KERAS, 123),), origin=BOTH,
        note="Azure has no default and is then not reproducible; here training is always seeded. "
        "123 is SageMaker's, which its page leaves out.",
    ),
    Hyperparameter(
        "number_of_workers", "int", "Processes that read pictures; none: the documented number or the cores there are.",
        None, ("num_workers",), NOT_NEGATIVE, applies=TORCH,
        note="Documented: 8 (4 for detection and segmentation but yolov5), which is also the most that `none` takes.",
    ),
    Hyperparameter(
        "distributed", "bool", "Train on all processes that the launcher started.", True,
        note="keras/* models train on all devices of one machine, in one process.",
    ),
    Hyperparameter(
        "enable_onnx_normalization", "bool", "Put the normalisation of pictures into the ONNX model.", True,
        applies=TORCH,
        note="Documented: false, which is what made exported models of the service answer nonsense. Always true here.",
    ),
    Hyperparameter(
        "advanced_settings", "json", "Azure's switches: streaming, and training augmentations of detection on or off.",
        None, applies=TORCH,
        choices=("stream_image_files", "apply_automl_train_augmentations", "apply_mosaic_for_yolo"),
        note="stream_image_files has no effect here: pictures are read where they are, as they are needed.",
    ),
    Hyperparameter(
        "validation_data_size", "float", "Share of the pictures that is kept for validation, when no set is named.",
        0.2, ("validation_size", "split_ratio", "validation_split_ratio"), Range(0, 1, True, True), applies=ANY,
        step="split", origin=BOTH,
        note="The split is seeded, stratified and shared by all trials; both services draw another one each time.",
    ),
)  # fmt: skip

ROWS = (_MODEL, *_LENGTH, *_RATE, *_OPTIMIZER, *_START)
