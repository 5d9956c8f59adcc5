"""The step before all others: what it refuses, and the image that it chooses."""

import json
from typing import Any

import pytest

from kubesight.components.check_settings import check_settings
from kubesight.errors import HyperparameterError, JobError, KubesightError, ModelError

TORCH, KERAS = "registry.example.org/torch:1", "registry.example.org/tensorflow:1"


def check(**form: Any) -> tuple[str, str]:
    return tuple(check_settings.python_func(**({"image": TORCH, "keras_image": KERAS} | form)))


def sweep(*models: str, **changes: Any) -> str:
    space = [{"model_name": f"choice({', '.join(models)})", "learning_rate": "uniform(0.001, 0.1)"}]
    job = {"task": "image_classification", "search_space": space, "limits": {"max_trials": 4}}
    return json.dumps(job | changes)


@pytest.mark.parametrize(
    ("model_name", "expected"),
    [
        ("resnet18", ("torch", TORCH)),
        ("timm/resnet10t", ("torch", TORCH)),
        ("fasterrcnn_resnet50_fpn", ("torch", TORCH)),
        ("keras/MobileNetV2", ("tensorflow", KERAS)),
        ("keras/mobilenet-v2-035-96", ("tensorflow", KERAS)),
        ("tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4", ("tensorflow", KERAS)),
    ],
)
def test_the_name_of_a_model_chooses_the_image(model_name: str, expected: tuple[str, str]) -> None:
    assert check(model_name=model_name) == expected


@pytest.mark.parametrize(
    ("form", "kind", "message"),
    [
        ({"model_name": "resnet81"}, ModelError, "unknown model name 'resnet81'. Did you mean resnet"),
        ({"model_name": "keras/MobilNetV2"}, ModelError, "Did you mean keras/MobileNetV2"),
        ({"hyperparameters": '{"learning_rat": 0.1}'}, HyperparameterError, "Did you mean learning_rate"),
        ({"hyperparameters": '{"learning_rate": -1}'}, HyperparameterError, "learning_rate is -1"),
        ({"hyperparameters": '{"dropout_rate": 0.1}'}, HyperparameterError, "dropout_rate does not apply to resnet18"),
        ({"hyperparameters": '{"validation_split_ratio": 0.1}'}, HyperparameterError, "no effect on a training"),
        ({"hyperparameters": "{"}, JobError, "hyperparameters: not JSON: .* Write it like"),
        ({"hyperparameters": "[1]"}, JobError, r"\[1\] is no JSON object"),
        ({"task": "image_classifcation"}, JobError, "'image_classifcation' is no task. Choose one of image_class"),
        ({"task": "image_object_detection"}, ModelError, "resnet18 does .*image_object_detection"),
        ({"primary_metric": "acuracy"}, ModelError, "'acuracy' does not judge"),
        ({"primary_metric": "iou", "task": "image_classification"}, ModelError, "'iou' does not judge"),
    ],
)
def test_a_training_that_would_be_refused(form: dict[str, str], kind: type[KubesightError], message: str) -> None:
    with pytest.raises(kind, match=message):
        check(**({"model_name": "resnet18"} | form))


def test_what_one_of_the_models_tasks_takes_passes_until_the_data_say_the_task() -> None:
    assert check(model_name="resnet18", primary_metric="iou") == ("torch", TORCH)
    assert check(model_name="resnet18", primary_metric="accuracy") == ("torch", TORCH)


def test_a_sweep_has_the_image_of_its_models() -> None:
    assert check(job=sweep("resnet18", "resnet34")) == ("torch", TORCH)
    assert check(job=sweep("keras/MobileNetV2", "keras/MobileNet")) == ("tensorflow", KERAS)


def test_a_sweep_over_both_frameworks_needs_one_image_that_has_both() -> None:
    job = sweep("resnet18", "keras/MobileNetV2")
    with pytest.raises(JobError, match=r"search_space: .* of torch and of TensorFlow, .* Make it two sweeps; or name"):
        check(job=job)
    assert check(job=job, image="both:1", keras_image="both:1") == ("torch", "both:1")
    assert check(job=job, engine="local")[1] == TORCH


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ("nothing", "the job of a sweep is a JSON object"),
        (sweep("resnet18", sweep={"sampling_algorithm": "sobel"}), "sobel"),
        (sweep("resnet81"), "unknown model name 'resnet81'"),
        ('{"task": "image_classification", "training_parameters": {"model_name": "resnet18"}}', "one training"),
    ],
)
def test_a_sweep_that_would_be_refused(job: str, message: str) -> None:
    with pytest.raises(KubesightError, match=message):
        check(job=job)
