"""Settings that contradict each other, or that the others leave without effect."""

from typing import Any

import pytest

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError
from kubesight.hyperparameters import resolve, settle
from kubesight.hyperparameters.search_space import Choice

MC, ML, OD, IS = Task.CLASSIFICATION, Task.MULTILABEL, Task.DETECTION, Task.SEGMENTATION


@pytest.mark.parametrize(
    ("model", "task", "given_", "words"),
    [
        ("resnet50", MC, {"optimizer": "adam", "momentum": 0.8}, ["momentum is 0.8", "is adam", "optimizer to sgd."]),
        ("resnet50", MC, {"optimizer": "adamw", "nesterov": 0}, ["nesterov is false", "optimizer is adamw"]),
        ("resnet50", MC, {"beta1": 0.8}, ["beta1 is 0.8", "optimizer is sgd", "adam or adamw"]),
        ("resnet50", MC, {"ams_gradient": 1}, ["ams_gradient is true", "optimizer is sgd"]),
        ("resnet50", MC, {"step_lr_gamma": 0.1}, ["step_lr_gamma", "learning_rate_scheduler is warmup_cosine"]),
        ("resnet50", MC, {"lr_scheduler": "step", "warmup_cosine_lr_cycles": 0.5}, ["warmup_cosine_lr_cycles"]),
        ("resnet50", MC, {"early_stopping": 0, "early_stopping_patience": 3}, ["early_stopping is false"]),
        ("resnet50", MC, {"train_only_top_layer": 1, "layers_to_freeze": 2}, ["layers_to_freeze is 2"]),
        ("resnet50", MC, {"train_only_top_layer": 1, "mixup_alpha": 0.2}, ["train_only_top_layer is true"]),
        ("resnet50", MC, {"train_only_top_layer": 1, "randaugment_magnitude": 9}, ["feature_views"]),
        ("resnet50", MC, {"feature_views": 3}, ["feature_views is 3", "not frozen"]),
        ("resnet50", MC, {"validation_crop_size": 288}, ["288", "validation_resize_size 256", "at least 288"]),
        ("fasterrcnn_resnet50_fpn", OD, {"min_size": 1400}, ["min_size 1400", "max_size 1333"]),
        ("fasterrcnn_resnet50_fpn", OD, {"tile_overlap_ratio": 0.3}, ["tile_grid_size is not set"]),
        ("keras/VGG16", MC, {"augmentation_random_zoom": 0.3}, ["augmentation is false", "augmentation to true"]),
        ("keras/VGG16", MC, {"optimizer": "adagrad", "momentum": 0.5}, ["sgd, nesterov or rmsprop"]),
        ("keras/VGG16", MC, {"optimizer": "adagrad", "rho": 0.5}, ["adadelta or rmsprop"]),
        ("keras/VGG16", MC, {"optimizer": "sgd", "epsilon": 0.5}, ["adam, adamw, rmsprop, adagrad or adadelta"]),
        ("keras/VGG16", MC, {"optimizer": "rmsprop", "beta_1": 0.5}, ["beta1 is 0.5"]),
        ("keras/VGG16", MC, {"initial_accumulator_value": 0.5}, ["optimizer is adam", "adagrad"]),
        ("keras/VGG16", MC, {"eval_metric": "auc"}, ["binary_mode"]),
        ("yolov5", OD, {"advanced_settings": {"apply_automl_train_augmentations": False}}, ["fasterrcnn"]),
        ("retinanet_resnet50_fpn", OD, {"advanced_settings": {"apply_mosaic_for_yolo": False}}, ["yolov5"]),
        ("resnet50", MC, {"advanced_settings": {"apply_automl_train_augmentations": False}}, ["fcos, ssd or maskrcnn"]),
        ("fasterrcnn_timm/resnet18", OD, {"tile_min_visible_share": 0.2}, ["tile_grid_size is not set"]),
        ("maskrcnn_resnet18_fpn", IS, {"tile_overlap_ratio": 0.2}, ["tile_grid_size is not set"]),
        ("retinanet_resnet50_fpn", OD, {"validation_metric_type": "none", "validation_iou_threshold": 0.7},
         ["validation_metric_type is none", "coco, voc or coco_voc"]),
        ("fasterrcnn_resnet18_fpn", OD, {"validation_metric_type": "none", "log_validation_loss": "Disable"},
         ["which epoch is the best", "log_validation_loss to Enable"]),
        ("torchvision/ssd300_vgg16", OD,
         {"advanced_settings": {"apply_automl_train_augmentations": False}, "horizontal_flip": True},
         ["horizontal_flip is asked for", "apply_automl_train_augmentations of advanced_settings is false"]),
        ("maskrcnn_timm/resnet18", IS,
         {"advanced_settings": {"apply_automl_train_augmentations": False}, "random_crop_expand": 1},
         ["random_crop_expand is asked for", "Remove one"]),
    ],
)  # fmt: skip
def test_settings_without_effect_are_errors(model: str, task: Task, given_: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(HyperparameterError) as error:
        resolve(model, task, given_)
    for word in words:
        assert word in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    "given_",
    [
        {"optimizer": "adam", "momentum": 0.9},
        {"learning_rate_scheduler": "step", "step_lr_gamma": 0.1, "warmup_cosine_lr_cycles": "0.45"},
        {"train_only_top_layer": True, "feature_views": 4, "randaugment_magnitude": 9},
        {"layers_to_freeze": 4, "feature_views": 2},
        {"early_stopping": 0, "early_stopping_patience": 5, "early_stopping_delay": 5},
        {"validation_resize_size": 64, "validation_crop_size": 64, "training_crop_size": 64},
        {"layers_to_freeze": 0, "warmup_cosine_lr_warmup_epochs": 0},
    ],
)
def test_settings_that_go_together(given_: dict[str, Any]) -> None:
    found = resolve("resnet50", MC, given_)
    assert all(float(found[name]) == float(value) for name, value in given_.items() if not isinstance(value, str))


@pytest.mark.parametrize(
    ("name", "only"), [("validation_resize_size", 256), ("validation_crop_size", 224), ("training_crop_size", 224)]
)
def test_seresnext_takes_its_own_sizes_alone(name: str, only: int) -> None:
    assert resolve("seresnext", MC, {name: only})[name] == only
    with pytest.raises(HyperparameterError, match=f"{name} is 192, but must be {only}: seresnext does not take"):
        resolve("seresnext", MC, {name: 192})


@pytest.mark.parametrize("model", ["vits16r224", "vitb16r224", "vitl16r224"])
def test_vits_take_one_crop_size_alone(model: str) -> None:
    assert resolve(model, ML, {"validation_resize_size": 300})["validation_resize_size"] == 300
    with pytest.raises(HyperparameterError, match=f"{model} takes pictures of 224 by 224 pixels"):
        resolve(model, ML, {"validation_crop_size": 192})


def test_switches_without_effect_are_said(caplog: pytest.LogCaptureFixture) -> None:
    resolve("resnet18", Task.CLASSIFICATION, {"enable_onnx_normalization": True})
    assert not caplog.records
    given = {"enable_onnx_normalization": "false", "advanced_settings": '{"stream_image_files": true}'}
    resolve("resnet18", Task.CLASSIFICATION, given)
    assert [record.message.split(" has no effect")[0] for record in caplog.records] == [
        "enable_onnx_normalization: false",
        "stream_image_files",
    ]


@pytest.mark.parametrize(
    ("model", "task"),
    [("fasterrcnn_resnet18_fpn", OD), ("torchvision/fcos_resnet50_fpn", OD), ("maskrcnn_timm/resnet18", IS)],
)
def test_the_one_switch_for_augmentations_turns_both_off(model: str, task: Task) -> None:
    both = ("horizontal_flip", "random_crop_expand")
    assert all(resolve(model, task, {"advanced_settings": {"apply_automl_train_augmentations": True}})[n] for n in both)
    off = {"advanced_settings": '{"apply_automl_train_augmentations": false}'}
    found = resolve(model, task, off)
    assert [found[name] for name in both] == [False, False]
    assert resolve(model, task, found) == found
    assert resolve(model, task, {**off, "random_crop_expand": False}) == found
    alone = resolve(model, task, {"random_crop_expand": False})
    assert [alone[name] for name in both] == [True, False]


def test_a_sweep_that_could_leave_no_best_epoch_is_refused() -> None:
    swept = {"validation_metric_type": Choice(("voc", "none"))}
    settle("fasterrcnn_resnet18_fpn", OD, {}, swept)
    with pytest.raises(HyperparameterError, match="which epoch is the best"):
        settle("fasterrcnn_resnet18_fpn", OD, {"log_validation_loss": "Disable"}, swept)
