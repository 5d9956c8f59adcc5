"""CSV: one label a line, several labels in a cell, a 0/1 column a class, or one box a line."""

import csv
import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kubesight.convert.csv_layout import OPTIONS, Layout, read_layout, truth
from kubesight.convert.geometry import Frame, pixel_size
from kubesight.convert.layout import PART_NAMES, annotation_files, choose_files, picture_folders
from kubesight.convert.objects import make_box, make_row
from kubesight.convert.pictures import Picture, Pictures
from kubesight.convert.reading import Problem, Reading, unknown_label
from kubesight.convert.registry import Reader, register
from kubesight.dataset.rows import Box, Part, Row, Task
from kubesight.errors import DatasetError

# Fractions may reach a little over the edge; pixels that never get this far would be boxes in a corner.
_LARGEST_FRACTION = 2
_ENDINGS = (".csv", ".tsv")


class _Line(NamedTuple):
    """One line's cells, stripped, and its number."""

    number: int
    cells: list[str]


class _Profile(NamedTuple):
    """What a first pass over the whole file finds."""

    layout: Layout
    pictures: int
    adjacent: bool
    several_labels: bool
    doubtful: float
    label_delimiter: str | None
    relative: bool


@register("csv")
class CsvReader(Reader):
    """Reads a `.csv` or `.tsv` file, or a folder that holds one, one a part, or one in each part's folder.

    Columns are known by their usual names, by their contents, or by the options. Several labels of one picture may
    share a cell or take a line each. Boxes are pixels, or fractions when none exceeds 2, which is reported. A line
    with an empty box or an empty list of labels is a picture without any. Lines are streamed when those of one picture
    follow one another, otherwise held.
    """

    options = OPTIONS

    def __init__(self, reading: Reading) -> None:
        """Choose the files and read what their columns mean."""
        super().__init__(reading)
        pattern = reading.options.get("annotations")
        is_file = reading.source.is_file()  # then its own error says what is wrong with it
        files = choose_files(reading.source, pattern, _ENDINGS, lambda path: is_file or _fits(path, reading.options))
        self._files = [(path, part, self._profile(path)) for path, part in files]
        self._accepted = reading.accepted

    @classmethod
    def mismatch(cls, source: Path, options: Mapping[str, str]) -> str | None:
        """Whether there is a file whose columns make sense."""
        fits = annotation_files(source, options.get("annotations"), _ENDINGS, lambda path: _fits(path, options))
        return None if fits else "no .csv or .tsv file with columns of pictures and labels"

    def tasks(self) -> tuple[Task, ...]:
        """Detection for boxes; one label a picture, or several where cells or 0/1 columns hold several.

        Pictures without a label, or listed with different ones, speak for several when more than may be dropped.
        """
        if self._files[0][2].layout.kind == "boxes":
            return Task.DETECTION, Task.MULTILABEL
        if any(profile.several_labels for _, _, profile in self._files):
            return (Task.MULTILABEL,)
        if max(profile.doubtful for _, _, profile in self._files) > self.reading.report.max_dropped:
            return Task.MULTILABEL, Task.CLASSIFICATION
        return Task.CLASSIFICATION, Task.MULTILABEL

    def rows(self, task: Task) -> Iterator[Row]:
        """One row a picture, in the order of first lines."""
        for path, part, profile in self._files:
            reader = _FileRows(path, part, profile, task, self.reading)
            groups = _grouped(self._lines(path, profile.layout, report=True), profile)
            for group in self.reading.track(groups, total=profile.pictures, what=path.name):
                self.reading.report.images_read += 1
                row = reader.row(group)
                if row is not None:
                    yield row

    def _lines(self, path: Path, layout: Layout, *, report: bool) -> Iterator[_Line]:
        """The lines with a picture's name and the right number of cells; others are noted when `report` is set."""
        with open(path, encoding=layout.encoding, newline="") as stream:
            source = csv.reader(stream, delimiter=layout.delimiter)
            try:
                for index, cells in enumerate(source):
                    cells = [cell.strip() for cell in cells]
                    if (index == 0 and layout.header) or not any(cells):
                        continue
                    if len(cells) == len(layout.names) and cells[layout.image]:
                        yield _Line(source.line_num, cells)
                    elif report:
                        self.reading.report.images_read += 1
                        message = f"{len(cells)} cells where {len(layout.names)} were expected, or no picture's name"
                        problem = Problem("dropped", "malformed_line", message)
                        self.reading.note(problem, path, source.line_num, subject="image")
            except (UnicodeError, csv.Error) as error:
                raise DatasetError(f"not readable: {error}", where=f"{path}, after line {source.line_num}") from error

    def _profile(self, path: Path) -> _Profile:
        layout = read_layout(path, self.reading.options)
        keys, labels, largest, several, empty = array("q"), array("q"), 0.0, False, 0
        found: set[str] = set()
        for _, cells in self._lines(path, layout, report=False):
            keys.append(hash(cells[layout.image]))
            cell = cells[layout.label] if layout.label is not None else ""
            labels.append(hash(cell))
            if layout.kind == "labels":
                found.update(c for c in ";|," if c in cell)
                several |= cell.startswith("[")
                empty += not cell
            elif layout.kind == "one_hot":
                several |= sum(truth(cells[k]) or 0 for k in layout.one_hot) != 1
            else:
                largest = max([largest, *(v for k in layout.box if math.isfinite(v := _number(cells[k])))])
        delimiter = self.reading.options.get("label_delimiter") or next((c for c in ";|" if c in found), None)
        pictures, adjacent, differ = _repetitions(keys, labels)
        return _Profile(
            layout=layout,
            pictures=pictures,
            adjacent=adjacent,
            several_labels=several or delimiter is not None,
            doubtful=(empty + differ) / max(pictures, 1),
            label_delimiter=delimiter or ("," if "," in found else None),
            relative=self.reading.flag("relative", layout.kind == "boxes" and largest <= _LARGEST_FRACTION),
        )


class _FileRows:
    """The rows of one file."""

    def __init__(self, path: Path, part: Part | None, profile: _Profile, task: Task, reading: Reading) -> None:
        self._path, self._part, self._profile, self._task, self._reading = path, part, profile, task, reading
        self._layout = profile.layout
        self._pictures = Pictures(reading, picture_folders(path))
        self._accepted = reading.accepted
        if self._layout.unread:
            self._note("warning", "unused_columns", f"columns not read: {', '.join(self._layout.unread)}", 1)
        if self._layout.kind == "boxes" and profile.relative and "relative" not in reading.options:
            self._note(
                "warning",
                "relative_boxes",
                f"no coordinate exceeds {_LARGEST_FRACTION}: boxes are taken as fractions",
                1,
            )

    def row(self, lines: list[_Line]) -> Row | None:
        """The row of one picture's lines, or None after findings."""
        layout, (number, first) = self._layout, lines[0]
        size = pixel_size(*(_number(first[k]) for k in layout.size)) if layout.size else None
        self._reading.report.annotations_read += self._count(lines)
        picture = self._pictures.open(first[layout.image], self._path, number, declared=size)
        if picture is None:
            return None
        label: str | list[str] | list[Box] | None
        if layout.kind == "boxes":
            label = self._boxes(lines, picture)
        elif self._task is Task.MULTILABEL:
            label = self._names(lines)
        else:
            label = self._one_name(lines)
        if label is None:
            return None
        part = PART_NAMES.get(first[layout.split].lower()) if layout.split is not None else self._part
        if layout.split is not None and part is None and first[layout.split]:
            self._note(
                "warning", "unknown_part", f"the part {first[layout.split]!r} is not known, and is not kept", number
            )
        group = first[layout.group] or None if layout.group is not None else None
        return make_row(self._task, picture.url, picture.details, label, split=part, group=group)

    def _count(self, lines: list[_Line]) -> int:
        if self._layout.kind == "boxes":
            return sum(not self._is_empty(cells) for _, cells in lines)
        if self._task is Task.CLASSIFICATION:
            return len(lines)
        return sum(len(self._cell_names(line)) for line in lines)

    def _is_empty(self, cells: list[str]) -> bool:
        return not any(cells[k] for k in self._layout.box)

    def _boxes(self, lines: list[_Line], picture: Picture) -> list[Box] | None:
        frame = self._frame(picture)
        if frame is None:
            self._note("dropped", "no_size", "its size is not given, and the picture is not opened", lines[0].number)
            return None
        boxes, wanted = [], 0
        for number, cells in lines:
            if self._is_empty(cells):
                continue
            wanted += 1
            box, problems = self._box(cells, frame)
            for problem in problems:
                self._reading.note(problem, self._path, number)
            boxes += [box] if box is not None else []
        if wanted and not boxes:
            message = "none of the boxes of this picture can be used"
            self._note("dropped", "no_valid_annotation", message, lines[0].number)
            return None
        return boxes

    def _frame(self, picture: Picture) -> Frame | None:
        if not self._profile.relative:
            return picture.frame
        details = picture.details
        frame = Frame.fractions(details.width if details else None, details.height if details else None)
        return frame._replace(orientation=picture.frame.orientation if picture.frame else 1)

    def _box(self, cells: list[str], frame: Frame) -> tuple[Box | None, list[Problem]]:
        label = cells[self._layout.label] if self._layout.label is not None else ""
        problem = unknown_label(label, self._accepted)
        if problem is not None:
            return None, [problem]
        x0, y0, x1, y1 = (_number(cells[k]) for k in self._layout.box)
        if self._layout.box_is_extent:
            x1, y1 = x0 + x1, y0 + y1
        return make_box(label, (x0, y0, x1, y1), frame)

    def _names(self, lines: list[_Line]) -> list[str] | None:
        """All labels of a picture; None when it has some but none can be used."""
        found, wanted = set(), 0
        for line in lines:
            for name in self._cell_names(line):
                wanted += 1
                problem = unknown_label(name, self._accepted)
                if problem is not None:
                    self._reading.note(problem, self._path, line.number)
                else:
                    found.add(name)
        if wanted and not found:
            message = "none of the labels of this picture can be used"
            self._note("dropped", "no_valid_annotation", message, lines[0].number)
            return None
        return sorted(found)

    def _one_name(self, lines: list[_Line]) -> str | None:
        """The one label of a picture, the same on all its lines."""
        label = None
        for line in lines:
            names = self._cell_names(line) if self._layout.kind == "one_hot" else [line.cells[self._layout.label or 0]]
            problem = unknown_label(names[0] if len(names) == 1 else "", self._accepted)
            if problem is not None:
                self._note(problem.severity, problem.reason, f"{problem.message} (labels: {names})", line.number)
                return None
            if label is not None and names[0] != label:
                message = f"the picture is {label!r} in line {lines[0].number} and {names[0]!r} here"
                self._note("dropped", "conflicting_label", message, line.number)
                return None
            if label is not None:
                self._note("warning", "duplicate_line", f"the picture is listed again as {label!r}", line.number)
            label = names[0]
        return label

    def _cell_names(self, line: _Line) -> list[str]:
        """The labels of one line."""
        layout = self._layout
        if layout.kind == "one_hot":
            names = [layout.names[k] for k in layout.one_hot if truth(line.cells[k])]
            bad = [line.cells[k] for k in layout.one_hot if truth(line.cells[k]) is None]
            return names + [""] * len(bad)
        cell = line.cells[layout.label or 0]
        if cell.startswith("[") and cell.endswith("]"):
            return [name.strip(" '\"") for name in cell[1:-1].split(",") if name.strip(" '\"")]
        if self._profile.label_delimiter is None:
            return [cell] if cell else []
        return [name.strip() for name in cell.split(self._profile.label_delimiter) if name.strip()]

    def _note(self, severity: str, reason: str, message: str, line: int) -> None:
        problem = Problem(severity, reason, message)  # type: ignore[arg-type]
        self._reading.note(problem, self._path, line, subject="image")


def _grouped(lines: Iterable[_Line], profile: _Profile) -> Iterator[list[_Line]]:
    """The lines of each picture; held only when those of some picture are apart."""
    image = profile.layout.image
    if profile.adjacent:
        for _, group in itertools.groupby(lines, key=lambda line: line.cells[image]):
            yield list(group)
        return
    groups: dict[str, list[_Line]] = {}
    for line in lines:
        groups.setdefault(line.cells[image], []).append(line)
    yield from groups.values()


def _repetitions(keys: array, labels: array) -> tuple[int, bool, int]:
    """How many pictures there are, whether the lines of each follow one another, and how many have different labels."""
    if not keys:
        return 0, True, 0
    names, cells = np.frombuffer(keys, np.int64), np.frombuffer(labels, np.int64)
    pictures = len(np.unique(names))
    runs = 1 + int(np.count_nonzero(np.diff(names)))
    return pictures, runs == pictures, np.unique(np.stack([names, cells]), axis=1).shape[1] - pictures


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _fits(path: Path, options: Mapping[str, str]) -> bool:
    """Whether a file is called CSV or plain text, and its columns make sense."""
    if path.suffix.lower() not in (*_ENDINGS, ".txt"):
        return False
    try:
        read_layout(path, options)
    except DatasetError:
        return False
    return True
