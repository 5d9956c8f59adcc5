"""JSON lines in Azure AutoML's schema: its own, older and newer, and the data sets that this package writes."""

import itertools
import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from kubesight.convert.geometry import Frame, pixel_size, ring_bounds
from kubesight.convert.layout import PART_NAMES, annotation_files, choose_files, picture_folders
from kubesight.convert.objects import make_box, make_masked, make_outlined, make_row, shown_area
from kubesight.convert.pictures import Picture, Pictures
from kubesight.convert.reading import NOT_JSON, Problem, Reading, unknown_label
from kubesight.convert.registry import Reader, register
from kubesight.dataset.dataset import Dataset
from kubesight.dataset.rle import rle_box
from kubesight.dataset.rows import Box, Instance, Part, Rle, Row, Task
from kubesight.errors import DatasetError

_CORNERS = ("topX", "topY", "bottomX", "bottomY")
_FLAGS = ("isCrowd", "difficult", "truncated", "occluded")
_LONGEST_LINE = 1 << 22  # of a first line, when the format is guessed: other JSON may be one line of gigabytes
_KNOWN_FIELDS = {"image_url", "imageUrl", "image_id", "image_details", "imageDetails", "split", "group"}
_SERVES = {
    Task.CLASSIFICATION: (Task.CLASSIFICATION, Task.MULTILABEL),
    Task.MULTILABEL: (Task.MULTILABEL,),
    Task.DETECTION: (Task.DETECTION, Task.MULTILABEL),
    Task.SEGMENTATION: (Task.SEGMENTATION, Task.DETECTION, Task.MULTILABEL),
}

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@register("jsonl")
class JsonlReader(Reader):
    """Reads a `.jsonl` file, or a folder that holds one, or one in each part's folder.

    Beside today's form it takes sizes as "400px", coordinates as text, `isCrowd` as text, and the old form of one box
    a line, whose lines are merged by picture. Lines are read twice and never held: memory is 24 bytes a line.
    """

    options: ClassVar[Mapping[str, str]] = {
        "annotations": "name or pattern of the file, where a folder holds several",
        "label_column": "the field with the labels (default: label)",
    }

    def __init__(self, reading: Reading) -> None:
        """Choose the files."""
        super().__init__(reading)
        self._files = choose_files(reading.source, reading.options.get("annotations"), (".jsonl",), _looks_like_jsonl)
        self._column = reading.options.get("label_column", "label")
        self._accepted = reading.accepted
        self._unread: set[str] = set()

    @property
    def root(self) -> Path:
        """Where the pictures lie: for a data set of ours its own root, else the file's folder."""
        return Path(self._origin().get("root") or super().root)

    @property
    def categories(self) -> dict[str, str]:
        """Those of a data set of ours."""
        return self._origin().get("category_ids") or {}

    def _origin(self) -> dict[str, Any]:
        """Where a data set of ours was read from; empty for other files."""
        try:
            return Dataset(super().root).info.source
        except DatasetError:
            return {}

    @classmethod
    def mismatch(cls, source: Path, options: Mapping[str, str]) -> str | None:
        """Whether the first line of a `.jsonl` file has an `image_url`."""
        found = annotation_files(source, options.get("annotations"), (".jsonl",), _looks_like_jsonl)
        return None if found else "no .jsonl file whose lines have an image_url"

    def tasks(self) -> tuple[Task, ...]:
        """What the first labels that tell can serve; where all are empty lists, anything with background."""
        background = False
        for path, _ in self._files:
            with open(path, "rb") as stream:
                for line in stream:
                    try:
                        label = _decode(line.removeprefix(b"\xef\xbb\xbf")).get(self._column)
                    except NOT_JSON:
                        continue
                    kind = _kind(label)
                    if kind is not None:
                        return _SERVES[kind]
                    background |= isinstance(label, list)
        if background:
            return Task.DETECTION, Task.SEGMENTATION, Task.MULTILABEL
        raise DatasetError(
            f"no line has a usable {self._column!r}, so the labels do not tell what they are for",
            where=str(self._files[0][0]),
            hint="Name the field with --option label_column=NAME.",
        )

    def rows(self, task: Task) -> Iterator[Row]:
        """One row a picture, in the order of first lines."""
        for path, part in self._files:
            pictures = Pictures(self.reading, picture_folders(path))
            groups, total = self._groups(path)
            for lines in self.reading.track(groups, total=total, what=path.name):
                row = self._row(lines, path, part, task, pictures)
                if row is not None:
                    yield row
        if self._unread:
            message = f"lines have fields that are not read: {', '.join(sorted(self._unread))}"
            self._note("warning", "unused_fields", message, self._files[0][0], None)

    def _groups(self, path: Path) -> tuple[Iterator[list[tuple[int, dict[str, Any]]]], int]:
        """The lines of each picture with their numbers, and how many pictures there are."""
        keys, offsets, numbers = array("q"), array("q"), array("q")
        with open(path, "rb") as stream:
            offset = 0
            for number, line in enumerate(stream, start=1):
                url = self._url(line, path, number)
                if url is not None:
                    keys.append(hash(url))
                    offsets.append(offset)
                    numbers.append(number)
                offset += len(line)
        if not keys:
            return iter(()), 0
        _, first, group = np.unique(np.frombuffer(keys, np.int64), return_index=True, return_inverse=True)
        order = np.lexsort((np.arange(len(keys)), first[group]))
        self.reading.report.images_read += len(first)
        return _read_groups(path, order, first[group][order], offsets, numbers), len(first)

    def _url(self, line: bytes, path: Path, number: int) -> str | None:
        if not line.strip(b" \t\r\n\xef\xbb\xbf"):
            return None
        try:
            url = _image_url(_decode(line.removeprefix(b"\xef\xbb\xbf")))
        except NOT_JSON as error:
            self.reading.report.images_read += 1
            self._note("dropped", "malformed_line", f"not a JSON object: {error}", path, number)
            return None
        if url is None:
            self.reading.report.images_read += 1
            self._note("dropped", "no_image_url", "the line has no image_url", path, number)
        return url

    def _row(
        self, lines: list[tuple[int, dict[str, Any]]], path: Path, part: Part | None, task: Task, pictures: Pictures
    ) -> Row | None:
        number, first = lines[0]
        self._unread.update(key for key in first if key not in _KNOWN_FIELDS and key != self._column)
        labels = [(line, item) for line, value in lines for item in _items(value.get(self._column))]
        self.reading.report.annotations_read += len(labels)
        details = first.get("image_details") or first.get("imageDetails")
        declared = _declared(details) if isinstance(details, dict) else None
        picture = pictures.open(_image_url(first) or "", path, number, declared=declared)
        if picture is None:
            return None
        label: Any
        if task is Task.CLASSIFICATION:
            label = self._one_label([(line, value.get(self._column)) for line, value in lines], path)
        else:
            label = self._labels(labels, path, task, picture)
        if label is None or (labels and not label):
            self._note("dropped", "no_valid_annotation", "none of the labels of this picture can be used", path, number)
            return None
        split = first.get("split")
        if split is not None and str(split).lower() not in PART_NAMES:
            self._note("warning", "unknown_part", f"the part {split!r} is not known, and is not kept", path, number)
            split = None
        part = PART_NAMES[str(split).lower()] if split is not None else part
        group, key = first.get("group"), first.get("image_id")
        return make_row(
            task, picture.url, picture.details, label, split=part, group=None if group is None else str(group),
            image_id=key if type(key) in (int, str) else None,
        )  # fmt: skip

    def _one_label(self, labels: list[tuple[int, Any]], path: Path) -> str | None:
        """The one class of a picture; more lines of the same are noted, others refuse the picture."""
        names = [(line, _name(label)) for line, label in labels]
        for line, name in names[1:]:
            message = f"the picture is listed again as {name!r}, first as {names[0][1]!r} in line {names[0][0]}"
            if name != names[0][1]:
                self._note("dropped", "conflicting_label", message, path, line)
                return None
            self._note("warning", "duplicate_line", message, path, line)
        line, name = names[0]
        problem = unknown_label(name or "", self._accepted)
        if problem is not None:
            self.reading.note(problem, path, line)
            return None
        return name

    def _labels(
        self, items: list[tuple[int, Any]], path: Path, task: Task, picture: Picture
    ) -> list[Box | Instance | str]:
        frame = _frame(picture)
        found: list[Box | Instance | str] = []
        for line, item in items:
            is_object = isinstance(item, dict)
            name = _name(item.get("label") if is_object else item) or ""
            problem = unknown_label(name, self._accepted)
            result: Box | Instance | str | None = None
            if problem is not None:
                problems = [problem]
            elif is_object:
                result, problems = _object(name, item, frame, task)
                if result is not None:
                    result.area = shown_area(item.get("area"), picture)
            elif task is Task.MULTILABEL:
                result, problems = name, []
            else:
                problems = [Problem("dropped", "no_box", f"the label {name!r} has no box and no outline")]
            for problem in problems:
                self.reading.note(problem, path, line)
            found += [result] if result is not None else []
        return found

    def _note(self, severity: str, reason: str, message: str, path: Path, line: int | None) -> None:
        self.reading.note(Problem(severity, reason, message), path, line, subject="image")  # type: ignore[arg-type]


def _read_groups(
    path: Path, order: np.ndarray, group: np.ndarray, offsets: array, numbers: array
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Lines by group; where every picture has one line this reads straight through the file."""
    starts = [*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(order)]
    with open(path, "rb") as stream:
        for begin, end in itertools.pairwise(starts):
            lines = []
            for index in order[begin:end].tolist():
                if stream.tell() != offsets[index]:
                    stream.seek(offsets[index])
                lines.append((numbers[index], _decode(stream.readline().removeprefix(b"\xef\xbb\xbf"))))
            yield lines


def _looks_like_jsonl(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            line = next((line for line in iter(lambda: stream.readline(_LONGEST_LINE), b"") if line.strip()), b"")
        return _image_url(_decode(line.removeprefix(b"\xef\xbb\xbf"))) is not None
    except (OSError, *NOT_JSON):
        return False


def _image_url(value: dict[str, Any]) -> str | None:
    url = value.get("image_url") or value.get("imageUrl")
    return url if isinstance(url, str) else None


def _declared(details: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height in pixels: 400, "400" or "400px"."""
    return pixel_size(*(_float(str(details.get(name)).strip().removesuffix("px")) for name in ("width", "height")))


def _frame(picture: Picture) -> Frame:
    """Fractions of the picture, turned when its labels were drawn before its EXIF rotation."""
    details = picture.details
    frame = Frame.fractions(details.width if details else None, details.height if details else None)
    return frame._replace(orientation=picture.frame.orientation if picture.frame else 1)


def _items(label: Any) -> list[Any]:
    """The single labels of a line; one object or name alone is a list of one, nothing an empty list."""
    if label is None:
        return []
    return label if isinstance(label, list) else [label]


def _kind(label: Any) -> Task | None:
    """The task that a label is written for; None when it does not tell."""
    if _name(label) is not None:
        return Task.CLASSIFICATION
    for item in _items(label):
        if isinstance(item, dict):
            return Task.SEGMENTATION if item.get("polygon") or item.get("rle") else Task.DETECTION
        if _name(item) is not None:
            return Task.MULTILABEL
    return None


def _name(label: Any) -> str | None:
    if isinstance(label, bool) or not isinstance(label, str | int):
        return None
    return str(label)


def _object(label: str, value: dict[str, Any], frame: Frame, task: Task) -> tuple[Box | Instance | None, list[Problem]]:
    """A box or an outline; an outline's box where boxes are wanted."""
    flags = {
        name: 1 for name in _FLAGS if value.get(name) in (1, True) or str(value.get(name)).lower() in ("1", "true")
    }
    if task is not Task.SEGMENTATION and any(name in value for name in _CORNERS):
        corners = (_float(value.get("topX")), _float(value.get("topY")))
        return make_box(label, (*corners, _float(value.get("bottomX")), _float(value.get("bottomY"))), frame, **flags)
    instance, problems = _instance(label, value, frame, flags)
    if instance is None or task is Task.SEGMENTATION:
        return instance, problems
    return Box(label, *(rle_box(instance.rle) if instance.rle else ring_bounds(instance.polygon)), **flags), problems


def _instance(
    label: str, value: dict[str, Any], frame: Frame, flags: dict[str, int]
) -> tuple[Instance | None, list[Problem]]:
    if value.get("rle"):
        try:
            rle = msgspec.convert(value["rle"], Rle)
        except msgspec.ValidationError as error:
            return None, [Problem("dropped", "bad_rle", f"the rle is unusable: {error}")]
        return make_masked(label, rle, frame._replace(width=rle.size[1], height=rle.size[0]), **flags)
    polygon = value.get("polygon") or []
    if not isinstance(polygon, list):
        return None, [Problem("dropped", "malformed_outline", "the polygon is not a list")]
    rings = polygon if any(isinstance(ring, list) for ring in polygon) else [polygon] if polygon else []
    return make_outlined(
        label, [[_float(x) for x in ring] if isinstance(ring, list) else [] for ring in rings], frame, **flags
    )


def _float(value: Any) -> float:
    """A number, perhaps written as text; not-a-number when it is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
