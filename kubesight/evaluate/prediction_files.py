"""Reading files of predictions that anybody may have written: JSON lines, or CSV with a header.

JSON lines, one object a picture:
    {"image_url": "...", "probabilities": [0.1, 0.9]}             in the order of the classes
    {"image_url": "...", "probabilities": {"cat": 0.1, "dog": 0.9}}
    {"filename": "...", "probs": [0.1, 0.9], "labels": ["cat", "dog"]}    what Azure's endpoints answer
    {"image_url": "...", "predicted": "cat"}                      or ["cat", "dog"] for multilabel
CSV, one row a picture: a column for the picture, then a column of probabilities for every class, named like the class,
or a column `predicted` (for multilabel several classes with `|`, `;` or `,` between them), or both.

The picture may be called image_url, filename, file_name, image or path; the probabilities probabilities or probs; the
classes predicted or prediction. `label` is the truth and is only compared with the data set's, save in a
file that gives nothing else: there it is taken for the prediction, and the warnings say so.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubesight.errors import DatasetError, StorageError

PICTURE_KEYS = ("image_url", "filename", "file_name", "image", "path")
PROBABILITY_KEYS = ("probabilities", "probs")
PREDICTED_KEYS = ("predicted", "prediction")
TRUTH_KEY = "label"
ORDER_KEY = "labels"


@dataclass(frozen=True)
class GivenRow:
    """One picture's line. `probabilities` are by class name, or a list in the order of `order` or of the classes."""

    line: int
    picture: str
    probabilities: dict[str, Any] | list[Any] | None = None
    order: list[str] | None = None
    predicted: Any = None
    truth: Any = None
    unused: frozenset[str] = frozenset()


def read_predictions(path: Path, classes: Sequence[str]) -> Iterator[GivenRow]:
    """Stream the rows of a file: CSV when its name ends in .csv or .tsv, else JSON lines.

    Args:
        path: the file.
        classes: the class names, by which the columns of a CSV file are told.

    Raises:
        StorageError: the file cannot be opened.
        DatasetError: a line that is not as above; the line is named.
    """
    read = _read_csv(path, classes) if path.suffix.lower() in (".csv", ".tsv") else _read_json_lines(path)
    try:
        yield from read
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DatasetError("not UTF-8 text", where=str(path), hint="Save the file as UTF-8.") from error


def place(path: Path, line: int) -> str:
    """How an error names a line."""
    return f"{path}, line {line}"


def _read_json_lines(path: Path) -> Iterator[GivenRow]:
    with open(path, "rb") as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise DatasetError(
                    f"not JSON: {error}",
                    where=place(path, number),
                    hint="Write one JSON object a line, or a .csv file.",
                ) from error
            if not isinstance(value, dict):
                raise DatasetError(
                    "not a JSON object", where=place(path, number), hint="Write one JSON object a line, one a picture."
                )
            yield _row_of_object(value, path, number)


def _row_of_object(value: dict[str, Any], path: Path, number: int) -> GivenRow:
    picture = _take(value, PICTURE_KEYS)
    if not isinstance(picture, str) or not picture:
        raise DatasetError(
            "the line names no picture", where=place(path, number), hint=f"Give it as {PICTURE_KEYS[0]!r}, a text."
        )
    probabilities = _take(value, PROBABILITY_KEYS)
    if probabilities is not None and not isinstance(probabilities, (dict, list)):
        raise DatasetError(
            f"probabilities must be a list or an object, not {probabilities!r}", where=place(path, number)
        )
    order = _take(value, (ORDER_KEY,)) if isinstance(probabilities, list) else None
    if order is not None and not (isinstance(order, list) and all(isinstance(name, str) for name in order)):
        raise DatasetError("labels must be the list of class names", where=place(path, number))
    return GivenRow(
        line=number,
        picture=picture,
        probabilities=probabilities,
        order=order,
        predicted=_take(value, PREDICTED_KEYS),
        truth=_take(value, (TRUTH_KEY,)),
        unused=frozenset(value),
    )


def _read_csv(path: Path, classes: Sequence[str]) -> Iterator[GivenRow]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        header = stream.readline()
        delimiter = max(",;\t", key=header.count)
        stream.seek(0)
        rows = csv.reader(stream, delimiter=delimiter)
        columns = [name.strip() for name in next(rows, [])]
        scored = _check_columns(columns, classes, path)
        for cells in rows:
            if not cells:
                continue
            number = rows.line_num
            if len(cells) != len(columns):
                raise DatasetError(f"{len(cells)} cells under {len(columns)} columns", where=place(path, number))
            value: dict[str, Any] = dict(zip(columns, cells, strict=True))
            if scored:
                value[PROBABILITY_KEYS[0]] = {name: _number(value.pop(name), name, path, number) for name in classes}
            yield _row_of_object(value, path, number)


def _check_columns(columns: list[str], classes: Sequence[str], path: Path) -> bool:
    """Whether there is a column for each class; some but not all of them is an error."""
    where = place(path, 1)
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DatasetError(f"the column {repeated[0]!r} comes twice", where=where)
    if not set(PICTURE_KEYS) & set(columns):
        raise DatasetError(
            f"no column names the pictures; there are {', '.join(columns)}",
            where=where,
            hint=f"Call it one of {', '.join(PICTURE_KEYS)}.",
        )
    present = [name for name in classes if name in columns]
    known = {*PICTURE_KEYS, *PREDICTED_KEYS, TRUTH_KEY}
    missing, others = [name for name in classes if name not in columns], sorted(set(columns) - known - set(present))
    if present and missing:
        raise DatasetError(
            f"no column of probabilities for {len(missing)} of the {len(classes)} classes, {missing[0]!r} among them",
            where=where,
            hint=f"Columns that are no class: {', '.join(others)}." if others else "Give every class its column.",
        )
    if not present and not {*PREDICTED_KEYS, TRUTH_KEY} & set(columns):
        raise DatasetError(
            f"neither a column of predicted classes nor one for each class; there are {', '.join(columns)}",
            where=where,
            hint=f"Name columns of probabilities like the classes ({', '.join(classes[:3])}), or give 'predicted'.",
        )
    return bool(present)


def _number(text: str, column: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DatasetError(f"{text!r} in column {column!r} is not a number", where=place(path, line)) from error


def _take(value: dict[str, Any], keys: Sequence[str]) -> Any:
    """Remove the first of the keys that is there, and give its value."""
    for key in keys:
        if key in value:
            return value.pop(key)
    return None
