"""The pod that a trial trains in, whichever kind of job makes it."""

import posixpath
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kubesight.errors import JobError
from kubesight.images import image
from kubesight.job.sections import Resources

SIDECAR_OFF = "sidecar.istio.io/inject"

CPU, MEMORY, SHARED_MEMORY, GPUS, ACCELERATOR = "4", "16Gi", "8Gi", "1", "nvidia.com/gpu"
"""What a trial gets where `kubesight.resources` is silent; /dev/shm counts towards the memory."""

USER = 1000
"""Who trials run as. Katib's collector, whose image runs as root, shares the pod and becomes this user as well: it
marks a trial as early-stopped in a file, and waits until the trial's shell has written `completed` over it (pns.go).
Over a file of root's the shell could not write: the collector would wait, and the pod keep its GPU, for ever."""

_SUFFIX = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)")
_BINARY: tuple[str, ...] = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: tuple[str, ...] = ("m", "", "k", "M", "G", "T", "P", "E")


@dataclass(frozen=True)
class PodParts:
    """One container that trains, and the fields of its pod that are not about the container.

    Attributes:
        container: without a name.
        spec: `volumes`, `nodeSelector` and the like, without `containers`.
        gpus: of the container.
    """

    container: dict[str, Any]
    spec: dict[str, Any]
    gpus: int


def pod_parts(command: str, resources: Resources, output: str) -> PodParts:
    """The container and pod of a trial.

    Args:
        command: for a shell.
        resources: what the job asks for.
        output: the folder that trials write their own folders to.

    Raises:
        JobError: two volumes at one place, or one where the pod has its own.
    """
    mounts, volumes = _volumes(resources)
    gpus = int(resources.gpus or GPUS)
    container: dict[str, Any] = {
        "image": resources.image or image(),
        # Always given: Katib would otherwise ask the image's registry for it. `sh -c` stays as it is when Katib adds
        # its own words behind the text (wrapWorkerContainer in its pod webhook): no `exec` may replace the shell, which
        # has to have the training as its one child to be stopped early.
        "command": ["sh", "-c", command],
    }
    if env := _environment(resources, output):
        container["env"] = env
    if resources.secret:
        container["envFrom"] = [{"secretRef": {"name": resources.secret}}]
    container["resources"] = _amounts(resources, gpus)
    container["volumeMounts"] = mounts
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return PodParts(container, _pod_spec(resources, volumes), gpus)


def pod_metadata() -> dict[str, Any]:
    """Labels and annotations that keep Istio's proxy out: it never ends, and neither would the trial.

    Istio reads the label, its older versions the annotation; Katib adds neither.
    """
    return {"labels": {SIDECAR_OFF: "false"}, "annotations": {SIDECAR_OFF: "false"}}


def is_kept(resources: Resources, path: str) -> bool:
    """Whether a path lies on a volume that outlives the pod."""
    return any(posixpath.normpath(path).startswith(f"{volume.path.rstrip('/')}/") for volume in resources.volumes)


def _environment(resources: Resources, output: str) -> list[dict[str, str]]:
    """Caches on the volume beside the sweep's folder, so that trials share weights, features and decoded pictures.

    Without such a volume nothing is shared, and the image's own places are as good.
    """
    cache = posixpath.join(posixpath.dirname(output.rstrip("/")), "cache")
    if not is_kept(resources, cache):
        return []
    # Torch and Hugging Face cache under XDG_CACHE_HOME. A user without an entry in /etc/passwd has no home.
    keras = posixpath.join(cache, "keras")
    found = {"KUBESIGHT_CACHE": cache, "XDG_CACHE_HOME": cache, "KERAS_HOME": keras, "HOME": "/tmp"}
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in found.items()]


def _amounts(resources: Resources, gpus: int) -> dict[str, Any]:
    amounts = {"cpu": resources.cpu or CPU, "memory": resources.memory or MEMORY}
    limits = amounts | ({resources.accelerator or ACCELERATOR: str(gpus)} if gpus else {})
    return {"requests": amounts, "limits": limits}


def _volumes(resources: Resources) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mounts and volumes: the claims, and memory at /dev/shm, which is 64 MB unless something is mounted there."""
    names = {claim: f"volume-{index}" for index, claim in enumerate(dict.fromkeys(v.claim for v in resources.volumes))}
    mounts = [{"name": names[volume.claim], "mountPath": volume.path} for volume in resources.volumes]
    volumes: list[dict[str, Any]] = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in names.items()
    ]
    mounts.append({"name": "dshm", "mountPath": "/dev/shm"})
    volumes.append(
        {
            "name": "dshm",
            "emptyDir": {"medium": "Memory", "sizeLimit": canonical(resources.shared_memory or SHARED_MEMORY)},
        }
    )
    paths = [mount["mountPath"].rstrip("/") for mount in mounts] + ["/var/log/katib"]
    for path in paths:
        if paths.count(path) > 1:
            raise JobError(f"{path} already has a volume", where="kubesight.resources.volumes", hint="Choose another.")
    return mounts, volumes


def _pod_spec(resources: Resources, volumes: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod's own fields; none is empty, since Katib refuses what a typed Job would not write again."""
    tolerations = [each.model_dump(by_alias=True, exclude_none=True) for each in resources.tolerations]
    spec: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # Not file by file on every start: a volume may hold a million pictures.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "serviceAccountName": resources.service_account,
        "imagePullSecrets": [{"name": name} for name in resources.image_pull_secrets],
        "priorityClassName": resources.priority_class,
        "nodeSelector": dict(resources.node_selector),
        "tolerations": tolerations,
        "volumes": volumes,
    }
    return {name: value for name, value in spec.items() if value}


def canonical(quantity: str) -> str:
    """A quantity as Kubernetes writes it: `8Gi` for `8192Mi`, `1500M` for `1.5G`.

    Katib refuses a Job with any other spelling: it compares what was written with what its typed Job writes.
    """
    digits, suffix = _SUFFIX.fullmatch(quantity).groups()  # type: ignore[union-attr]
    value = Decimal(digits)
    base, units = (1024, _BINARY) if suffix.endswith("i") else (1000, _DECIMAL)
    scale = units.index(suffix)
    while value != value.to_integral_value() and scale:
        value, scale = value * base, scale - 1
    while value and value % base == 0 and scale + 1 < len(units):
        value, scale = value / base, scale + 1
    return f"{int(value.to_integral_value(rounding='ROUND_CEILING'))}{units[scale]}"
