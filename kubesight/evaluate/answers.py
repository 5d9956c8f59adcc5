"""What is judged: the truth of a data set, and beside it what a model or a file answered for each picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubesight.dataset import Dataset, Task
from kubesight.dataset.rows import ClassificationRow, MultilabelRow
from kubesight.errors import DatasetError
from kubesight.metrics.classification import THRESHOLD, one_hot


@dataclass
class Truth:
    """The labels of a data set: for each picture its URL and its class names."""

    dataset: Dataset
    urls: list[str] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)

    @property
    def multilabel(self) -> bool:
        """Whether a picture may have any number of classes."""
        return self.dataset.task is Task.MULTILABEL

    def encode(self, classes: Sequence[str]) -> NDArray[Any]:
        """The labels by index into `classes`, which holds all of them: [n] for one class each, else 0 and 1, [n, c]."""
        return encode(self.names, classes, self.multilabel)


def load_truth(path: Path | str, task: Task | str | None = None) -> Truth:
    """Read the labels of a classification data set.

    Args:
        path: the data set's folder.
        task: what the caller takes it for, or None.

    Raises:
        DatasetError: it is for another task, is not for classification, or has no pictures.
    """
    dataset = Dataset(path)
    if task is not None and task != dataset.task:
        raise DatasetError(
            f"the data set is for {dataset.task}, not for {task}",
            where=str(dataset.path),
            hint="Leave --task out to take the data set's.",
        )
    truth = Truth(dataset)
    for row in dataset.rows():
        if not isinstance(row, ClassificationRow | MultilabelRow):
            raise DatasetError(
                f"{dataset.task} has no classes of pictures; this judges {Task.CLASSIFICATION} and {Task.MULTILABEL}",
                where=str(dataset.path),
            )
        truth.urls.append(row.image_url)
        truth.names.append(row.class_names())
    if not truth.urls:
        raise DatasetError("the data set has no pictures to evaluate on", where=str(dataset.path))
    return truth


def encode(names: Sequence[Sequence[str]], classes: Sequence[str], multilabel: bool) -> NDArray[Any]:
    """Class names of each picture by index into `classes`: shape [n], or 0 and 1 of shape [n, c] for multilabel."""
    index = {name: k for k, name in enumerate(classes)}
    if not multilabel:
        return np.array([index[each[0]] for each in names], dtype=np.int64)
    encoded = np.zeros((len(names), len(classes)), dtype=np.int64)
    for row, each in enumerate(names):
        encoded[row, [index[name] for name in each]] = 1
    return encoded


@dataclass(frozen=True)
class Answers:
    """The truth and the answers, picture by picture.

    Attributes:
        truth: where the labels came from.
        classes: all classes of the data and of the answers; every index below is into it.
        known: the classes that the answering model could give, a subset of `classes` in the answers' order.
        labels: true class indices [n], or 0 and 1 [n, c].
        predicted: the same for the answers.
        probabilities: [n, c], or None when the answers came without. A class that the model does not know has 0.
        warnings: what a reader should know about how the answers were read.
    """

    truth: Truth
    classes: list[str]
    known: list[str]
    labels: NDArray[Any]
    predicted: NDArray[Any]
    probabilities: NDArray[np.float64] | None
    warnings: list[str]

    @property
    def multilabel(self) -> bool:
        """Whether a picture may have any number of classes."""
        return self.truth.multilabel

    @property
    def truth_matrix(self) -> NDArray[np.bool_]:
        """Which classes each picture has, [n, c]."""
        return self.labels.astype(bool) if self.multilabel else one_hot(self.labels, len(self.classes))

    @property
    def predicted_matrix(self) -> NDArray[np.bool_]:
        """Which classes each picture was given, [n, c]."""
        return self.predicted.astype(bool) if self.multilabel else one_hot(self.predicted, len(self.classes))

    def predicted_names(self, row: int) -> list[str]:
        """The classes that a picture was given."""
        if self.multilabel:
            return [self.classes[k] for k in np.flatnonzero(self.predicted[row])]
        return [self.classes[self.predicted[row]]]


def judge_probabilities(
    truth: Truth, known: Sequence[str], probabilities: NDArray[np.float64], warnings: Sequence[str] = ()
) -> Answers:
    """Answers from probabilities in the order of the classes `known`.

    The data's classes that the model does not know get probability 0, so that every picture with one counts as wrong,
    and a warning says how many there are.

    Raises:
        DatasetError: the model knows none of the classes that the data has.
    """
    classes = _all_classes(truth, known)
    index = {name: k for k, name in enumerate(classes)}
    wide = np.zeros((len(probabilities), len(classes)))
    wide[:, [index[name] for name in known]] = probabilities
    predicted = (wide > THRESHOLD).astype(np.int64) if truth.multilabel else wide.argmax(axis=1)
    return Answers(
        truth=truth,
        classes=classes,
        known=list(known),
        labels=truth.encode(classes),
        predicted=predicted,
        probabilities=wide,
        warnings=[*warnings, *_unknown_class_warnings(truth, known)],
    )


def judge_names(
    truth: Truth, known: Sequence[str], names: Sequence[Sequence[str]], warnings: Sequence[str] = ()
) -> Answers:
    """Answers from class names alone, one list a picture, all of them in `known`."""
    classes = _all_classes(truth, known)
    return Answers(
        truth=truth,
        classes=classes,
        known=list(known),
        labels=truth.encode(classes),
        predicted=encode(names, classes, truth.multilabel),
        probabilities=None,
        warnings=[*warnings, *_unknown_class_warnings(truth, known)],
    )


def _all_classes(truth: Truth, known: Sequence[str]) -> list[str]:
    if not set(known) & set(truth.dataset.classes):
        raise DatasetError(
            f"the model's classes ({_some(known)}) and the data set's ({_some(truth.dataset.classes)}) have none in "
            "common",
            where=str(truth.dataset.path),
            hint="Evaluate on data of the same classes.",
        )
    return sorted({*known, *truth.dataset.classes})


def _unknown_class_warnings(truth: Truth, known: Sequence[str]) -> list[str]:
    lacking = sorted(set(truth.dataset.classes) - set(known))
    if not lacking:
        return []
    pictures = sum(not set(each).isdisjoint(lacking) for each in truth.names)
    return [
        f"The model does not know {len(lacking)} of the data set's {len(truth.dataset.classes)} classes "
        f"({_some(lacking)}). {pictures:,} of {len(truth.names):,} pictures have one of them; their labels of it count "
        "as missed."
    ]


def _some(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
