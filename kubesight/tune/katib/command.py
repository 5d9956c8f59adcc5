"""The command that a trial's manifest runs, for a machine without Kubernetes."""

import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesight.errors import JobError

log = logging.getLogger("kubesight")

_GPU = re.compile(r"[\w.-]+\.com/(?:gpu|mig-)")
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


@dataclass(frozen=True)
class TrialCommand:
    """One process that a trial is.

    Attributes:
        argv: command and arguments, `$(VAR)` replaced as Kubernetes does.
        env: variables with their values.
        working_dir: as the container says.
        deadline_seconds: the job ends after so long.
        retries: how often the command is run again after a failure: what `backoffLimit` says, and 0 when it is not
            given, where Kubernetes would run it six times again and only then count the trial as failed.
        gpus: how many the container asks for.
        volumes: by mount path, `emptyDir` or the name of a persistent volume claim (`CLAIM/FOLDER` with a subPath).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    deadline_seconds: int | None = None
    retries: int = 0
    gpus: int = 0
    volumes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pod:
    """The parts of a job that matter here, wherever its kind keeps them."""

    spec: Mapping[str, Any]
    container: Mapping[str, Any]
    deadline: Any
    retries: Any


def trial_command(manifest: Mapping[str, Any], primary_container: str) -> TrialCommand:
    """What a trial's job would run, as one process.

    Args:
        manifest: a Job, a PyTorchJob of one replica or a TrainJob of one node, its parameters filled in.
        primary_container: the container that trains.

    Raises:
        JobError: another kind, several pods, no such container, no command, or a number that is none.
    """
    kind = manifest.get("kind")
    group = str(manifest.get("apiVersion", "")).partition("/")[0]
    read = _KINDS.get((group, str(kind)))
    if read is None:
        raise JobError(
            f"a trial of kind {kind} ({manifest.get('apiVersion')}) cannot be run on this machine",
            hint="There are Job, PyTorchJob with one replica, and TrainJob with one node.",
        )
    pod = read(manifest, primary_container)
    container = pod.container
    if not container.get("command"):
        raise JobError(
            f"the container {primary_container} has no command, and the entry point of its image is not known here",
            hint="Write the command; Katib too would have to ask the image's registry for it.",
        )
    env, known = _environment(container)
    argv = [_expand(str(word), known) for word in [*container["command"], *(container.get("args") or [])]]
    return TrialCommand(
        argv=tuple(argv),
        env=env,
        working_dir=container.get("workingDir"),
        deadline_seconds=_whole(pod.deadline, "activeDeadlineSeconds"),
        retries=_whole(pod.retries, "backoffLimit") or 0,
        gpus=_gpus(container),
        volumes=_volumes(pod.spec, container),
    )


def _job(manifest: Mapping[str, Any], primary: str) -> _Pod:
    spec = manifest.get("spec") or {}
    for key in ("parallelism", "completions"):
        _one(spec.get(key), f"a Job with {key}", key)
    pod = _get(spec, "template", "spec")
    return _Pod(pod, _container(pod, primary), spec.get("activeDeadlineSeconds"), spec.get("backoffLimit"))


def _pytorch_job(manifest: Mapping[str, Any], primary: str) -> _Pod:
    spec = manifest.get("spec") or {}
    replicas = {
        name: _whole(each.get("replicas", 1), "replicas")
        for name, each in _get(spec, "pytorchReplicaSpecs").items()
        if each.get("replicas", 1) not in (0, "0")
    }
    _one(sum(count or 0 for count in replicas.values()), "a PyTorchJob with replicas", "replicas")
    pod = _get(spec, "pytorchReplicaSpecs", *replicas, "template", "spec")
    policy = spec.get("runPolicy") or {}
    return _Pod(pod, _container(pod, primary), policy.get("activeDeadlineSeconds"), policy.get("backoffLimit"))


def _train_job(manifest: Mapping[str, Any], primary: str) -> _Pod:
    spec = manifest.get("spec") or {}
    trainer = _get(spec, "trainer")
    _one(trainer.get("numNodes"), "a TrainJob with numNodes", "numNodes")
    container = {**trainer, "resources": trainer.get("resourcesPerNode") or {}}
    pod: dict[str, Any] = {"volumes": []}
    mounts: list[Any] = []
    for override in _overrides(spec):
        pod["volumes"] += override.get("volumes") or []
        for each in override.get("containers") or []:
            if each.get("name") == primary:
                mounts += each.get("volumeMounts") or []
                container["env"] = [*(container.get("env") or []), *(each.get("env") or [])]
    return _Pod(pod, {**container, "volumeMounts": mounts}, spec.get("activeDeadlineSeconds"), None)


def _overrides(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Pod specs of the training nodes: `podTemplateOverrides` of Trainer 2.1, `runtimePatches` of 2.3."""
    found = []
    for override in spec.get("podTemplateOverrides") or []:
        if any(job.get("name") == "node" for job in override.get("targetJobs") or []):
            found.append(override.get("spec") or {})
    for patch in spec.get("runtimePatches") or []:
        for job in _get(patch, "trainingRuntimeSpec", "template", "spec").get("replicatedJobs") or []:
            if job.get("name") == "node":
                found.append(_get(job, "template", "spec", "template", "spec"))
    return found


_KINDS: Mapping[tuple[str, str], Callable[[Mapping[str, Any], str], _Pod]] = {
    ("batch", "Job"): _job,
    ("kubeflow.org", "PyTorchJob"): _pytorch_job,
    ("trainer.kubeflow.org", "TrainJob"): _train_job,
}


def _get(value: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else {}


def _one(count: Any, what: str, key: str) -> None:
    if (_whole(1 if count is None else count, key) or 0) > 1:
        raise JobError(
            f"{what} {count} is several pods that train together: this machine runs a trial as one process",
            hint=f"Set {key} to 1 here, or run the Experiment on a cluster.",
        )


def _container(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    containers = pod.get("containers") or []
    for other in [*containers, *(pod.get("initContainers") or [])]:
        if other.get("name") != name:
            _warn(f"the container {other.get('name')} is left out: here a trial is its container {name} alone")
    for container in containers:
        if container.get("name") == name:
            return container
    names = ", ".join(str(each.get("name")) for each in containers)
    raise JobError(
        f"the trial template has no container {name}",
        hint=f"Name one of its containers in primaryContainerName: {names or 'it has none'}.",
    )


def _environment(container: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables to set, and those that `$(VAR)` may name: also ones that a secret gives there and you here."""
    env: dict[str, str] = {}
    known: dict[str, str] = {}
    for each in container.get("envFrom") or []:
        source = each.get("secretRef") or each.get("configMapRef") or {}
        _warn(f"the variables of {source.get('name')} are not known here: yours count where you have set them")
    for variable in container.get("env") or []:
        name = variable["name"]
        if "valueFrom" in variable:
            _warn(f"the variable {name} comes from the cluster: here yours counts where you have set it")
            known |= {name: os.environ[name]} if name in os.environ else {}
        else:
            env[name] = known[name] = _expand(str(variable.get("value") or ""), known)
    return env, known


def _expand(text: str, known: Mapping[str, str]) -> str:
    """`$(VAR)` is its value, `$$` a dollar, and an unknown variable stays as written (Kubernetes' expansion.go)."""

    def replace(found: re.Match[str]) -> str:
        return "$" if found[1] is None else known.get(found[1], found[0])

    return _REFERENCE.sub(replace, text)


def _gpus(container: Mapping[str, Any]) -> int:
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return sum(_whole(value, name) or 0 for name, value in asked.items() if _GPU.match(name))


def _volumes(pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
    sources = {volume["name"]: volume for volume in pod.get("volumes") or []}
    volumes: dict[str, str] = {}
    for mount in container.get("volumeMounts") or []:
        path, source = mount["mountPath"], sources.get(mount["name"])
        if source is None:
            raise JobError(f"the volume {mount['name']} of {path} is not among the pod's volumes")
        claim = _get(source, "persistentVolumeClaim").get("claimName")
        if claim:
            volumes[path] = f"{claim}/{mount['subPath']}" if mount.get("subPath") else claim
        elif "emptyDir" in source:
            volumes[path] = "emptyDir"
        else:
            _warn(f"{path} is not mounted here: what lies there on this machine counts")
    return volumes


def _whole(value: Any, name: str) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise JobError(f"{name}: {value!r} is not a whole number") from error


@functools.cache
def _warn(text: str) -> None:
    """Say it once, however many trials there are."""
    log.warning(text)
