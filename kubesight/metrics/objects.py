"""What detection metrics compare: the labelled objects of a set of pictures, and those that a detector found.

Pictures are numbered from 0 in one order for both. Boxes are x0, y0, x1, y1 in pixels of the labelled picture,
continuous: a box's width is x1 - x0. Masks are COCO's compressed run lengths, as `pycocotools.mask` makes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kubesight.errors import DatasetError, ModelError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Mask = Mapping[str, Any]


@dataclass(frozen=True)
class TrueObjects:
    """The labelled objects.

    Attributes:
        sizes: [pictures, 2] width and height in pixels; every picture has its row, those without objects too.
        image: [n] the picture of each object, an index into `sizes`.
        label: [n] class index.
        box: [n, 4] pixels.
        area: [n] square pixels, as the source states it; it decides whether an object is small, medium or large.
        crowd: [n] regions that stand for many objects: never missed, and what lies in them is no false positive.
        difficult: [n] objects that VOC's metrics leave out in the same way.
        masks: n masks, or None when only boxes are known.

    Raises:
        ValueError: the arrays do not fit together.
        DatasetError: a coordinate or an area is not finite.
    """

    sizes: Ints
    image: Ints
    label: Ints
    box: Floats
    area: Floats
    crowd: Bools
    difficult: Bools
    masks: Sequence[Mask] | None = None

    def __post_init__(self) -> None:
        """Check that the arrays fit together."""
        _check_shapes(self, ("image", "label", "area", "crowd", "difficult"))
        _check_range(self.image, len(self.sizes))
        if not (np.isfinite(self.box).all() and np.isfinite(self.area).all()):
            raise DatasetError(
                "a labelled box or area is not a finite number", hint="Run `kubesight validate` on the data set."
            )

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.image)

    @property
    def ignored(self) -> Bools:
        """[n] objects that VOC's metrics neither ask for nor count: difficult ones and crowds."""
        return self.crowd | self.difficult

    def select(self, keep: Ints | Bools) -> Self:
        """Some of the objects, of the same pictures."""
        return _select(self, keep, ("sizes",))


@dataclass(frozen=True)
class FoundObjects:
    """The detections, all of them: metrics of the ranking are wrong on what a score threshold left over.

    Attributes:
        image: [n] the picture of each detection.
        label: [n] class index.
        box: [n, 4] pixels.
        score: [n] higher is more certain. Among equal scores the order given decides.
        masks: n masks, or None when only boxes are known.

    Raises:
        ValueError: the arrays do not fit together.
        ModelError: a coordinate or a score is not finite.
    """

    image: Ints
    label: Ints
    box: Floats
    score: Floats
    masks: Sequence[Mask] | None = None

    def __post_init__(self) -> None:
        """Check that the arrays fit together."""
        _check_shapes(self, ("image", "label", "score"))
        bad = ~(np.isfinite(self.box).all(axis=1) & np.isfinite(self.score))
        if bad.any():
            raise ModelError(
                f"the box or score of {bad.sum()} of {len(bad)} detections is not a finite number",
                hint="The training diverged: lower the learning rate, or set a clipping norm for the gradients.",
            )

    def __len__(self) -> int:
        """The number of detections."""
        return len(self.image)

    def select(self, keep: Ints | Bools) -> Self:
        """Some of the detections, in the order asked for."""
        return _select(self, keep, ())

    def ranking(self) -> Ints:
        """[n] indices by falling score; equal scores by picture, then in the order given.

        The order of pictures, and nothing else, decides between equal scores of different pictures: it does not
        matter in which order processes handed in their shares.
        """
        return np.lexsort((self.image, -self.score))


def check_labels(truth: TrueObjects, found: FoundObjects, classes: Sequence[str]) -> None:
    """Refuse class and picture indices that lie outside.

    Raises:
        ValueError: an index is that of no class, or of no picture.
    """
    _check_range(truth.label, len(classes))
    _check_range(found.label, len(classes))
    _check_range(found.image, len(truth.sizes))


def check_masks(truth: TrueObjects, found: FoundObjects) -> None:
    """Refuse to compare masks where there are none, or where one has another size than its picture.

    Raises:
        ValueError: one of the two sides has no masks.
        DatasetError: a labelled mask has not the size of its picture.
        ModelError: a mask that was found has not.
    """
    if truth.masks is None or found.masks is None:
        raise ValueError("masks are to be compared, but the objects have boxes only")
    sizes = truth.sizes.tolist()
    for objects, masks, error in ((truth, truth.masks, DatasetError), (found, found.masks, ModelError)):
        for picture, mask in zip(objects.image.tolist(), masks, strict=True):
            if mask["size"][1] != sizes[picture][0] or mask["size"][0] != sizes[picture][1]:
                raise error(
                    f"a mask of {mask['size'][1]} x {mask['size'][0]} pixels on a picture of "
                    f"{sizes[picture][0]} x {sizes[picture][1]}",
                    where=f"picture {picture}",
                    hint="A mask's size is [height, width], and must be that of the labelled picture.",
                )


def _check_range(index: Ints, limit: int) -> None:
    if len(index) and not (index.min() >= 0 and index.max() < limit):
        raise ValueError(f"indices from {index.min()} to {index.max()} where 0 to {limit - 1} are known")


def _check_shapes(objects: TrueObjects | FoundObjects, columns: Sequence[str]) -> None:
    n = len(objects.image)
    lengths = {name: getattr(objects, name).shape for name in columns}
    if any(shape != (n,) for shape in lengths.values()) or objects.box.shape != (n, 4):
        raise ValueError(f"shapes that do not fit together: {lengths}, box {objects.box.shape}")
    if objects.masks is not None and len(objects.masks) != n:
        raise ValueError(f"{len(objects.masks)} masks for {n} objects")


def _select(objects: Any, keep: Ints | Bools, whole: Sequence[str]) -> Any:
    index = np.arange(len(objects))[keep]
    values: dict[str, Any] = {}
    for field in fields(objects):
        value = getattr(objects, field.name)
        if field.name in whole or value is None:
            values[field.name] = value
        elif field.name == "masks":
            values[field.name] = [value[k] for k in index.tolist()]
        else:
            values[field.name] = value[index]
    return type(objects)(**values)
