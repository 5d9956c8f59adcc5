"""Job files that are right: Azure's own, with and without our additions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubesight.dataset import Task
from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import Choice, Uniform
from kubesight.job import Job, load_job

# The shape of Azure's own example for multi-class classification, with a name of ours for the data.
AZURE = """\
$schema: https://azuremlsdk2.blob.core.windows.net/preview/0.0.1/autoMLImageClassificationJob.schema.json
type: automl
experiment_name: image-classification
description: A multi-class image classification job on fridge items
compute: azureml:gpu-cluster
task: image_classification
log_verbosity: debug
primary_metric: accuracy
target_column_name: label
training_data:
  path: data/training-mltable-folder
  type: mltable
validation_data:
  path: data/validation-mltable-folder
  type: mltable
limits:
  timeout_minutes: 60
  max_trials: 10
  max_concurrent_trials: 2
training_parameters:
  early_stopping: True
  evaluation_frequency: 1
sweep:
  sampling_algorithm: random
  early_termination:
    type: bandit
    evaluation_interval: 2
    slack_factor: 0.2
    delay_evaluation: 6
search_space:
  - model_name:
      type: choice
      values: [vitb16r224, vits16r224]
    learning_rate:
      type: uniform
      min_value: 0.001
      max_value: 0.01
    number_of_epochs:
      type: choice
      values: [15, 30]
  - model_name:
      type: choice
      values: [seresnext, resnet50]
    learning_rate: uniform(0.001,0.01)
    layers_to_freeze: choice(0,2)
"""
SMALL = "task: image_classification\ntraining_data: {path: data}\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write_and_load(text: str, name: str = "job.yaml") -> Job:
        Path(name).write_text(text)
        return load_job(name)

    return write_and_load


def test_azures_example_loads_unchanged(write, tmp_path: Path) -> None:
    job = write(AZURE)
    assert job.task is Task.CLASSIFICATION
    assert job.training_data.path == str(tmp_path / "data/training-mltable-folder")
    assert job.validation_data is not None
    assert job.validation_data.path == str(tmp_path / "data/validation-mltable-folder")
    assert job.limits.max_trials == 10
    assert job.limits.max_concurrent_trials == 2
    assert job.limits.timeout_minutes == 60
    assert job.sweep.sampling_algorithm.type == "random"
    policy = job.sweep.early_termination
    assert policy is not None
    assert policy.model_dump() == {
        "type": "bandit", "evaluation_interval": 2, "delay_evaluation": 6, "slack_factor": 0.2, "slack_amount": None,
    }  # fmt: skip
    assert job.is_sweep
    first, second = job.search_groups
    assert first.model_names == ("vitb16r224", "vits16r224")
    assert first.parameters["number_of_epochs"] == Choice((15, 30))
    assert second.parameters["learning_rate"] == Uniform(0.001, 0.01)
    assert second.parameters["layers_to_freeze"] == Choice((0, 2))
    assert job.model_names == ("vitb16r224", "vits16r224", "seresnext", "resnet50")
    assert job.given_hyperparameters == {"early_stopping": True, "evaluation_frequency": 1}


def test_what_has_no_effect_is_said_with_its_line(write) -> None:
    notices = write(AZURE).notices
    assert [notice.split(" has no effect here")[0] for notice in notices] == [
        "job.yaml, line 5: compute",
        "job.yaml, line 7: log_verbosity",
        "job.yaml, line 12: training_data.type",
        "job.yaml, line 15: validation_data.type",
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("compute: local", "compute"),
        ("queue_settings: {job_tier: standard}", "queue_settings"),
        ("outputs: {best_model: {type: mlflow_model}}", "outputs"),
        ("properties: {node_count_per_trial: 2}", "properties"),
        ("tags: {a: b}", "tags"),
        ("resources: {instance_type: Standard_NC6}", "resources"),
        ("validation_data: {path: v, mode: download}", "validation_data.mode"),
        ("limits: {timeout_minutes: 3}", "limits"),
        ("sweep: {sampling_algorithm: grid}", "sweep"),
        ("validation_data: v\nvalidation_data_size: 0.3", "validation_data_size"),
        ("test_data: v\ntest_data_size: 0.3", "test_data_size"),
        ("kubesight: {storage: {a: 1}}", "kubesight.storage"),
        ("kubesight: {deployment: {a: 1}}", "kubesight.deployment"),
    ],
)
def test_each_key_without_effect_gets_a_notice(write, text: str, key: str) -> None:
    (notice,) = write(SMALL + text).notices
    assert f": {key} has no effect here: " in notice
    assert notice.startswith("job.yaml, line ")


def test_a_small_job_has_all_defaults_and_no_notice(write) -> None:
    job = write(SMALL)
    assert job.notices == []
    assert not job.is_sweep
    assert job.model_name == "seresnext"
    assert job.primary_metric == "accuracy"
    assert job.validation_data_size == 0.2
    assert job.test_ratio == 0.0
    assert job.kubesight.model.weights == "default"
    assert job.hyperparameters()["number_of_epochs"] == 15
    assert job.hyperparameters()["learning_rate"] == 0.01


@pytest.mark.parametrize(
    ("task", "model", "metric"),
    [
        ("image_classification", "seresnext", "accuracy"),
        ("image_classification_multilabel", "seresnext", "iou"),
        ("image_object_detection", "fasterrcnn_resnet50_fpn", "mean_average_precision"),
        ("image_instance_segmentation", "maskrcnn_resnet50_fpn", "mean_average_precision"),
    ],
)
def test_each_task_has_its_model_and_metric(write, task: str, model: str, metric: str) -> None:
    job = write(f"task: {task}\ntraining_data: {{path: data}}\n")
    assert (job.model_name, job.primary_metric) == (model, metric)
    assert job.hyperparameters()["model_name"] == model


@pytest.mark.parametrize("metric", ["AUC_weighted", "average_precision_score_weighted", "precision_score_weighted"])
def test_azures_other_metrics(write, metric: str) -> None:
    job = write(f"{SMALL}primary_metric: {metric}\n")
    assert job.primary_metric == metric
    assert job.notices == []


def test_additions(write, tmp_path: Path) -> None:
    job = write(
        SMALL
        + """\
test_data_size: 0.1
validation_data_size: 0.25
target_column_name: tag
training_parameters:
  {model_name: timm/efficientnet_lite0, lr_scheduler: step, mixed_precision: off, learning_rate: 1e-3}
kubesight:
  source: {format: csv, options: {delimiter: ";", header: true}, max_dropped: 0.1, strict: true}
  model: {weights: weights/lite0.pt}
  split: {seed: 7}
  resources:
    image: registry.local/kubesight:1
    gpus: 1
    cpu: 8
    memory: 32Gi
    node_selector: {pool: gpu}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
"""
    )
    assert job.kubesight.model.weights == str(tmp_path / "weights/lite0.pt")
    assert job.kubesight.source.options == {"label_column": "tag", "delimiter": ";", "header": "true"}
    assert job.kubesight.source.strict
    assert (job.validation_data_size, job.test_ratio, job.kubesight.split.seed) == (0.25, 0.1, 7)
    resources = job.kubesight.resources
    assert (resources.gpus, resources.cpu, resources.memory) == ("1", "8", "32Gi")
    assert resources.tolerations[0].operator == "Exists"
    settings = job.hyperparameters()
    assert settings["learning_rate"] == 0.001
    assert settings["mixed_precision"] == "off"
    assert job.given_hyperparameters == {
        "learning_rate_scheduler": "step", "mixed_precision": "off", "learning_rate": 0.001,
    }  # fmt: skip
    assert job.model_name == "timm/efficientnet_lite0"
    assert job.notices == []


def test_the_splits_share_may_stand_under_its_old_name(write) -> None:
    job = write(f"{SMALL}training_parameters: {{split_ratio: '0.3'}}\n")
    assert job.validation_data_size == 0.3
    assert job.given_hyperparameters == {}


@pytest.mark.parametrize(
    "text",
    ["kubesight: {model: {checkpoint: runs/old}}", "training_parameters: {checkpoint_run_id: runs/old}"],
)
def test_incremental_training(write, tmp_path: Path, text: str) -> None:
    job = write(SMALL + text)
    assert job.hyperparameters()["checkpoint_run_id"] == str(tmp_path / "runs/old")
    assert job.kubesight.model.checkpoint == str(tmp_path / "runs/old")


@pytest.mark.parametrize("url", ["s3://bucket/data/", "minio://b/d", "https://host/a.jsonl", "file:///data"])
def test_urls_stay_as_they_are(write, url: str) -> None:
    assert write(f"task: image_classification\ntraining_data: {{path: '{url}'}}\n").training_data.path == url


def test_prefixes_explain_azures_urls_and_the_longest_wins(write) -> None:
    job = write(
        "task: image_classification\n"
        "training_data: azureml:fridge:1\n"
        "validation_data: azureml:fridge:1/validation.jsonl\n"
        "kubesight: {source: {url_prefixes: {'azureml:fridge:1': 's3://b/fridge', 'azureml:': 's3://other/'}}}\n"
    )
    assert job.training_data.path == "s3://b/fridge"
    assert job.validation_data is not None
    assert job.validation_data.path == "s3://b/fridge/validation.jsonl"


def test_paths_are_relative_to_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "job.yaml").write_text(SMALL.replace("data}", "../data}"))
    monkeypatch.chdir(tmp_path)
    assert load_job("jobs/job.yaml").training_data.path == str(tmp_path / "data")
    assert os.path.isabs(load_job(Path("jobs") / "job.yaml").training_data.path)


def test_a_search_space_may_be_one_mapping_and_the_model_may_be_fixed(write) -> None:
    job = write(
        f"{SMALL}training_parameters: {{model_name: resnet18, optimizer: adam}}\n"
        "search_space:\n  learning-rate: loguniform(-7, -3)\n  beta1: uniform(0.8, 0.95)\nlimits: {max_trials: 4}\n"
    )
    (group,) = job.search_groups
    assert group.model_names == ("resnet18",)
    assert set(group.parameters) == {"learning_rate", "beta1"}
    assert job.model_name == "resnet18"
    assert job.given_hyperparameters == {"optimizer": "adam"}
    with pytest.raises(JobError, match="each trial of a sweep has its own hyperparameters"):
        job.hyperparameters()


def test_trials_without_a_space_are_a_sweep(write) -> None:
    job = write(f"{SMALL}limits: {{max_trials: 10}}\n")
    assert job.is_sweep
    assert [group.model_names for group in job.search_groups] == [("seresnext",), ("vits16r224",)]
    assert job.notices == []


def test_a_space_with_one_trial_is_said(write) -> None:
    job = write(f"{SMALL}search_space: {{learning_rate: 'uniform(0, 1)'}}\n")
    assert job.notices == ["job.yaml, line 3: search_space varies little: limits.max_trials is 1, "
                           "so only one draw from it is trained."]  # fmt: skip


def test_several_models_have_no_one_name(write) -> None:
    with pytest.raises(JobError, match="sweeps over several models"):
        _ = write(AZURE).model_name


def test_json_with_tabs_and_empty_sections(write) -> None:
    value = {"task": "image_classification", "training_data": "data", "training_parameters": None, "kubesight": None}
    job = write(json.dumps(value, indent="\t"), "job.json")
    assert job.given_hyperparameters == {}


def test_anchors_and_merges(write) -> None:
    job = write(
        f"{SMALL}training_parameters: {{<<: {{momentum: 0.8}}}}\nlimits: {{max_trials: 2}}\n"
        "search_space:\n"
        "  - {learning_rate: &rate 'uniform(0, 0.1)'}\n"
        "  - {learning_rate: *rate, weight_decay: 'uniform(0, 0.1)'}\n"
    )
    assert job.search_groups[0].parameters["learning_rate"] == job.search_groups[1].parameters["learning_rate"]
    assert job.given_hyperparameters == {"momentum": 0.8}


def test_importing_the_job_loads_no_framework() -> None:
    code = (
        "import sys, kubesight.job; print([name for name in ('torch', 'kfp', 'timm', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
