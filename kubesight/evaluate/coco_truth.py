"""A COCO file read for evaluation: ids, boxes, areas and masks exactly as they stand in it.

`kubesight convert` repairs what a network should not learn from: it cuts boxes at the picture's edge and drops those
without area. A judge of other people's predictions must not; its numbers are to be those of COCO's own tools on the
same file. So this reads the file itself, and opens no picture.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from kubesight.dataset.objects import MaskRle, mask_area, rle_corners
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError
from kubesight.evaluate.coco_json import Id, check_box, coco_rle, decode, has_outline, id_key, read_bytes
from kubesight.evaluate.object_truth import ObjectTruth
from kubesight.metrics.objects import TrueObjects
from kubesight.storage.files import sha256_file

_HINT = "Correct the file; `kubesight convert` makes a data set of it without such annotations, and says which."


class _Image(msgspec.Struct):
    id: Id
    file_name: str
    width: float | None = None
    height: float | None = None


class _Category(msgspec.Struct):
    id: Id
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    id: Id | None = None
    bbox: list[float | None] | None = None
    area: float | None = None
    iscrowd: Any = 0
    segmentation: Raw = Raw()


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def coco_truth(path: Path, task: Task, folders: Sequence[Path] = ()) -> ObjectTruth:
    """The labelled objects of a COCO file, its pictures in the order of their ids, as COCO's own tools take them.

    Args:
        path: the JSON file.
        task: detection compares boxes, segmentation masks.
        folders: where its pictures may lie; beside the file by default. They are only drawn in the report.

    Raises:
        DatasetError: it is no COCO file, or an annotation cannot be judged; it is named.
        StorageError: the file cannot be read.
    """
    content = decode(read_bytes(path), _File, str(path), "a COCO file")
    if not content.images:
        raise DatasetError("the file has no pictures to evaluate on", where=str(path))
    reader = _Reader(path, content, task is Task.SEGMENTATION)
    for annotation in content.annotations:
        reader.add(annotation)
    return ObjectTruth(
        path=str(path),
        masks=reader.masks,
        urls=_urls(reader.images, folders or [path.parent]),
        classes=reader.classes,
        objects=reader.objects(),
        image_ids=[_whole(image.id) for image in reader.images],
        categories=reader.names,
        data={"path": str(path), "content_hash": sha256_file(path), "part": None},
        warnings=reader.warnings(),
    )


@dataclass
class _Objects:
    """The columns of `TrueObjects`, as they fill."""

    image: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    box: list[Any] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    masks: list[MaskRle] = field(default_factory=list)


class _Reader:
    """Takes the annotations in one by one."""

    def __init__(self, path: Path, content: _File, masks: bool) -> None:
        self.path = path
        self.masks = masks
        self.images = sorted(content.images, key=_order)
        self.places = {id_key(image.id): place for place, image in enumerate(self.images)}
        if len(self.places) < len(self.images):
            key = next(key for key, count in Counter(id_key(each.id) for each in self.images).items() if count > 1)
            raise DatasetError(f"two images have the id {key}", where=str(path), hint="Give each image its own id.")
        self.sizes = [self._size(image) for image in self.images]
        self.names = {id_key(category.id): category.name for category in content.categories}
        self.classes = sorted(set(self.names.values()))
        self.index = {name: k for k, name in enumerate(self.classes)}
        self.columns = _Objects()
        self.skipped: Counter[str] = Counter()

    def add(self, annotation: _Annotation) -> None:
        """Keep an annotation, or count why it is none."""
        place = self.places.get(id_key(annotation.image_id))
        name = self.names.get(id_key(annotation.category_id))
        if place is None or name is None:
            self.skipped["of a picture or category that is not listed"] += 1
            return
        if not (has_outline(annotation.segmentation) if self.masks else annotation.bbox):
            self.skipped[f"without {'an outline' if self.masks else 'a box'}"] += 1
            return
        columns = self.columns
        box, own_area = self._geometry(annotation, place)
        columns.image.append(place)
        columns.label.append(self.index[name])
        columns.box.append(box)
        columns.area.append(own_area if annotation.area is None else annotation.area)
        columns.crowd.append(bool(annotation.iscrowd))

    def _geometry(self, annotation: _Annotation, place: int) -> tuple[Any, float]:
        """The box in pixels, and the area of the mask, else of the box; the mask is kept."""
        where = f"{self.path}, annotation {annotation.id}"
        try:
            if self.masks:
                width, height = self.sizes[place]
                rle = coco_rle(annotation.segmentation, width, height, where)
                self.columns.masks.append(rle)
            if not annotation.bbox:
                return rle_corners(rle), mask_area(rle)
            check_box(annotation.bbox, where)
        except DatasetError as error:
            raise DatasetError(error.message, where=where, hint=error.hint or _HINT) from error
        x, y, wide, high = (side for side in annotation.bbox if side is not None)
        return (x, y, x + wide, y + high), mask_area(rle) if self.masks else wide * high

    def objects(self) -> TrueObjects:
        """What was kept, picture by picture."""
        columns = self.columns
        order = np.argsort(np.array(columns.image, np.int64), kind="stable")
        objects = TrueObjects(
            sizes=np.array(self.sizes, np.int64).reshape(-1, 2),
            image=np.array(columns.image, np.int64),
            label=np.array(columns.label, np.int64),
            box=np.array(columns.box, np.float64).reshape(-1, 4),
            area=np.array(columns.area, np.float64),
            crowd=np.array(columns.crowd, bool),
            difficult=np.zeros(len(columns.image), bool),
            masks=columns.masks if self.masks else None,
        )
        return objects.select(order)

    def warnings(self) -> list[str]:
        """What was skipped or joined."""
        found = [f"{count:,} annotations {reason} were left out." for reason, count in self.skipped.items()]
        keys: dict[str, list[str]] = {}
        for key, name in self.names.items():
            keys.setdefault(name, []).append(key)
        found += [
            f"The categories {' and '.join(same)} are both named {name!r}; they were judged as one class."
            for name, same in keys.items()
            if len(same) > 1
        ]
        return found

    def _size(self, image: _Image) -> tuple[int, int]:
        if not image.width or not image.height:
            raise DatasetError(
                f"the size of {image.file_name!r} is not given",
                where=str(self.path),
                hint="Write its width and height into images.",
            )
        return int(image.width), int(image.height)


def _order(image: _Image) -> tuple[bool, Any]:
    """Numbers in their order, then texts in theirs."""
    return isinstance(image.id, str), image.id


def _whole(value: Id) -> int | str:
    return value if isinstance(value, int | str) else id_key(value)


def _urls(images: Sequence[_Image], folders: Sequence[Path]) -> list[str]:
    """The pictures' paths: in the folder that holds the first of them, else in the first folder."""
    first = images[0].file_name
    folder = next((each for each in folders if (each / first).is_file()), folders[0])
    return [str((folder / image.file_name).absolute()) for image in images]
