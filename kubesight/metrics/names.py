"""The metrics that a task may be judged by. Imports no library, so that a job file is checked at once."""

from kubesight.dataset.rows import Task

_MEANS = ("macro", "micro", "weighted")
_FAMILIES = ("AUC", "average_precision_score", "f1_score", "precision_score", "recall_score")
_CLASSIFICATION = ("accuracy", *(f"{family}_{mean}" for family in _FAMILIES for mean in _MEANS))
_BOXES = ("mean_average_precision",)

PRIMARY_METRICS: dict[Task, tuple[str, ...]] = {
    Task.CLASSIFICATION: _CLASSIFICATION,
    Task.MULTILABEL: ("iou", *(f"iou_{mean}" for mean in _MEANS), *_CLASSIFICATION),
    Task.DETECTION: _BOXES,
    Task.SEGMENTATION: _BOXES,
}
"""What each task may be judged by, its default first; all of them are better when greater."""


def primary_metric(task: Task | str) -> str:
    """The metric that training keeps the best model by, unless told otherwise, and that a sweep optimises."""
    return PRIMARY_METRICS[Task(task)][0]
