"""Tables and views of real labelled pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from kubesight.convert import convert
from kubesight.dataset import Dataset
from kubesight.dataset.objects import true_objects
from kubesight.dataset.tiling import Grid
from kubesight.train.augment import ObjectAugmentation
from kubesight.train.objects import ObjectTable, ObjectViews, check_trainable, read_objects

FILL = (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def nuclei(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The same nuclei twice: exact run lengths, and polygons through the centres of their outer pixels."""
    folder = tmp_path_factory.mktemp("nuclei")
    return {
        kind: convert(
            str(real_data / f"nuclei_coco/val/instances_{kind}.json"), folder / kind, task="image_instance_segmentation"
        )
        for kind in ("rle", "polygons")
    }


def test_nuclei_as_run_lengths_and_as_polygons_agree_up_to_one_pixel_of_outline(nuclei: dict[str, Dataset]) -> None:
    exact, drawn = (read_objects(nuclei[kind], ["nucleus"]) for kind in ("rle", "polygons"))
    assert len(exact) == len(drawn) == 30
    assert len(exact.labels) == len(drawn.labels) == 857
    cell, overlaps, sizes = np.ones((3, 3), np.uint8), [], []
    for picture in range(len(exact)):
        assert exact.url(picture) == drawn.url(picture)
        width, height = exact.sizes[picture].tolist()
        pair = [table.masks(table.objects(picture), height, width) for table in (exact, drawn)]
        for truth, mask in zip(*pair, strict=True):
            core = cv2.erode(truth, cell, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            assert not (core & ~mask).any()
            assert not (mask & ~cv2.dilate(truth, cell)).any()
            overlaps.append((truth & mask).sum() / (truth | mask).sum())
            sizes.append(truth.sum())
        boxes = [table.boxes[table.objects(picture)] * (width, height, width, height) for table in (exact, drawn)]
        # A ring through pixels' centres ends at the last pixel's number; the mask ends one further on.
        assert np.abs(boxes[0] - boxes[1]).max() <= 1 + 1e-6
    # Half a pixel on every side is much of a nucleus of 5 x 5 pixels, and little of a large one. Measured: 0.791 on
    # average; from 200 pixels on 0.817 at least.
    assert np.mean(overlaps) > 0.78
    assert np.array(overlaps)[np.array(sizes) >= 200].min() > 0.8


def test_views_of_nuclei_hold_what_metrics_compare_with(nuclei: dict[str, Dataset]) -> None:
    for kind in ("rle", "polygons"):
        truth = true_objects(nuclei[kind].rows(), ["nucleus"])
        views = ObjectViews(read_objects(nuclei[kind], ["nucleus"]), min_size=256, masks=True)
        differences: list[float] = []
        for sample in range(0, len(views), 5):
            _, _, target = views[0, sample]
            ours = np.flatnonzero(truth.image == sample)
            assert truth.masks is not None
            for mask, number in zip(target["masks"], ours, strict=True):
                assert np.array_equal(mask.numpy(), coco_mask.decode(truth.masks[number]))
            differences += np.abs(target["boxes"].numpy() - truth.box[ours]).max(axis=1).tolist()
        # Run lengths' boxes are those of their pixels. A ring may reach up to a pixel further than the pixels inside,
        # and more where it runs out and back along one line.
        if kind == "rle":
            assert max(differences) < 1e-4
        else:
            assert np.mean(np.array(differences) <= 1 + 1e-4) > 0.98


@pytest.mark.parametrize(
    ("source", "pictures", "objects", "classes"), [("bccd_voc", 364, 4886, 3), ("facade_coco/valid", 35, 953, None)]
)
def test_real_boxes_make_views_that_a_detector_takes(
    real_data: Path, tmp_path: Path, source: str, pictures: int, objects: int, classes: int | None
) -> None:
    dataset = convert(str(real_data / source), tmp_path / "data", task="image_object_detection")
    table = read_objects(dataset, dataset.classes)
    check_trainable(table, source)
    assert (len(table), len(table.labels)) == (pictures, objects)
    assert classes in (None, len(dataset.classes))
    for grid in (None, Grid(2, 2, 0.25)):
        check_views(table, grid, len(dataset.classes))


def check_views(table: ObjectTable, grid: Grid | None, classes: int) -> None:
    augmentation = ObjectAugmentation(0, True, True, FILL)
    views = ObjectViews(table, min_size=320, augmentation=augmentation, grid=grid)
    assert len(views) >= len(table)
    for sample in range(0, len(views), len(views) // 20):
        index, image, target = views[1, sample]
        height, width = image.shape[1:]
        boxes, labels = target["boxes"], target["labels"]
        assert index == sample
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert ((labels >= 1) & (labels <= classes)).all()
        if grid is None:
            assert len(labels) == (~table.crowd[table.objects(sample)]).sum()
