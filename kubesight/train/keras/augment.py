"""Augmented views of resized pictures: mirrored, turned and zoomed, by one warp a picture.

What a view is depends on (seed, epoch, picture) alone, not on the batch that it comes in. The settings are those of
SageMaker's Image Classification - TensorFlow, and each does what its name says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from kubesight.errors import HyperparameterError

Flip = Literal["horizontal_and_vertical", "horizontal", "vertical", "None"]


@dataclass(frozen=True)
class Augmentation:
    """How training views are made.

    Rotation and zoom are drawn from ranges that lie evenly around none at all, so a negative setting is as its absolute
    value.

    Attributes:
        flip: mirror half of the views left to right (`horizontal`), upside down (`vertical`), or by a coin for each
            (`horizontal_and_vertical`).
        rotation: views are turned about their centre by up to this part of a full turn either way, evenly drawn.
        zoom: views show a part (or a surrounding) of the picture whose width and height are 1 - zoom to 1 + zoom times
            the picture's, evenly drawn, the same for both: the aspect ratio stays.
        seed: of the training.
    """

    flip: Flip
    rotation: float
    zoom: float
    seed: int

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            HyperparameterError: an unknown flip, or a rotation or zoom beyond -1..1.
        """
        if self.flip not in get_args(Flip):
            raise HyperparameterError(f"{self.flip!r} is none of {', '.join(get_args(Flip))}", where="flip")
        for name in ("rotation", "zoom"):
            if not abs(getattr(self, name)) <= 1:
                raise HyperparameterError(f"{getattr(self, name)!r} is not in -1..1", where=name)

    def transforms(self, epoch: int, indices: Sequence[int], size: int) -> np.ndarray:
        """Where each pixel of a view lies in its picture.

        Args:
            epoch: the epoch.
            indices: the pictures.
            size: their width and height in pixels.

        Returns:
            float32 [n, 8], a0 a1 a2 b0 b1 b2 0 0: a view's pixel (x, y) is the picture's (a0 x + a1 y + a2,
            b0 x + b1 y + b2). Whole numbers are the pixels' centres.
        """
        # All is drawn whether it is used or not, so that one setting does not change what another one draws.
        draws = np.array([np.random.default_rng((self.seed, epoch, index)).random(4) for index in indices])
        across, down, turn, scale = draws.reshape(-1, 4).T
        mirror_x = np.where((across < 0.5) & (self.flip in ("horizontal", "horizontal_and_vertical")), -1.0, 1.0)
        mirror_y = np.where((down < 0.5) & (self.flip in ("vertical", "horizontal_and_vertical")), -1.0, 1.0)
        angle = (2 * turn - 1) * abs(self.rotation) * math.tau
        factor = 1 + (2 * scale - 1) * abs(self.zoom)
        a0, a1 = factor * np.cos(angle) * mirror_x, -factor * np.sin(angle) * mirror_y
        b0, b1 = factor * np.sin(angle) * mirror_x, factor * np.cos(angle) * mirror_y
        centre, zero = (size - 1) / 2, np.zeros_like(a0)
        a2, b2 = centre - (a0 + a1) * centre, centre - (b0 + b1) * centre
        return np.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1).astype(np.float32)


def warp(pixels: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Make views by bilinear interpolation; outside, a picture goes on as its mirror image.

    Args:
        pixels: [n, size, size, 3].
        transforms: of `Augmentation.transforms`, [n, 8].

    Returns:
        float32 [n, size, size, 3], in the range of the pixels.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(pixels, tf.float32),
        transforms=transforms,
        output_shape=tf.shape(pixels)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
