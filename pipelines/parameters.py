"""A job file's values as the parameters of its pipeline."""

import json
from typing import Any

from kubesight.job import Job
from kubesight.models.names import find_model

_POOL = ("image", "accelerator", "gpus", "cpu", "memory")
_OWN = ("training_folder", "node_selector", "tolerations", *_POOL)
"""Resources that are parameters of the pipelines."""


def job_parameters(job: Job) -> dict[str, Any]:
    """The parameters that a job sets, of `sweep_pipeline` when it is a sweep, else of `train_pipeline`.

    The pipeline's own defaults stand for the others.

    Raises:
        HyperparameterError: a hyperparameter does not fit the model and task.
    """
    additions = job.kubesight
    source, resources = additions.source, additions.resources
    parameters = {
        "source": job.training_data.path,
        "task": job.task.value,
        "format": source.format,
        "validation_source": job.validation_data.path if job.validation_data else "",
        "test_source": job.test_data.path if job.test_data else "",
        "conversion": json.dumps(_changed(source.model_dump(exclude={"format"}), type(source)())),
        "split_ratio": job.validation_data_size,
        "test_ratio": job.test_ratio,
        "seed": additions.split.seed,
        **(_of_sweep(job) if job.is_sweep else _of_training(job)),
        "node_selector": dict(resources.node_selector),
        "tolerations": [each.model_dump(by_alias=True, exclude_none=True) for each in resources.tolerations],
    }
    for name in _POOL:
        if (value := getattr(resources, name)) is not None:
            parameters[name] = value
    if resources.image and any(find_model(name).framework == "tensorflow" for name in job.model_names):
        # The job's image is that of every step, and has what its models need.
        parameters["keras_image"] = resources.image
    return parameters


def _of_training(job: Job) -> dict[str, Any]:
    # Checked whole, handed over as written: the form shows what somebody chose, not forty defaults.
    job.hyperparameters()
    return {
        "model_name": job.model_name,
        "weights": job.kubesight.model.weights,
        "primary_metric": job.primary_metric,
        "hyperparameters": json.dumps(job.given_hyperparameters),
        "training_folder": job.kubesight.resources.training_folder or "",
    }


def _of_sweep(job: Job) -> dict[str, Any]:
    """The sweep as a job file without data; what the form has a field for is not said twice."""
    value = job.model_dump(
        mode="json",
        by_alias=True,
        exclude_defaults=True,
        include={"name", "task", "limits", "training_parameters", "search_space"},
    )
    # Policies are told apart by their type, which is a default of each.
    value["sweep"] = job.sweep.model_dump(mode="json", exclude_none=True)
    additions = job.kubesight.model_dump(
        mode="json",
        by_alias=True,
        exclude_defaults=True,
        include={
            "model": {"weights"},
            "sweep": True,
            "resources": set(type(job.kubesight.resources).model_fields) - set(_OWN),
        },
    )
    value |= {
        "primary_metric": job.primary_metric,
        "kubesight": {name: each for name, each in additions.items() if each},
    }
    return {"job": json.dumps(value), "sweep_folder": job.kubesight.resources.training_folder or ""}


def _changed(values: dict[str, Any], defaults: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}
