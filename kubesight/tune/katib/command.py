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
    if not isinstance(container.get("command"), list) or not container["command"]:
        raise JobError(
            f"the container {primary_container} has no command, and the entry point of its image is not known here",
            hint="Write the command; Katib too would have to ask the image's registry for it.",
        )
    env, known = _environment(container)
    words = [*container["command"], *(container.get("args") or [])]
    if not all(isinstance(word, str) for word in words):
        raise JobError(f"command and args are {words!r}: not all of them are texts", hint="Write numbers in quotes.")
    argv = [_expand(word, known) for word in words]
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
    spec = _get(manifest, "spec")
    for key in ("parallelism", "completions"):
        _one(spec.get(key), f"a Job with {key}", key)
    pod = _get(spec, "template", "spec")
    return _Pod(pod, _container(pod, primary), spec.get("activeDeadlineSeconds"), spec.get("backoffLimit"))


def _pytorch_job(manifest: Mapping[str, Any], primary: str) -> _Pod:
    spec = _get(manifest, "spec")
    replicas = {
        name: _whole(_get(spec, "pytorchReplicaSpecs", name).get("replicas", 1), "replicas") or 0
        for name in _get(spec, "pytorchReplicaSpecs")
    }
    _one(sum(replicas.values()), "a PyTorchJob with replicas", "replicas")
    role = next((name for name, count in replicas.items() if count), "Master")
    pod = _get(spec, "pytorchReplicaSpecs", role, "template", "spec")
    policy = _get(spec, "runPolicy")
    return _Pod(pod, _container(pod, primary), policy.get("activeDeadlineSeconds"), policy.get("backoffLimit"))


def _train_job(manifest: Mapping[str, Any], primary: str) -> _Pod:
    spec = _get(manifest, "spec")
    trainer = _get(spec, "trainer")
    _one(trainer.get("numNodes"), "a TrainJob with numNodes", "numNodes")
    container = {**trainer, "resources": _get(trainer, "resourcesPerNode")}
    pod: dict[str, Any] = {"volumes": []}
    mounts: list[Any] = []
    for override in _overrides(spec):
        pod["volumes"] += _each(override, "volumes")
        for each in _each(override, "containers"):
            if each.get("name") == primary:
                mounts += _each(each, "volumeMounts")
                container["env"] = [*_each(container, "env"), *_each(each, "env")]
    return _Pod(pod, {**container, "volumeMounts": mounts}, spec.get("activeDeadlineSeconds"), None)


def _overrides(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Pod specs of the training nodes: `podTemplateOverrides` of Trainer 2.1, `runtimePatches` of 2.3."""
    found: list[Mapping[str, Any]] = []
    for override in _each(spec, "podTemplateOverrides"):
        if any(job.get("name") == "node" for job in _each(override, "targetJobs")):
            found.append(_get(override, "spec"))
    for patch in _each(spec, "runtimePatches"):
        for job in _each(_get(patch, "trainingRuntimeSpec", "template", "spec"), "replicatedJobs"):
            if job.get("name") == "node":
                found.append(_get(job, "template", "spec", "template", "spec"))
    return found


_KINDS: Mapping[tuple[str, str], Callable[[Mapping[str, Any], str], _Pod]] = {
    ("batch", "Job"): _job,
    ("kubeflow.org", "PyTorchJob"): _pytorch_job,
    ("trainer.kubeflow.org", "TrainJob"): _train_job,
}


def _get(value: Any, *keys: str) -> dict[str, Any]:
    """The mapping at `keys`; empty when it is not given."""
    for key in keys:
        value = {} if value is None else value
        if not isinstance(value, Mapping):
            raise JobError(f"{value!r} is not a mapping: it should have {key}")
        value = value.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise JobError(f"{'.'.join(keys)} is {value!r}, not a mapping")
    return dict(value or {})


def _each(value: Mapping[str, Any], key: str, *needed: str) -> list[Mapping[str, Any]]:
    """The mappings of the list at `key`, each with the needed texts; empty when it is not given."""
    items = value.get(key) or []
    if not isinstance(items, list):
        raise JobError(f"{key} is {items!r}, not a list")
    for item in items:
        if not isinstance(item, Mapping) or not all(isinstance(item.get(name), str) for name in needed):
            raise JobError(f"{key} has {item!r}, not a mapping{' with ' + ' and '.join(needed) if needed else ''}")
    return items


def _one(count: Any, what: str, key: str) -> None:
    if (_whole(1 if count is None else count, key) or 0) > 1:
        raise JobError(
            f"{what} {count} is several pods that train together: this machine runs a trial as one process",
            hint=f"Set {key} to 1 here, or run the Experiment on a cluster.",
        )


def _container(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    containers = _each(pod, "containers", "name")
    for other in [*containers, *_each(pod, "initContainers", "name")]:
        if other.get("name") != name:
            _warn(f"the container {other.get('name')} is left out: here a trial is its container {name} alone")
    for container in containers:
        if container.get("name") == name:
            return container
    names = ", ".join(each["name"] for each in containers)
    raise JobError(
        f"the trial template has no container {name}",
        hint=f"Name one of its containers in primaryContainerName: {names or 'it has none'}.",
    )


def _environment(container: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables to set, and those that `$(VAR)` may name: also ones that a secret gives there and you here."""
    env: dict[str, str] = {}
    known: dict[str, str] = {}
    for each in _each(container, "envFrom"):
        source = _get(each, "secretRef") or _get(each, "configMapRef")
        _warn(f"the variables of {source.get('name')} are not known here: yours count where you have set them")
    for variable in _each(container, "env", "name"):
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
    asked = {**_get(container, "resources", "requests"), **_get(container, "resources", "limits")}
    return sum(_whole(value, name) or 0 for name, value in asked.items() if _GPU.match(name))


def _volumes(pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
    sources = {volume["name"]: volume for volume in _each(pod, "volumes", "name")}
    volumes: dict[str, str] = {}
    for mount in _each(container, "volumeMounts", "name", "mountPath"):
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
    except (TypeError, ValueError, OverflowError) as error:
        raise JobError(f"{name}: {value!r} is not a whole number") from error


@functools.cache
def _warn(text: str) -> None:
    """Say it once, however many trials there are."""
    log.warning(text)
