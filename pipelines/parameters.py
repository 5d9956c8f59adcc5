"""A job file's values as the training pipeline's parameters."""

import json
from typing import Any

from kubesight.errors import JobError
from kubesight.job import Job


def job_parameters(job: Job) -> dict[str, Any]:
    """The parameters of `train_pipeline` that the job sets; the pipeline's own defaults stand for the others.

    Raises:
        JobError: the job asks for a sweep, which is more than one training.
        HyperparameterError: a hyperparameter does not fit the model and task.
    """
    if job.is_sweep:
        raise JobError(
            "the job asks for a sweep, and this pipeline trains once",
            where="search_space" if job.search_space else "limits.max_trials",
            hint="Take search_space and max_trials out, and write the values under training_parameters.",
        )
    # Checked whole, handed over as written: the form shows what somebody chose, not forty defaults.
    job.hyperparameters()
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
        "model_name": job.model_name,
        "weights": additions.model.weights,
        "primary_metric": job.primary_metric,
        "hyperparameters": json.dumps(job.given_hyperparameters),
        "training_folder": resources.training_folder or "",
        "node_selector": dict(resources.node_selector),
        "tolerations": [each.model_dump(by_alias=True, exclude_none=True) for each in resources.tolerations],
    }
    for name in ("image", "accelerator", "gpus", "cpu", "memory"):
        if (value := getattr(resources, name)) is not None:
            parameters[name] = value
    return parameters


def _changed(values: dict[str, Any], defaults: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}
