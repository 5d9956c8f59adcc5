"""`kubesight split`: read the rows, assign the parts, write three data sets."""

import contextlib
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kubesight.dataset import Dataset, DatasetWriter
from kubesight.dataset.dataset import part_path
from kubesight.dataset.report import Finding, Report
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, HyperparameterError
from kubesight.split.assign import assign, lone_classes
from kubesight.split.duplicates import identical_pictures, units_of_rows
from kubesight.split.stratify import Units, make_units
from kubesight.split.table import FREE, PARTS, TEST, TRAIN, VALIDATION, Ints, RowTable, read_table

log = logging.getLogger("kubesight")

_LOGGED = 10


def split(
    dataset: Path | str, output: Path | str, *, split_ratio: float = 0.2, test_ratio: float = 0.0, seed: int = 0
) -> dict[str, Dataset]:
    """Divide a data set into training, validation and test parts, with the classes in proportion.

    Byte-identical pictures, and rows of one `group`, go to the same part. Rows that name their part keep it; when some
    name validation (or test), no such part is drawn. Rows marked as training are drawn from only when no row is
    unmarked. A class with one picture goes to training.

    Args:
        dataset: the data set folder.
        output: gets `train`, `validation` and `test`, each a data set with all classes of the whole. A part that was
            not asked for is written empty.
        split_ratio: the validation part's share of the rows that name no part, in [0, 1).
        test_ratio: the test part's share of them, in [0, 1); the two sum to less than 1.
        seed: of the source of chance; the same input and seed give the same parts.

    Returns:
        the parts by name.

    Raises:
        HyperparameterError: a ratio or the seed is out of range.
        DatasetError: there are fewer pictures than classes, or a part would be empty.
    """
    _check_ratios(split_ratio, test_ratio, seed)
    whole = Dataset(dataset)
    if whole.task == Task.CLASSIFICATION and len(whole) < len(whole.classes):
        raise DatasetError(
            f"{len(whole)} pictures of {len(whole.classes)} classes: some class has none",
            where=str(whole.path),
            hint="Add pictures, or leave the empty classes out.",
        )
    report = Report()
    report.images_read, report.annotations_read = len(whole), int(whole.info.counts["annotations"])
    table = read_table(whole)
    parts = _parts_of_rows(whole, table, split_ratio, test_ratio, seed, report)
    _check_parts(whole, table, parts, split_ratio, test_ratio, report)
    details = {"split_ratio": split_ratio, "test_ratio": test_ratio, "seed": seed, "of": whole.info.content_hash}
    _write(whole, Path(output), parts, details, report)
    return {name: Dataset(part_path(output, name)) for name in PARTS}


def _check_ratios(split_ratio: float, test_ratio: float, seed: int) -> None:
    for name, value in (("split_ratio", split_ratio), ("test_ratio", test_ratio)):
        if not 0 <= value < 1:
            raise HyperparameterError(f"{value} is not in [0, 1)", where=name, hint="0.2 is a fifth of the pictures.")
    if split_ratio + test_ratio >= 1:
        raise HyperparameterError(
            f"{split_ratio} and test_ratio {test_ratio} leave nothing for training",
            where="split_ratio",
            hint="They must sum to less than 1.",
        )
    if seed < 0:
        raise HyperparameterError(f"{seed} is negative", where="seed", hint="Take a whole number from 0 up.")


def _parts_of_rows(
    whole: Dataset, table: RowTable, split_ratio: float, test_ratio: float, seed: int, report: Report
) -> Ints:
    """The part of each row."""
    pictures, unreadable = identical_pictures(whole, table.bytes)
    if unreadable:
        message = f"{len(unreadable)} pictures cannot be read, among them {unreadable[0]}"
        _warn(report, whole, "unreadable_image", message, len(unreadable))
    unit_of_row = units_of_rows(table, pictures)
    units = make_units(unit_of_row, table.offsets, table.labels)
    split_ratio = 0.0 if (table.parts == VALIDATION).any() else split_ratio
    test_ratio = 0.0 if (table.parts == TEST).any() else test_ratio
    marks, torn = _unit_marks(table, unit_of_row, len(units.sizes))
    if (split_ratio or test_ratio) and not (marks == FREE).any():
        marks[(marks == TRAIN) & ~torn] = FREE
    if torn.any():
        message = f"{torn.sum()} sets of identical pictures or groups are in several parts, because their rows say so"
        _warn(report, whole, "parts_share_pictures", message, int(torn.sum()))
    if split_ratio or test_ratio:
        _warn_lone_classes(whole, units, marks, table.num_labels, report)
    parts = assign(units, marks, table.num_labels, split_ratio, test_ratio, seed)[unit_of_row]
    # Rows of a torn unit keep what they say; in the others this changes nothing but training rows drawn from.
    own = (table.parts == VALIDATION) | (table.parts == TEST)
    parts[own] = table.parts[own]
    return parts


def _unit_marks(table: RowTable, unit_of_row: Ints, num_units: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The part that each unit's rows name, or FREE; and which units name several (the first of PARTS counts)."""
    marks = np.full(num_units, FREE, np.int64)
    marked = table.parts != FREE
    pairs = np.unique(np.column_stack([unit_of_row[marked], table.parts[marked]]), axis=0)
    marks[pairs[::-1, 0]] = pairs[::-1, 1]
    return marks, np.bincount(pairs[:, 0], minlength=num_units) > 1


def _warn_lone_classes(whole: Dataset, units: Units, marks: Ints, num_labels: int, report: Report) -> None:
    """Say which classes cannot be on both sides."""
    present = units.totals(marks == FREE, num_labels)
    for number in (number for number in lone_classes(units, marks, num_labels) if number < len(whole.classes)):
        name, count = whole.classes[number], int(present[number])
        if count == 1:
            message = f"class {name!r} has one picture, which goes to training: nothing will measure this class"
            _warn(report, whole, "class_with_one_picture", message, 1)
        else:
            message = f"the {count} pictures of class {name!r} must stay together, so all of them go to training"
            _warn(report, whole, "class_in_one_group", message, count)


def _check_parts(
    whole: Dataset, table: RowTable, parts: Ints, split_ratio: float, test_ratio: float, report: Report
) -> None:
    """Refuse empty parts; say which classes training lacks because the rows name their parts."""
    counts = np.bincount(parts, minlength=len(PARTS))
    for part, wanted in ((TRAIN, 1.0), (VALIDATION, split_ratio), (TEST, test_ratio)):
        if wanted and not counts[part]:
            raise DatasetError(
                f"the {PARTS[part]} part of {len(table)} pictures would be empty",
                where=str(whole.path),
                hint="Add pictures, change --split-ratio or --test-ratio, or make fewer pictures stay together.",
            )
    owners = np.repeat(parts, np.diff(table.offsets))
    trained = np.bincount(table.labels[owners == TRAIN], minlength=table.num_labels)
    held_out = np.bincount(table.labels[owners != TRAIN], minlength=table.num_labels)
    for number, name in enumerate(whole.classes):
        if held_out[number] and not trained[number]:
            message = f"class {name!r} has no picture in training, because its rows name another part"
            _warn(report, whole, "class_not_in_training", message, int(held_out[number]))


def _warn(report: Report, whole: Dataset, reason: str, message: str, count: int) -> None:
    """Keep a finding for `report.json`, and log the first few."""
    report.add(Finding("warning", reason, message, str(whole.path), subject="image", count=count))
    if len(report.findings) <= _LOGGED:
        log.warning("%s: %s", whole.path, message)
    elif len(report.findings) == _LOGGED + 1:
        log.warning("%s: more warnings are in the parts' report.json", whole.path)


def _write(whole: Dataset, output: Path, parts: Ints, details: dict[str, object], report: Report) -> None:
    """Stream the rows once more into the three parts; none gets its name before all rows are written."""
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                DatasetWriter(
                    part_path(output, name),
                    whole.task,
                    classes=whole.classes,
                    source=whole.info.source,
                    split={"part": name, **details},
                )
            )
            for name in PARTS
        ]
        for row, part in zip(whole.rows(), parts, strict=True):
            # The part is a property of the data set from here on, so that it can be split again.
            row.split = None
            writers[part].write(row)
        for writer in writers:
            report.save(writer.folder)
