"""A model, or somebody's predictions, judged on labelled pictures.

The output folder holds `metrics.json` (what `kubesight.evaluate.summary` and `kubesight.evaluate.object_summary`
give), `predictions.jsonl` (one line a picture) and `report.html`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubesight.dataset import Dataset, Task
from kubesight.errors import DatasetError, HyperparameterError, ModelError
from kubesight.evaluate.classification import evaluate_classes
from kubesight.evaluate.coco_truth import coco_truth
from kubesight.evaluate.object_truth import OBJECT_TASKS, ObjectTruth, data_set_truth
from kubesight.evaluate.objects import evaluate_objects


def evaluate(
    data: Path | str,
    output: Path | str,
    *,
    model: Path | str | None = None,
    predictions: Path | str | None = None,
    task: Task | str | None = None,
    batch_size: int | None = None,
    iou_threshold: float | None = None,
    score_threshold: float | None = None,
    eleven_points: bool = False,
    inclusive_pixels: bool = False,
    pictures: Sequence[Path] = (),
    data_name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Judge a model's answers, or those of a file, on labelled pictures.

    Classes are matched by name. A class of the data that the model does not know counts as missed, with a warning.

    Args:
        data: a data set's folder; or a COCO file, for predictions alone, which is taken exactly as it is.
        output: the folder to write; an earlier evaluation there is replaced, once this one is whole.
        model: a model folder. With `predictions` too, it is not run: it tells classes and settings.
        predictions: a file of predictions, as `kubesight.evaluate.prediction_files` reads it for classification, and
            `kubesight.evaluate.object_predictions` for detection and segmentation.
        task: what the data must be for, or None for whatever it is for. Outlines serve detection too, by their boxes.
            A COCO file needs it.
        batch_size: pictures that go through the model at a time; by default 32 for a classifier, and what a detector
            was validated with.
        iou_threshold: for objects: the overlap from which a detection is right, in [0.1, 1], in place of the model's.
        score_threshold: for objects: the deployment threshold, in place of the model's.
        eleven_points: for objects: VOC's average precision by the rule of 2007.
        inclusive_pixels: for objects: VOC's boxes, whose last pixel is part of them.
        pictures: folders where the pictures of a COCO file may lie; they are only drawn.
        data_name: what the output calls the data, when it is not its path.
        overrides: for a detector that is run: inference settings in place of its card's, such as tiles.

    Returns:
        Metric name to finite value.

    Raises:
        ModelError: neither a model nor predictions, or the model is for another task.
        DatasetError: the data or the predictions cannot be judged.
        HyperparameterError: a threshold or an override is out of range, or has no meaning for the task.
        StorageError: a file cannot be read or written.
    """
    _check_source(model, predictions, overrides)
    wanted = _task(task)
    asked = {
        "iou_threshold": iou_threshold,
        "score_threshold": score_threshold,
        "eleven_points": eleven_points or None,
        "inclusive_pixels": inclusive_pixels or None,
    }
    settings = {name: value for name, value in asked.items() if value is not None}
    if Path(data).is_file():
        truth = _coco_file(Path(data), wanted, model if predictions is None else None, pictures)
    elif (dataset := Dataset(data)).task in OBJECT_TASKS:
        truth = data_set_truth(dataset, wanted)
    else:
        _refuse({**settings, **(overrides or {})}, dataset)
        return evaluate_classes(data, output, model=model, predictions=predictions, task=wanted, batch_size=batch_size)
    if data_name is not None:
        truth = replace(truth, path=data_name, data=truth.data | {"path": data_name})
    arguments: dict[str, Any] = {"model": model, "predictions": predictions, "batch_size": batch_size}
    return evaluate_objects(truth, output, settings=settings, overrides=overrides, **arguments)


def _check_source(
    model: Path | str | None, predictions: Path | str | None, overrides: Mapping[str, Any] | None
) -> None:
    if model is None and predictions is None:
        raise ModelError("there is nothing to evaluate", hint="Give --model DIR or --predictions FILE.")
    if overrides and (model is None or predictions is not None):
        raise HyperparameterError(f"{', '.join(overrides)} would have no effect: no model is run")


def _task(name: Task | str | None) -> Task | None:
    if name is not None and name not in list(Task):
        raise DatasetError(f"unknown task {name!r}", hint=f"Known: {', '.join(Task)}.")
    return None if name is None else Task(name)


def _refuse(settings: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse what means something for objects alone."""
    if settings:
        raise HyperparameterError(
            f"{', '.join(settings)} mean nothing for {dataset.task}",
            where=str(dataset.path),
            hint="They are for detection and segmentation.",
        )


def _coco_file(path: Path, task: Task | None, model: Path | str | None, pictures: Sequence[Path]) -> ObjectTruth:
    if task not in OBJECT_TASKS:
        raise DatasetError(
            "an annotation file does not tell what is to be judged",
            where=str(path),
            hint=f"Say --task {' or --task '.join(OBJECT_TASKS)}.",
        )
    if model is not None:
        raise DatasetError(
            "a model is run on a data set, not on an annotation file",
            where=str(path),
            hint="Make one with `kubesight convert`, which also sees that the pictures are there.",
        )
    return coco_truth(path, task, pictures)
