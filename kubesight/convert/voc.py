"""Pascal VOC XML: one file a picture, boxes in pixels that count from 1 and include their last pixel."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import ClassVar
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from kubesight.convert.geometry import Frame, pixel_size
from kubesight.convert.layout import files_in, is_picture_name, part_folders, part_of
from kubesight.convert.objects import make_box, make_row
from kubesight.convert.pictures import Picture, Pictures
from kubesight.convert.reading import Problem, Reading, unknown_label
from kubesight.convert.registry import Reader, register
from kubesight.dataset.rows import Box, Part, Row, Task
from kubesight.errors import DatasetError

_ORIGINS = ("auto", "0", "1")
_ZERO_MINIMUM = re.compile(rb"<[xy]min>\s*-?0+(?:\.0*)?\s*</")
_OBJECT = re.compile(rb"<object[\s>]")
_FLAGS = ("difficult", "truncated", "occluded")
_PICTURE_FOLDERS = ("JPEGImages", "images", "Images")


class _Folder:
    """Where one part's XML files and pictures lie; knows the pictures by name and by stem."""

    def __init__(self, annotations: Path, part: Part | None, reading: Reading) -> None:
        self.part = part
        self.files = files_in(annotations, [".xml"])
        self.used: set[str] = set()
        above = [annotations.parent / name for name in _PICTURE_FOLDERS]
        near = [*above, *(annotations / name for name in _PICTURE_FOLDERS), annotations, annotations.parent]
        self.pictures = Pictures(reading, [folder for folder in near if folder.is_dir()])
        self.places = {
            path.name: path
            for folder in self.pictures.folders
            for path in folder.iterdir()
            if is_picture_name(path.name)
        }
        self.by_stem = {Path(name).stem: name for name in sorted(self.places)}

    def picture_name(self, filename: str, stem: str) -> str:
        """The picture that is there for an XML file with this `filename` and stem; `filename` when none is."""
        if filename not in self.places:
            filename = self.by_stem.get(stem) or self.by_stem.get(Path(filename).stem) or filename or stem
        self.used.add(filename)
        return filename

    def unused(self) -> list[Path]:
        """The pictures that no XML file speaks of."""
        return sorted(path for name, path in self.places.items() if name not in self.used)


@register("voc")
class VocReader(Reader):
    """Reads `Annotations/*.xml` with `JPEGImages/`, XML files beside their pictures, or either in each part's folder.

    By the standard a box of xmin, xmax = 1, 10 covers the first ten pixels: left 0, right 10. When any minimum in the
    whole set is 0 the set counts from 0 and its maxima are edges; the report says so, and the option `box_origin`
    decides otherwise. A picture is found by `filename`, else by the XML file's own stem; `path` and `folder` are those
    of the annotator's machine and are not used. An XML file without objects is background.
    """

    options: ClassVar[Mapping[str, str]] = {
        "box_origin": "auto (default), 1 (inclusive pixels from 1, the standard) or 0 (edges from 0)",
        "image_sets": "true: ImageSets/Main/train.txt, val.txt and test.txt give the parts",
    }

    def __init__(self, reading: Reading) -> None:
        """Find the folders and check the options."""
        super().__init__(reading)
        self._folders = [_Folder(folder, part, reading) for folder, part in _annotation_folders(reading.source)]
        if not self._folders:
            raise DatasetError("no XML files of Pascal VOC here", where=str(reading.source))
        self._origin = reading.options.get("box_origin", "auto")
        if self._origin not in _ORIGINS:
            raise DatasetError(f"the option box_origin is {self._origin!r}", hint=f"Write {', '.join(_ORIGINS)}.")
        self._accepted = reading.accepted
        self._parts = _image_sets(reading.source) if reading.flag("image_sets") else None

    @classmethod
    def mismatch(cls, source: Path, options: Mapping[str, str]) -> str | None:
        """Whether there are XML files with an `annotation` element."""
        for folder, _ in _annotation_folders(source):
            with open(files_in(folder, [".xml"])[0], "rb") as stream:
                if b"<annotation" in stream.read(4096):
                    return None
        return "no .xml files with an annotation element"

    def tasks(self) -> tuple[Task, ...]:
        """Boxes, or the set of classes present."""
        return Task.DETECTION, Task.MULTILABEL

    def rows(self, task: Task) -> Iterator[Row]:
        """One row an XML file, by name, folder after folder."""
        zero_based = self._zero_based()
        files = [(path, folder) for folder in self._folders for path in folder.files]
        for path, folder in self.reading.track(files, total=len(files), what="annotations"):
            self.reading.report.images_read += 1
            part = folder.part
            if self._parts is not None:
                part = self._parts.get(path.stem)
                if part is None:
                    self._note("dropped", "not_in_image_sets", f"{path.stem} is in no list of ImageSets/Main", path)
                    continue
            row = self._row(path, folder, task, zero_based, part)
            if row is not None:
                yield row
        for folder in self._folders:
            for picture in folder.unused():
                self._note(
                    "warning", "unlabelled_picture", "no XML file speaks of this picture; it is left out", picture
                )

    def _row(self, path: Path, folder: _Folder, task: Task, zero_based: bool, part: Part | None) -> Row | None:
        try:
            data = path.read_bytes()
            root = fromstring(data)
        except (OSError, ParseError, DefusedXmlException, ValueError, LookupError) as error:
            line = error.position[0] if isinstance(error, ParseError) else None
            self._note("dropped", "unreadable_annotations", f"not usable XML: {error}", path, line)
            return None
        elements = root.findall("object")
        self.reading.report.annotations_read += len(elements)
        picture = self._picture(path, root, folder)
        if picture is None:
            return None
        assert picture.frame is not None
        boxes = []
        for number, element in enumerate(elements):
            box, problems = self._box(element, picture.frame, zero_based)
            for problem in problems:
                self.reading.note(problem, path, _line_of_object(data, number))
            boxes += [box] if box is not None else []
        if elements and not boxes:
            self._note("dropped", "no_valid_annotation", f"none of the {len(elements)} objects can be used", path)
            return None
        return make_row(task, picture.url, picture.details, boxes, split=part)

    def _picture(self, path: Path, root: Element, folder: _Folder) -> Picture | None:
        """The picture of an XML file, its size known."""
        declared = pixel_size(_number(root.findtext("size/width")), _number(root.findtext("size/height")))
        written = PureWindowsPath((root.findtext("filename") or "").strip()).name
        name = folder.picture_name(written, path.stem)
        if name != written and name in folder.places:
            message = f"its filename is {written!r}, which is not there; {name!r} was taken"
            self._note("repaired", "wrong_filename", message, path)
        picture = folder.pictures.open(name, path, declared=declared)
        if picture is not None and picture.frame is None:
            self._note("dropped", "no_size", "its size is not given, and the picture is not opened", path)
            return None
        return picture

    def _box(self, element: Element, frame: Frame, zero_based: bool) -> tuple[Box | None, list[Problem]]:
        label = (element.findtext("name") or "").strip()
        problem = unknown_label(label, self._accepted)
        if problem is not None:
            return None, [problem]
        texts = [element.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
        values = [number for text in texts if (number := _number(text)) is not None]
        if len(values) < 4:
            return None, [Problem("dropped", "malformed_box", f"the box {texts} of {label!r} is not four numbers")]
        x0, y0, x1, y1 = values
        if x0 == x1 or y0 == y1:
            message = f"box {x0:g}, {y0:g}, {x1:g}, {y1:g} of {label!r} has no area"
            return None, [Problem("dropped", "degenerate_box", message)]
        problems = []
        if x1 < x0 or y1 < y0:
            message = f"box {x0:g}, {y0:g}, {x1:g}, {y1:g} of {label!r} has its corners in the wrong order; swapped"
            problems.append(Problem("repaired", "reversed_box", message))
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        flags = {name: 1 for name in _FLAGS if (element.findtext(name) or "").strip().lower() in ("1", "true")}
        box, more = make_box(label, pixel_edges(x0, y0, x1, y1, zero_based=zero_based), frame, **flags)
        return box, problems + more

    def _zero_based(self) -> bool:
        """Whether the set counts from 0: as the option says, or because a minimum is 0, which is then noted."""
        if self._origin != "auto":
            return self._origin == "0"
        for folder in self._folders:
            for path in folder.files:
                data = path.read_bytes()
                match = _ZERO_MINIMUM.search(data)
                if match:
                    message = "a minimum is 0, so all boxes of this set are taken to count from 0, maxima being edges"
                    line = data.count(b"\n", 0, match.start()) + 1
                    self.reading.note(Problem("warning", "zero_based_boxes", message), path, line)
                    return True
        return False

    def _note(self, severity: str, reason: str, message: str, path: Path, line: int | None = None) -> None:
        self.reading.note(Problem(severity, reason, message), path, line, subject="image")  # type: ignore[arg-type]


def pixel_edges(
    xmin: float, ymin: float, xmax: float, ymax: float, *, zero_based: bool
) -> tuple[float, float, float, float]:
    """A VOC box as continuous edges (left, top, right, bottom): inclusive pixels from 1 begin one unit earlier."""
    shift = 0.0 if zero_based else 1.0
    return xmin - shift, ymin - shift, xmax, ymax


def _annotation_folders(source: Path) -> list[tuple[Path, Part | None]]:
    """The folders that hold XML files: the source, `Annotations/` in it, or those of its parts."""
    found: list[tuple[Path, Part | None]] = []
    for folder, part in [(source, None), *part_folders(source)]:
        for place in (folder / "Annotations", folder / "annotations", folder):
            if place.is_dir() and files_in(place, [".xml"]):
                found.append((place, part))
                break
        if found and part is None:
            return found
    return found if len(found) > 1 else [(place, None) for place, _ in found]


def _image_sets(source: Path) -> dict[str, Part]:
    """The part of each stem by ImageSets/Main; what only trainval.txt lists is training.

    Raises:
        DatasetError: there are no such lists.
    """
    folder = source / "ImageSets" / "Main"
    parts: dict[str, Part] = {}
    for name in ("trainval", "train", "val", "test"):
        path = folder / f"{name}.txt"
        if path.is_file():
            part = "train" if name == "trainval" else part_of(name)
            assert part is not None
            parts |= {line.split()[0]: part for line in path.read_text("utf-8").splitlines() if line.strip()}
    if not parts:
        raise DatasetError(
            "the option image_sets asks for lists that are not there",
            where=str(folder),
            hint="Put train.txt, val.txt or test.txt there, or leave the option out.",
        )
    return parts


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _line_of_object(data: bytes, number: int) -> int | None:
    """The line of the object with this number; the parser does not keep lines."""
    for index, match in enumerate(_OBJECT.finditer(data)):
        if index == number:
            return data.count(b"\n", 0, match.start()) + 1
    return None
