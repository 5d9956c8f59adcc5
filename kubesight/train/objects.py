"""The labelled objects of one part, kept compactly, and the views of pictures that a detector trains on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch
from torch.utils.data import Dataset

from kubesight.dataset import Dataset as LabelledDataset
from kubesight.dataset.dataset import ROWS_FILE
from kubesight.dataset.images import read_image
from kubesight.dataset.object_checks import object_corners
from kubesight.dataset.objects import DECIMALS, box_pixels, instance_mask, picture_size
from kubesight.dataset.rows import Box, DetectionRow, Instance, SegmentationRow
from kubesight.dataset.tiling import Grid, Tile, visible_share
from kubesight.errors import DatasetError, KubesightError
from kubesight.train.augment import ObjectAugmentation, drop_degenerate
from kubesight.train.data import Key


@dataclass(frozen=True)
class ObjectTable:
    """The pictures of one part and their objects, as flat arrays.

    The objects of picture `i` are those from `offsets[i]` to `offsets[i + 1]`.

    Attributes:
        urls: [pictures] bytes.
        sizes: int64 [pictures, 2], width and height in pixels, as the rows or the pictures' headers say.
        offsets: int64 [pictures + 1].
        boxes: float64 [n, 4], x0, y0, x1, y1 as fractions of width and height, x0 < x1 and y0 < y1, in [0, 1].
        labels: int64 [n], class indices from 0.
        crowd: bool [n].
        outlines: for segmentation, the encoded outlines one after the other; else empty.
        outline_offsets: int64 [n + 1], where each begins; for detection all are 0.
    """

    urls: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    outlines: bytes
    outline_offsets: np.ndarray

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.urls)

    def url(self, index: int) -> str:
        """One picture's address."""
        return bytes(self.urls[index]).decode()

    def objects(self, index: int) -> np.ndarray:
        """The numbers of one picture's objects, int64 [k]."""
        return np.arange(self.offsets[index], self.offsets[index + 1])

    def masks(self, numbers: np.ndarray, height: int, width: int, window: Tile | None = None) -> np.ndarray:
        """Draw the masks of some objects of one picture.

        `kubesight.dataset.objects.instance_mask` says how: at the size asked for, one ring is filled as pycocotools
        fills it, several rings by XOR of their pixels; run lengths are exact at their own size and take the nearest
        pixel at another.

        Args:
            numbers: the objects, as `objects` gives them.
            height: of the whole picture, in pixels.
            width: of the whole picture, in pixels.
            window: the part of the picture to give, x0, y0, x1, y1 in pixels; None is all of it.

        Returns:
            uint8 [k, height, width] of 0 and 1, of the window.
        """
        x0, y0, x1, y1 = window or (0, 0, width, height)
        masks = np.empty((len(numbers), y1 - y0, x1 - x0), np.uint8)
        for place, number in enumerate(numbers):
            start, end = self.outline_offsets[number : number + 2]
            masks[place] = instance_mask(_decode_outline(self.outlines[start:end]), height, width)[y0:y1, x0:x1]
        return masks


_encode_outline = msgspec.msgpack.Encoder().encode
_decode_outline = msgspec.msgpack.Decoder(Instance).decode


@dataclass
class _Columns:
    """What grows while rows are read."""

    urls: list[bytes] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    outlines: bytearray = field(default_factory=bytearray)
    outline_offsets: list[int] = field(default_factory=lambda: [0])

    def add_object(self, item: Box | Instance, label: int, corners: tuple[float, float, float, float]) -> None:
        self.boxes.append(corners)
        self.labels.append(label)
        self.crowd.append(bool(item.isCrowd))
        if isinstance(item, Instance):
            self.outlines += _encode_outline(Instance("", [] if item.rle else item.polygon, item.rle))
        self.outline_offsets.append(len(self.outlines))

    def add_picture(self, url: str, size: tuple[int, int]) -> None:
        self.urls.append(url.encode())
        self.sizes.append(size)
        self.offsets.append(len(self.boxes))

    def table(self) -> ObjectTable:
        return ObjectTable(
            urls=np.array(self.urls),
            sizes=np.array(self.sizes, np.int64).reshape(-1, 2),
            offsets=np.array(self.offsets, np.int64),
            boxes=np.array(self.boxes, np.float64).reshape(-1, 4),
            labels=np.array(self.labels, np.int64),
            crowd=np.array(self.crowd, bool),
            outlines=bytes(self.outlines),
            outline_offsets=np.array(self.outline_offsets, np.int64),
        )


def read_objects(dataset: LabelledDataset, classes: Sequence[str]) -> ObjectTable:
    """Read the rows of a detection or segmentation data set. Pictures without objects are kept, as background.

    Converted sets hold none of what is refused here; lines written by hand may.

    Args:
        dataset: the data set.
        classes: names in index order.

    Raises:
        DatasetError: there are no rows; a label is not among `classes`; a box is inverted, empty or reaches out of
            [0, 1]; an outline has a ring of fewer than three points, or of an odd count of numbers, or none; run
            lengths do not fill their size, set no pixel, or have another shape than the picture; a picture's size is
            neither given nor to be read from its file. The file, its line and the picture are named.
    """
    index = {name: number for number, name in enumerate(classes)}
    columns = _Columns()
    for line, row in enumerate(dataset.rows(), start=1):
        if not isinstance(row, DetectionRow | SegmentationRow):
            raise DatasetError(f"rows for {dataset.task} have no objects", where=str(dataset.path / ROWS_FILE))
        size = picture_size(row)
        items: Sequence[Box | Instance] = row.label
        for number, item in enumerate(items, start=1):
            try:
                if item.label not in index:
                    raise DatasetError(f"the label {item.label!r} is not among the classes")
                columns.add_object(item, index[item.label], object_corners(item, *size))
            except DatasetError as error:
                where = f"{dataset.path / ROWS_FILE}, line {line}"
                message = f"object {number} of {row.image_url}: {error.message}"
                raise DatasetError(message, where=where, hint=error.hint) from None
        columns.add_picture(row.image_url, size)
    if not columns.urls:
        raise DatasetError("no pictures", where=str(dataset.path))
    return columns.table()


def check_trainable(table: ObjectTable, where: str) -> None:
    """Refuse a training part that no detector can learn from.

    Args:
        table: the training part.
        where: what errors call it.

    Raises:
        DatasetError: no picture has an object, or all objects are crowds.
    """
    if not len(table.labels):
        raise DatasetError(
            f"none of the {len(table)} training pictures has an object: all are background",
            where=where,
            hint="Label objects, or check that conversion found the annotations (report.html beside the data set).",
        )
    if table.crowd.all():
        raise DatasetError(
            f"all {len(table.labels)} objects of the training pictures are marked as crowds, which are not trained on",
            where=where,
            hint="Outline objects one by one, or take the mark isCrowd away where it is wrong.",
        )


View = tuple[int, torch.Tensor, dict[str, torch.Tensor]]
"""A sample's number; its image, uint8 [3, height, width]; and its target, as torchvision's detectors take it: `boxes`
float32 [k, 4] in pixels of the view, `labels` int64 [k] from 1 on and, when asked for, `masks` uint8
[k, height, width].
"""


@dataclass
class ObjectBatch:
    """Views of several sizes, on the CPU: the samples' numbers, and `images` and `targets` as in `View`."""

    index: list[int]
    images: list[torch.Tensor]
    targets: list[dict[str, torch.Tensor]]

    def select(self, which: Sequence[int]) -> "ObjectBatch":
        """The views at these places of the batch."""
        return ObjectBatch(
            [self.index[k] for k in which], [self.images[k] for k in which], [self.targets[k] for k in which]
        )

    def pin_memory(self) -> "ObjectBatch":
        """The same in page-locked memory, for a GPU."""
        return ObjectBatch(
            self.index,
            [image.pin_memory() for image in self.images],
            [{name: value.pin_memory() for name, value in target.items()} for target in self.targets],
        )


def collate_objects(views: Sequence[View]) -> ObjectBatch:
    """Put views into a batch; none is resized or padded."""
    index, images, targets = zip(*views, strict=True)
    return ObjectBatch(list(index), list(images), list(targets))


class ObjectViews(Dataset):
    """Views by key (epoch, sample); an unreadable picture comes as the error, so that its words survive.

    Objects marked as crowds are left out of targets; difficult ones are in. So are left out, in the view where it
    happens, objects that cover no pixel of it.

    Args:
        table: the part.
        min_size: the short side that the network will make of a picture: a large JPEG may be decoded at a smaller
            scale, as long as it keeps that. None decodes in full, and so does a grid.
        augmentation: how training views are made; None gives the pictures as they are.
        grid: with one, samples are each picture and each of its tiles that keeps an object: tiles of background are
            left out, whole pictures of background are not. A tile keeps an object when `min_visible_share` of its box
            or more is inside; what reaches over the tile's edge is cut off.
        min_visible_share: see `grid`, in (0, 1].
        masks: give masks (segmentation).
    """

    def __init__(
        self,
        table: ObjectTable,
        *,
        min_size: int | None,
        augmentation: ObjectAugmentation | None = None,
        grid: Grid | None = None,
        min_visible_share: float = 0.5,
        masks: bool = False,
    ) -> None:
        """Work out which tiles keep an object."""
        self.table = table
        self.min_size = None if grid else min_size
        self.augmentation = augmentation
        self.grid = grid
        self.min_visible_share = min_visible_share
        self.with_masks = masks
        self._picture, self._tile = self._samples()

    def __len__(self) -> int:
        """The number of samples: pictures and tiles."""
        return len(self._picture)

    def sample_url(self, index: int) -> str:
        """The address of a sample's picture."""
        return self.table.url(int(self._picture[index]))

    def __getitem__(self, key: Key) -> View | KubesightError:
        """One view."""
        epoch, index = key
        try:
            return self._view(epoch, index)
        except KubesightError as error:
            return error

    def _samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Picture and tile (-1: the whole picture) of each sample, by picture."""
        table = self.table
        kept = np.ones((len(table), 1), bool)
        if self.grid is not None:
            sizes, size_of = np.unique(table.sizes, axis=0, return_inverse=True)
            tiles = np.array([self.grid.tiles(*size) for size in sizes.tolist()])
            picture_of = np.repeat(np.arange(len(table)), np.diff(table.offsets))
            boxes = np.round(table.boxes * np.tile(table.sizes[picture_of], 2), DECIMALS)
            kept = np.pad(kept, ((0, 0), (0, tiles.shape[1])))
            for number in range(tiles.shape[1]):
                share = visible_share(boxes, tiles[size_of[picture_of], number])
                kept[picture_of[(share >= self.min_visible_share) & ~table.crowd], number + 1] = True
        picture, place = np.nonzero(kept)
        return picture, place - 1

    def _trained_on(self, picture: int) -> np.ndarray:
        numbers = self.table.objects(picture)
        return numbers[~self.table.crowd[numbers]]

    def _view(self, epoch: int, index: int) -> View:
        picture, number = int(self._picture[index]), int(self._tile[index])
        pixels = read_image(self.table.url(picture), min_size=self.min_size)
        height, width = pixels.shape[:2]
        numbers = self._trained_on(picture)
        boxes = box_pixels(self.table.boxes[numbers], width, height)
        window = (0, 0, width, height)
        if self.grid is not None and number >= 0:
            window = self.grid.tiles(width, height)[number]
            kept = visible_share(boxes, window) >= self.min_visible_share
            numbers, boxes = numbers[kept], boxes[kept]
        masks = self.table.masks(numbers, height, width, window) if self.with_masks else None
        x0, y0, x1, y1 = window
        boxes = _cut(boxes, window, masks)
        image = torch.from_numpy(np.ascontiguousarray(pixels[y0:y1, x0:x1].transpose(2, 0, 1)))
        sample = (
            image,
            torch.from_numpy(boxes.astype(np.float32)),
            torch.from_numpy(self.table.labels[numbers] + 1),
            None if masks is None else torch.from_numpy(masks),
        )
        if self.augmentation is not None:
            image, found, labels, drawn = self.augmentation.apply(*sample, epoch, index)
        else:
            found, labels, drawn = drop_degenerate(*sample[1:])
        target = {"boxes": found, "labels": labels} | ({} if drawn is None else {"masks": drawn})
        return index, image, target


def _cut(boxes: np.ndarray, window: Tile, masks: np.ndarray | None) -> np.ndarray:
    """Boxes in pixels of the window, cut at its edges; where the object's mask is known, to what is left of it."""
    x0, y0, x1, y1 = window
    inside = np.clip(boxes, (x0, y0, x0, y0), (x1, y1, x1, y1))
    cut = (inside != boxes).any(axis=1)
    inside = inside - (x0, y0, x0, y0)
    if masks is not None:
        for number in np.flatnonzero(cut & masks.any(axis=(1, 2))):
            columns, rows = np.flatnonzero(masks[number].any(0)), np.flatnonzero(masks[number].any(1))
            inside[number] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return inside
