"""A sweep's job as the form of a pipeline holds it: JSON text without data, which come from other steps."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubesight.errors import JobError
from kubesight.job.job import Job, load_job


def job_of_form(
    text: str, *, training_data: str, validation_data: str, resources: Mapping[str, Any] | None = None
) -> Job:
    """Read and check such a job.

    Args:
        text: a JSON object: task, primary_metric, training_parameters, search_space, sweep, limits, and under
            `kubesight` model, sweep and resources.
        training_data: the training part.
        validation_data: the validation part.
        resources: what trials get, in place of what the job says under `kubesight.resources`; empty values change
            nothing.

    Raises:
        JobError: the text is no JSON object, or the job is not right.
        HyperparameterError: a setting or its search is not right.
    """
    try:
        value = json.loads(text)
        additions = dict(value.get("kubesight", {}))
        additions["resources"] = additions.get("resources", {}) | {
            name: each for name, each in (resources or {}).items() if each
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise JobError(
            f"the job of a sweep is a JSON object: {error}", hint="`kubesight compile JOB` writes it."
        ) from error
    value |= {"training_data": training_data, "validation_data": validation_data, "kubesight": additions}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "job.json"
        file.write_text(json.dumps(value, indent=2), encoding="utf-8")
        return load_job(file)
