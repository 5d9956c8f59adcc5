"""Augmented views of pictures with objects: image, boxes and masks change together.

The policy is the one of Azure AutoML's detectors: half of the views are cropped or expanded (one or the other, by a
coin), and half are mirrored. Normalising and resizing belong to the network itself.
"""

import math
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from kubesight.modelcard import Triple

TRIES = 50
LEAST_AREA = 0.6
ASPECTS = (0.5, 2.0)
LARGEST_CANVAS = 2.0

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


class BoxSafeCrop(v2.Transform):
    """Cut a random part out of a picture such that every box stays whole.

    Each side of the part is drawn evenly between the picture's edge and the boxes (in a picture without boxes, a
    random point), in whole pixels. The part has `LEAST_AREA` of the picture's area or more, and a ratio of width to
    height within `ASPECTS`; after `TRIES` attempts the picture is left as it is.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the part: `window` is top, left, height and width in pixels."""
        height, width = v2.query_size(flat_inputs)
        boxes = next(item for item in flat_inputs if isinstance(item, tv_tensors.BoundingBoxes))
        for _ in range(TRIES):
            draw = torch.rand(6).tolist()
            if len(boxes):
                first, last = boxes[:, :2].amin(0).tolist(), boxes[:, 2:].amax(0).tolist()
            else:
                first = last = [draw[4] * width, draw[5] * height]
            # Rounded towards the objects' side of the edge that was drawn, so that at most whole pixels are lost.
            left, top = math.floor(draw[0] * first[0]), math.floor(draw[1] * first[1])
            right = math.ceil(width - draw[2] * (width - last[0]))
            bottom = math.ceil(height - draw[3] * (height - last[1]))
            across, down = right - left, bottom - top
            if across * down >= LEAST_AREA * width * height and ASPECTS[0] * down <= across <= ASPECTS[1] * down:
                return {"window": (top, left, down, across)}
        return {"window": (0, 0, height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut it out."""
        return self._call_kernel(v2.functional.crop, inpt, *params["window"])


class ObjectAugmentation:
    """Makes the training views of a detector.

    Args:
        seed: of the training.
        horizontal_flip: mirror half of the views.
        crop_expand: of half of the views, crop one half (`BoxSafeCrop`) and lay the other half somewhere on a canvas of
            1 to 2 times the width and height.
        fill: the canvas's colour, red, green and blue in [0, 1]: the network's mean.
    """

    def __init__(self, seed: int, horizontal_flip: bool, crop_expand: bool, fill: Triple) -> None:
        """Put the steps together."""
        self.seed = seed
        colour = {tv_tensors.Image: tuple(round(255 * value) for value in fill), tv_tensors.Mask: 0}
        expand = v2.RandomZoomOut(fill=colour, side_range=(1.0, LARGEST_CANVAS), p=1.0)
        steps: list[v2.Transform] = []
        if crop_expand:
            steps.append(v2.RandomApply([v2.RandomChoice([BoxSafeCrop(), expand])], p=0.5))
        if horizontal_flip:
            steps.append(v2.RandomHorizontalFlip(0.5))
        self._steps = v2.Compose(steps) if steps else v2.Identity()

    def apply(
        self,
        image: torch.Tensor,
        boxes: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor | None,
        epoch: int,
        index: int,
    ) -> Sample:
        """One view: always the same for the same (seed, epoch, index), in whatever process.

        The global random state is neither used nor changed.

        Args:
            image: uint8 [3, height, width].
            boxes: float32 [k, 4], x0, y0, x1, y1 in pixels, inside the picture.
            labels: int64 [k].
            masks: uint8 [k, height, width] or None.
            epoch: the epoch.
            index: the sample.

        Returns:
            The four of the view, without objects that are degenerate in it; see `drop_degenerate`.
        """
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[-2:]),  # type: ignore[call-overload]
        }
        if masks is not None:
            sample["masks"] = tv_tensors.Mask(masks)
        seed = int(np.random.default_rng((self.seed, epoch, index)).integers(2**63))
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would seed GPUs too.
            torch.default_generator.manual_seed(seed)
            view = self._steps(sample)
        plain = {name: value.as_subclass(torch.Tensor).contiguous() for name, value in view.items()}
        return plain["image"], *drop_degenerate(plain["boxes"], labels, plain.get("masks"))


def drop_degenerate(
    boxes: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Leave out objects whose box is empty or inverted, or whose mask has no pixel: no detector can learn from them.

    Args:
        boxes: [k, 4], x0, y0, x1, y1.
        labels: [k].
        masks: [k, height, width] or None.
    """
    kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    if masks is not None:
        kept &= masks.flatten(1).any(dim=1).bool()  # of bytes it gives bytes
    if kept.all():
        return boxes, labels, masks
    return boxes[kept], labels[kept], None if masks is None else masks[kept]
