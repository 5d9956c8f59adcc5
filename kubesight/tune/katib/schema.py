"""Unknown fields and wrong types, found by walking Katib's official models.

`V1beta1Experiment.from_dict` drops unknown fields in silence, and its type errors do not say where in the document
they are. The walk goes through the same models, so that it knows the same fields, and knows the way to each.
"""

import difflib
import functools
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from kubesight.job.yaml_lines import Keys
from kubesight.tune.katib.source import Source

JOB_FIELDS: Mapping[str, Any] = {
    "activeDeadlineSeconds": int,
    "backoffLimit": int,
    "backoffLimitPerIndex": int,
    "completionMode": str,
    "completions": int,
    "managedBy": str,
    "manualSelector": bool,
    "maxFailedIndexes": int,
    "parallelism": int,
    "podFailurePolicy": dict[str, Any],
    "podReplacementPolicy": str,
    "selector": dict[str, Any],
    "successPolicy": dict[str, Any],
    "suspend": bool,
    "ttlSecondsAfterFinished": int,
}
"""JobSpec of Kubernetes' batch/v1, without `template`."""


def check_experiment_fields(source: Source) -> None:
    """Refuse what Katib would drop or not decode.

    Raises:
        JobError: a field that an Experiment does not have, or a value of the wrong type.
    """
    from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment

    _check(source, source.document, V1beta1Experiment, ())


def check_job_fields(source: Source, keys: Keys, manifest: Mapping[str, Any]) -> None:
    """Refuse fields of a `batch/v1` Job that Kubernetes does not know, as Katib's webhook does.

    Args:
        source: for messages.
        keys: the way to the Job.
        manifest: the Job.

    Raises:
        JobError: a field that a Job does not have, or a value of the wrong type.
    """
    from kubeflow_katib_api.models.io_k8s_api_core_v1_pod_template_spec import IoK8sApiCoreV1PodTemplateSpec
    from kubeflow_katib_api.models.io_k8s_apimachinery_pkg_apis_meta_v1_object_meta import (
        IoK8sApimachineryPkgApisMetaV1ObjectMeta,
    )

    top = {
        "apiVersion": str,
        "kind": str,
        "metadata": IoK8sApimachineryPkgApisMetaV1ObjectMeta,
        "spec": dict[str, Any],
        "status": dict[str, Any],
    }
    _check_keys(source, manifest, top, keys, "a Job")
    spec = manifest.get("spec") or {}
    _check_keys(source, spec, {**JOB_FIELDS, "template": IoK8sApiCoreV1PodTemplateSpec}, (*keys, "spec"), "a Job")


def _check_keys(source: Source, value: Any, fields: Mapping[str, Any], keys: Keys, what: str) -> None:
    if not isinstance(value, Mapping):
        raise source.error(keys, f"{value!r} is not a mapping")
    for key, item in value.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), list(fields), 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(fields)}."
            raise source.error((*keys, str(key)), f"{what} has no such field", hint)
        if item is not None:
            _check(source, item, fields[key], (*keys, key))


def _check(source: Source, value: Any, annotation: Any, keys: Keys) -> None:
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if "actual_instance" in annotation.model_fields:  # a quantity, or a port: a number or a text
            _check_scalar(source, value, str | float, keys)
            return
        name = annotation.__name__.removeprefix("V1beta1").rpartition("V1")[2]
        fields = {field.alias or key: field.annotation for key, field in annotation.model_fields.items()}
        _check_keys(source, value, fields, keys, f"{'an' if name[0] in 'AEIO' else 'a'} {name}")
    elif get_origin(annotation) is list:
        if not isinstance(value, list):
            raise source.error(keys, f"{value!r} is not a list")
        for index, item in enumerate(value):
            _check(source, item, get_args(annotation)[0], (*keys, index))
    elif get_origin(annotation) is dict:
        if not isinstance(value, Mapping):
            raise source.error(keys, f"{value!r} is not a mapping")
        # Quantities may be written as numbers; the API server reads them either way.
        if keys[-1:] not in (("limits",), ("requests",)):
            for key, item in value.items():
                _check(source, item, get_args(annotation)[1], (*keys, str(key)))
    else:
        _check_scalar(source, value, annotation, keys)


def _plain(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return _plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _check_scalar(source: Source, value: Any, annotation: Any, keys: Keys) -> None:
    strict = annotation in (int, str, bool)
    try:
        _adapter(annotation).validate_python(value, strict=True if strict else None)
    except ValidationError as error:
        kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        scalar = not isinstance(value, str | Mapping | list)
        hint = f'Write it in quotes: "{_yaml_text(value)}".' if kind is str and scalar else None
        if kind is int and isinstance(value, str) and value.strip().isdigit():
            hint = f"Write it without quotes: {value.strip()}."
        raise source.error(keys, f"{value!r}: {error.errors()[0]['msg']}", hint) from error


def _yaml_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
