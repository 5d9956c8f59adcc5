"""The data set of all steps: `dataset.json` beside `annotations.jsonl`, one image a line."""

from kubesight.dataset.dataset import Dataset, DatasetInfo, DatasetWriter
from kubesight.dataset.rows import (
    Box,
    ClassificationRow,
    DetectionRow,
    ImageDetails,
    Instance,
    MultilabelRow,
    Rle,
    Row,
    SegmentationRow,
    Task,
)

__all__ = [
    "Box",
    "ClassificationRow",
    "Dataset",
    "DatasetInfo",
    "DatasetWriter",
    "DetectionRow",
    "ImageDetails",
    "Instance",
    "MultilabelRow",
    "Rle",
    "Row",
    "SegmentationRow",
    "Task",
]
