"""What a job file is checked for beyond types: paths, metrics, contradictions, and keys that change nothing."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import JobError
from kubesight.job.yaml_lines import Keys
from kubesight.metrics.names import PRIMARY_METRICS

Place = Callable[[Keys], str | None]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_AZURE = re.compile(r"azureml:|AmlDatastore://", re.IGNORECASE)
_BY_COMMAND = "the command says where a job runs: `kubesight run` here, `kubesight submit` on a cluster"
_SERVICE = "it configures Azure's service"
NO_EFFECT: dict[Keys, str] = {
    ("compute",): f"{_BY_COMMAND}; its resources stand under kubesight.resources",
    ("resources",): "the cluster's resources stand under kubesight.resources",
    ("queue_settings",): _SERVICE,
    ("identity",): _SERVICE,
    ("services",): _SERVICE,
    ("notification_setting",): _SERVICE,
    ("environment_variables",): _SERVICE,
    ("properties",): _SERVICE,
    ("tags",): "runs are found by their names",
    ("outputs",): "the command names the output folder",
    ("log_verbosity",): "`--debug` makes a command say more",
    **{(part, key): "pictures are read where they are, and the source's format is recognised"
       for part in ("training_data", "validation_data", "test_data") for key in ("type", "mode")},
    ("kubesight", "storage"): "this version does not use it",
    ("kubesight", "deployment"): "this version does not use it",
}  # fmt: skip
_OF_TRIALS: tuple[Keys, ...] = tuple(("kubesight", "resources", key) for key in ("nodes", "priority_class", "secret"))


def located(path: str, folder: Path, url_prefixes: Mapping[str, str], where: str | None) -> str:
    """A path of the job file as one that is good anywhere: absolute, or a URL.

    Args:
        path: as written. A relative one is relative to the job file's folder.
        folder: the job file's folder.
        url_prefixes: what beginnings of URLs stand for; the longest that fits is replaced.
        where: its line.

    Raises:
        JobError: Azure's own URL, which no prefix explains.
    """
    if fitting := [prefix for prefix in url_prefixes if path.startswith(prefix)]:
        longest = max(fitting, key=len)
        path = url_prefixes[longest] + path[len(longest) :]
    if _AZURE.match(path):
        raise JobError(
            f"{path} is a name within an Azure workspace, which cannot be looked up from here",
            where=where,
            hint="Say what it stands for under kubesight.source.url_prefixes, such as "
            f"{{'{path}': s3://bucket/folder}}, or name a path or URL.",
        )
    return path if _URL.match(path) else os.path.abspath(folder / os.path.expanduser(path))


def checked_metric(task: Task, name: str, place: Place) -> str:
    """The primary metric, or the task's own when none is named.

    Raises:
        JobError: the task is not judged by it.
    """
    known = PRIMARY_METRICS[task]
    if not name or name in known:
        return name or known[0]
    hint = f"Choose one of {', '.join(known)}."
    if name == "norm_macro_recall":
        raise JobError(
            "norm_macro_recall is not computed (Azure's own trainer reports accuracy under its name)",
            where=place(("primary_metric",)),
            hint="recall_score_macro is the nearest: it is norm_macro_recall before rescaling.",
        )
    raise JobError(f"primary_metric {name!r} does not fit {task}", where=place(("primary_metric",)), hint=hint)


def notices_of(value: Mapping[str, Any], place: Place) -> list[str]:
    """One sentence for each key of the file that changes nothing.

    Args:
        value: the file's content, already validated.
        place: the line of a key.
    """
    notices = [(keys, why) for keys, why in NO_EFFECT.items() if _has(value, keys)]
    limits = value.get("limits") or {}
    sweeps = bool(value.get("search_space"))
    for part in ("validation_data", "test_data"):
        if value.get(part) and _has(value, (f"{part}_size",)):
            notices.append(((f"{part}_size",), f"{part} names its pictures"))
    if not sweeps and limits.get("max_trials", 1) == 1:
        why = "there is no search_space and max_trials is 1, so one model is trained"
        notices += [(keys, why) for keys in (("sweep",), ("limits",), ("kubesight", "sweep")) if _has(value, keys)]
        alone = "only the trials of a sweep have it in this version"
        notices += [(keys, alone) for keys in _OF_TRIALS if _has(value, keys)]
    if sweeps and limits.get("max_trials", 1) == 1:
        notices.append((("search_space",), "limits.max_trials is 1, so only one draw from it is trained"))
    return [_sentence(keys, why, place) for keys, why in notices]


def _has(value: Any, keys: Keys) -> bool:
    for key in keys:
        if not isinstance(value, Mapping) or value.get(key) in (None, {}, []):  # type: ignore[call-overload]
            return False
        value = value[key]
    return True


def _sentence(keys: Keys, why: str, place: Place) -> str:
    where = place(keys)
    verb = "varies little" if keys == ("search_space",) else "has no effect here"
    text = f"{'.'.join(map(str, keys))} {verb}: {why}."
    return f"{where}: {text}" if where else text
