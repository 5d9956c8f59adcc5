"""What a split needs to know of the rows, in compact arrays: a million rows take some tens of megabytes."""

from array import array
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from kubesight.dataset import Dataset
from kubesight.dataset.rows import Part, Task

PARTS: tuple[Part, ...] = get_args(Part)
TRAIN, VALIDATION, TEST = range(3)
FREE = -1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowTable:
    """The rows of a data set, in file order.

    `labels[offsets[i]:offsets[i + 1]]` are what row i counts for: each class that it shows, once; the extra number
    `len(classes)` where it shows none, so that pictures of nothing are shared out like the others; and for boxes and
    outlines one `len(classes) + 1 + class` an object, so that objects are shared out too, not only the pictures that
    show some. All are below `num_labels`.
    `groups` [n] numbers the group keys, -1 without one. `parts` [n] is the part that the row names, or FREE.
    `bytes` [n] is the picture's file size as the row says it, -1 where it does not.
    """

    num_labels: int
    offsets: Ints
    labels: Ints
    groups: Ints
    parts: Ints
    bytes: Ints

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.groups)


def read_table(dataset: Dataset) -> RowTable:
    """Stream the rows once and keep what a split needs."""
    class_numbers = {name: number for number, name in enumerate(dataset.classes)}
    background = len(class_numbers)
    with_objects = dataset.task in (Task.DETECTION, Task.SEGMENTATION)
    group_numbers: dict[str, int] = {}
    offsets, labels, groups = array("q", [0]), array("q"), array("q")
    parts, sizes = array("q"), array("q")
    for row in dataset.rows():
        shown = [class_numbers[name] for name in row.class_names()]
        labels.extend(sorted(set(shown)) or [background])
        if with_objects:
            labels.extend(background + 1 + number for number in shown)
        offsets.append(len(labels))
        groups.append(-1 if row.group is None else group_numbers.setdefault(row.group, len(group_numbers)))
        parts.append(FREE if row.split is None else PARTS.index(row.split))
        details = row.image_details
        sizes.append(-1 if details is None or details.bytes is None else details.bytes)
    num_labels = 2 * background + 1 if with_objects else background + 1
    columns = [np.array(column, np.int64) for column in (offsets, labels, groups, parts, sizes)]
    return RowTable(num_labels, *columns)
