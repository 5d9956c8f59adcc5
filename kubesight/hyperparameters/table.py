"""The one table, put together, and looking names up in it."""

import difflib
from collections.abc import Iterable

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters import agnostic, classification, detection, engine, keras, yolov5
from kubesight.hyperparameters.spec import Hyperparameter

# What SageMaker's services add to a job's hyperparameters by themselves; none of it is a setting of the training.
INJECTED = frozenset(
    {
        "_tuning_objective_metric",
        "sagemaker_container_log_level",
        "sagemaker_estimator_class_name",
        "sagemaker_estimator_module",
        "sagemaker_job_name",
        "sagemaker_program",
        "sagemaker_region",
        "sagemaker_submit_directory",
    }
)


def _indexed(rows: Iterable[Hyperparameter]) -> tuple[dict[str, Hyperparameter], dict[str, Hyperparameter]]:
    """Rows by canonical name, and by every name; a name that two rows claim raises."""
    by_name: dict[str, Hyperparameter] = {}
    by_spelling: dict[str, Hyperparameter] = {}
    for row in rows:
        for spelling in (row.name, *row.aliases):
            if spelling in by_spelling:
                raise ValueError(f"two hyperparameters are called {spelling}")
            by_spelling[spelling] = row
        by_name[row.name] = row
    return by_name, by_spelling


SECTIONS: dict[str, tuple[Hyperparameter, ...]] = {
    "All tasks": agnostic.ROWS,
    "Image classification": classification.ROWS,
    "Object detection and instance segmentation": detection.ROWS,
    "yolov5": yolov5.ROWS,
    "keras/* models": keras.ROWS,
    "Beyond the hosted services": engine.ROWS,
}
"""The table, as the reference page parts it."""

TABLE, _SPELLINGS = _indexed(row for rows in SECTIONS.values() for row in rows)


def canonical_spelling(name: str) -> str:
    """A name with underscores for dashes, which flags and SageMaker's first versions have."""
    return name.replace("-", "_")


def is_known(name: str) -> bool:
    """Whether any spelling of any row is `name`."""
    return canonical_spelling(name) in _SPELLINGS


def find(name: str, *, place: str | None = None, preferred: Iterable[str] = ()) -> Hyperparameter:
    """The row behind a name in any of its spellings.

    Args:
        name: canonical name or alias, with dashes or underscores.
        place: where the user wrote it.
        preferred: canonical names to look through first for a suggestion (those of the model at hand).

    Raises:
        HyperparameterError: nobody knows the name; the nearest known one is given.
    """
    spelling = canonical_spelling(name)
    if spelling in _SPELLINGS:
        return _SPELLINGS[spelling]
    wanted = set(preferred)
    fitting = [known for known, row in _SPELLINGS.items() if row.name in wanted]
    near = difflib.get_close_matches(spelling, fitting, 1) or difflib.get_close_matches(spelling, _SPELLINGS, 1)
    hint = f"Did you mean {_SPELLINGS[near[0]].name}?" if near else "`kubesight hyperparameters` lists them."
    raise HyperparameterError(f"unknown hyperparameter {name!r}", where=place, hint=hint)
