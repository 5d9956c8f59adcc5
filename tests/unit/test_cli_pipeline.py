"""Compiling, parameters from a job, and talking to Kubeflow's API."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.components import load_component_from_file
from kfp.dsl.base_component import BaseComponent

import kubesight.components as components
from kubesight.cli.main import main
from kubesight.errors import ClusterError
from kubesight.job import load_job
from kubesight.pipelines.cluster import Api, submit_run, write_package
from kubesight.pipelines.local import link_folder
from kubesight.pipelines.parameters import job_parameters
from kubesight.pipelines.sweep import sweep_pipeline
from kubesight.pipelines.train import train_pipeline

JOB = """
task: image_classification
primary_metric: AUC_macro
training_data: pictures
validation_data_size: 0.3
test_data_size: 0.1
display_name: cats
training_parameters:
  model_name: resnet50
  epochs: 4
  learning_rate: 0.05
kubesight:
  source: {format: folder, max_dropped: 0.2}
  model: {weights: none}
  split: {seed: 7}
  resources:
    gpus: 2
    cpu: 8
    memory: 32Gi
    shared_memory: 4Gi
    image: registry.example.org/kubesight-torch:9
    node_selector: {pool: gpu}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def test_a_job_sets_the_parameters_that_it_speaks_of(job: Path) -> None:
    parameters = job_parameters(load_job(job))
    assert json.loads(parameters.pop("hyperparameters")) == {"number_of_epochs": 4, "learning_rate": 0.05}
    assert json.loads(parameters.pop("conversion")) == {"max_dropped": 0.2}
    assert parameters == {
        "source": str(job.parent / "pictures"),
        "task": "image_classification",
        "format": "folder",
        "validation_source": "",
        "test_source": "",
        "split_ratio": 0.3,
        "test_ratio": 0.1,
        "seed": 7,
        "model_name": "resnet50",
        "weights": "none",
        "primary_metric": "AUC_macro",
        "training_folder": "",
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "image": "registry.example.org/kubesight-torch:9",
        "gpus": "2",
        "cpu": "8",
        "memory": "32Gi",
    }


def package(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    spec, platforms = yaml.safe_load_all(text)
    return spec, platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_the_bare_pipeline_has_a_form_that_a_person_can_fill_in(tmp_path: Path) -> None:
    write_package(train_pipeline, {}, tmp_path / "train.yaml")
    spec, executors = package(tmp_path / "train.yaml")
    form = spec["root"]["inputDefinitions"]["parameters"]
    assert all(field["description"] for field in form.values())
    assert [name for name, field in form.items() if not field.get("isOptional")] == ["source"]
    assert form["split_ratio"]["defaultValue"] == 0.2
    # The backend reads a number given at run time as "no GPU", and refuses empty quantities.
    images = {"image": components.IMAGE, "keras_image": components.KERAS_IMAGE}
    for name, value in {"gpus": "0", "cpu": "4", "memory": "16Gi", **images}.items():
        assert form[name]["parameterType"] == "STRING"
        assert form[name]["defaultValue"] == value
    assert load_component_from_file(str(tmp_path / "train.yaml")).name == "kubesight-train"
    assert set(executors) == {"exec-train-model", "exec-evaluate-model"}


def test_training_asks_for_the_pool_that_the_run_names(tmp_path: Path) -> None:
    write_package(train_pipeline, {}, tmp_path / "train.yaml")
    spec, executors = package(tmp_path / "train.yaml")
    container = spec["deploymentSpec"]["executors"]["exec-train-model"]["container"]
    assert container["resources"] == {
        "accelerator": {
            "resourceCount": "{{$.inputs.parameters['pipelinechannel--gpus']}}",
            "resourceType": "{{$.inputs.parameters['pipelinechannel--accelerator']}}",
        },
        "resourceCpuLimit": "{{$.inputs.parameters['pipelinechannel--cpu']}}",
        "resourceMemoryLimit": "{{$.inputs.parameters['pipelinechannel--memory']}}",
    }
    assert executors["exec-train-model"] == {
        "emptyDirMounts": [{"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "8Gi", "volumeName": "dshm"}],
        "nodeSelector": {"nodeSelectorJson": {"componentInputParameter": "node_selector"}},
        "tolerations": [{"tolerationJson": {"componentInputParameter": "tolerations"}}],
    }
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["train-model"]["retryPolicy"]["maxRetryCount"] == 2
    assert all(task["cachingOptions"]["enableCache"] for task in tasks.values())
    names = {task["taskInfo"]["name"] for task in tasks.values()}
    assert names == {"Check", "Convert", "Validate", "Split", "Train", "Evaluate", "Export"}
    for container in spec["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(container["container"]["command"])


@pytest.mark.parametrize("pipeline", [train_pipeline, sweep_pipeline], ids=lambda pipeline: pipeline.name)
def test_steps_that_run_the_model_have_the_image_of_its_framework(pipeline: BaseComponent, tmp_path: Path) -> None:
    write_package(pipeline, {}, tmp_path / "out.yaml")
    spec, _ = package(tmp_path / "out.yaml")
    images = {name: each["container"]["image"] for name, each in spec["deploymentSpec"]["executors"].items()}
    form, chosen = "pipelinechannel--image", "pipelinechannel--check-settings-training_image"
    trainer = "train-model" if pipeline is train_pipeline else "tune-model"
    by_step = dict.fromkeys(("check-settings", "convert-dataset", "validate-dataset", "split-dataset"), form)
    by_step |= dict.fromkeys((trainer, "evaluate-model", "export-model"), chosen)
    assert images == {f"exec-{name}": f"{{{{$.inputs.parameters['{image}']}}}}" for name, image in by_step.items()}
    tasks = spec["root"]["dag"]["tasks"]
    place = {"producerTask": "check-settings", "outputParameterKey": "training_image"}
    sources = {form: {"componentInputParameter": "image"}, chosen: {"taskOutputParameter": place}}
    for name, image in by_step.items():
        assert tasks[name]["inputs"]["parameters"][image] == sources[image]
    # Nothing is read before the settings are known to be right.
    assert tasks["convert-dataset"]["dependentTasks"] == ["check-settings"]


@pytest.mark.parametrize(
    ("model_name", "images"),
    [
        ("resnet18", {"image": "registry.example.org/both:1"}),
        ("keras/MobileNetV2", dict.fromkeys(("image", "keras_image"), "registry.example.org/both:1")),
    ],
)
def test_the_jobs_image_is_that_of_every_step(tmp_path: Path, model_name: str, images: dict[str, str]) -> None:
    (tmp_path / "job.yaml").write_text(
        f"task: image_classification\ntraining_data: pictures\ntraining_parameters: {{model_name: {model_name}}}\n"
        "kubesight: {resources: {image: 'registry.example.org/both:1'}}\n"
    )
    parameters = job_parameters(load_job(tmp_path / "job.yaml"))
    assert {name: value for name, value in parameters.items() if "image" in name} == images


def test_compile_of_a_job_fills_the_form(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["kubesight", "compile", str(job), "-o", str(tmp_path / "out.yaml")])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code in (0, None)
    spec, executors = package(tmp_path / "out.yaml")
    form = spec["root"]["inputDefinitions"]["parameters"]
    assert form["gpus"]["defaultValue"] == "2"
    assert form["node_selector"]["defaultValue"] == {"pool": "gpu"}
    assert json.loads(form["hyperparameters"]["defaultValue"])["number_of_epochs"] == 4
    mounts = [executor["emptyDirMounts"][0] for executor in executors.values()]
    assert [mount["sizeLimit"] for mount in mounts] == ["4Gi", "4Gi"]
    assert capsys.readouterr().out == f"{tmp_path / 'out.yaml'}\n"


def test_a_package_must_be_yaml(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"out\.zip: a pipeline package is a YAML file"):
        write_package(train_pipeline, {}, tmp_path / "out.zip")


def test_results_get_stable_names_that_replace_earlier_ones(tmp_path: Path) -> None:
    for run in ("one", "two"):
        (tmp_path / run / "inner").mkdir(parents=True)
        (tmp_path / run / "inner" / f"{run}.txt").write_text(run)
        link_folder(tmp_path / run, tmp_path / "stable")
    assert [path.name for path in (tmp_path / "stable" / "inner").iterdir()] == ["two.txt"]
    assert (tmp_path / "one" / "inner" / "one.txt").exists()


class Kubeflow(BaseHTTPRequestHandler):
    """Enough of Kubeflow Pipelines' API to take a run, from those who may."""

    requests: list[tuple[str, str, Any]] = []  # noqa: RUF012
    state = "SUCCEEDED"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, value: Any) -> None:
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/dex/auth")
        self.send_header("Content-Type", "text/html" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def may(self) -> bool:
        known = self.headers.get("Authorization") == "Bearer good" or self.headers.get("Cookie") == "session=good"
        if self.headers.get("Cookie") == "session=html":
            self.answer(200, "<html>log in</html>")
        elif not known:
            self.answer(302 if self.headers.get("Cookie") else 401, {"message": "who are you"})
        return known

    def do_GET(self) -> None:
        if not self.may():
            return
        if "/healthz" in self.path:
            self.answer(200, {"multi_user": True})
        elif "/experiments" in self.path:
            self.answer(200, {})
        else:
            self.answer(200, {"run_id": "r1", "state": type(self).state})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.may():
            return
        type(self).requests.append((self.path, self.headers.get("Authorization", ""), body))
        if body.get("namespace") == "forbidden":
            self.answer(403, {"message": "User is not authorized in forbidden"})
        elif "/experiments" in self.path:
            self.answer(200, {"experiment_id": "e1", "display_name": body["display_name"]})
        else:
            self.answer(200, {"run_id": "r1", "display_name": body["display_name"]})


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubeflow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Kubeflow.requests.clear()
    Kubeflow.state = "SUCCEEDED"
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_submit_starts_a_run_with_the_job_s_values(
    host: str, job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("KUBESIGHT_TOKEN", "good")
    arguments = ["submit", str(job), "--host", f"{host}/", "--namespace", "team", "--experiment", "zoo", "--wait"]
    monkeypatch.setattr("sys.argv", ["kubesight", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code in (0, None)
    assert capsys.readouterr().out == f"{host}/#/runs/details/r1\n"
    (_, _, experiment), (_, token, run) = Kubeflow.requests
    assert (experiment["display_name"], experiment["namespace"]) == ("zoo", "team")
    assert token == "Bearer good"
    assert run["experiment_id"] == "e1"
    assert run["display_name"].startswith("cats ")
    assert run["runtime_config"]["parameters"] == job_parameters(load_job(job))
    sizes = json.dumps(run["pipeline_spec"])
    assert '"sizeLimit": "4Gi"' in sizes


def test_cookies_open_the_door_too(host: str) -> None:
    page = submit_run(
        Api(host, "team", cookies="session=good"), train_pipeline, {"source": "s3://b"}, experiment="e", run_name="r"
    )
    assert page == f"{host}/#/runs/details/r1"


def test_a_mounted_token_is_taken(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("good\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert submit_run(Api(host, "team"), train_pipeline, {"source": "s3://b"}, experiment="e", run_name="r").endswith(
        "/r1"
    )


@pytest.mark.parametrize(
    ("api", "message"),
    [
        ({"token": "bad"}, "the API answered 401 Unauthorized. Give --token"),
        ({"cookies": "session=old"}, "a login page stands before the API. Give --token or --cookies"),
        ({"cookies": "session=html"}, "this is a web page, not the API"),
        (
            {"token": "good", "namespace": "forbidden"},
            "403 Forbidden: User is not authorized in forbidden. The account",
        ),
    ],
)
def test_refusals_say_what_to_do(host: str, api: dict[str, str], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        submit_run(Api(host, **api), train_pipeline, {"source": "s3://bucket"}, experiment="e", run_name="r")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:9/.*cannot be reached: .*Connection refused"):
        submit_run(Api("http://127.0.0.1:9"), train_pipeline, {}, experiment="e", run_name="r")


def test_waiting_for_a_run_that_fails(host: str) -> None:
    Kubeflow.state = "FAILED"
    with pytest.raises(ClusterError, match="runs/details/r1: the run ended as FAILED"):
        submit_run(
            Api(host, "team", token="good"),
            train_pipeline,
            {"source": "s3://b"},
            experiment="e",
            run_name="r",
            wait=True,
        )
