"""The rows of a classification data set as arrays, compact enough for a million pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kubesight.dataset import Dataset
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError


@dataclass(frozen=True)
class PictureTable:
    """The rows of one part, as compact arrays.

    `urls` is [n] bytes; `labels` is [n] class indices, or [n, classes] of 0 and 1 for multilabel.
    """

    urls: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.urls)

    def url(self, index: int) -> str:
        """One picture's address."""
        return bytes(self.urls[index]).decode()


def read_table(dataset: Dataset, classes: Sequence[str]) -> PictureTable:
    """Read a classification data set's rows.

    Raises:
        DatasetError: there are no rows, or a label is not among `classes`.
    """
    index = {name: number for number, name in enumerate(classes)}
    urls: list[bytes] = []
    labels: list[Any] = []
    for row in dataset.rows():
        urls.append(row.image_url.encode())
        try:
            numbers = [index[name] for name in row.class_names()]
        except KeyError as error:
            raise DatasetError(
                f"label {error} is not among the classes", where=f"{dataset.path}, {row.image_url}"
            ) from None
        if dataset.task == Task.MULTILABEL:
            hot = np.zeros(len(classes), np.uint8)
            hot[numbers] = 1
            labels.append(hot)
        else:
            labels.append(numbers[0])
    if not urls:
        raise DatasetError("no pictures", where=str(dataset.path))
    return PictureTable(np.array(urls), np.array(labels, np.uint8 if dataset.task == Task.MULTILABEL else np.int64))
