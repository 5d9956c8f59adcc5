"""COCO's twelve numbers, and the average precision of each class, equal to those of pycocotools.

The rules (cocodataset.org, "Detection evaluation"; Lin et al., "Microsoft COCO", ECCV 2014): overlaps from 0.5 to
0.95 in steps of 0.05; precision at recalls 0, 0.01, ..., 1 under the monotonous curve; at most 100 detections of a
picture and class; each detection takes the best object that is still free; crowds are neither missed nor counted, and
an overlap with them is the share of the detection that lies inside. An object is small, medium or large by its
stated area, limits included on both sides.

The engine is hotcoco, some 80 times faster than pycocotools. It has to reproduce pycocotools on a small example once
a process; where it does not, or is not installed, pycocotools does the work.
"""

import contextlib
import functools
import importlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kubesight.metrics.objects import Floats, FoundObjects, TrueObjects, check_labels, check_masks

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers in the order that pycocotools prints them."""
TOLERANCE = 1e-9

_UNDEFINED = -1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CocoResult:
    """The numbers, each in [0, 1]; what nothing defines (no object to find) is left out.

    Attributes:
        summary: names of `SUMMARY` to values.
        per_class: class name to AP, the mean over overlaps of 0.5 to 0.95.
        per_class_50: class name to AP at an overlap of 0.5.
    """

    summary: dict[str, float]
    per_class: dict[str, float]
    per_class_50: dict[str, float]


@dataclass(frozen=True)
class Tables:
    """What an engine computes; -1 stands for undefined.

    Axes: 10 overlaps, 101 recalls, classes, areas (all, small, medium, large), detections (1, 10, 100).

    Attributes:
        precision: [10, 101, classes, 4, 3].
        recall: [10, classes, 4, 3].
    """

    precision: Floats
    recall: Floats


Engine = Callable[[TrueObjects, FoundObjects, int, bool], Tables]


def coco_metrics(truth: TrueObjects, found: FoundObjects, classes: Sequence[str], *, masks: bool) -> CocoResult:
    """COCO's numbers for boxes or masks.

    `difficult` has no meaning here: COCO knows crowds only. The area of a detection is that of its box, or of its
    mask when masks are compared; that of an object is `TrueObjects.area`.

    Args:
        truth: the labelled objects.
        found: all detections, whatever their score.
        classes: the class names in index order.
        masks: compare masks, else boxes.

    Raises:
        ValueError: an index is that of no class or picture, or masks are asked for where there are none.
    """
    check_labels(truth, found, classes)
    if masks:
        check_masks(truth, found)
    if not len(truth):
        return CocoResult({}, {}, {})
    return _summarise(_engine()(truth, found, len(classes), masks), classes)


def _summarise(tables: Tables, classes: Sequence[str]) -> CocoResult:
    """Means over all that is defined, as pycocotools takes them."""
    precision, recall = tables.precision, tables.recall
    values = [precision[:, :, :, 0, 2], precision[0, :, :, 0, 2], precision[5, :, :, 0, 2]]
    values += [precision[:, :, :, area, 2] for area in (1, 2, 3)]
    values += [recall[:, :, 0, limit] for limit in (0, 1, 2)]
    values += [recall[:, :, area, 2] for area in (1, 2, 3)]
    return CocoResult(
        summary=_defined(zip(SUMMARY, values, strict=True)),
        per_class=_defined((name, precision[:, :, k, 0, 2]) for k, name in enumerate(classes)),
        per_class_50=_defined((name, precision[0, :, k, 0, 2]) for k, name in enumerate(classes)),
    )


def _defined(values: Any) -> dict[str, float]:
    known = {name: array[array > _UNDEFINED] for name, array in values}
    return {name: float(np.mean(array)) for name, array in known.items() if array.size}


@functools.cache
def _engine() -> Engine:
    """The fast engine when it is there and agrees with pycocotools, else pycocotools."""
    try:
        importlib.import_module("hotcoco")
        for masks in (False, True):
            truth, found = _example()
            fast, exact = hotcoco_tables(truth, found, 3, masks), pycocotools_tables(truth, found, 3, masks)
            for name in ("precision", "recall"):
                gap = float(np.abs(getattr(fast, name) - getattr(exact, name)).max())
                if not gap <= TOLERANCE:
                    raise ArithmeticError(f"its {name} differs from that of pycocotools by {gap:.3g}")
    except Exception as error:
        log.warning("COCO metrics are computed by pycocotools, slowly, because hotcoco cannot be used: %s", error)
        return pycocotools_tables
    return hotcoco_tables


def hotcoco_tables(truth: TrueObjects, found: FoundObjects, classes: int, masks: bool) -> Tables:
    """The tables as hotcoco computes them.

    Args:
        truth: the labelled objects.
        found: the detections.
        classes: how many classes there are.
        masks: compare masks, else boxes.
    """
    import hotcoco  # the process goes on without it

    labelled = hotcoco.COCO(_dataset(truth, classes, masks))
    rows = np.column_stack([found.image + 1, _xywh(found.box), found.score, found.label + 1]).astype(np.float64)
    segmentation: list[Any] | None = None
    if masks and found.masks is not None:
        segmentation = [_plain(mask) for mask in found.masks]
    detected = labelled.load_res(rows, segmentation=segmentation)
    if segmentation:
        detected.update_anns(ids=np.arange(1, len(found) + 1), area=_mask_areas(found))
    evaluation = hotcoco.COCOeval(labelled, detected, "segm" if masks else "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    tables: Any = evaluation.eval
    return Tables(np.asarray(tables["precision"]), np.asarray(tables["recall"]))


def pycocotools_tables(truth: TrueObjects, found: FoundObjects, classes: int, masks: bool) -> Tables:
    """The tables as pycocotools computes them; arguments as for `hotcoco_tables`."""
    labelled, detected = COCO(), COCO()
    labelled.dataset = _dataset(truth, classes, masks)
    areas = _mask_areas(found) if masks else found.box[:, 2:] - found.box[:, :2]
    areas = areas if masks else areas[:, 0] * areas[:, 1]
    annotations = _annotations(found.image, found.label, found.box, areas, found.masks if masks else None)
    for annotation, score in zip(annotations, found.score.tolist(), strict=True):
        annotation |= {"score": score, "iscrowd": 0}
    detected.dataset = {**labelled.dataset, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        labelled.createIndex()
        detected.createIndex()
        evaluation = COCOeval(labelled, detected, "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return Tables(evaluation.eval["precision"], evaluation.eval["recall"])


def _dataset(truth: TrueObjects, classes: int, masks: bool) -> dict[str, Any]:
    """The labelled objects as a COCO file holds them; pictures, classes and objects are numbered from 1.

    pycocotools takes an object with the number 0 for one that was not found.
    """
    annotations = _annotations(truth.image, truth.label, truth.box, truth.area, truth.masks if masks else None)
    for annotation, crowd in zip(annotations, truth.crowd.tolist(), strict=True):
        annotation["iscrowd"] = int(crowd)
    return {
        "images": [
            {"id": k, "width": width, "height": height} for k, (width, height) in enumerate(truth.sizes.tolist(), 1)
        ],
        "categories": [{"id": k, "name": str(k)} for k in range(1, classes + 1)],
        "annotations": annotations,
    }


def _annotations(
    image: Any, label: Any, box: Floats, area: Floats, masks: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    columns = zip((image + 1).tolist(), (label + 1).tolist(), _xywh(box).tolist(), area.tolist(), strict=True)
    rows: list[dict[str, Any]] = [
        {"id": k, "image_id": picture, "category_id": category, "bbox": corners, "area": size}
        for k, (picture, category, corners, size) in enumerate(columns, 1)
    ]
    for row, mask in zip(rows, masks or (), strict=masks is not None):
        row["segmentation"] = _plain(mask)
    return rows


def _plain(mask: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": list(mask["size"]), "counts": mask["counts"]}


def _xywh(box: Floats) -> Floats:
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)


def _mask_areas(found: FoundObjects) -> Floats:
    # One at a time: pycocotools fails on lists of more than 255.
    return np.array([coco_mask.area(dict(mask)) for mask in found.masks or ()], np.float64)


def _example() -> tuple[TrueObjects, FoundObjects]:
    """Pictures with crowds, ties, all three sizes, a class that is never found and one that is never there."""
    generator = np.random.default_rng(0)
    size, pictures, each = 160, 6, 8
    image = np.repeat(np.arange(pictures), each)
    corner = generator.integers(0, 60, (len(image), 2))
    box = np.concatenate([corner, corner + generator.choice([0, 8, 32, 64, 96, 100], (len(image), 2))], axis=1)
    label = generator.integers(0, 2, len(image))
    moved = np.concatenate([box, box]) + generator.integers(-3, 4, (2 * len(image), 4))
    moved = np.clip(moved, 0, size)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
    truth = TrueObjects(
        sizes=np.full((pictures + 1, 2), size),
        image=image,
        label=label,
        box=box.astype(np.float64),
        area=np.prod(box[:, 2:] - box[:, :2], axis=1).astype(np.float64),
        crowd=generator.random(len(image)) < 0.1,
        difficult=np.zeros(len(image), bool),
        masks=[_rectangle(corners, size) for corners in box.tolist()],
    )
    found = FoundObjects(
        image=np.concatenate([image, image]),
        label=np.where(generator.random(2 * len(image)) < 0.2, 2, np.concatenate([label, label])),
        box=moved.astype(np.float64),
        score=generator.integers(1, 10, 2 * len(image)) / 10,
        masks=[_rectangle(corners, size) for corners in moved.tolist()],
    )
    return truth, found


def _rectangle(corners: Sequence[int], size: int) -> dict[str, Any]:
    mask = np.zeros((size, size), np.uint8, order="F")
    mask[corners[1] : corners[3], corners[0] : corners[2]] = 1
    encoded: dict[str, Any] = coco_mask.encode(mask)
    return encoded
