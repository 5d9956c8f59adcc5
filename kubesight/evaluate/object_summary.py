"""What `metrics.json` holds for detection and segmentation."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kubesight.errors import HyperparameterError
from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.summary import MATRIX_CLASSES, most_confused
from kubesight.hyperparameters import TABLE
from kubesight.metrics.coco import CocoResult, coco_metrics
from kubesight.metrics.detection import by_size, per_class_at, pooled_at, threshold_table
from kubesight.metrics.errors import ErrorBreakdown
from kubesight.metrics.names import primary_metric
from kubesight.metrics.summary import detection_metrics
from kubesight.metrics.voc import VocResult, check_iou_threshold, voc_metrics

BACKGROUND = "(background)"
"""The row of what was found where nothing is, and the column of what was missed."""


@dataclass(frozen=True)
class ObjectSettings:
    """By what rules objects are judged; the defaults are those of training.

    Attributes:
        metric_type: what `mean_average_precision` is: `voc` (or `coco_voc`), or COCO's AP50 for `coco`.
        iou_threshold: the overlap from which a detection is right by VOC's rules, in [0.1, 1].
        score_threshold: the deployment threshold, at which precision, recall and F1 are given.
        eleven_points: `voc.mAP` and `voc.AP.<class>` by VOC 2007's rule, else the area under the curve.
        inclusive_pixels: for these, boxes as the development kit takes them, the last pixel being part of them.

    Raises:
        HyperparameterError: a threshold is out of range.
    """

    metric_type: str = TABLE["validation_metric_type"].default
    iou_threshold: float = TABLE["validation_iou_threshold"].default
    score_threshold: float = TABLE["box_score_threshold"].default
    eleven_points: bool = False
    inclusive_pixels: bool = False

    def __post_init__(self) -> None:
        """Check the thresholds, before anything is read."""
        check_iou_threshold(self.iou_threshold)
        if not math.isfinite(self.score_threshold):
            raise HyperparameterError(f"a score threshold of {self.score_threshold}", hint="Give a finite number.")


def summarise_objects(answers: ObjectAnswers, data: dict[str, Any], settings: ObjectSettings) -> dict[str, Any]:
    """All figures of one evaluation, ready for JSON; every number is finite, what is undefined is null or left out.

    Args:
        answers: what is judged.
        data: what to say of the data: path, content_hash, part.
        settings: the rules.

    Returns:
        `task`, `primary_metric`, `metrics` (name to value), `classes`, `images`, `objects` and `detections` (their
        numbers), `settings`, `data`, `warnings`, `per_class` (one object a class), `sizes` (small, medium, large),
        `thresholds` (what each score threshold costs), `errors` (of each kind: count at the deployment threshold, and
        cost in average precision), `confusion_matrix` ({classes, matrix}; rows are true classes, the background last;
        at most 45 classes) and `confusions` (the most frequent).
    """
    voc = _voc(answers, settings, masks=answers.masks)
    coco = coco_metrics(answers.truth, answers.found, answers.classes, masks=answers.masks)
    # Precision and recall know no interpolation, but they know pixels: they go by the plain rules, as in training.
    plain = answers.ranking
    summary: dict[str, Any] = {
        "task": answers.task,
        "primary_metric": primary_metric(answers.task),
        "metrics": _metrics(answers, settings, voc, coco, plain),
        "classes": answers.classes,
        "images": len(answers.urls),
        "objects": len(answers.truth),
        "detections": len(answers.found),
        "settings": asdict(settings),
        "data": data,
        "warnings": answers.warnings,
        "per_class": _per_class(plain, voc, coco, settings.score_threshold),
        "sizes": [_finite(asdict(row)) for row in by_size(answers.truth, coco)],
        "thresholds": [_flat(asdict(row)) for row in threshold_table(plain.per_class)],
        "errors": _errors(answers.errors),
    }
    return summary | _confusions(answers)


def _voc(answers: ObjectAnswers, settings: ObjectSettings, *, masks: bool) -> VocResult:
    return voc_metrics(
        answers.truth,
        answers.found,
        answers.classes,
        iou_threshold=settings.iou_threshold,
        eleven_points=settings.eleven_points,
        inclusive_pixels=settings.inclusive_pixels,
        masks=masks,
    )


def _metrics(
    answers: ObjectAnswers, settings: ObjectSettings, voc: VocResult, coco: CocoResult, plain: VocResult
) -> dict[str, float]:
    trained = detection_metrics(
        answers.truth,
        answers.found,
        answers.classes,
        masks=answers.masks,
        metric_type=settings.metric_type,
        iou_threshold=settings.iou_threshold,
        score_threshold=settings.score_threshold,
    )
    name = primary_metric(answers.task)
    metrics = {name: trained[name]} if name in trained else {}
    metrics |= pooled_at(plain.per_class, settings.score_threshold).defined()
    metrics |= {f"coco.{name}": value for name, value in coco.summary.items()}
    metrics |= {} if voc.mean is None else {"voc.mAP": voc.mean}
    if answers.masks:
        boxes = coco_metrics(answers.truth, answers.found, answers.classes, masks=False)
        metrics |= {f"coco.box.{name}": value for name, value in boxes.summary.items()}
        mean = _voc(answers, settings, masks=False).mean
        metrics |= {} if mean is None else {"voc.box.mAP": mean}
    metrics |= {
        f"voc.AP.{curve.name}": curve.average_precision
        for curve in voc.per_class
        if curve.average_precision is not None
    }
    return metrics


def _per_class(plain: VocResult, voc: VocResult, coco: CocoResult, score_threshold: float) -> list[dict[str, Any]]:
    rows = []
    for figures, curve in zip(per_class_at(plain.per_class, score_threshold), voc.per_class, strict=True):
        row = _flat(asdict(figures))
        best = row.pop("best") or {}
        row |= {f"best_{name}": best.get(name) for name in ("precision", "recall", "f1")}
        row["average_precision"] = curve.average_precision
        row |= {"coco_AP": coco.per_class.get(curve.name), "coco_AP50": coco.per_class_50.get(curve.name)}
        rows.append(row)
    return rows


def _errors(found: ErrorBreakdown) -> dict[str, Any]:
    return {kind: {"count": count, "cost": found.cost.get(kind)} for kind, count in found.counts.items()}


def _confusions(answers: ObjectAnswers) -> dict[str, Any]:
    matrix = answers.confusion
    names = [*answers.classes, BACKGROUND]
    summary: dict[str, Any] = {"confusions": most_confused(matrix, names)}
    if len(names) <= MATRIX_CLASSES:
        summary["confusion_matrix"] = {"classes": names, "matrix": np.asarray(matrix).tolist()}
    return summary


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its precision, recall and F1 beside the other values."""
    return row | row.pop("figures")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value == float("inf") else value for name, value in row.items()}


def deployment_settings(hyperparameters: dict[str, Any], inference: dict[str, Any]) -> ObjectSettings:
    """The rules that a model card names; without a metric type (`none`) it is VOC's."""
    defaults = ObjectSettings()
    metric_type = hyperparameters.get("validation_metric_type", defaults.metric_type)
    return ObjectSettings(
        metric_type=defaults.metric_type if metric_type == "none" else metric_type,
        iou_threshold=hyperparameters.get("validation_iou_threshold", defaults.iou_threshold),
        score_threshold=inference.get("box_score_threshold", defaults.score_threshold),
    )
