"""What is judged for detection and segmentation: the true objects, and beside them those that were found."""

from dataclasses import dataclass

from kubesight.dataset import Task
from kubesight.metrics.objects import FoundObjects, TrueObjects


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
