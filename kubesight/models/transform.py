"""How a detector's pictures come in and its answers go out: torchvision's transform, with a few changes."""

from typing import Self

import torch
import torchvision
from torch import Tensor
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, _resize_image_and_masks, resize_boxes

Target = dict[str, Tensor]


class DetectorTransform(GeneralizedRCNNTransform):
    """Normalises and resizes pictures and their targets; brings boxes, but not masks, to the picture's size.

    torchvision's own pastes each mask into a float picture of full size: 100 objects in a photo of 12 megapixels
    would take 4.8 gigabytes. Here masks stay as the network gives them, on a grid over the box.

    Attributes:
        first_label: the network's index of the first class. It is 1 for networks with a class for the background,
            and 0 for those without (RetinaNet, FCOS). Outside of the network the first class is always 1.
    """

    first_label: int = 1

    @classmethod
    def like(cls, transform: GeneralizedRCNNTransform, first_label: int) -> Self:
        """The same sizes and colours as another transform."""
        own = cls(
            transform.min_size,  # type: ignore[arg-type]
            transform.max_size,
            transform.image_mean,
            transform.image_std,
            size_divisible=transform.size_divisible,
            fixed_size=transform.fixed_size,
        )
        own.first_label = first_label
        return own

    def forward(
        self, images: list[Tensor], targets: list[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        """Pictures, float [3, h, w] in [0, 1], as one batch; targets to match, with the network's own labels."""
        if targets is not None and self.first_label == 0:
            targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        return super().forward(images, targets)

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        """A picture and its target as large as the network wants them.

        Sizes are computed in whole numbers. torchvision's floating point makes 95 pixels of 366 that are to become 96,
        and makes another size of it in an exported network; of a very long strip it leaves no pixel at all.
        """
        before = image.shape[-2:]
        size = self.fixed_size or _fitted(image, self.min_size[-1], self.max_size)
        image, target = _resize_image_and_masks(image, 0, 0, target, size)
        if target is not None:
            target["boxes"] = resize_boxes(target["boxes"], before, image.shape[-2:])  # type: ignore[arg-type]
        return image, target

    def postprocess(
        self,
        result: list[Target],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[Target]:
        """Boxes in pixels of the pictures as they came; labels from 1; masks, if any, [n, 1, side, side] as they are.

        Args:
            result: the network's answers, one a picture, changed in place.
            image_shapes: height and width of each picture as the network saw it.
            original_image_sizes: height and width of each picture as it came.
        """
        if not self.training:
            for found, shape, original in zip(result, image_shapes, original_image_sizes, strict=True):
                found["boxes"] = resize_boxes(found["boxes"], shape, original)  # type: ignore[arg-type]
                if self.first_label == 0:
                    found["labels"] = found["labels"] + 1
        return result


def _fitted(image: Tensor, min_size: int, max_size: int) -> tuple[int, int]:
    """Width and height for a picture: the short side `min_size`, or less where the long one would pass `max_size`.

    Tensors do the arithmetic, so that an exported network repeats it for every size of picture.
    """
    tracing = torchvision._is_tracing()
    sides = shape_as_tensor(image)[-2:] if tracing else torch.tensor(image.shape[-2:])
    new = torch.minimum(sides * min_size // sides.min(), sides * max_size // sides.max()).clamp(min=1)
    height, width = new.unbind() if tracing else new.tolist()
    return width, height  # type: ignore[return-value]
