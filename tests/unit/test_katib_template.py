"""Trial templates filled in, and the command that a trial's manifest runs."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.errors import JobError
from kubesight.tune.katib.command import _warn
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.template import Template, TrialCommand, TrialParameter, trial_command

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
VALUES = {"lr": "0.02", "layers": "3", "optimizer": "adam"}


def template(name: str = "random") -> Template:
    return read_experiment(EXPERIMENTS / f"{name}.yaml").template


def one(text: str, reference: str = "x") -> Template:
    return Template({"kind": "Job", "apiVersion": "batch/v1", "text": text}, (TrialParameter("x", reference),), "main")


def job(container: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    main = {"name": "main", "image": "example.org/i", "command": ["run"], **(container or {})}
    pod.setdefault("containers", [main])
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {**(spec or {}), "template": {"spec": pod}}}


@pytest.fixture(autouse=True)
def _said_again() -> None:
    _warn.cache_clear()


def test_values_names_and_metadata_are_put_in() -> None:
    manifest = template("metadata").render("sweep-1", "vision", VALUES)
    assert manifest["metadata"] == {
        "labels": {"team": "vision"},
        "annotations": {"example.org/note": "a note"},
        "name": "sweep-1",
        "namespace": "vision",
    }
    assert manifest["spec"]["template"]["spec"]["containers"][0]["command"] == [
        "python3",
        "train.py",
        "--lr=0.02",
        "--layers=3",
        "--optimizer=adam",
        "--output=/results/vision/sweep-1",
        "--kind=Job/batch/v1",
        "--team=vision",
        "--note=a note",
    ]


def test_the_template_itself_stays_as_it_is() -> None:
    wanted = template("metadata")
    before = copy.deepcopy(wanted.spec)
    wanted.render("sweep-1", "vision", VALUES)
    assert wanted.spec == before


def test_a_value_is_put_in_wherever_its_name_stands() -> None:
    spec = {"a": "${trialParameters.x}-${trialParameters.x}", "${trialParameters.x}": ["${trialParameters.y}"]}
    wanted = Template(spec, (TrialParameter("x", "one"), TrialParameter("y", "two")), "main")
    rendered = wanted.render("t", "n", {"one": "1", "two": "${HOME}"})
    assert rendered == {"a": "1-1", "1": ["${HOME}"], "metadata": {"name": "t", "namespace": "n"}}


@given(st.text().filter(lambda text: "${trialParameters." not in text))
def test_values_are_put_in_as_plain_text_of_the_json(value: str) -> None:
    """Katib's replacement, on the text of the JSON: the independent truth is that text, parsed."""
    expected: Any
    try:
        expected = json.loads(json.dumps({"text": "<?>"}).replace("<?>", value))
    except json.JSONDecodeError:
        expected = None
    if expected is None:
        with pytest.raises(JobError, match="no JSON any more"):
            one("${trialParameters.x}").render("t", "n", {"x": value})
    else:
        assert one("${trialParameters.x}").render("t", "n", {"x": value})["text"] == expected["text"]


@pytest.mark.parametrize(
    ("text", "reference", "values", "said"),
    [
        ("${trialParameters.x}", "x", {}, "x references x, which has no value"),
        ("${trialParameters.x}", "x", {"x": "1", "y": "2"}, "the parameter y is not referenced"),
        ("${trialParameters.x}${trialParameters.y}", "x", {"x": "1"}, r"trialParameters.y\} stands in the trial"),
        ("${trialParameters.x}", "x", {"x": "${trialParameters.x}"}, "has put the placeholder"),
        ("${trialParameters.x}", "x", {"x": 'a"b'}, "is no JSON any more with x="),
        ("${trialParameters.x}", "x", {"x": "a\\"}, "use none with quotes"),
        ("${trialParameters.x}", "${trialSpec.Labels[team]}", {}, r"trialSpec.metadata.labels the key team"),
        ("${trialParameters.x}", "${trialSpec.Annotations[a.b/c]}", {}, "metadata.annotations the key a.b/c"),
    ],
)
def test_what_cannot_be_put_in(text: str, reference: str, values: dict[str, str], said: str) -> None:
    with pytest.raises(JobError, match=said):
        one(text, reference).render("t", "n", values)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("random", TrialCommand(("python3", "train.py", "--epochs=1", "--lr=0.02", "--layers=3", "--optimizer=adam"))),
        ("trainjob", TrialCommand(("python3", "train.py", "--lr=0.02", "--layers=3", "--optimizer=adam"), gpus=1)),
        (
            "pytorchjob",
            TrialCommand(
                ("python3", "train.py", "--lr=0.02", "--layers=3", "--optimizer=adam"), deadline_seconds=600, retries=1
            ),
        ),
    ],
)
def test_commands_of_the_three_kinds(name: str, expected: TrialCommand) -> None:
    wanted = template(name)
    assert trial_command(wanted.render("t", "n", VALUES), wanted.primary_container) == expected


def test_command_arguments_folder_deadline_and_retries() -> None:
    container = {"args": ["--a", "b c"], "workingDir": "/work"}
    assert trial_command(job(container, {"activeDeadlineSeconds": 60, "backoffLimit": 2}), "main") == TrialCommand(
        ("run", "--a", "b c"), working_dir="/work", deadline_seconds=60, retries=2
    )


def test_variables_are_expanded_as_kubernetes_does() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)2$(C)"},
        {"name": "C", "value": "3"},
        {"name": "EMPTY"},
    ]
    args = ["$(B)", "$$(A)", "$(UNKNOWN)", "$A", "$$", "x$(C", "$(EMPTY)", "cost: 5$"]
    command = trial_command(job({"env": env, "args": args}), "main")
    # B is read before C is known, as in Kubernetes: its $(C) stays.
    assert command.env == {"A": "1", "B": "12$(C)", "C": "3", "EMPTY": ""}
    assert command.argv == ("run", "12$(C)", "$(A)", "$(UNKNOWN)", "$A", "$", "x$(C", "", "cost: 5$")


def test_variables_of_the_cluster_are_yours_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOKEN", "mine")
    caplog.set_level(logging.WARNING)
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    manifest = job({"env": env, "envFrom": [{"secretRef": {"name": "store"}}], "args": ["$(TOKEN)"]})
    for _ in range(2):
        command = trial_command(manifest, "main")
    assert (command.argv, command.env) == (("run", "mine"), {})
    assert caplog.text.count("the variable TOKEN comes from the cluster") == 1
    assert "the variables of store are not known here" in caplog.text


@pytest.mark.parametrize(
    ("limits", "gpus"),
    [
        ({}, 0),
        ({"cpu": "4", "memory": "8Gi"}, 0),
        ({"nvidia.com/gpu": 2}, 2),
        ({"nvidia.com/gpu": "1"}, 1),
        ({"amd.com/gpu": "1"}, 1),
        ({"nvidia.com/mig-1g.10gb": "1"}, 1),
        ({"nvidia.com/gpu.shared": "1"}, 1),
        ({"example.org/gpu": "1"}, 0),
    ],
)
def test_gpus(limits: dict[str, Any], gpus: int) -> None:
    assert trial_command(job({"resources": {"limits": limits}}), "main").gpus == gpus


def test_volumes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    volumes = [
        {"name": "dshm", "emptyDir": {"medium": "Memory"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "pictures"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
    ]
    mounts = [
        {"name": "dshm", "mountPath": "/dev/shm"},
        {"name": "data", "mountPath": "/data"},
        {"name": "data", "mountPath": "/sub", "subPath": "a/b"},
        {"name": "keys", "mountPath": "/keys"},
    ]
    command = trial_command(job({"volumeMounts": mounts}, volumes=volumes), "main")
    assert command.volumes == {"/dev/shm": "emptyDir", "/data": "pictures", "/sub": "pictures/a/b"}
    assert "/keys is not mounted here" in caplog.text


@pytest.mark.parametrize("overrides", ["podTemplateOverrides", "runtimePatches"])
def test_train_jobs_keep_volumes_and_variables_in_overrides(overrides: str) -> None:
    pod = {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "pictures"}}],
        "containers": [
            {
                "name": "node",
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
    }
    node = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    there = {
        "podTemplateOverrides": [{"targetJobs": [{"name": "node"}], "spec": pod}, {"targetJobs": [{"name": "other"}]}],
        "runtimePatches": [{"trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}}}],
    }
    trainer = {"command": ["run", "$(A)"], "numNodes": 1}
    manifest = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "spec": {"trainer": trainer, "activeDeadlineSeconds": 30, overrides: there[overrides]},
    }
    assert trial_command(manifest, "node") == TrialCommand(
        ("run", "1"), {"A": "1"}, deadline_seconds=30, volumes={"/data": "pictures"}
    )


def test_other_containers_are_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    manifest = job(initContainers=[{"name": "download"}])
    assert trial_command(manifest, "main").argv == ("run",)
    assert "the container download is left out" in caplog.text


@pytest.mark.parametrize(
    ("manifest", "container", "said"),
    [
        ({"apiVersion": "kubeflow.org/v1", "kind": "TFJob"}, "main", "of kind TFJob"),
        ({"apiVersion": "example.org/v1", "kind": "Job"}, "main", "of kind Job"),
        (job({"command": []}), "main", "has no command, and the entry point of its image is not known"),
        (job(), "pytorch", "no container pytorch. Name one of its containers in primaryContainerName: main"),
        (job(spec={"parallelism": 2}), "main", "a Job with parallelism 2 is several pods"),
        (job(spec={"completions": 3}), "main", "a Job with completions 3 is several pods"),
        (job(spec={"activeDeadlineSeconds": "1h"}), "main", "activeDeadlineSeconds: '1h' is not a whole number"),
        (job({"resources": {"limits": {"nvidia.com/gpu": "all"}}}), "main", "nvidia.com/gpu: 'all'"),
        (job({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}), "main", "the volume a of /a is not among"),
        (
            {
                "apiVersion": "trainer.kubeflow.org/v1alpha1",
                "kind": "TrainJob",
                "spec": {"trainer": {"numNodes": 2, "command": ["run"]}},
            },
            "node",
            "a TrainJob with numNodes 2",
        ),
        (
            {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "spec": {"trainer": {}}},
            "node",
            "has no command",
        ),
    ],
)
def test_what_cannot_be_run_here(manifest: dict[str, Any], container: str, said: str) -> None:
    with pytest.raises(JobError, match=said):
        trial_command(manifest, container)


def test_a_pytorch_job_of_one_replica_may_be_a_worker() -> None:
    manifest = template("pytorchjob-two").render("t", "n", VALUES)
    with pytest.raises(JobError, match="a PyTorchJob with replicas 2"):
        trial_command(manifest, "pytorch")
    manifest["spec"]["pytorchReplicaSpecs"]["Master"]["replicas"] = 0
    assert trial_command(manifest, "pytorch").argv[0] == "python3"
