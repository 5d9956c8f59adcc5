"""SageMaker's dictionaries as jobs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError, JobError, ModelError
from kubesight.hyperparameters.search_space import Choice, LogUniform, ReverseLogUniform, Uniform
from kubesight.job import load_job, load_sagemaker
from kubesight.job.plan import sweep_of

MODEL = "tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4"
SDK: dict[str, Any] = {
    "model_id": MODEL,
    "hyperparameters": {
        "epochs": "5",
        "batch_size": "32",
        "learning_rate": "0.001",
        "optimizer": "adam",
        "momentum": "0.9",
        "initial_accumulator_value": "0.1",
        "train_only_on_top_layer": "True",
        "validation_split_ratio": "0.3",
        "_tuning_objective_metric": "validation:accuracy",
    },
    "training": "s3://bucket/flowers/",
}
API = {
    "model_id": MODEL,
    "HyperParameterTuningJobName": "tune",
    "HyperParameterTuningJobConfig": {
        "Strategy": "Random",
        "RandomSeed": 3,
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "validation:accuracy"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 20, "MaxParallelTrainingJobs": 4},
        "TrainingJobEarlyStoppingType": "Auto",
        "ParameterRanges": {
            "IntegerParameterRanges": [
                {"Name": "batch_size", "MinValue": "8", "MaxValue": "512", "ScalingType": "Logarithmic"}
            ],
            "ContinuousParameterRanges": [
                {"Name": "learning_rate", "MinValue": "1e-6", "MaxValue": "0.5"},
                {"Name": "momentum", "MinValue": "0.0", "MaxValue": "0.999", "ScalingType": "ReverseLogarithmic"},
                {"Name": "regularizers_l2", "MinValue": "0.0", "MaxValue": "0.999"},
            ],
            "CategoricalParameterRanges": [
                {"Name": "optimizer", "Values": ["sgd", "adam", "rmsprop", "nesterov", "adagrad", "adadelta"]},
                {"Name": "train_only_on_top_layer", "Values": ["True", "False"]},
            ],
        },
    },
    "TrainingJobDefinition": {
        "StaticHyperParameters": {"epochs": "5", "dropout_rate": "0.3"},
        "AlgorithmSpecification": {"TrainingImage": "763104351884.dkr.ecr", "TrainingInputMode": "File"},
        "InputDataConfig": [
            {"ChannelName": "training", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/flowers/"}}},
            {"ChannelName": "validation", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/more/"}}},
            {"ChannelName": "model", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/model/"}}},
        ],
    },
}


def test_the_sdks_dictionary() -> None:
    job = load_sagemaker(SDK)
    assert job.task is Task.CLASSIFICATION
    assert job.model_name == MODEL
    assert job.training_data.path == "s3://bucket/flowers/"
    assert job.kubesight.source.format == "folder"
    assert job.validation_data_size == 0.3
    settings = job.hyperparameters()
    assert settings["number_of_epochs"] == 5
    assert settings["train_only_top_layer"] is True
    assert settings["label_smoothing"] == 0.1
    assert not job.is_sweep
    assert job.notices == []


def test_the_tuning_request() -> None:
    job = load_sagemaker(API)
    (group,) = job.search_groups
    assert group.parameters == {
        "training_batch_size": LogUniform(math.log(8), math.log(512), 1),
        "learning_rate": LogUniform(math.log(1e-6), math.log(0.5)),
        "momentum": ReverseLogUniform(0, 0.999),
        "regularizers_l2": Uniform(0, 0.999),
        "optimizer": Choice(("sgd", "adam", "rmsprop", "nesterov", "adagrad", "adadelta")),
        "train_only_top_layer": Choice((True, False)),
    }
    assert job.given_hyperparameters == {
        "number_of_epochs": 5, "dropout_rate": 0.3, "checkpoint_run_id": "s3://bucket/model/",
    }  # fmt: skip
    assert (job.limits.max_trials, job.limits.max_concurrent_trials) == (20, 4)
    assert (job.sweep.sampling_algorithm.type, job.sweep.sampling_algorithm.seed) == ("random", 3)
    assert job.sweep.early_termination is not None
    assert job.sweep.early_termination.type == "median_stopping"
    assert job.validation_data is not None
    assert job.validation_data.path == "s3://bucket/more/"
    assert [notice.split(" has no effect")[0] for notice in job.notices] == [
        "the space becomes 6 groups of equal chance, in which settings stand only where they have an effect.",
        "AlgorithmSpecification",
    ]  # fmt: skip
    assert (job.name, sweep_of(job).name) == ("tune", "tune")


def test_the_training_request() -> None:
    channel = {"ChannelName": "training", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/flowers/"}}}
    job = load_sagemaker(
        {"model_id": MODEL, "HyperParameters": {"epochs": "2"}, "InputDataConfig": [channel], "RoleArn": "arn"}
    )
    assert job.given_hyperparameters == {"number_of_epochs": 2}
    assert job.training_data.path == "s3://bucket/flowers/"
    assert job.notices == ["RoleArn has no effect here: it configures SageMaker's service."]


def test_the_sdks_ranges_take_the_place_of_static_values() -> None:
    ranges = {"learning_rate": {"MinValue": 0.01, "MaxValue": 0.1}, "optimizer": ["adam", "sgd"]}
    job = load_sagemaker({**SDK, "hyperparameter_ranges": ranges, "max_jobs": 6, "strategy": "Bayesian"})
    (group,) = job.search_groups
    assert group.parameters == {"learning_rate": Uniform(0.01, 0.1), "optimizer": Choice(("adam", "sgd"))}
    assert job.sweep.sampling_algorithm.type == "bayesian"
    assert "learning_rate" not in job.given_hyperparameters
    assert job.notices == [
        "learning_rate varies, so that its static value '0.001' is not used.",
        "optimizer varies, so that its static value 'adam' is not used.",
    ]


def test_a_file_of_it_loads_with_lines_and_relative_paths(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({**SDK, "training": "flowers", "kubesight": {"split": {"seed": 4}}}, indent=2))
    job = load_job(path)
    assert job.training_data.path == str(tmp_path / "flowers")
    assert job.kubesight.split.seed == 4
    text = path.read_text().replace('"epochs"', '"epoch"')
    path.write_text(text)
    line = 1 + text[: text.index('"epoch"')].count("\n")
    with pytest.raises(HyperparameterError, match=rf"job\.json, line {line}: unknown hyperparameter 'epoch'") as error:
        load_job(path)
    assert str(path) in str(error.value)


def test_a_range_in_a_file_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    text = json.dumps(API, indent=1).replace('"MaxValue": "0.5"', '"MaxValue": "1.5"')
    path.write_text(text)
    line = 1 + text[: text.index('"Name": "learning_rate"')].count("\n") - 1
    with pytest.raises(HyperparameterError, match=rf"job\.json, line {line}: learning_rate is 1\.5, but must be"):
        load_job(path)


@pytest.mark.parametrize("name", ["keras/VGG16", "timm/resnet18", "resnet18", f"keras/{MODEL}"])
def test_other_models_keep_their_names(name: str) -> None:
    assert load_sagemaker({"model_id": name, "hyperparameters": {}, "training": "s3://b/x"}).model_name == name


def test_short_names_of_its_models() -> None:
    short = {"hyperparameters": {"model_id": "mobilenet-v2-035-96"}, "training": "s3://b/x"}
    assert load_sagemaker(short).model_name == "keras/mobilenet-v2-035-96"
    with pytest.raises(JobError, match=r"the model is named twice, keras/VGG16 and mobilenet-v2-035-96"):
        load_sagemaker({**short, "model_id": "keras/VGG16"})
    with pytest.raises(ModelError, match=r"unknown model name 'tensorflow-ic-imagenet-mobilenet-v9.*Did you mean"):
        load_sagemaker({**short, "hyperparameters": {}, "model_id": "tensorflow-ic-imagenet-mobilenet-v9-100-224"})


PUBLISHED = {
    "train_only_top_layer": "True", "epochs": "5", "batch_size": "32", "optimizer": "adam", "learning_rate": "0.001",
    "beta_1": "0.9", "beta_2": "0.999", "momentum": "0.9", "epsilon": "1e-07", "rho": "0.95",
    "initial_accumulator_value": "0.1", "reinitialize_top_layer": "Auto", "early_stopping": "False",
    "early_stopping_patience": "5", "early_stopping_min_delta": "0.0", "dropout_rate": "0.2",
    "regularizers_l2": "0.0001", "label_smoothing": "0.1", "image_resize_interpolation": "bilinear",
    "augmentation": "False", "augmentation_random_flip": "horizontal_and_vertical",
    "augmentation_random_rotation": "0.2", "augmentation_random_zoom": "0.1", "binary_mode": "False",
    "eval_metric": "accuracy", "validation_split_ratio": "0.2", "random_seed": "123",
}  # fmt: skip
"""What `hyperparameters.retrieve_default` gives for version 4.0.6 of a model: all 27, as text."""


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "nesterov", "rmsprop", "adagrad", "adadelta"])
def test_the_whole_published_set_is_a_job(optimizer: str) -> None:
    assert len(PUBLISHED) == 27
    injected = {"sagemaker_program": "transfer_learning.py", "sagemaker_container_log_level": "20",
                "sagemaker_submit_directory": "/opt/ml/input/data/code/sourcedir.tar.gz"}  # fmt: skip
    given = {**PUBLISHED, **injected, "optimizer": optimizer}
    job = load_sagemaker({**SDK, "hyperparameters": given, "validation": "s3://b/v/", "test": "s3://b/t/"})
    found = job.hyperparameters()
    assert (found["optimizer"], found["number_of_epochs"], found["initial_accumulator_value"]) == (optimizer, 5, 0.1)
    assert (found["train_only_top_layer"], found["epsilon"], found["random_seed"]) == (True, 1e-7, 123)
    assert (job.primary_metric, job.validation_data_size) == ("accuracy", 0.2)
    assert job.notices == []


def test_eval_metric_is_what_the_job_is_judged_by() -> None:
    given = {"hyperparameters": {"binary_mode": "True", "eval_metric": "auc"}}
    assert load_sagemaker({**SDK, **given}).primary_metric == "auc"
    ranges = {"hyperparameter_ranges": {"dropout_rate": [0.1, 0.2]}, "max_jobs": 2}
    sweep = sweep_of(load_sagemaker({**SDK, **given, **ranges}))
    assert (sweep.metric, sweep.fixed["eval_metric"]) == ("auc", "auc")
    with pytest.raises(HyperparameterError, match="eval_metric is auc, which is computed in binary mode alone"):
        load_sagemaker({**SDK, "hyperparameters": {"eval_metric": "auc"}})
    with pytest.raises(HyperparameterError, match="eval_metric cannot vary: trials are compared by it"):
        load_sagemaker({**SDK, **given, "hyperparameter_ranges": {"eval_metric": ["auc", "prc"]}, "max_jobs": 2})
    varying = {"hyperparameter_ranges": {"binary_mode": ["True", "False"]}, "max_jobs": 2}
    with pytest.raises(HyperparameterError, match="eval_metric is auc, which is computed in binary mode alone"):
        load_sagemaker({**SDK, **given, **varying})


def test_a_model_that_keras_lacks_needs_leave_to_be_replaced() -> None:
    model = "tensorflow-ic-bit-m-r50x1-ilsvrc2012-classification-1"
    value = {"model_id": model, "training": "s3://b/x", "hyperparameters": {"epochs": "1"}}
    with pytest.raises(ModelError) as error:
        load_sagemaker(value)
    for words in (f"{model} has no equivalent in keras.applications", "allow_substitute", "keras/ResNet50V2",
                  "timm/resnetv2_50x1_bit.goog_in21k_ft_in1k"):  # fmt: skip
        assert words in str(error.value)
    job = load_sagemaker({**value, "hyperparameters": {"allow_substitute": "True"}})
    assert job.notices == [
        f"{model} has no equivalent in keras.applications: keras/ResNet50V2 is trained in its place."
    ]
    with pytest.raises(HyperparameterError, match="allow_substitute is true, but it has no effect"):
        load_sagemaker({**SDK, "hyperparameters": {"allow_substitute": "True"}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_id": None}, "model_id is missing"),
        ({"training": None}, "no training channel"),
        ({"hyperparameter": {}}, "unknown key 'hyperparameter'"),
        ({"hyperparameters": 3}, "hyperparameters is 3, but must be a mapping"),
        ({"objective_metric_name": "train:loss"}, "the objective Maximize train:loss is not one"),
        ({"objective_type": "Minimize"}, "the objective Minimize None is not one"),
        ({"hyperparameter_ranges": {"dropout_rate": {"MinValue": 0}}}, "dropout_rate needs MinValue and MaxValue"),
        (
            {"hyperparameter_ranges": {"dropout_rate": {"MinValue": "x", "MaxValue": 1}}},
            "an end of dropout_rate is 'x'",
        ),
        (
            {"hyperparameter_ranges": {"dropout_rate": {"MinValue": 0, "MaxValue": 1, "ScalingType": "Logarithmic"}}},
            "dropout_rate from 0 to 1 cannot be scaled as Logarithmic",
        ),
        ({"hyperparameter_ranges": {"dropout_rate": [0.1]}, "strategy": "Magic"}, "the strategy is 'Magic', but"),
        ({"hyperparameter_ranges": {"dropout_rate": [0.1]}, "early_stopping_type": "On"}, "must be Off or Auto"),
        ({"hyperparameter_ranges": {"epoch": [1]}}, "unknown hyperparameter 'epoch'. Did you mean"),
        ({"kubesight": 3}, "kubesight is 3, but must be a mapping"),
        ({"InputDataConfig": 3}, "a channel needs ChannelName and DataSource"),
        ({"hyperparameter_ranges": {"CategoricalParameterRanges": [3]}}, "a range needs a Name"),
        ({"InputDataConfig": [{"ChannelName": "training"}]}, "a channel needs ChannelName and DataSource"),
        (
            {"InputDataConfig": [{"ChannelName": "x", "DataSource": {"S3DataSource": {"S3Uri": "s3://b"}}}]},
            "unknown channel 'x'",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((JobError, HyperparameterError)) as error:
        load_sagemaker({**SDK, **changes})
    assert message in str(error.value)
