"""A sweep's job as parameters of its pipeline, and that pipeline as a package for Kubeflow."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.components import load_component_from_file

import kubesight.components as components
from kubesight.cli.main import main
from kubesight.job import Job, load_job
from kubesight.job.plan import sweep_of
from kubesight.pipelines.cluster import write_package
from kubesight.pipelines.parameters import job_parameters
from kubesight.pipelines.sweep import sweep_pipeline
from kubesight.pipelines.train import train_pipeline

JOB = """
task: image_classification
name: cats
primary_metric: AUC_macro
training_data: pictures
validation_data_size: 0.3
training_parameters:
  epochs: 4
  checkpoint_run_id: earlier
search_space:
  - model_name: choice(resnet18, resnet50)
    learning_rate: loguniform(-6, -2)
    layers_to_freeze: {type: choice, values: [0, 2]}
  - model_name: choice(vitb16r224)
    warmup_cosine_lr_warmup_epochs: randint(3)
sweep:
  sampling_algorithm: {type: random, seed: 4, rule: sobol}
  early_termination: {type: truncation_selection, truncation_percentage: 20, evaluation_interval: 2}
limits: {max_trials: 10, max_concurrent_trials: 2, timeout_minutes: 90}
kubesight:
  split: {seed: 7}
  sweep: {convergence: true, max_failed_trials: 2, trial_kind: Job}
  resources:
    gpus: 2
    memory: 32Gi
    shared_memory: 4Gi
    nodes: 1
    queue: team-gpus
    priority_class: low
    image_pull_secrets: [registry]
    service_account: sweeper
    training_folder: /mnt/sweeps
    volumes: [{claim: work, path: /mnt/work}, {claim: pictures, path: /pictures}]
    node_selector: {pool: gpu}
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def again(job: Job, folder: Path) -> Job:
    """The job that the step of the pipeline reads."""
    value = json.loads(job_parameters(job)["job"])
    (folder / "again.json").write_text(json.dumps(value | {"training_data": "pictures"}))
    return load_job(folder / "again.json")


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        ("type: random, seed: 4, rule: sobol", "type: bayesian, n_startup_trials: 3, seed: 1, multivariate: true"),
        ("truncation_selection, truncation_percentage: 20", "bandit, slack_amount: 0.1"),
        ("truncation_selection, truncation_percentage: 20", "median_stopping"),
    ],
)
def test_the_step_runs_the_very_sweep_of_the_job(job: Path, change: tuple[str, str]) -> None:
    job.write_text(JOB.replace(*change))
    first = load_job(job)
    second = again(first, job.parent)
    assert sweep_of(second) == sweep_of(first)
    own = {"image", "accelerator", "gpus", "cpu", "memory", "training_folder", "node_selector", "tolerations"}
    kept = first.kubesight.resources.model_dump(exclude=own)
    assert second.kubesight.resources.model_dump(exclude=own) == kept
    assert second.kubesight.model.weights == first.kubesight.model.weights


def test_a_sweep_without_a_search_space_is_one_too(job: Path) -> None:
    job.write_text("task: image_classification\ntraining_data: pictures\nlimits: {max_trials: 4}\n")
    first = load_job(job)
    assert sweep_of(again(first, job.parent)) == sweep_of(first)


def test_what_the_form_has_a_field_for_is_said_once(job: Path) -> None:
    parameters = job_parameters(load_job(job))
    assert {name: parameters[name] for name in ("gpus", "memory", "node_selector", "sweep_folder", "seed")} == {
        "gpus": "2",
        "memory": "32Gi",
        "node_selector": {"pool": "gpu"},
        "sweep_folder": "/mnt/sweeps",
        "seed": 7,
    }
    assert not {"model_name", "hyperparameters", "training_folder"} & set(parameters)
    resources = json.loads(parameters["job"])["kubesight"]["resources"]
    assert set(resources) == {
        *("shared_memory", "queue", "priority_class", "image_pull_secrets", "service_account", "volumes"),
    }


def package(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    spec, platforms = yaml.safe_load_all(text)
    return spec, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["kubesight", *words])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code in (0, None)


def test_the_bare_pipeline_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, "compile", "sweep", "-o", str(tmp_path / "sweep.yaml"))
    spec, executors = package(tmp_path / "sweep.yaml")
    form = spec["root"]["inputDefinitions"]["parameters"]
    assert all(field["description"] for field in form.values())
    assert [name for name, field in form.items() if not field.get("isOptional")] == ["job", "source"]
    assert form["image"]["defaultValue"] == components.IMAGE
    assert load_component_from_file(str(tmp_path / "sweep.yaml")).name == "kubesight-sweep"
    # Only the evaluation needs the pool: the sweep's step follows an Experiment whose trials have it.
    assert set(executors) == {"exec-evaluate-model"}
    container = spec["deploymentSpec"]["executors"]["exec-tune-model"]["container"]
    assert container["resources"] == {
        "cpuLimit": 1.0, "memoryLimit": pytest.approx(4 * 2**30 / 1e9), "resourceCpuLimit": "1",
        "resourceMemoryLimit": "4Gi",
    }  # fmt: skip
    tasks = spec["root"]["dag"]["tasks"]
    assert {task["taskInfo"]["name"] for task in tasks.values()} == {
        *("Check", "Convert", "Validate", "Split", "Sweep", "Evaluate", "Export")
    }
    assert tasks["tune-model"]["retryPolicy"]["maxRetryCount"] == 2
    assert tasks["evaluate-model"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"] == {
        "outputArtifactKey": "model", "producerTask": "tune-model",
    }  # fmt: skip
    given = tasks["tune-model"]["inputs"]["parameters"]
    names = ("job", "sweep_folder", "engine", "accelerator", "gpus", "cpu", "memory", "node_selector", "tolerations")
    for name in names:
        assert given[name] == {"componentInputParameter": name}
    assert given["image"]["taskOutputParameter"]["outputParameterKey"] == "training_image", "the trials' too"


def test_every_step_of_a_job_has_its_volumes(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are read by five steps, and the sweep's folder by one; a step cannot mount at run time."""
    command(monkeypatch, "compile", str(job), "-o", str(tmp_path / "out.yaml"))
    spec, executors = package(tmp_path / "out.yaml")
    assert set(executors) == set(spec["deploymentSpec"]["executors"])
    for executor in executors.values():
        mounts = [(each["constant"], each["mountPath"]) for each in executor["pvcMount"]]
        assert mounts == [("work", "/mnt/work"), ("pictures", "/pictures")]
        assert executor["imagePullSecret"][0]["secretName"] == "registry"
    evaluation = executors["exec-evaluate-model"]
    assert evaluation["emptyDirMounts"][0]["sizeLimit"] == "4Gi"
    assert evaluation["podMetadata"] == {"labels": {"kueue.x-k8s.io/queue-name": "team-gpus"}}
    assert "podMetadata" not in executors["exec-tune-model"]
    form = spec["root"]["inputDefinitions"]["parameters"]
    assert json.loads(form["job"]["defaultValue"])["limits"]["max_trials"] == 10
    assert load_component_from_file(str(tmp_path / "out.yaml")).name == "kubesight-sweep"


def test_what_a_package_cannot_say_is_told(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    command(monkeypatch, "compile", str(job), "-o", str(tmp_path / "out.yaml"))
    assert "kubesight.resources.service_account is not part of a package: name it when" in caplog.text
    assert "priority_class" not in caplog.text, "it is for the trials"
    caplog.clear()
    resources = "kubesight: {resources: {priority_class: low, secret: store, nodes: 2}}"
    job.write_text(f"task: image_classification\ntraining_data: pictures\n{resources}\n")
    command(monkeypatch, "compile", str(job), "-o", str(tmp_path / "out.yaml"))
    for name in ("priority_class", "secret", "nodes"):
        assert f"kubesight.resources.{name} has no effect: it is for the trials of a sweep" in caplog.text


def test_what_is_written_by_hand_is_what_kfp_writes(job: Path, tmp_path: Path) -> None:
    """The mounts in the package are those that `kfp.kubernetes` would have made."""
    from kfp import compiler, dsl, kubernetes

    @dsl.component(base_image="python:3.11")
    def step() -> None:
        """Nothing."""

    @dsl.pipeline(name="reference")
    def reference() -> None:
        task = step()
        kubernetes.mount_pvc(task, "work", "/mnt/work")
        kubernetes.mount_pvc(task, "pictures", "/pictures")
        kubernetes.set_image_pull_secrets(task, ["registry"])

    compiler.Compiler().compile(reference, str(tmp_path / "reference.yaml"))
    resources = load_job(job).kubesight.resources
    write_package(train_pipeline, {}, tmp_path / "ours.yaml", resources=resources)
    _, theirs = package(tmp_path / "reference.yaml")
    _, ours = package(tmp_path / "ours.yaml")
    assert {name: ours["exec-split-dataset"][name] for name in ours["exec-split-dataset"]} == theirs["exec-step"]


def test_the_pipelines_share_their_form() -> None:
    """A person who knows one knows the other: same names, same meanings, but for what is trained."""
    forms = [
        {name: (each.parameter_type, each.description, each.default_value) for name, each in inputs.items()}
        for inputs in (
            pipeline.pipeline_spec.root.input_definitions.parameters for pipeline in (train_pipeline, sweep_pipeline)
        )
    ]
    train, sweep = forms
    differing = {name for name in train.keys() & sweep.keys() if train[name] != sweep[name]}
    assert differing == {"image", "keras_image", "gpus", "cpu", "memory"}
    assert sweep.keys() - train.keys() == {"job", "sweep_folder", "engine"}
