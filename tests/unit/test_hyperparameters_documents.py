"""The table against the published documents, whose values are written out here a second time, by hand."""

import dataclasses
from typing import Any

import pytest

from kubesight.dataset import Task
from kubesight.hyperparameters import TABLE, resolve, rows_for
from kubesight.hyperparameters.table import _indexed
from kubesight.models.names import MODELS, find_model

MC, ML, OD, IS = Task.CLASSIFICATION, Task.MULTILABEL, Task.DETECTION, Task.SEGMENTATION
KERAS = "keras/MobileNetV2"

# Azure, "Model agnostic hyperparameters": name, first version's name, default for resnet50 multi-class.
AGNOSTIC = [
    ("number_of_epochs", "number_of_epochs", 15),
    ("training_batch_size", "training_batch_size", 78),
    ("validation_batch_size", "validation_batch_size", 78),
    ("gradient_accumulation_step", "grad_accumulation_step", 1),
    ("early_stopping", "early_stopping", True),
    ("early_stopping_patience", "early_stopping_patience", 5),
    ("early_stopping_delay", "early_stopping_delay", 5),
    ("learning_rate", "learning_rate", 0.01),
    ("learning_rate_scheduler", "lr_scheduler", "warmup_cosine"),
    ("step_lr_gamma", "step_lr_gamma", 0.5),
    ("step_lr_step_size", "step_lr_step_size", 5),
    ("warmup_cosine_lr_cycles", "warmup_cosine_lr_cycles", 0.45),
    ("warmup_cosine_lr_warmup_epochs", "warmup_cosine_lr_warmup_epochs", 2),
    ("optimizer", "optimizer", "sgd"),
    ("momentum", "momentum", 0.9),
    ("weight_decay", "weight_decay", 1e-4),
    ("nesterov", "nesterov", True),
    ("beta1", "beta1", 0.9),
    ("beta2", "beta2", 0.999),
    ("ams_gradient", "amsgrad", False),
    ("evaluation_frequency", "evaluation_frequency", 1),
    ("checkpoint_frequency", "checkpoint_frequency", None),
    ("checkpoint_run_id", "checkpoint_filename", None),
    ("layers_to_freeze", "layers_to_freeze", None),
    ("validation_data_size", "split_ratio", 0.2),
    ("number_of_workers", "num_workers", None),
    ("random_seed", "seed", 0),
    ("distributed", "distributed", True),
    ("enable_onnx_normalization", "enable_onnx_normalization", True),
    ("advanced_settings", "advanced_settings", None),
]
CLASSIFICATION = [
    ("weighted_loss", "weighted_loss", 0),
    ("validation_resize_size", "valid_resize_size", 256),
    ("validation_crop_size", "valid_crop_size", 224),
    ("training_crop_size", "train_crop_size", 224),
]
# Defaults for fasterrcnn_resnet50_fpn.
DETECTION = [
    ("validation_metric_type", "validation_metric_type", "voc"),
    ("validation_iou_threshold", "validation_iou_threshold", 0.5),
    ("min_size", "min_size", 600),
    ("max_size", "max_size", 1333),
    ("box_score_threshold", "box_score_thresh", 0.3),
    ("nms_iou_threshold", "box_nms_thresh", 0.5),
    ("box_detections_per_image", "box_detections_per_img", 100),
    ("tile_grid_size", "tile_grid_size", None),
    ("tile_overlap_ratio", "tile_overlap_ratio", 0.25),
    ("tile_predictions_nms_threshold", "tile_predictions_nms_thresh", 0.25),
    ("log_training_metrics", "log_training_metrics", "Disable"),
    ("log_validation_loss", "log_validation_loss", "Enable"),
]
SEGMENTATION = [
    ("mask_pixel_score_threshold", "mask_pixel_score_threshold", 0.5),
    ("max_number_of_polygon_points", "max_number_of_polygon_points", 100),
    ("export_as_image", "export_as_image", False),
    ("image_type", "image_type", "jpg"),
]
YOLOV5 = [
    ("validation_metric_type", "validation_metric_type", "voc"),
    ("validation_iou_threshold", "validation_iou_threshold", 0.5),
    ("image_size", "img_size", 640),
    ("model_size", "model_size", "medium"),
    ("multi_scale", "multi_scale", False),
    ("box_score_threshold", "box_score_thresh", 0.1),
    ("nms_iou_threshold", "box_iou_thresh", 0.5),
    ("tile_grid_size", "tile_grid_size", None),
    ("tile_overlap_ratio", "tile_overlap_ratio", 0.25),
    ("tile_predictions_nms_threshold", "tile_predictions_nms_thresh", 0.25),
]
# SageMaker, the 27 of its page and its service: name there, our name, default of the page (of the service where the
# page is silent).
SAGEMAKER = [
    ("augmentation", "augmentation", False),
    ("augmentation_random_flip", "augmentation_random_flip", "horizontal_and_vertical"),
    ("augmentation_random_rotation", "augmentation_random_rotation", 0.2),
    ("augmentation_random_zoom", "augmentation_random_zoom", 0.1),
    ("batch_size", "training_batch_size", 32),
    ("beta_1", "beta1", 0.9),
    ("beta_2", "beta2", 0.999),
    ("binary_mode", "binary_mode", False),
    ("dropout_rate", "dropout_rate", 0.2),
    ("early_stopping", "early_stopping", False),
    ("early_stopping_min_delta", "early_stopping_min_delta", 0.0),
    ("early_stopping_patience", "early_stopping_patience", 5),
    ("epochs", "number_of_epochs", 3),
    ("epsilon", "epsilon", 1e-7),
    ("eval_metric", "eval_metric", "accuracy"),
    ("image_resize_interpolation", "image_resize_interpolation", "bilinear"),
    ("initial_accumulator_value", "initial_accumulator_value", 0.0001),
    ("label_smoothing", "label_smoothing", 0.1),
    ("learning_rate", "learning_rate", 0.001),
    ("momentum", "momentum", 0.9),
    ("optimizer", "optimizer", "adam"),
    ("regularizers_l2", "regularizers_l2", 0.0001),
    ("reinitialize_top_layer", "reinitialize_top_layer", "Auto"),
    ("rho", "rho", 0.95),
    ("train_only_top_layer", "train_only_top_layer", False),
    ("validation_split_ratio", "validation_data_size", 0.2),
    ("random_seed", "random_seed", 123),
]
# What keras/* models have beyond SageMaker's service. All that changes the result is off.
OURS_OF_KERAS = {
    "allow_substitute": False, "image_size": None, "weighted_loss": 0, "learning_rate_scheduler": "constant",
    "step_lr_gamma": 0.5, "step_lr_step_size": 5, "warmup_cosine_lr_cycles": 0.45, "warmup_cosine_lr_warmup_epochs": 2,
    "weight_decay": 0.0, "gradient_clip_norm": 0.0, "mixed_precision": "auto", "layers_to_freeze": None,
    "validation_batch_size": 32, "evaluation_frequency": 1, "checkpoint_frequency": None, "ams_gradient": False,
    "distributed": True, "feature_views": 1, "checkpoint_run_id": None,
}  # fmt: skip
OURS = {
    "label_smoothing": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "randaugment_magnitude": 0, "ema_decay": 0.0,
    "gradient_clip_norm": 0.0, "mixed_precision": "auto", "channels_last": True, "compile": False, "image_mean": None,
    "image_std": None, "feature_views": 1, "color_jitter": True, "horizontal_flip": True,
    "random_resized_crop_min_scale": 0.08, "train_only_top_layer": False,
}  # fmt: skip
OURS_OF_DETECTORS = {
    "horizontal_flip": True, "random_crop_expand": True, "tile_min_visible_share": 0.5, "image_mean": None,
    "image_std": None, "ema_decay": 0.0, "gradient_clip_norm": 0.0, "mixed_precision": "auto", "channels_last": True,
}  # fmt: skip


def defaults(model: str, task: Task) -> dict[str, Any]:
    return resolve(model, task, {})


def test_every_documented_name_has_a_row_and_no_other_exists() -> None:
    documented = {name for part in (AGNOSTIC, CLASSIFICATION, DETECTION, SEGMENTATION, YOLOV5) for name, _, _ in part}
    documented |= {ours for _, ours, _ in SAGEMAKER} | OURS.keys() | OURS_OF_DETECTORS.keys() | OURS_OF_KERAS.keys()
    documented |= {"model_name"}
    assert set(TABLE) == documented
    assert len(SAGEMAKER) == 27


@pytest.mark.parametrize(("name", "first_name", "default"), AGNOSTIC + CLASSIFICATION)
def test_classification_defaults_and_names(name: str, first_name: str, default: Any) -> None:
    assert defaults("resnet50", MC)[name] == default
    assert type(defaults("resnet50", MC)[name]) is type(default)
    assert first_name in (TABLE[name].name, *TABLE[name].aliases)


@pytest.mark.parametrize(("name", "first_name", "default"), DETECTION)
def test_detection_defaults_and_names(name: str, first_name: str, default: Any) -> None:
    assert defaults("fasterrcnn_resnet50_fpn", OD)[name] == default
    assert first_name in (TABLE[name].name, *TABLE[name].aliases)


@pytest.mark.parametrize(("name", "first_name", "default"), YOLOV5)
def test_yolov5_defaults_and_names(name: str, first_name: str, default: Any) -> None:
    assert defaults("yolov5", OD)[name] == default
    assert first_name in (TABLE[name].name, *TABLE[name].aliases)


@pytest.mark.parametrize(("name", "first_name", "default"), SEGMENTATION)
def test_segmentation_defaults(name: str, first_name: str, default: Any) -> None:
    assert defaults("maskrcnn_resnet50_fpn", IS)[name] == default


@pytest.mark.parametrize(("theirs", "ours", "default"), SAGEMAKER)
def test_sagemaker_defaults_and_names(theirs: str, ours: str, default: Any) -> None:
    assert defaults(KERAS, MC)[ours] == default
    assert theirs in (ours, *TABLE[ours].aliases)


@pytest.mark.parametrize("task", [MC, ML])
def test_keras_models_have_sagemakers_settings_and_ours(task: Task) -> None:
    expected = {ours: default for _, ours, default in SAGEMAKER} | OURS_OF_KERAS | {"model_name": KERAS}
    assert defaults(KERAS, task) == expected


@pytest.mark.parametrize("name", OURS)
def test_ours_are_off(name: str) -> None:
    assert defaults("timm/efficientnet_lite0", MC)[name] == OURS[name]


@pytest.mark.parametrize(("name", "default"), OURS_OF_DETECTORS.items())
def test_ours_of_detectors(name: str, default: Any) -> None:
    for model in ("retinanet_resnet50_fpn", "torchvision/ssd300_vgg16", "torchvision/fcos_resnet50_fpn"):
        assert defaults(model, OD)[name] == default
    assert defaults("maskrcnn_timm/efficientnet_lite0", IS)[name] == default


def test_segmentation_has_the_rows_of_detection_and_its_own() -> None:
    boxes = defaults("fasterrcnn_resnet50_fpn", OD)
    masks = defaults("maskrcnn_resnet50_fpn", IS)
    own = {name for name, _, _ in SEGMENTATION}
    assert masks.keys() - boxes.keys() == own
    assert not boxes.keys() - masks.keys()


@pytest.mark.parametrize(
    "model",
    ["fasterrcnn_timm/resnet18", "torchvision/retinanet_resnet50_fpn_v2", "torchvision/fcos_resnet50_fpn"],
)
def test_all_detectors_that_resize_have_the_same_rows(model: str) -> None:
    assert defaults(model, OD) == defaults("fasterrcnn_resnet50_fpn", OD) | {"model_name": model}


def test_an_ssd_has_no_sizes_and_the_low_resolution_detector_its_own() -> None:
    common = defaults("fasterrcnn_resnet50_fpn", OD)
    assert common.keys() - defaults("torchvision/ssdlite320_mobilenet_v3_large", OD).keys() == {"min_size", "max_size"}
    low = defaults("torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", OD)
    assert (low["min_size"], low["max_size"]) == (320, 640)
    assert defaults("torchvision/fasterrcnn_mobilenet_v3_large_fpn", OD)["min_size"] == 600


@pytest.mark.parametrize(
    ("model", "task", "epochs", "training_batch", "validation_batch", "rate"),
    [
        ("seresnext", MC, 15, 78, 78, 0.01),
        ("seresnext", ML, 15, 78, 78, 0.035),
        ("mobilenetv2", ML, 15, 78, 78, 0.035),
        ("timm/convnext_tiny", ML, 15, 78, 78, 0.035),
        ("vits16r224", MC, 15, 128, 128, 0.0125),
        ("vits16r224", ML, 15, 128, 128, 0.025),
        ("vitb16r224", MC, 15, 48, 48, 0.0125),
        ("vitb16r224", ML, 15, 48, 48, 0.025),
        ("vitl16r224", MC, 15, 10, 10, 0.001),
        ("vitl16r224", ML, 15, 10, 10, 0.002),
        ("fasterrcnn_resnet18_fpn", OD, 15, 2, 1, 0.005),
        ("retinanet_resnet50_fpn", OD, 15, 2, 1, 0.005),
        ("yolov5", OD, 30, 16, 16, 0.01),
        ("maskrcnn_resnet152_fpn", IS, 15, 2, 1, 0.005),
    ],
)
def test_defaults_that_differ_by_model_and_task(
    model: str, task: Task, epochs: int, training_batch: int, validation_batch: int, rate: float
) -> None:
    found = defaults(model, task)
    assert found["number_of_epochs"] == epochs
    assert found["training_batch_size"] == training_batch
    assert found["validation_batch_size"] == validation_batch
    assert found["learning_rate"] == rate
    assert found["model_name"] == model


@pytest.mark.parametrize(
    ("name", "range_or_choices"),
    [
        ("learning_rate", "a number in [0, 1]"),
        ("tile_overlap_ratio", "a number in [0, 1)"),
        ("validation_iou_threshold", "a number in [0.1, 1]"),
        ("validation_data_size", "a number in (0, 1)"),
        ("number_of_epochs", "an integer >= 1"),
        ("augmentation_random_rotation", "a number in [-1, 1]"),
        ("random_resized_crop_min_scale", "a number in (0, 1]"),
        ("optimizer", "one of sgd, adam, adamw"),
        ("model_size", "one of small, medium, large, extra_large"),
        ("validation_metric_type", "one of none, coco, voc, coco_voc"),
        ("tile_min_visible_share", "a number in (0, 1]"),
    ],
)
def test_ranges(name: str, range_or_choices: str) -> None:
    assert TABLE[name].allowed() == range_or_choices


@pytest.mark.parametrize("spelling", ["train_only_on_top_layer", "train-only-on-top", "train_only_top_layer"])
def test_sagemakers_three_spellings(spelling: str) -> None:
    assert resolve(KERAS, MC, {spelling: "True"})["train_only_top_layer"] is True


def test_sagemakers_older_and_tuning_names() -> None:
    given = {"adam-learning-rate": "0.05", "batch-size": "4", "eps": "1e-6", "epochs": "7"}
    found = resolve(KERAS, MC, given)
    assert found["learning_rate"] == 0.05
    assert found["training_batch_size"] == 4
    assert found["epsilon"] == 1e-6
    assert found["number_of_epochs"] == 7


def test_the_full_set_that_sagemaker_retrieves_loads_unchanged() -> None:
    """`hyperparameters.retrieve_default` states every default, those of other optimisers too."""
    retrieved = {name: str(default) for name, _, default in SAGEMAKER}
    retrieved |= {"initial_accumulator_value": "0.1", "train_only_top_layer": "True", "epochs": "5"}
    retrieved |= {"sagemaker_program": "transfer_learning.py", "_tuning_objective_metric": "validation:accuracy"}
    found = resolve(KERAS, MC, retrieved)
    assert found["optimizer"] == "adam"
    assert found["number_of_epochs"] == 5


def test_every_model_has_consistent_rows() -> None:
    others = ("torchvision/ssd300_vgg16", "torchvision/fcos_resnet50_fpn", "maskrcnn_timm/resnet18")
    for spec in (*MODELS, *others):
        for task in find_model(spec).tasks:
            for row in rows_for(spec, task):
                if row.default is not None and row.name != "model_name":
                    assert resolve(spec, task, {row.name: row.default})[row.name] == row.default
                assert row.help.endswith(".")
                assert not row.cases


def test_two_rows_cannot_claim_a_name() -> None:
    row = TABLE["optimizer"]
    with pytest.raises(ValueError, match="two hyperparameters are called eps"):
        _indexed([TABLE["epsilon"], dataclasses.replace(row, name="eps")])
