"""The commands `tune` and `experiment`: what they take, print and refuse. Sweeps that train are in test_tune_job.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pictures import digits_dataset

from kubesight.cli.tune import _is_experiment
from kubesight.storage.files import read_json

KUBESIGHT = [sys.executable, "-m", "kubesight.cli.main"]

JOB = """\
task: image_classification
training_data: {training}
validation_data: {validation}
training_parameters:
  model_name: timm/resnet10t
limits:
  max_trials: 4
  max_concurrent_trials: 2
search_space:
  learning_rate: uniform(0.001, 0.01)
"""

EXPERIMENT = {
    "apiVersion": "kubeflow.org/v1beta1",
    "kind": "Experiment",
    "metadata": {"name": "shell"},
    "spec": {
        "objective": {"type": "maximize", "objectiveMetricName": "accuracy"},
        "algorithm": {"algorithmName": "grid"},
        "parallelTrialCount": 2,
        "maxTrialCount": 3,
        "maxFailedTrialCount": 3,
        "parameters": [{"name": "x", "parameterType": "categorical", "feasibleSpace": {"list": ["1", "2", "3"]}}],
        "trialTemplate": {
            "primaryContainerName": "main",
            "trialParameters": [{"name": "x", "reference": "x"}],
            "trialSpec": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "spec": {
                    "template": {
                        "spec": {
                            "restartPolicy": "Never",
                            "containers": [
                                {
                                    "name": "main",
                                    "image": "busybox",
                                    "command": ["sh", "-c", "echo accuracy=0.${trialParameters.x}"],
                                }
                            ],
                        }
                    }
                },
            },
        },
    },
}


def run(*arguments, **options):
    return subprocess.run([*KUBESIGHT, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two small data sets."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "train": digits_dataset(folder / "a", 0, 20).path,
        "validation": digits_dataset(folder / "b", 20, 20).path,
    }


@pytest.fixture
def job(tmp_path, parts):
    file = tmp_path / "job.yaml"
    file.write_text(JOB.format(training=parts["train"], validation=parts["validation"]))
    return file


def test_experiment_prints_what_tune_reads(job, parts):
    done = run("experiment", job, "--trials", "/data/sweeps/one", "--namespace", "team-a")
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(done.stdout)
    assert (document["kind"], document["metadata"]["namespace"]) == ("Experiment", "team-a")
    (container,) = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    assert f"--training-data={parts['train']}" in container["command"][2]
    assert "--output=/data/sweeps/one/${trialParameters.trial_name}" in container["command"][2]
    assert document["spec"]["maxTrialCount"] == 4


def test_experiment_writes_a_file(job, tmp_path):
    done = run("experiment", job, "--trials", "/data/sweeps/one", "-o", tmp_path / "sweep.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert yaml.safe_load((tmp_path / "sweep.yaml").read_text())["spec"]["algorithm"] == {"algorithmName": "random"}


def test_trials_may_see_the_data_elsewhere(job):
    done = run(
        *("experiment", job, "--trials", "/data/x"), "--training-data", "/data/train", "--validation-data", "/data/val"
    )
    assert "--training-data=/data/train --validation-data=/data/val" in " ".join(done.stdout.split())


def test_experiment_takes_the_trials_folder_from_the_jobs_volume(job):
    job.write_text(
        job.read_text()
        + "kubesight:\n  resources:\n    volumes: [{claim: kubesight-data, path: /data/}]\nname: fruit\n"
    )
    done = run("experiment", job)
    assert "--output=/data/sweeps/fruit/${trialParameters.trial_name}" in done.stdout


def test_data_may_lie_on_a_volume_that_only_trials_see(job):
    job.write_text(
        JOB.format(training="/data/fruit/train", validation="/data/fruit/validation")
        + "kubesight:\n  resources:\n    volumes: [{claim: kubesight-data, path: /data}]\n"
    )
    done = run("experiment", job)
    assert "--training-data=/data/fruit/train --validation-data=/data/fruit/validation" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text, "kubesight.resources.volumes: no volume is named"),
        (lambda text: text.replace("max_trials: 4", "max_trials: 1").replace("max_concurrent_trials: 2", "").split(
            "search_space")[0], "the job trains once"),
        (lambda text: text.replace("training_data: /", "training_data: /elsewhere/"), "is no data set that"),
        (lambda text: "".join(line for line in text.splitlines(True) if "validation_data" not in line),
         "trials share one split"),
        (lambda text: text.replace("learning_rate", "learning_rat"), "line 10: unknown hyperparameter 'learning_rat'"),
    ],
)  # fmt: skip
def test_experiment_refuses(job, change, words):
    job.write_text(change(job.read_text()))
    done = run("experiment", job)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_tune_runs_an_experiment_and_tells_the_best(tmp_path):
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(EXPERIMENT))
    done = run("tune", file, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "best: accuracy 0.3000" in done.stdout
    assert "x=3" in done.stdout
    status = read_json(tmp_path / "out" / "status.json")
    assert status["currentOptimalTrial"]["parameterAssignments"] == [{"name": "x", "value": "3"}]
    assert (tmp_path / "out" / "report.html").exists()


def test_a_sweep_that_failed_ends_with_2_and_says_why(tmp_path):
    document = json.loads(json.dumps(EXPERIMENT).replace("echo accuracy=0.", "echo broken; exit 3 #"))
    document["spec"]["maxFailedTrialCount"] = 1
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(document))
    done = run("tune", file, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "broken" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('{"apiVersion":"v1","kind":"ConfigMap"}', True),
        ("---\napiVersion: kubeflow.org/v1beta1\nkind: Experiment\n", True),
        ("task: image_classification\n", False),
        ("a: [", False),
    ],
)
def test_objects_are_told_from_jobs(tmp_path: Path, text, is_one):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    assert _is_experiment(file) == is_one


def test_a_missing_file_and_a_bad_volume_are_one_line_errors(tmp_path):
    done = run("tune", tmp_path / "none.yaml", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "none.yaml" in done.stderr
    done = run("tune", tmp_path / "none.yaml", "--output", tmp_path / "out", "--volume", "claim")
    assert "--volume: 'claim' is not NAME=VALUE" in done.stderr
