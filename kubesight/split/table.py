"""What a split needs to know of the rows, in compact arrays: a million rows take some tens of megabytes."""

from array import array
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from kubesight.dataset import Dataset
from kubesight.dataset.rows import Part

PARTS: tuple[Part, ...] = get_args(Part)
TRAIN, VALIDATION, TEST = range(3)
FREE = -1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowTable:
    """The rows of a data set, in file order.

    `offsets` [n + 1] and `labels` say which classes a row has: `labels[offsets[i]:offsets[i + 1]]`, each class once. A
    row with none has the extra class number `len(classes)`, so that pictures of nothing are shared out like the others.
    `groups` [n] numbers the group keys, -1 without one. `parts` [n] is the part that the row names, or FREE.
    `bytes` [n] is the picture's file size as the row says it, -1 where it does not.
    """

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
    group_numbers: dict[str, int] = {}
    offsets, labels, groups = array("q", [0]), array("q"), array("q")
    parts, sizes = array("q"), array("q")
    for row in dataset.rows():
        present = {class_numbers[name] for name in row.class_names()}
        labels.extend(sorted(present) if present else [len(class_numbers)])
        offsets.append(len(labels))
        groups.append(-1 if row.group is None else group_numbers.setdefault(row.group, len(group_numbers)))
        parts.append(FREE if row.split is None else PARTS.index(row.split))
        details = row.image_details
        sizes.append(-1 if details is None or details.bytes is None else details.bytes)
    return RowTable(*(np.array(column, np.int64) for column in (offsets, labels, groups, parts, sizes)))
