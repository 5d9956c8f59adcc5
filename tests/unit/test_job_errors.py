"""Mistakes in a job file: one message each, with the file, the line and what to do."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError, JobError, KubesightError, ModelError
from kubesight.job import load_job
from kubesight.job.yaml_lines import YamlFile

BASE = "task: image_classification\ntraining_data:\n  path: data\n"  # what follows starts in line 4


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str, kind: type[KubesightError]) -> str:
        Path("job.yaml").write_text(text)
        with pytest.raises(kind) as error:
            load_job("job.yaml")
        return str(error.value)

    return load


def test_the_typical_typo(message) -> None:
    text = "type: automl\ntask: image_classification\n\ntraining_data:\n  path: data\n\ntraining_parameters:\n"
    found = message(f"{text}  momentum: 0.8\n  learning_rat: 0.1\n", HyperparameterError)
    assert found == "job.yaml, line 9: unknown hyperparameter 'learning_rat'. Did you mean learning_rate?"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("training_paramters: {}", 4, "unknown key 'training_paramters'. Did you mean training_parameters?"),
        ("learning_rate: 0.1", 4, "It is a hyperparameter: write it under training_parameters."),
        ("split_ratio: 0.1", 4, "It is called validation_data_size here."),
        ("limits:\n  max_trials: 5000", 5, "limits.max_trials is 5000, but must be less than or equal to 1000"),
        ("limits:\n  max_trials: two", 5, "limits.max_trials is 'two', but must be a valid integer"),
        ("limits:\n  max_trials: true", 5, "limits.max_trials is True, but must be a valid integer"),
        ("limits:\n  max_trial: 2", 5, "unknown key 'max_trial' in limits. Did you mean max_trials?"),
        ("limits:\n  max_trials: 2\n  max_concurrent_trials: 3", 6, "3 is more than max_trials 2"),
        ("limits: 3", 4, "limits is 3, but must be a mapping of keys to values"),
        ("training_parameters: 3", 4, "must be a mapping of keys to values"),
        ("search_space: 3", 4, "search_space is 3, but must be a list of mappings"),
        ("primary_metric: norm_macro_recall", 4, "norm_macro_recall is not computed"),
        ("primary_metric: iou", 4, "primary_metric 'iou' does not fit image_classification. Choose one of accuracy,"),
        ("log_verbosity: loud", 4, "log_verbosity is 'loud', but must be 'not_set', 'debug',"),
        ("validation_data_size: 1.0", 4, "validation_data_size is 1.0, but must be less than 1"),
        ("sweep:\n  early_termination:\n    type: bandi", 6, "type is 'bandi', but must be one of 'bandit'"),
        ("sweep:\n  early_termination:\n    type: bandit", 5, "bandit needs slack_factor or slack_amount, one of them"),
        (
            "sweep:\n  early_termination:\n    type: bandit\n    slack_factr: 2",
            7,
            "unknown key 'slack_factr' in sweep.early_termination. Did you mean slack_factor?",
        ),
        (
            "sweep:\n  early_termination:\n    type: truncation_selection\n    truncation_percentage: 100",
            7,
            "truncation_percentage is 100, but must be less than or equal to 99",
        ),
        ("sweep:\n  sampling_algorithm:\n    type: grid\n    rule: sobol", 7, "rule is for random sampling alone, not"),
        (
            "sweep: {sampling_algorithm: grid}\nsearch_space:\n  - momentum: choice(0)\n    weight_decay: uniform(0,1)",
            7,
            "grid sampling goes through lists, but weight_decay has a range. Write choice(...)",
        ),
        ("kubesight:\n  source:\n    formt: coco", 6, "unknown key 'formt' in kubesight.source. Did you mean format?"),
        ("kubesight:\n  split:\n    ratio: 0.2", 6, "Set validation_data_size at the top of the file."),
        ("kubesight:\n  pool: gpu", 5, "unknown key 'pool' in kubesight. There are source, model, split,"),
        ("kubesight:\n  resources:\n    memory: lots", 6, "is 'lots', but must be a quantity such as 4, 500m or 16Gi"),
        ("kubesight:\n  resources:\n    gpus: -1", 6, "gpus is -1, but must be a whole number such as 1"),
        ("kubesight:\n  resources:\n    tolerations:\n      - kye: a", 7, "unknown key 'kye' in kubesight.resources"),
        ("validation_data:\n  path: azureml:val:1", 5, "azureml:val:1 is a name within an Azure workspace"),
        ("test_data:\n  path: AmlDatastore://a/b", 5, "Say what it stands for under kubesight.source.url_prefixes"),
        ("validation_data:\n  type: mltable", 4, "validation_data.path is missing"),
        ("test_data_size: 0.1\nkubesight:\n  split:\n    test_ratio: 0.2", 7, "say the same. Keep one of them."),
        (
            "target_column_name: a\nkubesight:\n  source:\n    options: {label_column: b}",
            7,
            "target_column_name is a, but the option label_column is b",
        ),
        ("validation_data_size: 0.2\ntraining_parameters:\n  split_ratio: 0.3", 6, "twice, once as split_ratio"),
        ("kubesight:\n  model:\n    checkpoint: a\n    weights: b.pt", 6, "not from both"),
        ("training_parameters:\n  checkpoint_run_id: a\nkubesight:\n  model:\n    checkpoint: b", 8, "an earlier"),
        ("task: image_classification", 4, "task is given twice, first in line 1. Keep one of them."),
        ("tags: [1", 5, "not YAML: while parsing a flow sequence expected ',' or ']'"),
        ("tags: !!python/object:os.system {}", 4, "not YAML: could not determine a constructor"),
    ],
)  # fmt: skip
def test_mistakes_of_form(message, text: str, line: int, words: str) -> None:
    found = message(f"{BASE}{text}\n", JobError)
    assert found.startswith(f"job.yaml, line {line}: ")
    assert words in found


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("training_parameters:\n  learning_rate: 2", 5, "learning_rate is 2, but must be a number in [0, 1]"),
        ("training_parameters:\n  early_stopping: yes", 5, "early_stopping is 'yes', but must be true or false"),
        ("training_parameters:\n  training_crop_size: 256", 5, "seresnext does not take an arbitrary size"),
        ("training_parameters:\n  min_size: 300", 5, "min_size does not apply to seresnext"),
        ("training_parameters:\n  seed: 1\n  random_seed: 1", 6, "given twice, as seed and as random_seed"),
        ("training_parameters:\n  momentum: 0.5\n  optimizer: adam", 5, "momentum is 0.5, but it has no effect"),
        ("training_parameters:\n  split_ratio: 1.3", 5, "split_ratio (validation_data_size) is 1.3, but must be"),
        ("search_space:\n  - learning_rat: uniform(0,1)", 5, "unknown hyperparameter 'learning_rat'. Did you mean"),
        ("search_space:\n  - learning_rate: unifrom(0,1)", 5, "learning_rate: unknown distribution 'unifrom'. Did you"),
        ("search_space:\n  - learning_rate: uniform(0,2)", 5, "learning_rate is 2.0, but must be a number in [0, 1]"),
        ("search_space:\n  learning_rate: uniform(0,2)", 5, "learning_rate is 2.0, but must be a number in [0, 1]"),
        ("search_space:\n  - number_of_epochs: uniform(1,9)", 5, "which uniform does not draw. Use quniform(..., 1)"),
        ("search_space:\n  - {}\n  - model_name: choice(resnet18, vitb16r224)\n    training_crop_size: choice(192)", 7,
         "training_crop_size is '192', but must be 224: vitb16r224 takes pictures of 224 by 224 pixels"),
        ("search_space:\n  - model_name: uniform(0, 1)", 5, "model_name can only vary by choice(...)"),
        ("search_space:\n  - split_ratio: choice(0.1)", 5, "split_ratio cannot vary: all trials share one split"),
        ("search_space:\n  - batch_size: choice(8)\ntraining_parameters:\n  training_batch_size: 8", 5,
         "training_batch_size is fixed in training_parameters and varies in search_space"),
        ("search_space:\n  - optimizer: choice(adam)\n    momentum: choice(0.5)", 6, "no effect, because optimizer"),
    ],
)  # fmt: skip
def test_mistakes_of_hyperparameters(message, text: str, line: int, words: str) -> None:
    found = message(f"{BASE}{text}\n", HyperparameterError)
    assert found.startswith(f"job.yaml, line {line}: ")
    assert words in found


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("training_parameters:\n  model_name: resnet19", 5, "unknown model name 'resnet19'. Did you mean resnet18"),
        (
            "training_parameters:\n  model_name: yolov5",
            5,
            "yolov5 does image_object_detection, not image_classification",
        ),
        ("search_space:\n  - learning_rate: uniform(0,1)\n    model_name: choice(resnet18, resnet19)", 6, "'resnet19'"),
    ],
)
def test_mistakes_of_models(message, text: str, line: int, words: str) -> None:
    found = message(f"{BASE}{text}\n", ModelError)
    assert found.startswith(f"job.yaml, line {line}: ")
    assert words in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "job.yaml: not a job file"),
        ("- a\n", "job.yaml: not a job file"),
        ("task: image_classification\n", "job.yaml: training_data is missing"),
        ("training_data: d\n", "job.yaml: task is missing"),
        (
            "task: image_clasification\ntraining_data: d\n",
            "line 1: task is 'image_clasification', but must be 'image_cl",
        ),
        (
            "type: command\ntask: image_classification\ntraining_data: d\n",
            "line 1: type is 'command', but must be 'automl'",
        ),
        ("task: \x07\n", "job.yaml: not YAML: unacceptable character"),
        ("a: &a\n  b: *a\n", "line 2: an alias contains itself"),
    ],
)
def test_files_that_are_no_jobs(message, text: str, words: str) -> None:
    assert words in message(text, JobError)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"missing\.yaml: No such file or directory"):
        load_job(tmp_path / "missing.yaml")
    with pytest.raises(JobError, match="Is a directory"):
        load_job(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"task: \xe9\n")
    with pytest.raises(JobError, match="not a text in UTF-8"):
        load_job(tmp_path / "latin.yaml")


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: off\nb: 1e-3\nc: 010\nd: 1:30\ne: 2024-01-01\nf: ~\ng: -.5\nh: 0x10\ni: 'true'\nj: True\n")
    assert YamlFile(path).value == {
        "a": "off", "b": 0.001, "c": 10, "d": "1:30", "e": "2024-01-01", "f": None, "g": -0.5, "h": 16, "i": "true",
        "j": True,
    }  # fmt: skip


@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_raises_anything_but_our_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(BASE + text, encoding="utf-8")
    with contextlib.suppress(KubesightError):
        assert load_job(path).task is Task.CLASSIFICATION
