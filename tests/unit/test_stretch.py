"""Resizing without TensorFlow, against tf.image.resize and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from kubesight.dataset.stretch import stretch
from kubesight.modelcard import StretchPreprocessing

WAYS = ["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"]


def resize(row: list[int], size: int, way: str) -> list[int]:
    """A row of grey pixels, in a picture as high as the result."""
    picture = np.repeat(np.array(row, np.uint8)[None, :, None].repeat(3, axis=2), size, axis=0)
    resized = stretch(picture, StretchPreprocessing(size=size, interpolation=way))
    assert (resized == resized[0, :, :1]).all()
    return resized[0, :, 0].tolist()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sides", [(30, 41, 96), (348, 348, 96), (1, 200, 32), (217, 33, 64), (96, 96, 96), (3, 2, 7)])
def test_as_tensorflow(way, sides) -> None:
    height, width, size = sides
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    theirs = tf.image.resize(image, (size, size), method=way, antialias=True)
    theirs = tf.saturate_cast(tf.round(theirs), tf.uint8).numpy()
    ours = stretch(image, StretchPreprocessing(size=size, interpolation=way))
    assert ours.dtype == np.uint8
    assert ours.shape == (size, size, 3)
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.1  # where the value before rounding is nearly a half


def test_by_hand() -> None:
    # Bilinear to half: a triangle that reaches 2 pixels on each side of the centre, so of 8 pixels the first result
    # has its centre at 1 and weighs those at 0.5, 1.5, 2.5 by 0.75, 0.75, 0.25: (0.75 * 40 + 0.25 * 140) / 1.75 = 37.1.
    assert resize([0, 40, 140, 140, 140, 140, 140, 140], 4, "bilinear")[0] == 37
    # To the double: a quarter of the neighbour, and none beyond the edge.
    assert resize([0, 100], 4, "bilinear") == [0, 25, 75, 100]
    # Areas of 5 / 2 pixels: (10 + 20 + 30 / 2) / 2.5 = 18 and (30 / 2 + 40 + 60) / 2.5 = 46.
    assert resize([10, 20, 30, 40, 60], 2, "area") == [18, 46]
    # The pixels at floor((i + 1/2) 5 / 2) = 1 and 3.
    assert resize([10, 20, 30, 40, 60], 2, "nearest") == [20, 40]
    # Keys' kernel at 1/4 and 3/4: 0.8671875 and 0.2265625; at 5/4 and 7/4: -0.0703125 and -0.0234375.
    # In the middle of 8: 100 * (0.8671875 - 0.0703125) = 79.69 of the sum 1.
    assert resize([0, 0, 100, 100], 8, "bicubic")[4] == 80
    # It overshoots, and is cut off.
    assert max(resize([0, 0, 255, 255], 8, "bicubic")) == 255


def test_ways_differ() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    results = [stretch(image, StretchPreprocessing(size=20, interpolation=way)).tobytes() for way in WAYS]
    assert len(set(results)) == len(WAYS)
