"""`kubesight convert`: any annotation format to a data set folder."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kubesight.convert.layout import part_folders
from kubesight.convert.pictures import images_base
from kubesight.convert.reading import Problem, Reading, join_categories
from kubesight.convert.registry import FORMATS, Reader, check_options, find_format, format_of
from kubesight.dataset.dataset import Dataset, DatasetWriter
from kubesight.dataset.report import Report
from kubesight.dataset.rows import Part, Task
from kubesight.dataset.urls import is_remote, local_path
from kubesight.errors import DatasetError


def convert(
    source: str,
    output: str | Path,
    *,
    task: Task | None = None,
    format: str = "auto",
    validation_source: str | None = None,
    test_source: str | None = None,
    max_dropped: float = 0.05,
    strict: bool = False,
    check_images: bool = False,
    url_prefixes: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    progress: bool = False,
) -> Dataset:
    """Read labelled pictures in any known format and write a data set folder with its `report.json`.

    Pictures stay where they are: rows name them by absolute path or URL. Only their headers are read. A source of
    boxes or outlines serves `image_classification_multilabel` too, as the set of classes present in each picture, and
    outlines serve `image_object_detection` as their boxes.

    Args:
        source: a file or folder with annotations.
        output: the data set folder; an earlier data set there is replaced, anything else is left alone.
        task: what the labels are for; inferred from the source when None.
        format: a name in `FORMATS`, or `auto`.
        validation_source: rows from here are marked `validation` (and those of `source` then `train`).
        test_source: rows from here are marked `test`.
        max_dropped: the share of pictures or annotations, in [0, 1], above which dropping them is an error.
        strict: the first thing dropped is an error.
        check_images: decode every picture, and drop those that cannot be.
        url_prefixes: beginnings of picture names and what replaces them, the longest that fits first.
        options: options of the format, and those of every format: `images` (a folder, or a URL prefix such as
            s3://bucket/pictures), `classes`, and `trust_sizes`: when "true", sizes are those that the annotations
            declare, and no picture is opened or even looked for. That is for pictures in an object store, and fast.
        progress: draw a progress bar on standard error.

    Returns:
        The written data set.

    Raises:
        DatasetError: the source is not there or not recognised, the task does not fit it, too much was dropped, there
            are no pictures, one class only, a class without pictures, or more classes than pictures.
        StorageError: the output cannot be written.
    """
    if not 0 <= max_dropped <= 1:
        raise DatasetError(f"max_dropped is {max_dropped}", hint="It is a share, from 0 to 1.")
    options = {name: str(value) for name, value in (options or {}).items()}
    reading = Reading(
        Path(), Report(max_dropped=max_dropped, strict=strict), options, url_prefixes or {}, check_images, progress
    )
    sources: list[tuple[str, Part | None]] = [(source, "train" if validation_source or test_source else None)]
    sources += [(validation_source, "validation")] if validation_source else []
    sources += [(test_source, "test")] if test_source else []
    readers = [(_reader(url, format, reading), part) for url, part in sources]
    if task is not None and task not in list(Task):
        raise DatasetError(f"unknown task {task!r}", hint=f"Known: {', '.join(Task)}.")
    return _write(Path(output), Task(task) if task is not None else readers[0][0].tasks()[0], readers)


def _reader(source: str, format: str, reading: Reading) -> Reader:
    """The reader of one source."""
    path = _existing(source)
    name = find_format(path, format, reading.options)
    check_options(name, reading.options)
    return FORMATS[name](replace(reading, source=path))


def _existing(source: str) -> Path:
    """The local path of a source.

    Raises:
        DatasetError: it is remote, or not there.
    """
    path = None if is_remote(str(source)) else local_path(str(source))
    if path is None:
        raise DatasetError(
            "annotations are read from local files only",
            where=str(source),
            hint="Download the annotation files; the pictures may stay where they are (--option images=URL).",
        )
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise DatasetError("there is no such file or folder", where=str(path))
    return path


def _check_task(reader: Reader, task: Task) -> None:
    possible = reader.tasks()
    if task not in possible:
        raise DatasetError(
            f"the labels of this {format_of(reader)} source do not fit the task {task}",
            where=str(reader.reading.source),
            hint=f"They serve {', '.join(possible)}.",
        )


def _write(output: Path, task: Task, readers: list[tuple[Reader, Part | None]]) -> Dataset:
    first = readers[0][0].reading
    source = {
        "format": ", ".join(dict.fromkeys(format_of(reader) for reader, _ in readers)),
        "path": str(first.source),
        "root": images_base(first) or os.path.commonpath([reader.root for reader, _ in readers]),
        "options": dict(first.options),
    }
    per_part: dict[str, Counter[str]] = {}
    with DatasetWriter(output, task, source=source) as writer:
        for reader, part in readers:
            _check_task(reader, task)
            seen: set[Part | None] = set()
            for row in reader.rows(task):
                seen.add(row.split)
                if part is not None:
                    if row.split is not None:
                        raise DatasetError(
                            f"the source has parts of its own ({row.split}), and separate sources were given too",
                            where=str(reader.reading.source),
                            hint="Name the folder of the training part as the source, or leave the others out.",
                        )
                    row.split = part
                per_part.setdefault(row.split or "", Counter()).update(row.class_names())
                writer.write(row)
            _warn_unread_parts(reader, seen)
        _warn_foreign_classes(per_part, first)
        first.report.check()
        _check_classes(writer, task, str(first.source))
        first.report.save(writer.folder)
        if categories := join_categories(reader.categories for reader, _ in readers):
            writer.source["category_ids"] = categories
    return Dataset(output)


def _warn_unread_parts(reader: Reader, seen: set[Part | None]) -> None:
    """Note folders named after parts that gave no row, where other places did."""
    folders = [] if reader.last_resort else part_folders(reader.reading.source)
    unread = [folder.name for folder, part in folders if part not in seen]
    if unread and (seen - {None} or len(folders) > 1):
        message = f"no row came from all of the folders {', '.join(unread)}; annotations were found elsewhere only"
        if seen - {None}:
            message = f"no row came from the folders {', '.join(unread)}: they hold no annotations that can be used"
        reader.reading.note(Problem("warning", "unread_part", message), reader.reading.source, subject="image")


def _warn_foreign_classes(per_part: dict[str, Counter[str]], reading: Reading) -> None:
    """Note classes that validation or test pictures have and training pictures lack."""
    known = {*per_part.get("train", ()), *per_part.get("", ())}
    for part in ("validation", "test"):
        for name in sorted(set(per_part.get(part, ())) - known) if known else []:
            message = f"the class {name!r} has pictures in the {part} part and none in the training part"
            reading.note(
                Problem("warning", "class_not_in_training", message), reading.source, count=per_part[part][name]
            )


def _check_classes(writer: DatasetWriter, task: Task, where: str) -> None:
    """Refuse what no model can learn from.

    Raises:
        DatasetError: there are no pictures or no labels, one class only, or more classes than pictures.
    """
    classes = sorted(writer.per_class)
    if writer.images == 0:
        raise DatasetError("there are no pictures", where=where, hint="Is it the right folder, and the right format?")
    if not classes:
        raise DatasetError("no picture has a label", where=where, hint="At least one must be labelled.")
    if task is Task.CLASSIFICATION and len(classes) == 1:
        raise DatasetError(
            f"there is one class only ({classes[0]!r}), so there is nothing to tell apart",
            where=where,
            hint="Add pictures of at least one other class.",
        )
    if task in (Task.CLASSIFICATION, Task.MULTILABEL) and writer.images < len(classes):
        raise DatasetError(
            f"there are fewer pictures ({writer.images}) than classes ({len(classes)})",
            where=where,
            hint="Is the label column the right one?",
        )
