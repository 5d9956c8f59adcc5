"""Rows that go beyond both services. All that changes the result is off unless it is asked for."""

from kubesight.hyperparameters.spec import (
    BELOW_ONE,
    CLASSIFICATION,
    KERAS,
    NORMALISING,
    NOT_NEGATIVE,
    POSITIVE,
    TORCH,
    TORCH_CLASSIFICATION,
    UNIT,
    Case,
    Hyperparameter,
    Needs,
    Origin,
    Range,
)

_OURS: tuple[Origin, ...] = ("kubesight",)
# Features of a frozen backbone are computed once, picture by picture, so that pictures cannot be blended.
_WHOLE = (Needs("train_only_top_layer", (False,)),)

ROWS = (
    Hyperparameter(
        "train_only_top_layer", "bool", "Train the classifier alone; the rest keeps its weights.",
        False, ("train_only_on_top_layer", "train_only_on_top"), applies=CLASSIFICATION,
        origin=("sagemaker", "kubesight"),
        note="SageMaker's pages spell it in three ways and say False; its service says True for some models. "
        "The page is followed.",
    ),
    Hyperparameter(
        "label_smoothing", "float", "Share of a label that is spread over all classes.",
        0.0, (), BELOW_ONE, cases=(Case(KERAS, 0.1, range=UNIT),), applies=CLASSIFICATION,
        origin=("sagemaker", "kubesight"),
    ),
    Hyperparameter(
        "mixup_alpha", "float", "Blend pairs of pictures by shares drawn from Beta(alpha, alpha); 0 is off.",
        0.0, (), NOT_NEGATIVE, applies=TORCH_CLASSIFICATION, needs=_WHOLE, origin=_OURS,
    ),
    Hyperparameter(
        "cutmix_alpha", "float", "Paste parts of pictures into others, areas from Beta(alpha, alpha); 0 is off.",
        0.0, (), NOT_NEGATIVE, applies=TORCH_CLASSIFICATION, needs=_WHOLE, origin=_OURS,
    ),
    Hyperparameter(
        "randaugment_magnitude", "int", "Strength of RandAugment's two random changes of a picture; 0 is off.",
        0, (), Range(0, 30), applies=TORCH_CLASSIFICATION, origin=_OURS,
    ),
    Hyperparameter(
        "color_jitter", "bool", "Change brightness, contrast, saturation and hue of half of the training pictures.",
        True, applies=TORCH_CLASSIFICATION, origin=_OURS, note="Azure always does so.",
    ),
    Hyperparameter(
        "horizontal_flip", "bool", "Mirror half of the training pictures.",
        True, applies=NORMALISING, origin=_OURS,
        note="Azure always does so, unless advanced_settings say otherwise for a detector; turn it off for text and "
        "digits.",
    ),
    Hyperparameter(
        "random_resized_crop_min_scale", "float", "Least share of a picture's area that a training crop covers.",
        0.08, (), Range(0, 1, open_low=True), applies=TORCH_CLASSIFICATION, origin=_OURS, note="0.08 is Azure's.",
    ),
    Hyperparameter(
        "feature_views", "int", "Views a picture of which a frozen backbone's features are cached; 1: the plain one.",
        1, (), POSITIVE, applies=CLASSIFICATION, origin=_OURS,
        note="Of keras/* models augmented views are cached, so that more than one needs augmentation. "
        "Augmentation with one view runs the backbone in every epoch, as in SageMaker.",
    ),
    Hyperparameter(
        "image_mean", "triple", "Mean of red, green, blue to normalise pictures with; none: that of the weights.",
        None, (), UNIT, applies=NORMALISING, origin=_OURS,
    ),
    Hyperparameter(
        "image_std", "triple", "Deviation of red, green, blue, likewise; none: that of the weights.",
        None, (), Range(0, open_low=True), applies=NORMALISING, origin=_OURS,
    ),
    Hyperparameter(
        "ema_decay", "float", "Decay of the weights' moving average, which is then validated and shipped; 0 is off.",
        0.0, (), BELOW_ONE, applies=TORCH, origin=_OURS,
    ),
    Hyperparameter(
        "gradient_clip_norm", "float", "Largest norm of the gradients of one update; 0 is off.",
        0.0, (), NOT_NEGATIVE, origin=_OURS,
        note="Azure always clips: each value at 5, ViTs by norm at 1.",
    ),
    Hyperparameter(
        "mixed_precision", "choice", "Half precision where a GPU has it (bf16, else fp16); off on a CPU.",
        "auto", choices=("auto", "off", "bf16", "fp16"), origin=_OURS,
    ),
    Hyperparameter(
        "channels_last", "bool", "Keep tensors channels-last in memory, which convolutions like.",
        True, applies=TORCH, origin=_OURS,
    ),
    Hyperparameter(
        "compile", "bool", "Compile the network with torch.compile.", False, applies=TORCH_CLASSIFICATION, origin=_OURS,
        note="Not for detectors: their shapes change with every picture, and each new one would be compiled again.",
    ),
)  # fmt: skip
