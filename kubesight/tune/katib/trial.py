"""The trial template: the job that Katib makes for each trial."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubesight.errors import JobError
from kubesight.job.sections import Resources
from kubesight.tune.katib.pod import PodParts, pod_metadata, pod_parts

RETRIES = 2
"""How often a trial is run again whose pod died; it goes on from its checkpoint."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

_USERS_MISTAKE = 2
"""What `kubesight` exits with for an error that running again cannot mend."""

_HOW_TO_TRAIN_TOGETHER = "Choose PyTorchJob or TrainJob under kubesight.sweep.trial_kind, or auto."


@dataclass(frozen=True)
class TrialJob:
    """A trial's job.

    Attributes:
        spec: Katib's `trialSpec`, with `${trialParameters.NAME}`.
        primary_container: the name of the container that trains.
    """

    spec: dict[str, Any]
    primary_container: str


def trial_job(command: str, kind: str, resources: Resources, *, output: str, deadline_seconds: int) -> TrialJob:
    """The job of a trial.

    Args:
        command: `kubesight train ...`, quoted for a shell.
        kind: auto (a Job; several nodes: a PyTorchJob), Job, PyTorchJob or TrainJob.
        resources: what the job file asks for.
        output: the folder that trials write their own folders to.
        deadline_seconds: a trial ends after so long.

    Raises:
        JobError: a kind that cannot have what is asked for.
    """
    nodes = resources.nodes
    if kind == "auto":
        kind = "Job" if nodes == 1 else "PyTorchJob"
    together = nodes * int(resources.gpus or 1) > 1
    if kind == "Job" and nodes > 1:
        raise JobError(
            f"a Job is one pod, and {nodes} nodes are asked for",
            where="kubesight.resources.nodes",
            hint=_HOW_TO_TRAIN_TOGETHER,
        )
    if kind != "Job" and together:
        # Both operators tell torchrun by PET_* variables where the others are. In a Job kubesight starts its own
        # processes, one a GPU. Metric lines come from rank 0, which is in the pod that Katib's collector joins.
        command = f"torchrun --no-python {command}"
    parts = pod_parts(command, resources, output)
    return _KINDS[kind](parts, resources, deadline_seconds)


def _job(parts: PodParts, resources: Resources, deadline: int) -> TrialJob:
    name = "training"
    policy = [
        # A node that is drained or taken away is nobody's failure.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # Not seen when Katib's own early stopping has rules: Katib's wrapper then makes every exit code 1.
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": name, "operator": "In", "values": [_USERS_MISTAKE]},
        },
    ]
    spec = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        **_metadata(resources),
        "spec": {
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": deadline,
            "podFailurePolicy": {"rules": policy},
            "template": _template(parts, name, restart="Never"),
        },
    }
    return TrialJob(spec, name)


def _pytorch_job(parts: PodParts, resources: Resources, deadline: int) -> TrialJob:
    name = "pytorch"  # the operator asks for it

    def replica(count: int) -> dict[str, Any]:
        # Only exit codes of 128 and more, which is killed from outside, are tried again.
        return {"replicas": count, "restartPolicy": "ExitCode", "template": _template(parts, name)}

    replicas = {"Master": replica(1)}
    if resources.nodes > 1:
        replicas["Worker"] = replica(resources.nodes - 1)
    spec = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        **_metadata(resources),
        "spec": {
            "nprocPerNode": str(max(1, parts.gpus)),
            "runPolicy": {
                "backoffLimit": RETRIES,
                "activeDeadlineSeconds": deadline,
                # Katib stops the master alone: workers have to let go of their GPUs too.
                "cleanPodPolicy": "Running",
            },
            "pytorchReplicaSpecs": replicas,
        },
    }
    return TrialJob(spec, name)


def _train_job(parts: PodParts, resources: Resources, deadline: int) -> TrialJob:
    name = "node"  # of the container and of the job within the runtime torch-distributed
    for field, why in (("priority_class", "a priority"), ("secret", "a secret for all variables")):
        if getattr(resources, field):
            raise JobError(
                f"a TrainJob has no field for {why}",
                where=f"kubesight.resources.{field}",
                hint="Put it into the training runtime, or choose PyTorchJob under kubesight.sweep.trial_kind.",
            )
    container = dict(parts.container)
    patched = {"name": name, **{key: container.pop(key) for key in ("volumeMounts", "securityContext")}}
    amounts = container.pop("resources")
    pod = {"metadata": pod_metadata(), "spec": {**parts.spec, "containers": [patched]}}
    spec = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        **_metadata(resources),
        "spec": {
            "activeDeadlineSeconds": deadline,
            "runtimeRef": {"name": "torch-distributed"},
            "trainer": {
                **container,
                "numNodes": resources.nodes,
                "numProcPerNode": max(1, parts.gpus),
                "resourcesPerNode": amounts,
            },
            "runtimePatches": [
                {
                    "manager": "kubesight",
                    "trainingRuntimeSpec": {
                        "template": {
                            "spec": {"replicatedJobs": [{"name": name, "template": {"spec": {"template": pod}}}]}
                        }
                    },
                }
            ],
        },
    }
    return TrialJob(spec, name)


_KINDS: dict[str, Callable[[PodParts, Resources, int], TrialJob]] = {
    "Job": _job,
    "PyTorchJob": _pytorch_job,
    "TrainJob": _train_job,
}


def _metadata(resources: Resources) -> dict[str, Any]:
    """Kueue's queue; Katib gives the job its name and namespace and allows neither here."""
    return {"metadata": {"labels": {QUEUE_LABEL: resources.queue}}} if resources.queue else {}


def _template(parts: PodParts, name: str, *, restart: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"restartPolicy": restart} if restart else {}
    return {
        "metadata": pod_metadata(),
        "spec": {**spec, **parts.spec, "containers": [{"name": name, **parts.container}]},
    }
