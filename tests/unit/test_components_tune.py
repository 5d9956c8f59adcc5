"""The sweep's component as a function, with real artifacts: real trainings here, and a stand-in for a cluster."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from katib_cluster import Cluster, katib_cluster, now, trial
from kfp import dsl
from pictures import digits_dataset

import kubesight.components as components
from kubesight.components.summaries import sweep_counts, sweep_markdown
from kubesight.components.tune_model import tune_model
from kubesight.errors import ClusterError, JobError, ModelError
from kubesight.modelcard import ModelCard
from kubesight.tune import step
from kubesight.tune.records import Trial, read_trials
from kubesight.tune.step import tune

JOB: dict[str, Any] = {
    "task": "image_classification",
    "name": "digits",
    "training_parameters": {
        "model_name": "timm/test_resnet",
        "number_of_epochs": 1,
        "training_batch_size": 16,
        "training_crop_size": 32,
        "validation_resize_size": 32,
        "validation_crop_size": 32,
        "number_of_workers": 0,
    },
    "search_space": [{"learning_rate": "choice(0.00001, 0.05)"}],
    "sweep": {"sampling_algorithm": "grid"},
    "limits": {"max_trials": 2},
    "kubesight": {"model": {"weights": "none"}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dsl.Dataset]:
    """Digits of three classes: 48 to train on, 18 to validate with."""
    root = tmp_path_factory.mktemp("digits")
    made = {}
    for name, start, count in (("training_data", 0, 48), ("validation_data", 48, 18)):
        folder = digits_dataset(root / name, start, count, classes=3).path
        made[name] = dsl.Dataset(name=name, uri=str(folder))
    return made


def outputs(root: Path) -> dict[str, Any]:
    kinds = {
        "model": dsl.Model, "best_parameters": dsl.Artifact, "trials": dsl.Markdown, "report": dsl.HTML,
        "metrics": dsl.Metrics,
    }  # fmt: skip
    root.mkdir()
    return {name: kind(name=name, uri=str(root / name)) for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def swept(data: dict[str, dsl.Dataset], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep of two trainings here: its folder, and the step's outputs."""
    root = tmp_path_factory.mktemp("sweep")
    made = outputs(root / "out")
    tune_model.python_func(**data, **made, job=json.dumps(JOB), sweep_folder=str(root / "sweep"), engine="local")
    return root / "sweep", made


def test_the_best_trials_model_is_kept(swept: tuple[Path, dict[str, Any]]) -> None:
    folder, made = swept
    trials = read_trials(folder)
    best = max(trials, key=lambda each: each.value or 0)
    assert {each.condition for each in trials} == {"Succeeded"}
    card = ModelCard.load(made["model"].path)
    assert card.hyperparameters["learning_rate"] == float(best.assignments["learning_rate"])
    assert card.metrics["accuracy"] == pytest.approx(best.value)
    assert made["model"].framework == "torch"
    assert made["model"].metadata["trial_uri"] == str(folder / "trials" / best.name / "model")
    assert made["model"].metadata["experiment"] == "digits"


def test_the_choice_can_be_trained_again(swept: tuple[Path, dict[str, Any]]) -> None:
    _, made = swept
    chosen = json.loads(Path(made["best_parameters"].path).read_text())
    card = ModelCard.load(made["model"].path)
    assert chosen["model_name"] == "timm/test_resnet"
    assert chosen["hyperparameters"] == {"learning_rate": card.hyperparameters["learning_rate"]}
    assert made["best_parameters"].metadata["reason"]


def test_table_page_and_numbers(swept: tuple[Path, dict[str, Any]]) -> None:
    folder, made = swept
    best = made["model"].metadata["trial"]
    lines = Path(made["trials"].path).read_text().splitlines()
    assert lines[0].startswith(f"# {best}: accuracy ")
    assert lines[3] == "| trial | condition | accuracy | epochs | seconds | learning_rate |"
    assert lines[5].startswith(f"| {best} | Succeeded | ")
    assert len(lines) == 7
    assert Path(made["report"].path).read_text() == (folder / "report.html").read_text()
    assert made["metrics"].metadata["trials"] == made["metrics"].metadata["trials_Succeeded"] == 2
    assert made["metrics"].metadata["accuracy"] == ModelCard.load(made["model"].path).metrics["accuracy"]


def test_a_retry_goes_on_where_the_sweep_was(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], tmp_path: Path
) -> None:
    """Its artifacts lie elsewhere; the data and the folder are the same."""
    folder, first = swept
    moved = {name: dsl.Dataset(uri=str(tmp_path / name)) for name in data}
    for name, artifact in moved.items():
        shutil.copytree(data[name].path, artifact.path)
    before = [(each.name, each.ended) for each in read_trials(folder)]
    made = outputs(tmp_path / "out")
    tune_model.python_func(**moved, **made, job=json.dumps(JOB), sweep_folder=str(folder), engine="local")
    assert [(each.name, each.ended) for each in read_trials(folder)] == before
    assert made["model"].metadata == first["model"].metadata


def call(data: dict[str, dsl.Dataset], job: Any, scratch: Path, **changes: Any) -> Any:
    arguments = {"scratch": str(scratch / "sweep"), "run": "run-1"} | changes
    text = job if isinstance(job, str) else json.dumps(job)
    return tune(data["training_data"].path, data["validation_data"].path, text, **arguments)


def test_a_folder_with_other_data_is_refused(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], tmp_path: Path
) -> None:
    swapped = {"training_data": data["validation_data"], "validation_data": data["training_data"]}
    with pytest.raises(JobError, match=r"data/training: the folder holds a sweep on other data"):
        call(swapped, JOB, tmp_path, folder=str(swept[0]), engine="local")


@pytest.mark.parametrize(
    ("job", "changes", "message"),
    [
        ("nothing", {}, "the job of a sweep is a JSON object"),
        ("[]", {}, "the job of a sweep is a JSON object"),
        (JOB | {"max_trial": 3}, {}, "unknown key 'max_trial'"),
        ({key: each for key, each in JOB.items() if key not in ("search_space", "limits")}, {}, "one training"),
        (JOB, {"engine": "kaitb"}, "engine is 'kaitb'"),
    ],
)
def test_a_wrong_job_is_told_before_anything_runs(
    data: dict[str, dsl.Dataset], tmp_path: Path, job: Any, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(JobError, match=message):
        call(data, job, tmp_path, **({"engine": "local"} | changes))
    assert not list(tmp_path.iterdir())


def test_a_sweep_whose_trials_all_fail_says_so(data: dict[str, dsl.Dataset], tmp_path: Path) -> None:
    broken = JOB | {"kubesight": {"model": {"weights": str(tmp_path / "none.safetensors")}}}
    with pytest.raises(JobError, match=r"sweep: the sweep failed: .*report\.html shows why"):
        call(data, broken, tmp_path, engine="local")
    assert {each.condition for each in read_trials(tmp_path / "sweep")} == {"Failed"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with katib_cluster(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("KFP_POD_NAME", raising=False)
        yield running


def shared(folder: Path, **resources: Any) -> dict[str, Any]:
    """The job with a volume at a folder."""
    folder.mkdir(exist_ok=True)
    volumes = [{"claim": "work", "path": str(folder)}]
    return JOB | {"kubesight": {"model": {"weights": "none"}, "resources": {"volumes": volumes, **resources}}}


def ends_with_models(source: Path, *, condition: str = "Succeeded") -> Any:
    """Katib that runs two trials, which leave the model at `source` and a curve on the volume."""

    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        if experiment["status"]:
            return
        cluster.document = experiment  # type: ignore[attr-defined]
        name = experiment["metadata"]["name"]
        command = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0][
            "command"
        ]
        folder = Path(re.search(r"--output='?([^ ']+)/'?\$", command[2])[1])  # type: ignore[index]
        for trial_name, value in ((f"{name}-a", 0.4), (f"{name}-b", 0.7)):
            shutil.copytree(source, folder / trial_name / "model")
            (folder / trial_name / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "accuracy": value}) + "\n")
            cluster.add_trials(name, trial(trial_name, "Succeeded", value, learning_rate="0.05"))
        experiment["status"]["startTime"] = experiment["status"]["completionTime"] = now()
        cluster.end(experiment, condition, "ExperimentMaxTrialsReached", "2 trials have ended")

    return play


def test_on_a_cluster_the_experiment_has_what_its_trials_need(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path
) -> None:
    cluster.play = ends_with_models(Path(swept[1]["model"].path))
    made = outputs(tmp_path / "out")
    tune_model.python_func(
        **data, **made, job=json.dumps(shared(tmp_path / "work")), engine="katib", image="registry.example.org/k:1",
        gpus="2", cpu="3", memory="5Gi", node_selector={"pool": "gpu"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
    )  # fmt: skip
    (folder,) = (tmp_path / "work" / "sweeps").iterdir()
    assert re.fullmatch("digits-[0-9a-f]{8}", folder.name)
    assert sorted(each.name for each in (folder / "data").iterdir()) == ["training", "validation"]
    document = cluster.document  # type: ignore[attr-defined]
    assert yaml.safe_load((folder / "experiment.yaml").read_text())["spec"] == document["spec"]
    pod = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.org/k:1"
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2", "cpu": "3", "memory": "5Gi"}
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"][0]["key"] == "gpu"
    assert f"--training-data={folder}/data/training" in pod["containers"][0]["command"][2]
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claims == ["work"]
    assert made["model"].metadata["trial"] == f"{folder.name}-b"
    assert ModelCard.load(made["model"].path).model_name == "timm/test_resnet"
    assert [each.curve for each in read_trials(folder)] == [[0.4], [0.7]]
    assert "<html" in Path(made["report"].path).read_text().lower()
    assert cluster.deleted() == [folder.name]


def test_what_a_failed_experiment_computed_is_kept(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path
) -> None:
    cluster.play = ends_with_models(Path(swept[1]["model"].path), condition="Failed")
    with pytest.raises(ClusterError, match=r"the Experiment digits-[0-9a-f]{8} failed: 2 trials have ended"):
        call(data, shared(tmp_path / "work"), tmp_path, engine="katib")
    (folder,) = (tmp_path / "work" / "sweeps").iterdir()
    assert len(read_trials(folder)) == 2
    assert (folder / "report.html").exists()
    # The pipeline tries the step again: the same failure, and no second sweep.
    requests = len(cluster.requests)
    with pytest.raises(ClusterError, match=r"the Experiment digits-[0-9a-f]{8} failed: 2 trials have ended"):
        call(data, shared(tmp_path / "work"), tmp_path, engine="katib")
    assert len(cluster.requests) == requests


def test_a_step_that_failed_after_its_sweep_does_not_sweep_again(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path
) -> None:
    cluster.play = ends_with_models(Path(swept[1]["model"].path))
    first = call(data, shared(tmp_path / "work"), tmp_path, engine="katib")
    requests = len(cluster.requests)
    second = call(data, shared(tmp_path / "work"), tmp_path, engine="katib")
    assert second == first
    assert len(cluster.requests) == requests


def test_each_run_has_an_experiment_of_its_own_and_a_retry_has_not(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path
) -> None:
    job = shared(tmp_path / "work", training_folder=None)
    cluster.refuse[("POST", "experiments")] = [(422, "no")] * 3
    for run in ("one", "two", "one"):
        with pytest.raises(ClusterError, match="422"):
            call(data, job, tmp_path, engine="katib", run=run, folder=str(tmp_path / "work" / "mine"))
    assert len(list((tmp_path / "work" / "mine").iterdir())) == 2


def test_trials_on_a_cluster_need_a_volume(data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"kubesight\.resources\.volumes: .* no volume is named .*ReadWriteMany"):
        call(data, JOB, tmp_path, engine="katib")
    with pytest.raises(ClusterError, match="the sweep's folder /elsewhere lies on no volume"):
        call(data, shared(tmp_path / "work"), tmp_path, engine="katib", folder="/elsewhere")
    gone = shared(tmp_path / "work")
    (tmp_path / "work").rmdir()
    with pytest.raises(ClusterError, match=r"the claim work is not mounted .* `kubesight compile JOB`"):
        call(data, gone, tmp_path, engine="katib")
    assert not cluster.requests


def test_a_model_that_the_best_trial_did_not_leave_is_missed(
    swept: tuple[Path, dict[str, Any]], data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    play = ends_with_models(tmp_path / "empty")

    def without(cluster: Cluster, experiment: dict[str, Any]) -> None:
        play(cluster, experiment)
        for folder in (tmp_path / "work" / "sweeps").glob("*/trials/*/model"):
            folder.rmdir()

    cluster.play = without
    with pytest.raises(ModelError, match=r"the best trial digits-.*-b left no model"):
        call(data, shared(tmp_path / "work"), tmp_path, engine="katib")


def test_pictures_that_trials_cannot_see_are_warned_of(
    data: dict[str, dsl.Dataset], cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.refuse[("POST", "experiments")] = [(422, "no")]
    with pytest.raises(ClusterError):
        call(data, shared(tmp_path / "work"), tmp_path, engine="katib")
    assert "lies on no volume of kubesight.resources.volumes" in caplog.text


def test_the_engine_is_chosen_by_where_the_step_runs(
    data: dict[str, dsl.Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubesight.tune.cluster import api

    (tmp_path / "token").write_text("t")
    monkeypatch.setattr(api, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert step.in_cluster()
    with pytest.raises(ClusterError, match="no volume is named"):
        call(data, JOB, tmp_path)


def test_a_table_of_trials_by_hand() -> None:
    trials = [
        Trial("s-1", 0, {"lr": "0.1"}, "Succeeded", value=0.5, epochs=3, seconds=1.6),
        Trial("s-2", 1, {"lr": "a|b"}, "Failed"),
        Trial("s-3", 2, {"lr": "0.2"}, "EarlyStopped", value=0.75, epochs=2, seconds=1.2),
    ]
    assert sweep_markdown(trials, trials[2], "iou", "3 trials have ended").splitlines() == [
        "# s-3: iou 0.75",
        "3 trials. 3 trials have ended",
        "",
        "| trial | condition | iou | epochs | seconds | lr |",
        "| --- | --- | --- | --- | --- | --- |",
        "| s-3 | EarlyStopped | 0.75 | 2 | 1 | 0.2 |",
        "| s-1 | Succeeded | 0.5 | 3 | 2 | 0.1 |",
        "| s-2 | Failed |  | 0 | 0 | a\\|b |",
    ]
    assert sweep_counts(trials) == {
        "trials": 3, "trials_Succeeded": 1, "trials_Failed": 1, "trials_EarlyStopped": 1,
    }  # fmt: skip


def test_the_component_is_thin_described_and_ascii() -> None:
    module = Path(tune_model.python_func.__code__.co_filename)
    source = module.read_text(encoding="utf-8")
    assert source.isascii()
    body = source[source.rindex('    """') :].splitlines()[1:]
    assert len([line for line in body if line.strip()]) <= 30
    spec = tune_model.component_spec
    assert spec.implementation.container.image == components.IMAGE
    readme = (module.parent / "README.md").read_text(encoding="utf-8")
    for name in [*spec.inputs, *spec.outputs]:
        assert f"`{name}`" in readme, f"{name} is missing in the README"
