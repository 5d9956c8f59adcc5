"""The labelled objects that answers are judged by: those of a data set folder, or of a COCO file as it is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kubesight.dataset import Dataset, Row, Task
from kubesight.dataset.objects import true_objects
from kubesight.errors import DatasetError
from kubesight.metrics.objects import TrueObjects

OBJECT_TASKS = (Task.DETECTION, Task.SEGMENTATION)


@dataclass(frozen=True)
class ObjectTruth:
    """The labelled objects of a set of pictures, and the names by which answers speak of pictures and classes.

    Attributes:
        path: the data set or file.
        masks: whether masks are compared, else boxes.
        urls: the pictures.
        classes: the class names in index order.
        objects: the labelled objects.
        image_ids: what the source called each picture; None where it has no name but its file's.
        categories: the source's own ids of classes, id to name; empty when it has none.
        data: what `metrics.json` says of it: path, content_hash and part.
        warnings: what a reader should know about how it was read.
    """

    path: str
    masks: bool
    urls: list[str]
    classes: list[str]
    objects: TrueObjects
    image_ids: list[int | str | None]
    categories: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def task(self) -> Task:
        """What is asked of the pictures."""
        return Task.SEGMENTATION if self.masks else Task.DETECTION

    def with_classes(self, known: Sequence[str]) -> "ObjectTruth":
        """The same with the classes of a model, so that every index is into the classes of both."""
        classes = sorted({*self.classes, *known})
        if classes == self.classes:
            return self
        places = np.array([classes.index(name) for name in self.classes], np.int64)
        return replace(self, classes=classes, objects=replace(self.objects, label=places[self.objects.label]))


def data_set_truth(dataset: Dataset, task: Task | None) -> ObjectTruth:
    """The labelled objects of a data set folder.

    Args:
        dataset: a data set of boxes or outlines.
        task: what to compare; None for what the data set is for. Outlines serve detection too, by their boxes.

    Raises:
        DatasetError: the data set is for another task, has no pictures, or a row cannot be used.
    """
    chosen = dataset.task if task is None else task
    if dataset.task not in OBJECT_TASKS or chosen not in (dataset.task, Task.DETECTION):
        raise DatasetError(
            f"the data set is for {dataset.task}, not for {chosen}",
            where=str(dataset.path),
            hint="Leave --task out to take the data set's.",
        )
    urls: list[str] = []
    image_ids: list[int | str | None] = []
    objects = true_objects(_noted(dataset.rows(), urls, image_ids), dataset.classes)
    if not urls:
        raise DatasetError("the data set has no pictures to evaluate on", where=str(dataset.path))
    masks = chosen is Task.SEGMENTATION
    info = dataset.info
    return ObjectTruth(
        path=str(dataset.path),
        masks=masks,
        urls=urls,
        classes=dataset.classes,
        objects=objects if masks else replace(objects, masks=None),
        image_ids=image_ids,
        categories=info.source.get("category_ids") or {},
        data={
            "path": str(dataset.path),
            "content_hash": info.content_hash,
            "part": (info.split or {}).get("part"),
        },
        warnings=[] if chosen is dataset.task else ["The data set has outlines; their boxes were compared."],
    )


def _noted(rows: Iterable[Row], urls: list[str], image_ids: list[int | str | None]) -> Iterator[Row]:
    """Pass rows through, keeping what their pictures are called."""
    for row in rows:
        urls.append(row.image_url)
        image_ids.append(row.image_id)
        yield row
