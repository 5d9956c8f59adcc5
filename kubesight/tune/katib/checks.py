"""What Katib's validating webhook refuses, found before anything is sent (validator.go of Katib 0.19).

Also refused is what the webhook lets pass and what fails only when a trial is made: a parameter without a trial
parameter, a template in a ConfigMap that is not at hand.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from kubesight.errors import JobError
from kubesight.job.yaml_lines import Keys
from kubesight.tune.katib.schema import check_job_fields
from kubesight.tune.katib.source import Source
from kubesight.tune.katib.template import Template, TrialParameter, meta_reference, substitute

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_TWO_GROUPS = re.compile(r".*\(.*\).*\(.*\).*")
_NOT_RE2 = re.compile(r"\(\?<?[=!]|\\[1-9]|\(\?P=")
_BATCH = ('status.conditions.#(type=="{}")#|#(status=="True")#', ("Complete", "Failed"))
_KUBEFLOW = ('status.conditions.#(type=="{}")#|#(status=="True")#', ("Succeeded", "Failed"))
CONDITIONS: Mapping[tuple[str, str], tuple[str, tuple[str, str]]] = {
    ("batch/v1", "Job"): _BATCH,
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): _BATCH,
    **{("kubeflow.org/v1", kind): _KUBEFLOW for kind in ("TFJob", "PyTorchJob", "MPIJob", "XGBoostJob")},
}
"""Success and failure conditions that Katib fills in, by version and kind."""


def check_name(source: Source) -> str:
    """`metadata.name`, of at most 40 characters, in lower case.

    Katib's own pattern is not anchored at the end and so lets pass what Kubernetes then refuses for the trials.
    """
    keys = ("metadata", "name")
    name = source.get(keys)
    if not name:
        raise source.error(keys, "an Experiment needs a name")
    if not _NAME.fullmatch(name):
        raise source.error(keys, f"{name!r} is no name", "Use a-z, 0-9 and -, a letter first, a letter or digit last.")
    if len(name) > 40:
        raise source.error(keys, f"{name!r} has {len(name)} characters", "Katib allows 40.")
    return name


def check_counts(source: Source) -> tuple[int, int | None, int | None]:
    """`parallelTrialCount` (3 when not given), `maxTrialCount` and `maxFailedTrialCount`."""
    spec = source.get(("spec",)) or {}
    parallel = spec.get("parallelTrialCount")
    most, failed = spec.get("maxTrialCount"), spec.get("maxFailedTrialCount")
    for key, value, least in (
        ("maxTrialCount", most, 1),
        ("parallelTrialCount", parallel, 1),
        ("maxFailedTrialCount", failed, 0),
    ):
        if value is not None and value < least:
            raise source.error(("spec", key), f"{value} is less than {least}")
        if value is not None and most is not None and value > most:
            raise source.error(("spec", key), f"{value} is more than maxTrialCount, {most}")
    if parallel is None and most is not None and most < 3:
        raise source.error(
            ("spec", "maxTrialCount"),
            f"{most} is less than parallelTrialCount, which is 3 when it is not given",
            f"Write parallelTrialCount: {most}.",
        )
    return 3 if parallel is None else parallel, most, failed


def check_objective(source: Source) -> dict[str, str]:
    """The objective; gives each metric's strategy, the objective's first."""
    keys: Keys = ("spec", "objective")
    objective = source.get(keys) or {}
    kind, metric = objective.get("type"), objective.get("objectiveMetricName")
    if kind not in ("minimize", "maximize"):
        raise source.error((*keys, "type"), f"{kind!r} is neither minimize nor maximize")
    if not metric:
        raise source.error((*keys, "objectiveMetricName"), "an objective needs the name of its metric")
    goal = objective.get("goal")
    if goal is not None and not math.isfinite(goal):
        raise source.error((*keys, "goal"), f"{goal} is not a finite number")
    others = objective.get("additionalMetricNames") or []
    if metric in others:
        raise source.error((*keys, "additionalMetricNames"), f"{metric} is the objective already", "Leave it out.")
    strategies = dict.fromkeys([metric, *others], "min" if kind == "minimize" else "max")
    for index, each in enumerate(objective.get("metricStrategies") or []):
        place: Keys = (*keys, "metricStrategies", index)
        if each.get("name") not in strategies:
            raise source.error((*place, "name"), f"{each.get('name')!r} is not a metric of this Experiment")
        if each.get("value") not in ("min", "max", "latest"):
            raise source.error((*place, "value"), f"{each.get('value')!r} is not one of min, max, latest")
        strategies[each["name"]] = each["value"]
    return strategies


def check_resume(source: Source) -> None:
    """`resumePolicy`."""
    policy = source.get(("spec", "resumePolicy"))
    if policy not in (None, "", "Never", "LongRunning", "FromVolume"):
        raise source.error(("spec", "resumePolicy"), f"{policy!r} is not one of Never, LongRunning, FromVolume")


def check_template(source: Source, names: list[str]) -> Template:
    """The trial template, in the document or in a ConfigMap of the same file.

    Args:
        source: the Experiment.
        names: of its parameters.
    """
    keys: Keys = ("spec", "trialTemplate")
    template = source.get(keys)
    if not template:
        raise source.error(keys, "an Experiment needs a trial template")
    if not template.get("primaryContainerName"):
        raise source.error((*keys, "primaryContainerName"), "name the container that trains")
    if template.get("trialParameters") is None:
        raise source.error((*keys, "trialParameters"), "the parameters of the trial template are missing")
    parameters = _trial_parameters(source, template["trialParameters"], names)
    place, spec = _trial_spec(source, template)
    _check_placeholders(source, place, spec, parameters)
    conditions = _check_manifest(source, place, spec, template)
    return Template(
        spec=spec,
        parameters=parameters,
        primary_container=template["primaryContainerName"],
        retain=bool(template.get("retain")),
        success_condition=conditions[0],
        failure_condition=conditions[1],
    )


def _trial_parameters(source: Source, items: list[Any], names: list[str]) -> tuple[TrialParameter, ...]:
    keys: Keys = ("spec", "trialTemplate", "trialParameters")
    found: list[TrialParameter] = []
    for index, item in enumerate(items):
        name, reference = item.get("name"), item.get("reference")
        place: Keys = (*keys, index)
        if not name or not reference:
            raise source.error(place, "a trial parameter needs name and reference")
        if "{" in name or "}" in name:
            raise source.error((*place, "name"), f"{name!r} has a brace")
        if name in {each.name for each in found}:
            raise source.error((*place, "name"), f"{name} is given twice")
        if reference in {each.reference for each in found}:
            raise source.error((*place, "reference"), f"{reference} is referenced twice", "Use one name for it.")
        if meta_reference(reference) is None and reference not in names:
            raise source.error(
                (*place, "reference"), f"{reference} is no parameter", f"There are {', '.join(names) or 'none'}."
            )
        found.append(TrialParameter(name, reference))
    missing = [name for name in names if name not in {each.reference for each in found}]
    if missing:
        raise source.error(
            keys, f"the parameter {missing[0]} is not referenced", "Katib makes no trial unless all of them are."
        )
    return tuple(found)


def _trial_spec(source: Source, template: Mapping[str, Any]) -> tuple[Keys, dict[str, Any]]:
    keys: Keys = ("spec", "trialTemplate")
    spec = template.get("trialSpec")
    if (spec is None) == (template.get("configMap") is None):
        raise source.error(keys, "a trial template has trialSpec or configMap, one of them")
    if spec is not None:
        return (*keys, "trialSpec"), spec
    return (*keys, "configMap"), _from_config_map(source, (*keys, "configMap"), template["configMap"])


def _from_config_map(source: Source, keys: Keys, reference: Mapping[str, Any]) -> dict[str, Any]:
    name, namespace, path = (reference.get(key) for key in ("configMapName", "configMapNamespace", "templatePath"))
    if not (name and namespace and path):
        raise source.error(keys, "configMapName, configMapNamespace and templatePath are needed")
    for other in source.others:
        if isinstance(other, Mapping) and other.get("kind") == "ConfigMap":
            metadata = other.get("metadata") or {}
            text = (other.get("data") or {}).get(path)
            if metadata.get("name") == name and metadata.get("namespace", namespace) == namespace and text:
                return _template_text(source, keys, text)
    raise source.error(
        keys,
        f"the trial template {path} of the ConfigMap {namespace}/{name} is not at hand",
        "Put the ConfigMap into the same file, after a line ---, or write the template as trialSpec.",
    )


def _template_text(source: Source, keys: Keys, text: str) -> dict[str, Any]:
    try:
        spec = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise source.error(keys, f"the template in the ConfigMap is not YAML: {error}") from error
    if not isinstance(spec, dict):
        raise source.error(keys, "the template in the ConfigMap has no keys")
    return spec


def _check_placeholders(
    source: Source, keys: Keys, spec: Mapping[str, Any], parameters: tuple[TrialParameter, ...]
) -> None:
    text = json.dumps(spec, ensure_ascii=False)
    for index, parameter in enumerate(parameters):
        if f"${{trialParameters.{parameter.name}}}" not in text:
            raise source.error(
                ("spec", "trialTemplate", "trialParameters", index, "name"),
                f"the trial template does not use ${{trialParameters.{parameter.name}}}",
            )
    try:
        substitute(text, {parameter.name: "test-value" for parameter in parameters}.__getitem__)
    except JobError as error:
        raise source.error(keys, error.message, error.hint) from error


def _check_manifest(
    source: Source, keys: Keys, spec: Mapping[str, Any], template: Mapping[str, Any]
) -> tuple[str, str]:
    metadata = spec.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise source.error((*keys, "metadata"), f"{metadata!r} is not a mapping")
    for key in ("labels", "annotations"):
        if not isinstance(metadata.get(key) or {}, Mapping):
            raise source.error((*keys, "metadata", key), f"{metadata[key]!r} is not a mapping")
    for key in ("name", "namespace"):
        if metadata.get(key):
            raise source.error((*keys, "metadata", key), f"Katib gives every trial its {key}", "Leave it out.")
    version, kind = spec.get("apiVersion"), spec.get("kind")
    if not (version and kind and isinstance(version, str) and isinstance(kind, str)):
        raise source.error(keys, "a trial template needs apiVersion and kind")
    if (version, kind) == ("batch/v1", "Job"):
        check_job_fields(source, keys, spec)
    success, failure = template.get("successCondition"), template.get("failureCondition")
    known = CONDITIONS.get((version, kind))
    if known is None and not (success and failure):
        raise source.error(
            ("spec", "trialTemplate"), f"a trial of kind {kind} needs successCondition and failureCondition"
        )
    pattern, words = known or ("", ("", ""))
    return success or pattern.format(words[0]), failure or pattern.format(words[1])


def check_filters(source: Source, keys: Keys, filters: list[str]) -> None:
    """Regular expressions with two groups; Katib joins them with `;` on a command line, so that they may have none."""
    for index, text in enumerate(filters):
        place: Keys = (*keys, index)
        try:
            re.compile(text)
        except re.error as error:
            raise source.error(place, f"{text!r} is no regular expression: {error}") from error
        if not _TWO_GROUPS.fullmatch(text):
            raise source.error(place, f"{text!r} has no two groups", "Write (name) and (value).")
        if _NOT_RE2.search(text):
            raise source.error(place, f"{text!r} has a look-around or a back reference, which Go does not know")
        if ";" in text:
            raise source.error(place, f"{text!r} has a semicolon, at which Katib cuts it in two")
