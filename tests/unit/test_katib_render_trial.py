"""The jobs of trials: what a pod gets, for each kind of job."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import ApiClient
from kubernetes.utils.quantity import parse_quantity

from kubesight.errors import JobError
from kubesight.job.sections import Resources
from kubesight.tune.katib.command import trial_command
from kubesight.tune.katib.pod import canonical, is_kept
from kubesight.tune.katib.trial import trial_job

EVERYTHING = {
    "image": "registry.example.org/team/kubesight-torch:1",
    "accelerator": "nvidia.com/mig-1g.10gb",
    "gpus": "2",
    "cpu": "8",
    "memory": "64Gi",
    "shared_memory": "16384Mi",
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "priority_class": "low",
    "queue": "team",
    "service_account": "trainer",
    "image_pull_secrets": ["registry"],
    "secret": "object-store",
    "volumes": [{"claim": "data", "path": "/data"}, {"claim": "data.more", "path": "/more"}],
}


def resources(**changes: Any) -> Resources:
    return Resources.model_validate(changes)


def job(kind: str = "auto", output: str = "/data/sweeps/one", **changes: Any) -> dict[str, Any]:
    return trial_job("kubesight train", kind, resources(**changes), output=output, deadline_seconds=3600).spec


def pod_of(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["spec"]["template"]["spec"]


def test_a_job_with_nothing_asked_for() -> None:
    spec = job()
    assert (spec["apiVersion"], spec["kind"]) == ("batch/v1", "Job")
    assert "metadata" not in spec
    assert (spec["spec"]["backoffLimit"], spec["spec"]["activeDeadlineSeconds"]) == (2, 3600)
    template = spec["spec"]["template"]
    assert template["metadata"] == {
        "labels": {"sidecar.istio.io/inject": "false"},
        "annotations": {"sidecar.istio.io/inject": "false"},
    }
    pod = template["spec"]
    assert set(pod) == {"restartPolicy", "securityContext", "volumes", "containers"}
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["name"] == "training"
    assert container["command"] == ["sh", "-c", "kubesight train"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "16Gi"},
        "limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
    }
    assert container["volumeMounts"] == [{"name": "dshm", "mountPath": "/dev/shm"}]
    assert pod["volumes"] == [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    assert "env" not in container
    assert "envFrom" not in container
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_job_with_everything() -> None:
    spec = job(**EVERYTHING)
    assert spec["metadata"] == {"labels": {"kueue.x-k8s.io/queue-name": "team"}}
    pod = pod_of(spec)
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["priorityClassName"] == "low"
    assert pod["serviceAccountName"] == "trainer"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["volumes"] == [
        {"name": "volume-0", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "volume-1", "persistentVolumeClaim": {"claimName": "data.more"}},
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
    ]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example.org/team/kubesight-torch:1"
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/mig-1g.10gb": "2"}
    assert container["resources"]["requests"] == {"cpu": "8", "memory": "64Gi"}
    assert container["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "KUBESIGHT_CACHE": "/data/sweeps/cache",
        "XDG_CACHE_HOME": "/data/sweeps/cache",
        "KERAS_HOME": "/data/sweeps/cache/keras",
        "HOME": "/tmp",
    }
    # In a Job kubesight starts its own processes, one a GPU.
    assert container["command"][2] == "kubesight train"


def test_two_folders_of_one_volume() -> None:
    pod = pod_of(job(volumes=[{"claim": "data", "path": "/data"}, {"claim": "data", "path": "/also"}]))
    assert [volume["name"] for volume in pod["volumes"]] == ["volume-0", "dshm"]
    assert [(m["name"], m["mountPath"]) for m in pod["containers"][0]["volumeMounts"]][:2] == [
        ("volume-0", "/data"),
        ("volume-0", "/also"),
    ]


def test_no_gpu() -> None:
    limits = pod_of(job(gpus="0"))["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "4", "memory": "16Gi"}


def test_mistakes_of_the_user_end_a_job_and_lost_nodes_do_not_count() -> None:
    lost, mistake = job()["spec"]["podFailurePolicy"]["rules"]
    assert lost == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert mistake["action"] == "FailJob"
    assert mistake["onExitCodes"] == {"containerName": "training", "operator": "In", "values": [2]}


def test_caches_lie_beside_the_sweep_on_its_volume_alone() -> None:
    volumes = [{"claim": "data", "path": "/data"}]
    assert "env" not in pod_of(job(volumes=volumes, output="/here/sweeps/one"))["containers"][0]
    assert "env" not in pod_of(job(volumes=volumes, output="/database/sweeps/one"))["containers"][0]
    env = pod_of(job(volumes=volumes, output="/data/one/"))["containers"][0]["env"]
    assert env[0] == {"name": "KUBESIGHT_CACHE", "value": "/data/cache"}
    # Kubernetes reads $(NAME) and $$ in values.
    env = pod_of(job(volumes=volumes, output="/data/$(x)/one"))["containers"][0]["env"]
    assert env[0]["value"] == "/data/$$(x)/cache"


def test_what_is_kept() -> None:
    kept = resources(volumes=[{"claim": "data", "path": "/data/"}])
    assert is_kept(kept, "/data/sweeps")
    assert not is_kept(kept, "/data/../tmp")
    assert not is_kept(kept, "/database")
    assert not is_kept(resources(), "/data/sweeps")


@pytest.mark.parametrize("path", ["/dev/shm", "/data/", "/var/log/katib"])
def test_two_volumes_at_one_place(path: str) -> None:
    with pytest.raises(JobError, match="already has a volume"):
        job(volumes=[{"claim": "a", "path": "/data"}, {"claim": "b", "path": path}])


def test_several_nodes_are_a_pytorch_job() -> None:
    found = trial_job(
        "kubesight train", "auto", resources(**EVERYTHING, nodes=3), output="/data/sweeps/one", deadline_seconds=60
    )
    spec = found.spec
    assert (spec["apiVersion"], spec["kind"], found.primary_container) == ("kubeflow.org/v1", "PyTorchJob", "pytorch")
    assert spec["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    assert spec["spec"]["nprocPerNode"] == "2"
    assert spec["spec"]["runPolicy"] == {"backoffLimit": 2, "activeDeadlineSeconds": 60, "cleanPodPolicy": "Running"}
    replicas = spec["spec"]["pytorchReplicaSpecs"]
    assert {name: each["replicas"] for name, each in replicas.items()} == {"Master": 1, "Worker": 2}
    for each in replicas.values():
        assert each["restartPolicy"] == "ExitCode"
        (container,) = each["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"
        assert container["command"] == ["sh", "-c", "torchrun --no-python kubesight train"]
        assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "2"
        assert each["template"]["metadata"]["labels"] == {"sidecar.istio.io/inject": "false"}


def test_a_pytorch_job_of_one_process_needs_no_launcher() -> None:
    replicas = job("PyTorchJob")["spec"]["pytorchReplicaSpecs"]
    assert list(replicas) == ["Master"]
    assert replicas["Master"]["template"]["spec"]["containers"][0]["command"][2] == "kubesight train"


def test_a_train_job() -> None:
    asked = {name: value for name, value in EVERYTHING.items() if name not in ("priority_class", "secret")}
    found = trial_job(
        "kubesight train", "TrainJob", resources(**asked, nodes=2), output="/data/sweeps/one", deadline_seconds=60
    )
    spec = found.spec["spec"]
    assert found.primary_container == "node"
    assert spec["runtimeRef"] == {"name": "torch-distributed"}
    assert spec["activeDeadlineSeconds"] == 60
    trainer = spec["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 2)
    assert trainer["command"] == ["sh", "-c", "torchrun --no-python kubesight train"]
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/mig-1g.10gb"] == "2"
    (patch,) = spec["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    pod = replicated["template"]["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert pod["spec"]["containers"] == [
        {
            "name": "node",
            "volumeMounts": [
                {"name": "volume-0", "mountPath": "/data"},
                {"name": "volume-1", "mountPath": "/more"},
                {"name": "dshm", "mountPath": "/dev/shm"},
            ],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ]


@pytest.mark.parametrize("field", ["priority_class", "secret"])
def test_what_a_train_job_has_no_field_for(field: str) -> None:
    with pytest.raises(JobError, match="a TrainJob has no field for") as caught:
        job("TrainJob", **{field: "x"})
    assert caught.value.where == f"kubesight.resources.{field}"


def test_a_job_has_one_node() -> None:
    with pytest.raises(JobError, match="a Job is one pod, and 2 nodes"):
        job("Job", nodes=2)


@pytest.mark.parametrize("kind", ["Job", "PyTorchJob", "TrainJob"])
def test_each_kind_can_be_run_here(kind: str) -> None:
    asked = {name: value for name, value in EVERYTHING.items() if name not in ("priority_class", "secret")}
    found = trial_job(
        "kubesight train", kind, resources(**asked | {"gpus": "1"}), output="/data/sweeps/one", deadline_seconds=60
    )
    command = trial_command(found.spec, found.primary_container)
    assert command.argv == ("sh", "-c", "kubesight train")
    assert command.env["KUBESIGHT_CACHE"] == "/data/sweeps/cache"
    assert command.gpus == 1
    assert command.deadline_seconds == 60
    assert command.volumes == {"/data": "data", "/more": "data.more", "/dev/shm": "emptyDir"}


# As Kubernetes' resource.Quantity writes them (its documentation's canonical form).
@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("8Gi", "8Gi"),
        ("8192Mi", "8Gi"),
        ("1.5Gi", "1536Mi"),
        ("1.5G", "1500M"),
        ("1000M", "1G"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("0.5", "500m"),
        ("2000m", "2"),
        ("0", "0"),
        ("1024Ki", "1Mi"),
    ],
)
def test_quantities_as_kubernetes_writes_them(written: str, same: str) -> None:
    assert canonical(written) == same


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_canonical_quantities_are_the_same_amount(count: int, suffix: str) -> None:
    text = canonical(f"{count}{suffix}")
    assert parse_quantity(text) == parse_quantity(f"{count}{suffix}")
    assert canonical(text) == text


class _Response:
    """What the client's reader takes."""

    def __init__(self, value: Any) -> None:
        self.data = json.dumps(value)


@pytest.mark.parametrize("asked", [{}, EVERYTHING])
def test_typed_objects_keep_every_field(asked: dict[str, Any]) -> None:
    """Katib's webhook refuses a Job of which its typed Job would write anything otherwise."""
    client = ApiClient()
    spec = job(**asked)
    assert client.sanitize_for_serialization(client.deserialize(_Response(spec), "V1Job")) == spec
    template = job("PyTorchJob", **asked)["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    assert client.sanitize_for_serialization(client.deserialize(_Response(template), "V1PodTemplateSpec")) == template
