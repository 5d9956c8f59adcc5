"""What keras/* models take: SageMaker's full set as text, its optimisers, and what has no effect."""

from typing import Any

import pytest

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError, ModelError
from kubesight.hyperparameters import TABLE, resolve
from kubesight.hyperparameters.resolve import settle
from kubesight.hyperparameters.search_space import Choice

MC, ML = Task.CLASSIFICATION, Task.MULTILABEL
KERAS = "keras/MobileNetV2"
BIT = "tensorflow-ic-bit-m-r50x1-ilsvrc2012-classification-1"

# SageMaker's matrix, and adamw like adam: what each optimiser uses besides the learning rate.
MATRIX = {
    "adam": {"beta_1", "beta_2", "epsilon"},
    "adamw": {"beta_1", "beta_2", "epsilon"},
    "sgd": {"momentum"},
    "nesterov": {"momentum"},
    "rmsprop": {"momentum", "epsilon", "rho"},
    "adagrad": {"epsilon", "initial_accumulator_value"},
    "adadelta": {"epsilon", "rho"},
}
OTHER_THAN_DEFAULT = {
    "momentum": 0.5, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 0.5, "rho": 0.5, "initial_accumulator_value": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("optimizer", MATRIX)
@pytest.mark.parametrize("name", OTHER_THAN_DEFAULT)
def test_each_optimiser_takes_its_own_settings_and_no_others(optimizer: str, name: str) -> None:
    given = {"optimizer": optimizer, name: "0.5"}
    canonical = {"beta_1": "beta1", "beta_2": "beta2"}.get(name, name)
    if name in MATRIX[optimizer]:
        assert resolve(KERAS, MC, given)[canonical] == 0.5
    else:
        with pytest.raises(HyperparameterError, match=f"{canonical} is 0.5, but it has no effect, because optimizer"):
            resolve(KERAS, MC, given)
        default = TABLE[canonical].default
        assert resolve(KERAS, MC, {"optimizer": optimizer, name: default})[canonical] == default


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        (ML, {"binary_mode": "True"}, ["binary_mode is true", "image_classification_multilabel", "binary_mode to fal"]),
        (MC, {"eval_metric": "auc"}, ["eval_metric is auc", "binary mode alone", "binary_mode to true"]),
        (ML, {"eval_metric": "prc"}, ["eval_metric is prc", "binary mode alone"]),
        (MC, {"feature_views": 3, "train_only_top_layer": True}, ["feature_views is 3", "augmentation is false"]),
        (MC, {"feature_views": 3, "augmentation": True}, ["feature_views is 3", "backbone is not frozen"]),
        (MC, {"layers_to_freeze": 2, "train_only_top_layer": True}, ["layers_to_freeze is 2", "top_layer to false"]),
        (MC, {"allow_substitute": True}, ["allow_substitute is true", "has keras/MobileNetV2 itself"]),
        (MC, {"step_lr_gamma": 0.1}, ["learning_rate_scheduler is constant", "learning_rate_scheduler to step"]),
        (MC, {"warmup_cosine_lr_warmup_epochs": 1}, ["learning_rate_scheduler is constant"]),
        (MC, {"ams_gradient": True, "optimizer": "sgd"}, ["ams_gradient is true", "adam or adamw"]),
        (MC, {"augmentation_random_zoom": 0.3}, ["augmentation is false"]),
        (MC, {"early_stopping_min_delta": 0.3}, ["early_stopping is false"]),
        (MC, {"image_size": 24}, ["image_size is 24", ">= 32", "no smaller pictures"]),
        (MC, {"early_stopping_delay": 3}, ["early_stopping_delay does not apply to keras/MobileNetV2"]),
        (MC, {"number_of_workers": 3}, ["number_of_workers does not apply", "all models but keras/*"]),
        (MC, {"train_only_top": True}, ["unknown hyperparameter 'train_only_top'", "Did you mean train_only_top_lay"]),
        (MC, {"augmentation_random_flipp": 1}, ["Did you mean augmentation_random_flip?"]),
        (MC, {"eps": 1e-6, "epsilon": 1e-6}, ["epsilon is given twice, as eps and as epsilon"]),
        (MC, {"augmentation_random_flip": "sideways"}, ["horizontal_and_vertical, horizontal, vertical, None"]),
        (MC, {"augmentation_random_rotation": "1.5"}, ["augmentation_random_rotation is '1.5'", "in [-1, 1]"]),
    ],
)
def test_what_would_have_no_effect_is_refused(task: Task, given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(HyperparameterError) as error:
        resolve(KERAS, task, given)
    for word in words:
        assert word in str(error.value)
    assert error.value.hint or ", but must be " in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        {"augmentation": True, "train_only_top_layer": True},
        {"augmentation": True, "train_only_top_layer": True, "feature_views": 4},
        {"binary_mode": True, "eval_metric": "prc"},
        {"learning_rate_scheduler": "warmup_cosine", "warmup_cosine_lr_warmup_epochs": 1},
        {"optimizer": "adamw", "weight_decay": 0.05, "ams_gradient": True},
        {"allow_substitute": False, "image_size": 96},
    ],
)
def test_what_goes_together(given: dict[str, Any]) -> None:
    found = resolve(KERAS, MC, given)
    assert {name: found[name] for name in given} == given
    assert resolve(KERAS, MC, found) == found


@pytest.mark.parametrize(
    ("spelling", "text", "name", "value"),
    [
        ("train_only_on_top_layer", "True", "train_only_top_layer", True),
        ("train_only_top_layer", "true", "train_only_top_layer", True),
        ("train_only_on_top", "TRUE", "train_only_top_layer", True),
        ("eps", "1e-6", "epsilon", 1e-6),
        ("batch-size", "16", "training_batch_size", 16),
        ("adam-learning-rate", "0.05", "learning_rate", 0.05),
        ("validation-split-ratio", "0.3", "validation_data_size", 0.3),
        ("augmentation_random_flip", "None", "augmentation_random_flip", "None"),
        ("reinitialize_top_layer", "Auto", "reinitialize_top_layer", "Auto"),
        ("random_seed", "7", "random_seed", 7),
    ],
)
def test_sagemakers_names_and_texts(spelling: str, text: str, name: str, value: Any) -> None:
    augmented = {"augmentation": "True"} if name.startswith("augmentation_") else {}
    found = resolve(KERAS, MC, {**augmented, spelling: text})[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "name",
    ["_tuning_objective_metric", "sagemaker_container_log_level", "sagemaker_program", "sagemaker_submit_directory",
     "sagemaker_estimator_class_name", "sagemaker_estimator_module", "sagemaker_job_name", "sagemaker_region"],
)  # fmt: skip
def test_what_the_service_injects_is_no_setting(name: str) -> None:
    assert resolve(KERAS, MC, {name: "20"}) == resolve(KERAS, MC, {})


@pytest.mark.parametrize("name", [BIT, f"keras/{BIT}", "keras/bit-m-r50x1"])
def test_a_substitute_is_taken_with_leave_and_a_word(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError) as error:
        resolve(name, MC, {"epochs": 1})
    assert str(error.value).startswith(f"model_name: {name} has no equivalent in keras.applications. Set allow_subst")
    for word in ("keras/ResNet50V2", "timm/resnetv2_50x1_bit.goog_in21k_ft_in1k is the same architecture in torch"):
        assert word in str(error.value)
    assert not caplog.records
    assert resolve(name, MC, {"allow_substitute": "True"})["allow_substitute"] is True
    assert [record.message for record in caplog.records] == [
        f"{name} has no equivalent in keras.applications: keras/ResNet50V2 is trained in its place"
    ]


def test_where_torch_has_no_equal_either_the_hint_names_keras_alone() -> None:
    with pytest.raises(ModelError, match=r"keras/InceptionV3, or name that model\.$"):
        resolve("keras/inception-v2", MC, {})


def test_a_sweep_over_augmentation_may_have_views() -> None:
    given = {"feature_views": 3, "train_only_top_layer": True}
    assert settle(KERAS, MC, given, {"augmentation": Choice((True, False))})[0]["feature_views"] == 3


def test_torch_models_take_a_constant_rate_and_keep_their_defaults() -> None:
    found = resolve("resnet18", MC, {"learning_rate_scheduler": "constant"})
    assert found["learning_rate_scheduler"] == "constant"
    defaults = resolve("resnet18", MC, {})
    assert (defaults["learning_rate_scheduler"], defaults["weight_decay"]) == ("warmup_cosine", 1e-4)
    assert "image_size" not in defaults
    assert resolve("yolov5", Task.DETECTION, {})["image_size"] == 640
