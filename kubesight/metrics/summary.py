"""The numbers that training prints and keeps the best model by; evaluation takes the same from here."""

from collections.abc import Sequence

from kubesight.metrics.coco import coco_metrics
from kubesight.metrics.detection import pooled_at
from kubesight.metrics.objects import FoundObjects, TrueObjects
from kubesight.metrics.voc import voc_metrics

METRIC_TYPES = ("none", "coco", "voc", "coco_voc")


def detection_metrics(
    truth: TrueObjects,
    found: FoundObjects,
    classes: Sequence[str],
    *,
    masks: bool,
    metric_type: str = "voc",
    iou_threshold: float = 0.5,
    score_threshold: float,
) -> dict[str, float]:
    """The metrics of one evaluation while training, and the primary metric of every evaluation.

    `mean_average_precision` is VOC's mean average precision at `iou_threshold`, or COCO's AP50 when the metric type is
    `coco`; it takes in all detections. `precision`, `recall` and `f1` are of all classes together, of the detections
    whose score is no smaller than `score_threshold`, by VOC's rules at `iou_threshold`. `coco_AP`, ..., `coco_ARl` are
    COCO's twelve numbers, for the metric types that name COCO.

    Args:
        truth: the labelled objects.
        found: all detections, whatever their score.
        classes: the class names in index order.
        masks: compare masks, else boxes.
        metric_type: `coco`, `voc`, `coco_voc`, or `none`, for which the result is empty.
        iou_threshold: the overlap from which a detection is right, in [0.1, 1].
        score_threshold: the deployment threshold.

    Returns:
        Metric name to finite value; what nothing defines is left out.

    Raises:
        ValueError: an unknown metric type.
        HyperparameterError: the overlap threshold is out of range.
    """
    if metric_type not in METRIC_TYPES:
        raise ValueError(f"the metric type {metric_type!r} is none of {', '.join(METRIC_TYPES)}")
    if metric_type == "none":
        return {}
    voc = voc_metrics(truth, found, classes, iou_threshold=iou_threshold, masks=masks)
    mean, coco = voc.mean, {}
    if metric_type != "voc":
        coco = coco_metrics(truth, found, classes, masks=masks).summary
        mean = coco.get("AP50") if metric_type == "coco" else mean
    metrics = {} if mean is None else {"mean_average_precision": mean}
    metrics |= pooled_at(voc.per_class, score_threshold).defined()
    return metrics | {f"coco_{name}": value for name, value in coco.items()}
