"""What is judged for detection and segmentation: the true objects, and beside them those that were found."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kubesight.dataset import Task
from kubesight.metrics.confusion import detection_confusion
from kubesight.metrics.errors import ErrorBreakdown, error_breakdown
from kubesight.metrics.objects import FoundObjects, TrueObjects
from kubesight.metrics.voc import VocResult, voc_metrics

BACKGROUND_IOU = 0.1
"""Below this overlap with every object a detection is of the background (TIDE; Bolya et al., 2020)."""


@dataclass(frozen=True)
class ObjectAnswers:
    """The truth and the answers; pictures are numbered in the order of `urls`, classes in that of `classes`.

    Attributes:
        dataset: the path of what was judged on: a data set folder, or an annotation file.
        urls: the pictures' URLs.
        classes: all classes of the data and of the answers, in alphabetical order.
        truth: the labelled objects.
        found: all detections, whatever their score.
        masks: whether masks are compared (instance segmentation); else boxes are.
        score_threshold: the deployment threshold: what scores less is not shown to a caller of the model. Average
            precision does not know it.
        iou_threshold: the overlap from which a detection counts as right.
        warnings: what a reader should know about how the answers were read.
    """

    dataset: str
    urls: list[str]
    classes: list[str]
    truth: TrueObjects
    found: FoundObjects
    masks: bool
    score_threshold: float
    iou_threshold: float
    warnings: list[str]

    @property
    def task(self) -> Task:
        """What was asked of the pictures."""
        return Task.SEGMENTATION if self.masks else Task.DETECTION

    @cached_property
    def ranking(self) -> VocResult:
        """Right and wrong detections by VOC's plain rules, class by class; `metrics.json` and the page share it."""
        return voc_metrics(self.truth, self.found, self.classes, iou_threshold=self.iou_threshold, masks=self.masks)

    @cached_property
    def errors(self) -> ErrorBreakdown:
        """The kinds of errors at the deployment threshold."""
        return error_breakdown(
            self.truth,
            self.found,
            self.classes,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            background_iou=min(BACKGROUND_IOU, self.iou_threshold),
            masks=self.masks,
        )

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Labelled against found classes at the deployment threshold, [classes + 1, classes + 1], background last."""
        return detection_confusion(
            self.truth,
            self.found,
            self.classes,
            iou_threshold=self.iou_threshold,
            score_threshold=self.score_threshold,
            masks=self.masks,
        )
