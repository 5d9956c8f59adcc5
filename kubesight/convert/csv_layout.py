"""What a CSV file's columns mean, told by its header, its options and its first lines."""

import csv
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kubesight.convert.layout import is_picture_name
from kubesight.dataset.urls import is_remote
from kubesight.errors import DatasetError

SAMPLE_LINES = 200
_LONGEST_LINE = 1 << 16  # what has longer lines is no CSV of labels

_DELIMITERS = ",\t;|"
# Names of columns, in lower case without anything but letters and digits.
_IMAGE = "imageurl imagepath imagename imageid image filename filepath file path img imgpath"
_IMAGE += " picture url id"
_LABEL = "label labels class classes classname category categoryname categories tag tags labelname name target"
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("topx", "topy", "bottomx", "bottomy"),
)
_EXTENTS = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
    ("bboxx", "bboxy", "bboxw", "bboxh"),
    ("bboxleft", "bboxtop", "bboxwidth", "bboxheight"),
)
_SIZES = (("width", "height"), ("imagewidth", "imageheight"), ("imgwidth", "imgheight"))
_SPLIT = ("split", "subset", "partition", "set")
_GROUP = ("group", "groupid")
_TRUTHS = {"0": 0, "0.0": 0, "false": 0, "": 0, "1": 1, "1.0": 1, "true": 1}

OPTIONS: Mapping[str, str] = {
    "annotations": "name or pattern of the file, where a folder holds several",
    "delimiter": "the character between columns (default: the one of , TAB ; | that fits)",
    "encoding": "the text encoding (default: UTF-8, or UTF-16 when it is marked)",
    "header": "true or false: whether the first line names the columns (default: judged by its cells)",
    "image_column": "the column with the picture's name or URL: its name, or its number from 1",
    "label_column": "the column with the label or labels",
    "label_delimiter": "the character between the labels of one picture (default: ; or | where they occur)",
    "box_columns": "the four columns of a box, comma-separated: left, top, right, bottom",
    "relative": "true or false: whether boxes are fractions (default: whether none exceeds 2)",
}


@dataclass(frozen=True)
class Layout:
    """The columns of a file, by number from 0.

    `kind` is `labels` (one column of labels), `one_hot` (a 0/1 column a class) or `boxes` (one box a line).
    """

    delimiter: str
    encoding: str
    header: bool
    names: list[str]
    kind: Literal["labels", "one_hot", "boxes"]
    image: int
    label: int | None = None
    box: tuple[int, ...] = ()
    box_is_extent: bool = False
    one_hot: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    split: int | None = None
    group: int | None = None
    unread: list[str] = field(default_factory=list)


def truth(cell: str) -> int | None:
    """A one-hot cell as 0 or 1; None when it is neither."""
    return _TRUTHS.get(cell.strip().lower())


def is_number(cell: str) -> bool:
    """Whether a cell is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_layout(path: Path, options: Mapping[str, str]) -> Layout:
    """Find out what the columns of a CSV file mean.

    Raises:
        DatasetError: it cannot be read or decoded, or the columns do not tell; the hint names the option that does.
    """
    encoding = options.get("encoding") or _encoding(path)
    try:
        with open(path, encoding=encoding, newline="") as stream:
            text = "".join(itertools.islice(iter(lambda: stream.readline(_LONGEST_LINE), ""), SAMPLE_LINES))
    except (OSError, UnicodeError, LookupError) as error:
        raise DatasetError(
            f"not readable as text: {error}", where=str(path), hint="Try --option encoding=NAME."
        ) from error
    delimiter = options.get("delimiter") or _delimiter(text)
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1:
        raise DatasetError(f"the delimiter {delimiter!r} is not one character")
    lines = _parse(text, delimiter)
    if not lines:
        raise DatasetError("no lines of CSV", where=str(path))
    header = _has_header(lines, options)
    names = [cell.strip() for cell in lines[0]] if header else [str(k + 1) for k in range(len(lines[0]))]
    return _Columns(path, names, lines[header:], header, options).layout(delimiter, encoding)


class _Columns:
    """Assigns a meaning to each column; what is assigned is not looked at again."""

    def __init__(
        self, path: Path, names: list[str], lines: list[list[str]], header: bool, options: Mapping[str, str]
    ) -> None:
        self._path, self._names, self._lines, self._header, self._options = path, names, lines, header, options
        self._plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
        self._free = set(range(len(names)))

    def layout(self, delimiter: str, encoding: str) -> Layout:
        image = self._image()
        box, is_extent = self._box()
        size = self._take_first(_SIZES) if self._header else ()
        split = self._take(_SPLIT) if self._header else None
        group = self._take(_GROUP) if self._header else None
        label = self._label(bool(box))
        one_hot = () if label is not None or box else tuple(sorted(self._free))
        if box and label is None:
            raise self._unclear("boxes have no label column", "label_column=NAME")
        if not box and label is None and not self._is_one_hot(one_hot):
            raise self._unclear("no label column, and not 0/1 columns only", "label_column=NAME")
        self._free -= set(one_hot)
        return Layout(
            delimiter=delimiter,
            encoding=encoding,
            header=self._header,
            names=self._names,
            kind="boxes" if box else "one_hot" if one_hot else "labels",
            image=image,
            label=label,
            box=box,
            box_is_extent=is_extent,
            one_hot=one_hot,
            size=size,
            split=split,
            group=group,
            unread=[self._names[k] for k in sorted(self._free)],
        )

    def _image(self) -> int:
        if "image_column" in self._options:
            return self._named("image_column")
        looks = [sum(_looks_like_picture(cell) for cell in self._column(k)) for k in range(len(self._names))]
        best = max(range(len(looks)), key=lambda k: (looks[k], -k))
        if looks[best] > 0:
            self._free.discard(best)
            return best
        found = self._take(_IMAGE.split()) if self._header else None
        if found is None:
            raise self._unclear("no column of picture names", "image_column=NAME")
        return found

    def _box(self) -> tuple[tuple[int, ...], bool]:
        if "box_columns" in self._options:
            given = [name.strip() for name in self._options["box_columns"].split(",")]
            if len(given) != 4:
                raise DatasetError(f"box_columns names {len(given)} columns", hint="Four: left, top, right, bottom.")
            return tuple(self._find("box_columns", name) for name in given), False
        if self._header:
            corners = self._take_first(_CORNERS)
            return (corners, False) if corners else (self._take_first(_EXTENTS), True)
        for start in range(len(self._names) - 3):
            columns = tuple(range(start, start + 4))
            cells = [cell for k in columns for cell in self._column(k) if cell.strip()]
            if self._free.issuperset(columns) and cells and all(map(is_number, cells)) and len(self._names) > 5:
                self._free -= set(columns)
                return columns, False
        return (), False

    def _label(self, has_box: bool) -> int | None:
        if "label_column" in self._options:
            return self._named("label_column")
        found = self._take(_LABEL.split()) if self._header else None
        if found is None and len(self._free) == 1 and (has_box or not self._is_one_hot(tuple(self._free))):
            found = self._free.pop()
        return found

    def _is_one_hot(self, columns: tuple[int, ...]) -> bool:
        return (
            self._header and bool(columns) and all(truth(cell) is not None for k in columns for cell in self._column(k))
        )

    def _column(self, number: int) -> list[str]:
        return [line[number] for line in self._lines if number < len(line)]

    def _take(self, names: Sequence[str]) -> int | None:
        for name in names:
            if name in self._plain and self._plain.index(name) in self._free:
                self._free.discard(self._plain.index(name))
                return self._plain.index(name)
        return None

    def _take_first(self, groups: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
        for group in groups:
            columns = tuple(self._plain.index(name) for name in group if name in self._plain)
            if len(columns) == len(group) and self._free.issuperset(columns):
                self._free -= set(columns)
                return columns
        return ()

    def _named(self, option: str) -> int:
        return self._find(option, self._options[option])

    def _find(self, option: str, name: str) -> int:
        number = self._names.index(name) if name in self._names else int(name) - 1 if name.isdigit() else -1
        if not 0 <= number < len(self._names):
            raise DatasetError(
                f"the option {option} names the column {name!r}, which is not there",
                where=str(self._path),
                hint=f"There are: {', '.join(self._names)}.",
            )
        self._free.discard(number)
        return number

    def _unclear(self, message: str, option: str) -> DatasetError:
        columns = ", ".join(self._names) if self._header else f"{len(self._names)} columns without names"
        return DatasetError(f"{message} ({columns})", where=str(self._path), hint=f"Name it with --option {option}.")


def _encoding(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            mark = stream.read(2)
    except OSError as error:
        raise DatasetError(error.strerror or str(error), where=str(path)) from error
    return "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _delimiter(text: str) -> str:
    """The first of the usual delimiters that cuts all sampled lines into the same number of cells, more than one."""
    fallback = ","
    for delimiter in reversed(_DELIMITERS):
        widths = {len(line) for line in _parse(text, delimiter)}
        if len(widths) == 1 and widths.pop() > 1:
            fallback = delimiter
    return fallback


def _parse(text: str, delimiter: str) -> list[list[str]]:
    """The lines that are not empty; none when the text is no CSV."""
    try:
        return [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if any(map(str.strip, line))]
    except csv.Error:
        return []


def _has_header(lines: list[list[str]], options: Mapping[str, str]) -> bool:
    given = options.get("header", "").strip().lower()
    if given:
        if given not in ("true", "false"):
            raise DatasetError(f"the option header is {given!r}", hint="Write true or false.")
        return given == "true"
    return not any(_looks_like_picture(cell) or is_number(cell) for cell in lines[0])


def _looks_like_picture(cell: str) -> bool:
    return is_picture_name(cell.strip()) or is_remote(cell.strip())
