"""Reading and writing the data set folder, a row at a time."""

import contextlib
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from kubesight.dataset.rows import ROW_TYPES, Part, Row, Task
from kubesight.errors import DatasetError
from kubesight.storage.files import atomic_folder, write_json

FORMAT_VERSION = 1
INFO_FILE = "dataset.json"
ROWS_FILE = "annotations.jsonl"


class DatasetInfo(msgspec.Struct, kw_only=True):
    """What `dataset.json` says.

    `classes` is in index order (alphabetical). `counts` holds `images`, `annotations` and `per_class` (annotations of
    each class). `source` says where the rows came from. `split` is null, or the part, ratios and seed.
    `content_hash` is the SHA-256 of the rows, with `source["root"]` cut off their URLs so that a moved set keeps it.
    """

    format_version: int = FORMAT_VERSION
    task: Task
    classes: list[str]
    counts: dict[str, Any]
    source: dict[str, Any] = {}
    split: dict[str, Any] | None = None
    content_hash: str


class Dataset:
    """An opened data set folder.

    Args:
        path: the folder that holds `dataset.json`.

    Raises:
        DatasetError: there is no data set, or it was written by a later version.
    """

    def __init__(self, path: Path | str) -> None:
        """Read `dataset.json`; rows are read when asked for."""
        self.path = Path(path)
        where = self.path / INFO_FILE
        try:
            self.info = msgspec.json.decode(where.read_bytes(), type=DatasetInfo)
        except OSError as error:
            raise DatasetError(
                f"no data set here: {error.strerror}",
                where=str(where),
                hint="Make one with `kubesight convert SOURCE --output DIR`.",
            ) from error
        except msgspec.DecodeError as error:
            raise DatasetError(f"not the description of a data set: {error}", where=str(where)) from error
        if self.info.format_version > FORMAT_VERSION:
            raise DatasetError(
                f"format version {self.info.format_version} is later than {FORMAT_VERSION}, the last one known here",
                where=str(where),
                hint="Use the kubesight that wrote it, or a later one.",
            )

    @property
    def task(self) -> Task:
        """The task that the labels are for."""
        return self.info.task

    @property
    def classes(self) -> list[str]:
        """The class names in index order."""
        return self.info.classes

    def __len__(self) -> int:
        """The number of images."""
        return int(self.info.counts["images"])

    def rows(self) -> Iterator[Row]:
        """Stream the rows in file order, holding one at a time.

        Raises:
            DatasetError: a line is not a row of this task; the line is named.
        """
        decode = msgspec.json.Decoder(ROW_TYPES[self.task]).decode
        path = self.path / ROWS_FILE
        try:
            with open(path, "rb") as stream:
                for number, line in enumerate(stream, start=1):
                    try:
                        yield decode(line)
                    except msgspec.DecodeError as error:
                        raise DatasetError(str(error), where=f"{path}, line {number}") from error
        except OSError as error:
            raise DatasetError(error.strerror or str(error), where=str(path)) from error


class DatasetWriter:
    """Write a data set row by row; it gets its final name only when the block ends without an error.

    Args:
        path: the folder to write. An earlier data set there is replaced.
        task: what the rows are for.
        classes: class names that must be known even when no row has them; others are added as rows come.
        source: what the rows were read from; `root` is the prefix that the content hash leaves out of URLs.
        split: the part, ratios and seed, when the rows are one part of a split.

    Other files may be written into `folder` before the block ends (`report.json`).
    """

    def __init__(
        self,
        path: Path | str,
        task: Task,
        *,
        classes: list[str] | None = None,
        source: dict[str, Any] | None = None,
        split: dict[str, Any] | None = None,
    ) -> None:
        """Remember what to write; nothing is opened before the block is entered."""
        self.path = Path(path)
        self.task = Task(task)
        self.source = source or {}
        self.split = split
        self.images = 0
        self.per_class: Counter[str] = Counter(dict.fromkeys(classes or [], 0))
        self._stack = contextlib.ExitStack()
        self._hash = hashlib.sha256()
        self._root = str(self.source.get("root") or "").encode()
        self._encode = msgspec.json.Encoder().encode

    def __enter__(self) -> Self:
        """Make the temporary folder and open the rows' file."""
        self.folder = self._stack.enter_context(atomic_folder(self.path, marker=INFO_FILE))
        self._rows = self._stack.enter_context(open(self.folder / ROWS_FILE, "wb", buffering=1 << 20))
        return self

    def write(self, row: Row) -> None:
        """Append one row."""
        line = self._encode(row) + b"\n"
        self._rows.write(line)
        self._hash.update(line.replace(self._root, b"", 1) if self._root else line)
        self.images += 1
        self.per_class.update(row.class_names())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write `dataset.json` and give the folder its name; after an error, remove it."""
        try:
            if kind is None:
                self._rows.close()
                write_json(self.folder / INFO_FILE, msgspec.to_builtins(self.info()))
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(kind, error, trace)

    def info(self) -> DatasetInfo:
        """What is known of the rows written so far."""
        classes = sorted(self.per_class)
        digest = self._hash.copy()
        digest.update(msgspec.json.encode([self.task, classes]))
        return DatasetInfo(
            task=self.task,
            classes=classes,
            counts={
                "images": self.images,
                "annotations": self.per_class.total(),
                "per_class": {name: self.per_class[name] for name in classes},
            },
            source=self.source,
            split=self.split,
            content_hash=digest.hexdigest(),
        )


def part_path(path: Path | str, part: Part) -> Path:
    """Where `kubesight split --output path` puts a part: `path/train`, `path/validation`, `path/test`."""
    return Path(path) / part
