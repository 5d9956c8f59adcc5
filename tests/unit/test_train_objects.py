"""Tables of labelled objects, and the views that a detector trains on."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from kubesight.dataset import Dataset, DatasetWriter, Task
from kubesight.dataset.objects import true_objects
from kubesight.dataset.rows import Box, ClassificationRow, DetectionRow, ImageDetails, Instance, Rle, SegmentationRow
from kubesight.dataset.tiling import Grid, visible_share
from kubesight.errors import DatasetError
from kubesight.train.augment import ObjectAugmentation
from kubesight.train.data import PictureLoader
from kubesight.train.objects import ObjectTable, ObjectViews, check_trainable, collate_objects, read_objects

CLASSES = ["cat", "dog"]
SQUARE = [0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75]


def picture(path: Path, width: int = 40, height: int = 20) -> str:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def boxes_set(folder: Path, *pictures: list[Box], size: tuple[int, int] = (40, 20), name: str = "data") -> Dataset:
    """A detection data set with the boxes of each picture."""
    with DatasetWriter(folder / name, Task.DETECTION, classes=CLASSES) as writer:
        for number, boxes in enumerate(pictures):
            writer.write(DetectionRow(image_url=picture(folder / f"{name}{number}.png", *size), label=boxes))
    return Dataset(folder / name)


def outlines_set(folder: Path, *pictures: list[Instance], size: tuple[int, int] = (40, 20)) -> Dataset:
    """A segmentation data set with the outlines of each picture."""
    with DatasetWriter(folder / "data", Task.SEGMENTATION, classes=CLASSES) as writer:
        for number, instances in enumerate(pictures):
            writer.write(SegmentationRow(image_url=picture(folder / f"{number}.png", *size), label=instances))
    return Dataset(folder / "data")


def by_hand(folder: Path, task: Task, *labels: list[dict[str, Any]], size: tuple[int, int] = (40, 20)) -> Dataset:
    """A data set whose rows were written by somebody else."""
    with DatasetWriter(folder / "data", task, classes=CLASSES):
        pass
    url = picture(folder / "hand.png", *size)
    lines = [orjson.dumps({"image_url": url, "label": label}) for label in labels]
    (folder / "data" / "annotations.jsonl").write_bytes(b"\n".join(lines))
    return Dataset(folder / "data")


def table_of(dataset: Dataset) -> ObjectTable:
    return read_objects(dataset, CLASSES)


def test_a_table_holds_what_the_rows_say_and_keeps_background(tmp_path: Path) -> None:
    dataset = boxes_set(
        tmp_path,
        [Box("dog", 0.1, 0.2, 0.5, 0.6), Box("cat", 0, 0, 1, 1, isCrowd=1)],
        [],
        [Box("cat", 0.5, 0.5, 0.75, 1.0, difficult=1)],
    )
    table = pickle.loads(pickle.dumps(table_of(dataset)))
    assert len(table) == 3
    assert [Path(table.url(k)).name for k in range(3)] == ["data0.png", "data1.png", "data2.png"]
    assert table.sizes.tolist() == [[40, 20]] * 3
    assert [table.objects(k).tolist() for k in range(3)] == [[0, 1], [], [2]]
    assert table.boxes.tolist() == [[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0.5, 0.5, 0.75, 1]]
    assert table.labels.tolist() == [1, 0, 0]
    assert table.crowd.tolist() == [False, True, False]
    check_trainable(table, "x")


def test_the_rows_sizes_come_before_the_pictures_headers(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", Task.DETECTION, classes=CLASSES) as writer:
        details = ImageDetails(width=400, height=300)
        writer.write(DetectionRow(image_url="/nowhere.png", image_details=details, label=[]))
    assert table_of(Dataset(tmp_path / "data")).sizes.tolist() == [[400, 300]]


BAD_BOXES = [
    ({"topX": 0.5, "topY": 0.1, "bottomX": 0.4, "bottomY": 0.2}, "inverted or empty"),
    ({"topX": 0.5, "topY": 0.2, "bottomX": 0.6, "bottomY": 0.2}, "inverted or empty"),
    ({"topX": -0.1, "topY": 0.2, "bottomX": 0.6, "bottomY": 0.3}, "out of the picture"),
    ({"topX": 10, "topY": 20, "bottomX": 30, "bottomY": 40}, "out of the picture"),
    ({"topX": 0.1, "topY": 0.2, "bottomX": 0.6, "bottomY": 0.3, "label": "cow"}, "'cow' is not among the classes"),
]
BAD_OUTLINES = [
    ({"polygon": [[0.1, 0.1, 0.5, 0.5]]}, "ring of 2 points"),
    ({"polygon": [SQUARE, [0.1, 0.1, 0.5, 0.5, 0.6]]}, "ring of 5 numbers"),
    ({"polygon": []}, "no outline"),
    ({"polygon": [[0.1, 0.1, 0.5, 0.1, 0.7, 0.1]]}, "inverted or empty"),
    ({"polygon": [[0.1, 0.1, 0.5, 0.1, 0.7, 1.4]]}, "out of the picture"),
    ({"rle": {"size": [20, 40], "counts": [100, 100]}}, "add up to 200"),
    ({"rle": {"size": [20, 40], "counts": [800]}}, "inverted or empty"),
    ({"rle": {"size": [40, 20], "counts": [100, 700]}}, "of 20 x 40 for a picture of 40 x 20"),
    ({"rle": {"size": [20, 40], "counts": "0"}}, "add up to 0"),
]


@pytest.mark.parametrize(
    ("task", "item", "message"),
    [(Task.DETECTION, *bad) for bad in BAD_BOXES] + [(Task.SEGMENTATION, *bad) for bad in BAD_OUTLINES],
)
def test_an_object_that_cannot_be_used_is_named(tmp_path: Path, task: Task, item: dict[str, Any], message: str) -> None:
    good = {"label": "cat", "topX": 0.1, "topY": 0.1, "bottomX": 0.2, "bottomY": 0.2}
    good = good if task is Task.DETECTION else {"label": "cat", "polygon": [SQUARE]}
    dataset = by_hand(tmp_path, task, [good], [good, {"label": "cat", **item}])
    with pytest.raises(DatasetError, match=message) as caught:
        table_of(dataset)
    assert caught.value.where == f"{dataset.path / 'annotations.jsonl'}, line 2"
    assert f"object 2 of {tmp_path / 'hand.png'}" in caught.value.message
    if "among" not in message:  # what metrics compare with has the same demands
        with pytest.raises(DatasetError, match=message) as caught:
            true_objects(dataset.rows(), CLASSES)
        assert caught.value.where == str(tmp_path / "hand.png")


def test_data_sets_without_pictures_or_for_classification_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no pictures"):
        table_of(boxes_set(tmp_path))
    with DatasetWriter(tmp_path / "other", Task.CLASSIFICATION) as writer:
        writer.write(ClassificationRow(image_url="/a.png", label="cat"))
    with pytest.raises(DatasetError, match="have no objects"):
        table_of(Dataset(tmp_path / "other"))


def test_mere_background_and_mere_crowds_cannot_be_trained_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none of the 2 training pictures") as caught:
        check_trainable(table_of(boxes_set(tmp_path, [], [])), "the/part")
    assert caught.value.where == "the/part"
    crowd = [Box("cat", 0, 0, 1, 1, isCrowd=1)]
    with pytest.raises(DatasetError, match="all 2 objects"):
        check_trainable(table_of(boxes_set(tmp_path, crowd, crowd, name="crowds")), "the/part")


def random_rings(generator: np.random.Generator) -> list[list[float]]:
    """One to three rings of three to seven points, crossing themselves and each other as they like."""
    return [generator.random(2 * int(generator.integers(3, 8))).tolist() for _ in range(generator.integers(1, 4))]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60))
def test_masks_are_those_of_pycocotools_at_every_size(
    tmp_path_factory: pytest.TempPathFactory, seed: int, width: int, height: int
) -> None:
    generator = np.random.default_rng(seed)
    outlines = [Instance("cat", random_rings(generator)) for _ in range(3)]
    table = table_of(outlines_set(tmp_path_factory.mktemp("masks"), outlines))
    masks = table.masks(table.objects(0), height, width)
    for mask, outline in zip(masks, outlines, strict=True):
        truth = np.zeros((height, width), np.uint8)
        for ring in outline.polygon:
            pixels = (np.reshape(ring, (-1, 2)) * (width, height)).ravel().tolist()
            truth ^= coco_mask.decode(coco_mask.frPyObjects([pixels], height, width))[:, :, 0]
        assert np.array_equal(mask, truth)
    assert np.array_equal(table.masks(table.objects(0)[1:], height, width, (0, 0, width, 1)), masks[1:, :1])


def test_run_lengths_are_exact_at_their_size_and_take_the_nearest_pixel_at_another(tmp_path: Path) -> None:
    mask = (np.random.default_rng(0).random((20, 40)) > 0.6).astype(np.uint8)
    counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    exact = Instance("cat", [SQUARE], Rle((20, 40), counts))  # the outline beside it is not the truth
    table = table_of(outlines_set(tmp_path, [exact]))
    numbers = table.objects(0)
    assert np.array_equal(table.masks(numbers, 20, 40)[0], mask)
    assert np.array_equal(table.masks(numbers, 60, 120)[0], mask.repeat(3, 0).repeat(3, 1))
    assert np.array_equal(table.masks(numbers, 20, 40, (5, 3, 17, 9))[0], mask[3:9, 5:17])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = [columns[0] / 40, rows[0] / 20, (columns[-1] + 1) / 40, (rows[-1] + 1) / 20]
    assert table.boxes[0].tolist() == pytest.approx(corners)


def test_a_view_is_the_picture_with_its_objects_but_no_crowd(tmp_path: Path) -> None:
    dataset = boxes_set(
        tmp_path,
        [
            Box("dog", 0.25, 0.5, 0.5, 1, difficult=1),
            Box("cat", 0, 0, 1, 1, isCrowd=1),
            Box("cat", 0, 0, 0.5, 0.25),
        ],
        [],
    )
    views = ObjectViews(table_of(dataset), min_size=10)
    assert len(views) == 2
    assert [Path(views.sample_url(k)).name for k in range(2)] == ["data0.png", "data1.png"]
    index, image, target = views[0, 0]
    assert index == 0
    pixels = np.array(Image.open(views.sample_url(0)))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    assert target["boxes"].tolist() == [[10, 10, 20, 20], [0, 0, 20, 5]]
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1]
    assert sorted(target) == ["boxes", "labels"]
    _, _, empty = views[0, 1]
    assert empty["boxes"].shape == (0, 4)
    assert empty["labels"].shape == (0,)


def test_masks_of_a_background_picture_have_its_size(tmp_path: Path) -> None:
    views = ObjectViews(table_of(outlines_set(tmp_path, [], [Instance("dog", [SQUARE])])), min_size=10, masks=True)
    assert views[0, 0][2]["masks"].shape == (0, 20, 40)
    target = views[0, 1][2]
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].sum() == 20 * 10
    assert target["boxes"].tolist() == [[10, 5, 30, 15]]


def test_a_large_jpeg_is_decoded_smaller_and_its_objects_with_it(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (800, 400), (90, 90, 90)).save(path)
    with DatasetWriter(tmp_path / "data", Task.SEGMENTATION, classes=CLASSES) as writer:
        tiny = [0.5, 0.5, 0.501, 0.5, 0.501, 0.502, 0.5, 0.502]  # 0.8 pixels: one of the full picture
        writer.write(SegmentationRow(image_url=str(path), label=[Instance("cat", [SQUARE]), Instance("dog", [tiny])]))
    table = table_of(Dataset(tmp_path / "data"))
    _, image, target = ObjectViews(table, min_size=100, masks=True)[0, 0]
    assert image.shape == (3, 100, 200)
    assert target["boxes"].tolist() == [[50, 25, 150, 75]]
    assert target["masks"].sum() == 100 * 50
    # The object that has no pixel left is gone; decoded in full, it is there.
    assert target["labels"].tolist() == [1]
    _, image, target = ObjectViews(table, min_size=None, masks=True)[0, 0]
    assert image.shape == (3, 400, 800)
    assert target["labels"].tolist() == [1, 2]
    _, image, _ = ObjectViews(table, min_size=100, grid=Grid(2, 2, 0.25), masks=True)[0, 0]
    assert image.shape == (3, 400, 800)


def test_tiles_are_samples_when_they_keep_an_object(tmp_path: Path) -> None:
    # Two tiles of 200 x 100: 0 to 120 and 80 to 200. A: 0 to 20, in the left tile alone. B: 110 to 150, of which the
    # left one shows a quarter. C, a crowd, fills the right tile.
    a, b = Box("cat", 0.0, 0.1, 0.1, 0.3), Box("dog", 0.55, 0.5, 0.75, 0.7)
    c = Box("dog", 0.4, 0.0, 1.0, 1.0, isCrowd=1)
    grid = Grid(2, 1, 1 / 3)
    assert grid.tiles(200, 100) == [(0, 0, 120, 100), (80, 0, 200, 100)]
    table = table_of(boxes_set(tmp_path, [a, c], [a, b], [], [c], size=(200, 100)))
    views = ObjectViews(table, min_size=50, grid=grid, min_visible_share=0.5)
    names = [Path(views.sample_url(k)).stem[-1] for k in range(len(views))]
    assert names == ["0", "0", "1", "1", "1", "2", "3"]
    shapes = [tuple(views[0, k][1].shape) for k in range(len(views))]
    whole, tile = (3, 100, 200), (3, 100, 120)
    assert shapes == [whole, tile, whole, tile, tile, whole, whole]
    assert views[0, 3][2]["boxes"].tolist() == [[0, 10, 20, 30]]
    assert views[0, 3][2]["labels"].tolist() == [1]
    assert views[0, 4][2]["boxes"].tolist() == [[30, 50, 70, 70]]
    pixels = np.array(Image.open(views.sample_url(4)))
    assert np.array_equal(views[0, 4][1].permute(1, 2, 0).numpy(), pixels[:, 80:])
    # With a share of a quarter the left tile keeps what it shows of B.
    views = ObjectViews(table, min_size=50, grid=grid, min_visible_share=0.25)
    assert views[0, 3][2]["boxes"].tolist() == [[0, 10, 20, 30], [110, 50, 120, 70]]


def test_a_tile_cuts_masks_and_draws_boxes_around_what_is_left(tmp_path: Path) -> None:
    # A triangle with corners at 70, 20; 150, 20 and 150, 80 of 200 x 100. Left of 120 it is 50 of 80 wide, and at 120
    # reaches down to 20 + 60 * 50 / 80 = 57.5. The tip's first column is too thin to hold a pixel's centre: at 70.5
    # it is 60 * 0.5 / 80 = 0.375 high.
    triangle = Instance("dog", [[0.35, 0.2, 0.75, 0.2, 0.75, 0.8]])
    table = table_of(outlines_set(tmp_path, [triangle], size=(200, 100)))
    views = ObjectViews(table, min_size=50, grid=Grid(2, 1, 1 / 3), min_visible_share=0.5, masks=True)
    assert len(views) == 3
    full = table.masks(table.objects(0), 100, 200)[0]
    _, _, left = views[0, 1]
    assert np.array_equal(left["masks"][0].numpy(), full[:, :120])
    x0, y0, x1, y1 = left["boxes"][0].tolist()
    assert (x0, y0, x1) == (71, 20, 120)
    assert y1 == pytest.approx(57.5, abs=1)
    _, _, right = views[0, 2]
    assert np.array_equal(right["masks"][0].numpy(), full[:, 80:])
    assert right["boxes"].tolist() == [[0, 20, 70, 80]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 4), st.floats(0.05, 1))
def test_in_every_tile_boxes_are_inside_and_visible_enough(
    tmp_path_factory: pytest.TempPathFactory, seed: int, columns: int, rows: int, share: float
) -> None:
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.random((5, 2, 2)), axis=1).reshape(5, 4)
    dataset = boxes_set(tmp_path_factory.mktemp("tiles"), [Box("cat", *corner) for corner in corners.tolist()])
    table, grid = table_of(dataset), Grid(columns, rows, 0.25)
    views = ObjectViews(table, min_size=None, grid=grid, min_visible_share=share)
    pixels = corners * (40, 20, 40, 20)
    expected = [int((visible_share(pixels, tile) >= share).sum()) for tile in grid.tiles(40, 20)]
    counts = []
    for sample in range(len(views)):
        _, image, target = views[0, sample]
        height, width = image.shape[1:]
        boxes = target["boxes"]
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        counts.append(len(boxes))
    assert counts == [5, *(count for count in expected if count)]


def test_batches_of_several_sizes_come_the_same_from_worker_processes(tmp_path: Path) -> None:
    instances = [[Instance("cat", [SQUARE])], [], [Instance("dog", [SQUARE]), Instance("cat", [SQUARE])]]
    table = table_of(outlines_set(tmp_path, *instances, size=(64, 48)))
    views = ObjectViews(
        table, min_size=None, masks=True, augmentation=ObjectAugmentation(3, True, True, (0.5, 0.4, 0.3))
    )
    order = [[0, 1, 2], [2, 0], [1]]
    here = list(PictureLoader(views, workers=0, collate=collate_objects).load(4, order))
    there = list(PictureLoader(views, workers=2, collate=collate_objects).load(4, order))
    assert [batch.index for batch in here] == [batch.index for batch in there] == order
    for one, other in zip(here, there, strict=True):
        assert all(map(torch.equal, one.images, other.images))
        for mine, theirs in zip(one.targets, other.targets, strict=True):
            assert sorted(mine) == ["boxes", "labels", "masks"]
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    picked = here[0].select([2, 0])
    assert picked.index == [2, 0]
    assert picked.images[1] is here[0].images[0]
    assert picked.targets[0] is here[0].targets[2]


def test_an_unreadable_picture_is_an_error_with_its_name(tmp_path: Path) -> None:
    dataset = boxes_set(tmp_path, [Box("cat", 0, 0, 1, 1)], [])
    views = ObjectViews(table_of(dataset), min_size=None)
    (tmp_path / "data1.png").write_bytes(b"")
    error = views[0, 1]
    assert isinstance(error, DatasetError)
    loader = PictureLoader(views, workers=0, collate=collate_objects)
    with pytest.raises(DatasetError, match="empty") as caught:
        list(loader.load(0, [[0], [0, 1]]))
    assert str(caught.value.where).endswith("data1.png")
