"""COCO JSON: boxes, polygons and run-length masks."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from kubesight.convert.coco_file import CocoAnnotation, CocoFile, CocoImage, describe, has_outline, id_key, whole_id
from kubesight.convert.geometry import Frame, ring_bounds
from kubesight.convert.layout import annotation_files, choose_files, picture_folders
from kubesight.convert.objects import make_box, make_masked, make_outlined, make_row, shown_area
from kubesight.convert.pictures import Picture, Pictures
from kubesight.convert.reading import NOT_JSON, Problem, Reading, join_categories, unknown_label
from kubesight.convert.registry import Reader, register
from kubesight.dataset.outlines import rings_cross
from kubesight.dataset.rle import rle_box
from kubesight.dataset.rows import Box, Instance, Part, Rle, Row, Task

_decode = msgspec.json.Decoder(CocoAnnotation, strict=False).decode
_decode_rings = msgspec.json.Decoder(list[list[float | None]]).decode
_decode_ring = msgspec.json.Decoder(list[float | None]).decode
_decode_rle = msgspec.json.Decoder(Rle).decode
_FLAGS = ("difficult", "truncated", "occluded")


@register("coco")
class CocoReader(Reader):
    """Reads a COCO file, or a folder that holds one beside its pictures, in `annotations/`, or one in each part.

    For segmentation polygons and masks are read; for detection the boxes; for multilabel the set of classes present.
    An image without annotations is background.
    """

    options: ClassVar[Mapping[str, str]] = {
        "annotations": "name or pattern of the JSON file, where a folder holds several"
    }

    def __init__(self, reading: Reading) -> None:
        """Choose the files."""
        super().__init__(reading)
        self._files = choose_files(reading.source, reading.options.get("annotations"), (".json",), _looks_like_coco)
        self._first: CocoFile | None = None
        self._categories: dict[str, str] = {}

    @classmethod
    def mismatch(cls, source: Path, options: Mapping[str, str]) -> str | None:
        """Whether there is a JSON file with images, annotations and categories."""
        found = annotation_files(source, options.get("annotations"), (".json",), _looks_like_coco)
        return None if found else "no .json file with images, annotations and categories"

    @property
    def root(self) -> Path:
        """The folder above `annotations/`, or the JSON file's own."""
        folder = super().root
        return folder.parent if folder.name == "annotations" else folder

    def tasks(self) -> tuple[Task, ...]:
        """Segmentation first when no more annotations lack an outline than may be dropped, else detection."""
        is_new = self._first is None
        file = self._first = self._first or CocoFile(self._files[0][0], self.reading)
        lacking = file.annotation_count - file.outlined
        if not file.outlined:
            return Task.DETECTION, Task.MULTILABEL
        if lacking <= self.reading.report.max_dropped * file.annotation_count:
            return Task.SEGMENTATION, Task.DETECTION, Task.MULTILABEL
        if is_new:
            message = f"{lacking} of {file.annotation_count} annotations have no outline: they serve detection better"
            file.note("warning", "few_outlines", message, count=lacking)
        return Task.DETECTION, Task.SEGMENTATION, Task.MULTILABEL

    @property
    def categories(self) -> dict[str, str]:
        """The categories of all files that were read."""
        return self._categories

    def rows(self, task: Task) -> Iterator[Row]:
        """One row an image, in the order of `images`."""
        named: set[str] = set()
        used: set[str] = set()
        for path, part in self._files:
            file, self._first = self._first or CocoFile(path, self.reading), None
            named.update(file.names.values())
            self._categories = join_categories([self._categories, file.names])
            yield from _FileRows(file, task, self.reading, part, used)
        for name in sorted(named - used):
            file.note("warning", "unused_class", f"no annotation uses the category {name!r}; it is left out")


class _FileRows:
    """The rows of one file."""

    def __init__(self, file: CocoFile, task: Task, reading: Reading, part: Part | None, used: set[str]) -> None:
        self._file, self._task, self._reading, self._part, self._used = file, task, reading, part, used
        self._accepted = reading.accepted
        self._pictures = Pictures(reading, picture_folders(file.path))

    def __iter__(self) -> Iterator[Row]:
        file = self._file
        for image, entries in self._reading.track(file.groups(), total=len(file.images), what=file.path.name):
            row = self._row(image, entries)
            if row is not None:
                yield row

    def _row(self, image: CocoImage, entries: list[Raw]) -> Row | None:
        picture = self._pictures.open(image.file_name, self._file.path, declared=image.size)
        if picture is None:
            return None
        if picture.frame is None:
            message = f"the size of {image.file_name!r} is not given, and the picture is not opened"
            self._file.note("dropped", "no_size", message, image=True)
            return None
        objects = [found for entry in entries if (found := self._object(entry, picture)) is not None]
        if entries and not objects:
            message = f"none of the {len(entries)} annotations of {image.file_name!r} can be used"
            self._file.note("dropped", "no_valid_annotation", message, image=True)
            return None
        key = whole_id(image.id)
        return make_row(self._task, picture.url, picture.details, objects, split=self._part, image_id=key)

    def _object(self, entry: Raw, picture: Picture) -> Box | Instance | str | None:
        frame = picture.frame
        assert frame is not None
        try:
            annotation = _decode(entry)
        except NOT_JSON as error:
            self._file.note("dropped", "malformed_annotation", f"{describe(entry)} is unusable: {error}")
            return None
        label = self._file.names.get(id_key(annotation.category_id))
        if label is None:
            message = f"{describe(entry)} has the category {annotation.category_id!r}, which is not listed"
            self._file.note("dropped", "unknown_category", message)
            return None
        problem = unknown_label(label, self._accepted)
        found: Box | Instance | str | None = None
        if problem is not None:
            problems = [problem]
        elif self._task is Task.SEGMENTATION:
            found, problems = _instance(label, annotation, frame)
        elif self._task is Task.MULTILABEL and not annotation.bbox and not has_outline(annotation.segmentation):
            found, problems = label, []
        else:
            found, problems = _box(label, annotation, frame)
        for problem in problems:
            self._file.note(problem.severity, problem.reason, f"{describe(entry)}: {problem.message}")
        if found is not None:
            self._used.add(label)
        if isinstance(found, Box | Instance):
            found.area = shown_area(annotation.area, picture)
        return found


def _box(label: str, annotation: CocoAnnotation, frame: Frame) -> tuple[Box | None, list[Problem]]:
    """A detection box: the annotation's own, or that of its outline when it has none."""
    box = annotation.bbox
    if box and len(box) == 4 and None not in box:
        x, y, width, height = (side for side in box if side is not None)
        return make_box(label, (x, y, x + width, y + height), frame, **_flags(annotation))
    if not has_outline(annotation.segmentation):
        reason = "not_a_number" if box and None in box else "malformed_box"
        return None, [Problem("dropped", reason, f"the box {box} is not four numbers")]
    instance, problems = _instance(label, annotation, frame)
    if instance is None:
        return None, problems
    corners = rle_box(instance.rle) if instance.rle else ring_bounds(instance.polygon)
    problem = Problem("repaired", "box_from_outline", f"the box {box} is not four numbers; its outline's was taken")
    return Box(label, *corners, **_flags(annotation)), [*problems, problem]


def _instance(label: str, annotation: CocoAnnotation, frame: Frame) -> tuple[Instance | None, list[Problem]]:
    raw = annotation.segmentation
    flags = _flags(annotation)
    if not has_outline(raw):
        return None, [Problem("dropped", "no_outline", "it has no polygon and no mask")]
    try:
        if bytes(memoryview(raw)[:1]) == b"{":
            return make_masked(label, _decode_rle(raw), frame, **flags)
        instance, problems = make_outlined(label, _decode_rings(raw), frame, **flags)
        if instance is not None and len(instance.polygon) > 1 and rings_cross(instance.polygon):
            message = "its rings overlap in part; rings combine by XOR, so the overlap is not part of the object"
            problems.append(Problem("warning", "overlapping_rings", message))
        return instance, problems
    except NOT_JSON as error:
        try:
            ring = _decode_ring(raw)
        except NOT_JSON:
            return None, [Problem("dropped", "malformed_outline", f"its segmentation is unusable: {error}")]
    instance, problems = make_outlined(label, [ring], frame, **flags)
    return instance, [Problem("repaired", "flat_polygon", "its polygon is one bare list of numbers"), *problems]


def _flags(annotation: CocoAnnotation) -> dict[str, int]:
    flags = {"isCrowd": 1} if _true(annotation.iscrowd) else {}
    if annotation.attributes:
        flags |= {name: 1 for name in _FLAGS if _true(annotation.attributes.get(name))}
    return flags


def _true(value: Any) -> bool:
    return value in (1, True) or str(value).lower() in ("1", "true")


def _looks_like_coco(path: Path) -> bool:
    """Whether the three keys occur in the file, wherever they stand; it is not parsed."""
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return all(data.find(b'"%s"' % key) >= 0 for key in (b"images", b"categories", b"annotations"))
    except (OSError, ValueError):  # unreadable, or empty
        return False
