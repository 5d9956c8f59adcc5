"""Reading files of detections that anybody may have written.

COCO results, a JSON list of one object a detection, boxes in pixels, masks as run lengths or rings in pixels:
    [{"image_id": 42, "category_id": 18, "bbox": [x, y, width, height], "score": 0.9}, ...]
    [{"image_id": 42, "category_id": 18, "segmentation": {"size": [480, 640], "counts": "..."}, "score": 0.9}, ...]
JSON lines, one object a picture, as `kubesight evaluate` and Azure's endpoints write it, in fractions of the picture:
    {"image_url": "...", "boxes": [{"box": {"topX": 0.1, "topY": 0.2, "bottomX": 0.3, "bottomY": 0.4},
                                    "label": "cat", "score": 0.9, "polygon": [[...]]}, ...]}
with `filename` for image_url, and `rle` for exact masks. A picture without a detection may be left out of either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from kubesight.dataset.objects import MaskRle, box_pixels, polygon_rle, rle_corners
from kubesight.dataset.rows import Rle
from kubesight.errors import DatasetError
from kubesight.evaluate.coco_json import (
    Id,
    check_box,
    check_ring,
    coco_rle,
    decode,
    has_outline,
    picture_rle,
    read_bytes,
)
from kubesight.evaluate.object_names import Names
from kubesight.evaluate.object_truth import ObjectTruth
from kubesight.metrics.objects import FoundObjects

FAR_OUTSIDE = 1.0
"""A fraction further outside [0, 1] than this is a coordinate in pixels."""

_BOXES_HINT = "Judge its boxes with --task image_object_detection."


class _Result(msgspec.Struct, gc=False):
    """An entry of COCO results."""

    image_id: Id
    category_id: Id
    score: float | None
    bbox: list[float | None] | None = None
    segmentation: Raw = Raw()


class _Corners(msgspec.Struct):
    topX: float | None
    topY: float | None
    bottomX: float | None
    bottomY: float | None


class _Item(msgspec.Struct):
    """An entry of `boxes`."""

    label: str | int
    score: float | None
    box: _Corners | None = None
    polygon: list[list[float | None]] | None = None
    rle: Rle | None = None


class _Line(msgspec.Struct):
    """A line, one picture."""

    boxes: list[_Item]
    image_url: str | None = None
    filename: str | None = None
    file_name: str | None = None
    image: str | None = None
    path: str | None = None

    @property
    def picture(self) -> str | None:
        """The picture, whichever way it is named."""
        return self.image_url or self.filename or self.file_name or self.image or self.path


@dataclass
class _Found:
    """The columns of `FoundObjects`, as they fill."""

    image: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    box: list[Any] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    masks: list[MaskRle] = field(default_factory=list)

    def objects(self, masks: bool) -> FoundObjects:
        """What was read."""
        return FoundObjects(
            image=np.array(self.image, np.int64),
            label=np.array(self.label, np.int64),
            box=np.array(self.box, np.float64).reshape(-1, 4),
            score=np.array(self.score, np.float64),
            masks=self.masks if masks else None,
        )


def read_detections(path: Path, truth: ObjectTruth) -> tuple[FoundObjects, list[str]]:
    """Read a file of detections, and what a reader should know about how it was read.

    Args:
        path: COCO results when it begins with a bracket, else JSON lines.
        truth: the pictures and classes that it speaks of, and whether masks are compared.

    Raises:
        DatasetError: it cannot be judged; the entry or line is named.
        StorageError: it cannot be read.
    """
    data = read_bytes(path)
    reader = _Reader(path, truth)
    if data.lstrip()[:1] == b"[":
        for number, result in enumerate(decode(data, list[_Result], str(path), "a list of COCO results")):
            reader.add_result(number, result)
    else:
        reader.add_lines(data)
    found = reader.columns.objects(truth.masks)
    return found, reader.warnings(found)


class _Reader:
    """Takes the detections in one by one."""

    def __init__(self, path: Path, truth: ObjectTruth) -> None:
        self.path = path
        self.truth = truth
        self.names = Names(truth)
        self.sizes: list[list[int]] = truth.objects.sizes.tolist()
        self.columns = _Found()
        self.from_masks = 0
        self.unused_masks = 0

    def add_result(self, number: int, result: _Result) -> None:
        """Take in one entry of COCO results."""
        where = f"{self.path}, entry {number} (from 0)"
        place = self.names.picture(result.image_id, where)
        width, height = self.sizes[place]
        outlined = has_outline(result.segmentation)
        rle = None
        if outlined and (self.truth.masks or not result.bbox):
            rle = coco_rle(result.segmentation, width, height, where)
        box = None
        if result.bbox:
            check_box(result.bbox, where)
            x, y, wide, high = (side for side in result.bbox if side is not None)
            box = (x, y, x + wide, y + high)
        self._keep(place, self.names.category(result.category_id, where), box, result.score, rle, where)
        self.unused_masks += outlined and rle is None

    def add_lines(self, data: bytes) -> None:
        """Take in JSON lines.

        Raises:
            DatasetError: two lines are of one picture.
        """
        lines: dict[int, int] = {}
        for number, text in enumerate(data.split(b"\n"), start=1):
            if not text.strip():
                continue
            where = f"{self.path}, line {number}"
            line = decode(text, _Line, where, 'COCO results or a line of {"image_url", "boxes"}')
            if line.picture is None:
                raise DatasetError("the line names no picture", where=where, hint="Give it as 'image_url', a text.")
            place = self.names.named_picture(line.picture, where)
            if place in lines:
                raise DatasetError(
                    f"a second line for {line.picture}; line {lines[place]} was the first",
                    where=where,
                    hint="Keep one line for each picture.",
                )
            lines[place] = number
            for index, item in enumerate(line.boxes):
                self._add_item(place, item, f"{where}, box {index} (from 0)")

    def _add_item(self, place: int, item: _Item, where: str) -> None:
        outlined = bool(item.polygon or item.rle)
        rle = self._item_rle(place, item, where) if outlined and (self.truth.masks or item.box is None) else None
        box = None if item.box is None else self._item_box(item.box, place, where)
        self._keep(place, self.names.named_class(str(item.label), where), box, item.score, rle, where)
        self.unused_masks += outlined and rle is None

    def _item_box(self, corners: _Corners, place: int, where: str) -> Any:
        values = [corners.topX, corners.topY, corners.bottomX, corners.bottomY]
        numbers = [math.nan if value is None else value for value in values]
        if not math.isfinite(sum(numbers)):
            raise DatasetError(f"the box {values} has a side that is no number", where=where)
        if min(numbers) < -FAR_OUTSIDE or max(numbers) > 1 + FAR_OUTSIDE:
            raise DatasetError(
                f"the box {values} is not in fractions of the picture",
                where=where,
                hint="Divide x by the picture's width and y by its height; or write COCO results, which are in pixels.",
            )
        if numbers[2] < numbers[0] or numbers[3] < numbers[1]:
            raise DatasetError(f"the box {values} has a negative side", where=where)
        width, height = self.sizes[place]
        return box_pixels(numbers, width, height)

    def _item_rle(self, place: int, item: _Item, where: str) -> MaskRle:
        width, height = self.sizes[place]
        if item.rle is not None:
            return picture_rle(item.rle, width, height, where)
        rings: list[Sequence[float]] = []
        for ring in item.polygon or []:
            check_ring(ring, where)
            rings.append([value for value in ring if value is not None])
        return polygon_rle(rings, height, width)

    def _keep(self, place: int, label: int, box: Any, score: float | None, rle: MaskRle | None, where: str) -> None:
        if score is None or not math.isfinite(score):
            raise DatasetError("the score is not a finite number", where=where)
        if self.truth.masks and rle is None:
            raise DatasetError("a detection without a mask, where masks are judged", where=where, hint=_BOXES_HINT)
        if box is None and rle is None:
            raise DatasetError("a detection without a box", where=where)
        if box is None and rle is not None:
            box = rle_corners(rle)
            self.from_masks += not self.truth.masks
        columns = self.columns
        columns.image.append(place)
        columns.label.append(label)
        columns.box.append(box)
        columns.score.append(score)
        if self.truth.masks and rle is not None:
            columns.masks.append(rle)

    def warnings(self, found: FoundObjects) -> list[str]:
        """What had to be assumed, and what was not used."""
        warnings = list(self.names.remarks)
        without = len(self.sizes) - len(np.unique(found.image))
        if without:
            warnings.append(f"{without:,} of {len(self.sizes):,} pictures have no detection.")
        if self.from_masks:
            warnings.append(f"{self.from_masks:,} detections have no box; the boxes around their masks were judged.")
        if self.unused_masks:
            warnings.append(f"{self.unused_masks:,} detections have masks, which were not used: boxes were judged.")
        return warnings
