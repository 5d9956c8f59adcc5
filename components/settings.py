"""What a pipeline's form asks for, checked before any step reads data."""

import json
from collections.abc import Collection
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import JobError
from kubesight.job.form import job_of_form
from kubesight.job.plan import sweep_of
from kubesight.models.names import find_model
from kubesight.train.trainer import check_request


def settings_of_form(hyperparameters: str) -> dict[str, Any]:
    """The hyperparameters that a form holds as JSON text.

    Raises:
        JobError: they are no JSON object.
    """
    try:
        settings = json.loads(hyperparameters)
    except ValueError as error:
        raise JobError(f"not JSON: {error}", where="hyperparameters", hint=_LIKE) from error
    if not isinstance(settings, dict):
        raise JobError(f"{settings!r} is no JSON object", where="hyperparameters", hint=_LIKE)
    return settings


def frameworks_of_model(model_name: str, hyperparameters: str, *, task: str, primary_metric: str) -> set[str]:
    """What trains a model, if it can be trained so.

    Args:
        model_name: the form's, as all that follow.
        hyperparameters: JSON text.
        task: empty when the data will say it.
        primary_metric: empty is the task's own.

    Raises:
        KubesightError: the training would refuse it.
    """
    named = _task(task) if task else None
    settings = settings_of_form(hyperparameters)
    return {check_request(model_name, settings, task=named, primary_metric=primary_metric or None).framework}


def frameworks_of_job(job: str) -> set[str]:
    """What trains the models of a sweep, if it can be run so.

    Args:
        job: JSON text of a job file without its data.

    Raises:
        KubesightError: the sweep would refuse it.
    """
    loaded = job_of_form(job, training_data="training_data", validation_data="validation_data")
    sweep_of(loaded)
    return {find_model(name).framework for name in loaded.model_names}


def chosen_image(frameworks: Collection[str], image: str, keras_image: str, *, engine: str = "") -> tuple[str, str]:
    """The framework and the container image of a training or sweep.

    Args:
        frameworks: of its models.
        image: the one with torch.
        keras_image: the one with TensorFlow.
        engine: `local` trains here, where images mean nothing.

    Raises:
        JobError: the models need both frameworks, and one image that has them is not named.
    """
    if len(frameworks) > 1 and image != keras_image and engine != "local":
        raise JobError(
            "the sweep is over models of torch and of TensorFlow, and its trials run in one container image",
            where="search_space",
            hint="Make it two sweeps; or name one image that has both, as image and as keras_image.",
        )
    framework = "tensorflow" if "tensorflow" in frameworks and len(frameworks) == 1 else "torch"
    return framework, keras_image if framework == "tensorflow" else image


def _task(name: str) -> Task:
    try:
        return Task(name)
    except ValueError as error:
        raise JobError(f"{name!r} is no task", where="task", hint=f"Choose one of {', '.join(Task)}.") from error


_LIKE = 'Write it like {"number_of_epochs": 5, "learning_rate": 0.01}.'
