"""One line of `annotations.jsonl`, typed, for each of the four tasks.

The schema is that of Azure AutoML for images, with additions that other readers skip: `rle`, `difficult`,
`truncated`, `occluded`, `area`, `image_id`, `group`, `split` and `image_details.bytes`.
"""

from enum import StrEnum
from typing import Literal

import msgspec


class Task(StrEnum):
    """What is asked of a picture; the names are those of the job file."""

    CLASSIFICATION = "image_classification"
    MULTILABEL = "image_classification_multilabel"
    DETECTION = "image_object_detection"
    SEGMENTATION = "image_instance_segmentation"


class ImageDetails(msgspec.Struct, omit_defaults=True):
    """What the picture's header says.

    `width` and `height` are pixels as a viewer shows the picture (after EXIF orientation); `bytes` is the file's size.
    """

    format: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None


class Box(msgspec.Struct, omit_defaults=True):
    """One object's box: corners as fractions of width and height, from the upper left, in [0, 1].

    `area` is the object's own (of its outline, say) in pixels of the picture, where the source tells it.
    """

    label: str
    topX: float
    topY: float
    bottomX: float
    bottomY: float
    isCrowd: int = 0
    difficult: int = 0
    truncated: int = 0
    occluded: int = 0
    area: float | None = None


class Rle(msgspec.Struct):
    """COCO's run-length mask: `size` is [height, width] in pixels, `counts` column-major runs, compressed or listed."""

    size: tuple[int, int]
    counts: str | list[int]


class Instance(msgspec.Struct, omit_defaults=True):
    """One object's outline.

    `polygon` holds flat x, y rings as fractions of width and height; several rings combine by XOR, so that an inner
    ring is a hole. `rle` keeps an exact mask where the source had one; it is the truth where both are given. `area` is
    in pixels of the picture, where the source tells it.
    """

    label: str
    polygon: list[list[float]] = msgspec.field(default_factory=list)
    rle: Rle | None = None
    isCrowd: int = 0
    difficult: int = 0
    truncated: int = 0
    occluded: int = 0
    area: float | None = None


Part = Literal["train", "validation", "test"]


class _Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What every row has: the picture, its group (kept on one side of a split), and its part when the source says.

    `image_id` is what the source called the picture, where that is not its file's name.
    """

    image_url: str
    image_id: int | str | None = None
    image_details: ImageDetails | None = None
    group: str | None = None
    split: Part | None = None


class ClassificationRow(_Row, omit_defaults=True, kw_only=True):
    """A picture with one class."""

    label: str

    def class_names(self) -> list[str]:
        """The classes of this row, one an annotation."""
        return [self.label]


class MultilabelRow(_Row, omit_defaults=True, kw_only=True):
    """A picture with any number of classes, none among them."""

    label: list[str]

    def class_names(self) -> list[str]:
        """The classes of this row, one an annotation."""
        return self.label


class DetectionRow(_Row, omit_defaults=True, kw_only=True):
    """A picture with boxes; an empty list is background."""

    label: list[Box]

    def class_names(self) -> list[str]:
        """The classes of this row, one an annotation."""
        return [box.label for box in self.label]


class SegmentationRow(_Row, omit_defaults=True, kw_only=True):
    """A picture with outlined objects; an empty list is background."""

    label: list[Instance]

    def class_names(self) -> list[str]:
        """The classes of this row, one an annotation."""
        return [instance.label for instance in self.label]


Row = ClassificationRow | MultilabelRow | DetectionRow | SegmentationRow

ROW_TYPES: dict[Task, type[Row]] = {
    Task.CLASSIFICATION: ClassificationRow,
    Task.MULTILABEL: MultilabelRow,
    Task.DETECTION: DetectionRow,
    Task.SEGMENTATION: SegmentationRow,
}
