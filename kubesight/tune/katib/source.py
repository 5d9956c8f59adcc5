"""Where an Experiment was written: a file with lines, or a mapping."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesight.errors import JobError
from kubesight.job.yaml_lines import Keys, YamlFile

API_VERSION = "kubeflow.org/v1beta1"


@dataclass(frozen=True)
class Source:
    """An Experiment's document, and how to name places in it.

    Attributes:
        document: the Experiment, as written.
        file: the file that it stands in; None when it was handed over as a mapping.
        others: the other documents of the file.
    """

    document: dict[str, Any]
    file: YamlFile | None = None
    others: tuple[Any, ...] = ()

    def error(self, keys: Keys, message: str, hint: str | None = None) -> JobError:
        """An error that names the field and, in a file, its line."""
        where = None if self.file is None else self.file.place(keys)
        return JobError(f"{dotted(keys)}: {message}" if keys else message, where=where, hint=hint)

    def get(self, keys: Keys) -> Any:
        """What stands at `keys`, or None."""
        value: Any = self.document
        for key in keys:
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value


def dotted(keys: Keys) -> str:
    """`spec.parameters[0].name`, as Kubernetes writes the way to a field."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def read_source(source: Path | str | Mapping[str, Any]) -> Source:
    """Find the Experiment in a YAML or JSON file, or take it from a mapping.

    Args:
        source: a file of one document or several, of which the first Experiment counts, or the Experiment itself.

    Raises:
        JobError: the file cannot be read, or holds no Experiment of Katib's `v1beta1`.
    """
    if isinstance(source, Mapping):
        found = Source(copy.deepcopy(dict(source)))
    else:
        file = YamlFile(source, wanted=lambda value: isinstance(value, Mapping) and value.get("kind") == "Experiment")
        found = Source(file.value, file, tuple(file.others))
    _check_kind(found)
    return found


def _check_kind(source: Source) -> None:
    kind, version = source.get(("kind",)), source.get(("apiVersion",))
    if kind == "OptimizationJob":
        raise source.error(
            ("kind",),
            "an OptimizationJob of the Kubeflow Trainer is not read",
            f"Write the sweep as a Katib Experiment (apiVersion: {API_VERSION}) or as a job file.",
        )
    if kind != "Experiment":
        raise source.error(("kind",), f"{kind!r} is not an Experiment", "Give a Katib Experiment: kind: Experiment.")
    if version != API_VERSION:
        raise source.error(("apiVersion",), f"{version!r} is not Katib's", f"Write apiVersion: {API_VERSION}.")
