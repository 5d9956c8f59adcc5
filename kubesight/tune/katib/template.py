"""The trial template: Katib's substitution of parameters, in Katib's order and with its rules.

`${trialParameters.NAME}` is replaced as plain text in the JSON of the manifest, which is then parsed again
(Katib's controller, manifest/generator.go): a value with quotes or backslashes can break the manifest.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesight.errors import JobError
from kubesight.tune.katib.command import TrialCommand, trial_command

__all__ = ["META_KEYS", "Template", "TrialCommand", "TrialParameter", "meta_reference", "trial_command"]

META_KEYS = ("Name", "Namespace", "Kind", "APIVersion", "Annotations", "Labels")
"""What `${trialSpec.KEY}` may name; the last two with `[key]`."""

PLACEHOLDER = re.compile(r"\$\{trialParameters\.(.+?)\}")
_META = re.compile(r"\$\{trialSpec\.(.+?)\}")
_INDEXED = re.compile(r"(.+)\[(.+)\]")


@dataclass(frozen=True)
class TrialParameter:
    """A name in the manifest and what it stands for.

    Attributes:
        name: in `${trialParameters.NAME}`.
        reference: a parameter of the Experiment, or `${trialSpec.Name}` and the like.
    """

    name: str
    reference: str


@dataclass(frozen=True)
class Template:
    """What a trial runs.

    Attributes:
        spec: the manifest with placeholders.
        parameters: the names that it uses.
        primary_container: the container that trains.
        retain: whether the trial's job is kept when it has ended.
        success_condition: in GJSON, on the job's status.
        failure_condition: in GJSON, on the job's status.
    """

    spec: Mapping[str, Any]
    parameters: tuple[TrialParameter, ...]
    primary_container: str
    retain: bool = False
    success_condition: str = ""
    failure_condition: str = ""
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write the manifest as text once, for all trials."""
        object.__setattr__(self, "_text", json.dumps(self.spec, ensure_ascii=False))

    def render(self, trial_name: str, namespace: str, assignments: Mapping[str, str]) -> dict[str, Any]:
        """The manifest of one trial.

        Args:
            trial_name: becomes its name.
            namespace: becomes its namespace.
            assignments: a value for every parameter of the Experiment.

        Raises:
            JobError: a parameter that the template does not use or does not have, or a value that breaks the JSON.
        """
        values = {}
        for parameter in self.parameters:
            values[parameter.name] = self._value(parameter, trial_name, namespace, assignments)
        unused = set(assignments) - {parameter.reference for parameter in self.parameters}
        if unused:
            raise JobError(
                f"the parameter {sorted(unused)[0]} is not referenced in spec.trialTemplate.trialParameters",
                hint="Every parameter of an Experiment must be used by its trials.",
            )
        text = substitute(self._text, values.__getitem__)
        try:
            manifest = json.loads(text)
        except json.JSONDecodeError as error:
            odd = [name for name, value in values.items() if '"' in value or "\\" in value or "\n" in value]
            raise JobError(
                f"the trial template is no JSON any more with {', '.join(f'{n}={values[n]!r}' for n in odd or values)}",
                hint="Katib puts values in as plain text: use none with quotes, backslashes or line ends.",
            ) from error
        manifest["metadata"] = {**(manifest.get("metadata") or {}), "name": trial_name, "namespace": namespace}
        return manifest

    def _value(self, parameter: TrialParameter, name: str, namespace: str, assignments: Mapping[str, str]) -> str:
        meta = meta_reference(parameter.reference)
        if meta is None:
            if parameter.reference not in assignments:
                raise JobError(
                    f"the trial parameter {parameter.name} references {parameter.reference}, which has no value",
                    hint=f"There are {', '.join(assignments) or 'no parameters'}.",
                )
            return assignments[parameter.reference]
        key, index = meta
        if index is None:
            known = {"Name": name, "Namespace": namespace}
            return known.get(key) or str(self.spec["kind" if key == "Kind" else "apiVersion"])
        found = ((self.spec.get("metadata") or {}).get(key.lower()) or {}).get(index)
        if found is None:
            raise JobError(
                f"{parameter.reference} is not in the trial template",
                hint=f"Give trialSpec.metadata.{key.lower()} the key {index}.",
            )
        return found


def meta_reference(reference: str) -> tuple[str, str | None] | None:
    """What `${trialSpec.KEY}` or `${trialSpec.KEY[INDEX]}` names: key and index; None for any other reference."""
    found = _META.search(reference)
    if not found:
        return None
    indexed = _INDEXED.search(found[1])
    key, index = (indexed[1], indexed[2]) if indexed else (found[1], None)
    return (key, index) if key in META_KEYS and (index is not None) == (key in META_KEYS[4:]) else None


def substitute(text: str, value: Callable[[str], str]) -> str:
    """Put values in for `${trialParameters.NAME}`.

    Args:
        text: the manifest's JSON.
        value: gives the value of a name, or raises a KeyError.

    Raises:
        JobError: a placeholder that no trial parameter names, or one that a value has brought in.
    """
    try:
        text = PLACEHOLDER.sub(lambda found: value(found[1]), text)
    except KeyError as error:
        raise JobError(
            f"${{trialParameters.{error.args[0]}}} stands in the trial template but not in trialParameters",
            hint="Add it to spec.trialTemplate.trialParameters.",
        ) from error
    left = PLACEHOLDER.search(text)
    if left:
        raise JobError(f"a value has put the placeholder {left[0]} into the trial template")
    return text
