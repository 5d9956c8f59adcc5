"""Somebody's predictions brought beside the truth: pictures matched, values checked, nothing guessed in silence."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubesight.errors import DatasetError
from kubesight.evaluate.answers import Answers, Truth, judge_names, judge_probabilities
from kubesight.evaluate.pictures import PictureIndex, path_of, shared_ending
from kubesight.evaluate.prediction_files import GivenRow, place, read_predictions
from kubesight.metrics.classification import THRESHOLD

TOLERANCE = 1e-6
"""How far outside [0, 1] a probability may lie through rounding; it is then moved to the end."""

SUM_TOLERANCE = 1e-3
"""How far from 1 a picture's probabilities may sum up before a warning."""


def load_predictions(path: Path | str, truth: Truth, classes: Sequence[str] | None = None) -> Answers:
    """Read a file of predictions (see `kubesight.evaluate.prediction_files`) for exactly the pictures of a data set.

    A picture is found by its URL, else it is the one whose path has the longest end in common with the given one, the
    file name at least; where that is not a single one, it is an error.
    Either all lines have probabilities or none has. A class that a picture's object of probabilities leaves out
    has 0. Where probabilities are given they decide, and `predicted` is only compared with them.

    Args:
        path: the file.
        truth: the pictures and their labels.
        classes: the class names in the order of probabilities that come as lists; the data set's by default.

    Raises:
        DatasetError: a picture is missing, unknown or comes twice, a class is unknown, or a value is no probability.
        StorageError: the file cannot be read.
    """
    known = list(classes or truth.dataset.classes)
    reader = _Reader(Path(path), truth, known)
    for row in read_predictions(reader.path, known):
        reader.add(row)
    return reader.finish()


class _Reader:
    """Takes the rows in one by one."""

    def __init__(self, path: Path, truth: Truth, known: list[str]) -> None:
        self.path = path
        self.truth = truth
        self.known = known
        self.index = {name: k for k, name in enumerate(known)}
        self.pictures = PictureIndex(truth.urls)
        self.lines: dict[str, int] = {}
        self.unknown: list[GivenRow] = []
        self.probabilities: NDArray[np.float64] | None = None
        self.predicted: list[list[str]] = [[] for _ in truth.urls]
        self.first: GivenRow | None = None
        self.remarks: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, row: GivenRow) -> None:
        where = place(self.path, row.line)
        url = self.pictures.find(row.picture, where)
        if url is None:
            self.unknown.append(row)
            return
        self._check_one_of_a_kind(row, url, where)
        if url != row.picture and shared_ending(url, row.picture) < len(path_of(row.picture).parts):
            self._remark("the picture was found by the end of its path, the beginning differs", where)
        if row.unused:
            self._remark(f"not used: {', '.join(sorted(row.unused))}", where)
        names, vector = self._predicted(row, where), self._vector(row, where)
        if vector is not None:
            self._compare_predicted(names, vector, where)
        elif names is None:
            raise DatasetError(
                "neither probabilities nor predicted classes", where=where, hint="Give one of them for each picture."
            )
        for position in self.pictures.rows[url]:
            self._compare_truth(row, position, where)
            if vector is None:
                self.predicted[position] = names or []
                continue
            if self.probabilities is None:
                self.probabilities = np.zeros((len(self.truth.urls), len(self.known)))
            self.probabilities[position] = vector

    def _check_one_of_a_kind(self, row: GivenRow, url: str, where: str) -> None:
        if url in self.lines:
            raise DatasetError(
                f"a second line for {row.picture}; line {self.lines[url]} was the first",
                where=where,
                hint="Keep one line for each picture.",
            )
        self.lines[url] = row.line
        self.first = self.first or row
        if (row.probabilities is None) != (self.first.probabilities is None):
            kinds = ("without", "with") if row.probabilities is None else ("with", "without")
            raise DatasetError(
                f"a line {kinds[0]} probabilities, while line {self.first.line} is {kinds[1]}",
                where=where,
                hint="Give all pictures probabilities, or none.",
            )

    def finish(self) -> Answers:
        """Check that every picture has its line.

        Raises:
            DatasetError: some have none, or some lines are of other pictures.
        """
        if self.unknown:
            first = self.unknown[0]
            raise DatasetError(
                f"{first.picture!r} is no picture of the data set; so are {len(self.unknown)} of "
                f"{len(self.unknown) + len(self.lines)} lines",
                where=place(self.path, first.line),
                hint=f"A picture of it is {self.truth.urls[0]}. Evaluate on the data set that was predicted.",
            )
        missing = [url for url in self.pictures.rows if url not in self.lines]
        if missing:
            raise DatasetError(
                f"no prediction for {len(missing):,} of {len(self.pictures.rows):,} pictures, {missing[0]} among them",
                where=str(self.path),
                hint="Predict every picture of the data set, so that figures can be compared.",
            )
        warnings = [
            f"{count:,} of {len(self.lines):,} lines: {text} (first: {self.examples[text]})"
            for text, count in self.remarks.items()
        ]
        if self.probabilities is not None:
            return judge_probabilities(self.truth, self.known, self.probabilities, warnings)
        return judge_names(self.truth, self.known, self.predicted, warnings)

    def _remark(self, text: str, example: str) -> None:
        self.remarks[text] += 1
        self.examples.setdefault(text, example)

    def _predicted(self, row: GivenRow, where: str) -> list[str] | None:
        value = row.predicted
        if value is None and row.probabilities is None and row.truth is not None:
            self._remark("there is no predicted class, so 'label' was taken for it", where)
            value = row.truth
        if value is None:
            return None
        return self._names(value, where)

    def _names(self, value: Any, where: str) -> list[str]:
        """The classes that `_split` finds, all of them known."""
        names = self._split(value)
        for name in names:
            if name not in self.index:
                raise self._unknown_class(name, where)
        if not self.truth.multilabel and len(names) != 1:
            raise DatasetError(f"{len(names)} predicted classes for a task of one class a picture", where=where)
        return names

    def _split(self, value: Any) -> list[str]:
        """The classes that a text, a number (for a class called so) or a list of them stands for."""
        if isinstance(value, list):
            return [str(each) for each in value]
        text = str(value).strip()
        if text in self.index or not self.truth.multilabel:
            return [text]
        return [part.strip() for part in re.split(r"[|;,]", text) if part.strip()]

    def _unknown_class(self, name: str, where: str) -> DatasetError:
        near = difflib.get_close_matches(name, self.known, n=1, cutoff=0.4)
        hint = f"The nearest is {near[0]!r}." if near else f"There are {', '.join(map(repr, self.known[:5]))}, ..."
        return DatasetError(
            f"the class {name!r} is none of the {len(self.known)} that are known", where=where, hint=hint
        )

    def _vector(self, row: GivenRow, where: str) -> NDArray[np.float64] | None:
        if row.probabilities is None:
            return None
        given = row.probabilities
        names = list(given) if isinstance(given, dict) else row.order or self.known
        values = list(given.values()) if isinstance(given, dict) else given
        if len(values) != len(names):
            raise DatasetError(
                f"{len(values)} probabilities for {len(names)} classes",
                where=where,
                hint="Give them as an object by class name, or name the model that has these classes with --model.",
            )
        vector = self._in_order(names, _probabilities(values, names, where), where)
        if len(names) < len(self.known):
            self._remark("not all classes have a probability; those left out were taken for 0", where)
        if not self.truth.multilabel and not vector.any():
            raise DatasetError("no class has a probability above 0", where=where, hint="Give one that sums to 1.")
        if not self.truth.multilabel and abs(vector.sum() - 1) > SUM_TOLERANCE:
            self._remark(
                "the probabilities do not sum to 1; they were used as they are", f"{where}: {vector.sum():.4g}"
            )
        return vector

    def _in_order(self, names: list[str], values: NDArray[np.float64], where: str) -> NDArray[np.float64]:
        if names is self.known:
            return values
        for name in names:
            if name not in self.index:
                raise self._unknown_class(name, where)
        if len(set(names)) < len(names):
            raise DatasetError("a class comes twice among the labels", where=where)
        vector = np.zeros(len(self.known))
        vector[[self.index[name] for name in names]] = values
        return vector

    def _compare_truth(self, row: GivenRow, position: int, where: str) -> None:
        if row.truth is None or (row.predicted is None and row.probabilities is None):
            return
        if set(self._split(row.truth)) != set(self.truth.names[position]):
            self._remark("'label' differs from the data set's label, which was used", where)

    def _compare_predicted(self, names: list[str] | None, vector: NDArray[np.float64], where: str) -> None:
        if names is None:
            return
        if self.truth.multilabel:
            agrees = set(names) == {self.known[k] for k in np.flatnonzero(vector > THRESHOLD)}
        else:
            agrees = vector[self.index[names[0]]] == vector.max()
        if not agrees:
            self._remark("the predicted class is not the one that the probabilities say; they decided", where)


def _probabilities(values: list[Any], names: Sequence[str], where: str) -> NDArray[np.float64]:
    """The values as an array, each moved into [0, 1] when it is outside by rounding only."""
    for name, value in zip(names, values, strict=True):
        # The exact types: a boolean is an integer to Python, but no probability.
        if type(value) not in (float, int) or not math.isfinite(value):
            raise DatasetError(f"the probability of {name!r} is {value!r}, not a number", where=where)
    array = np.array(values, dtype=np.float64)
    outside = np.flatnonzero((array < -TOLERANCE) | (array > 1 + TOLERANCE))
    if len(outside):
        raise DatasetError(
            f"the probability of {names[outside[0]]!r} is {array[outside[0]]:g}, outside [0, 1]",
            where=where,
            hint="Scores (logits) or per cent must be turned into probabilities first, by softmax or sigmoid.",
        )
    return array.clip(0.0, 1.0)
