"""Resizing of whole pictures as tf.image.resize does it with antialiasing, without TensorFlow.

Each side is resized on its own: an output pixel is the mean of the input pixels around it, weighted by a kernel around
its centre. When the picture shrinks, the kernel is widened by the same factor, so that no pixel is left out; `nearest`
alone takes one pixel for each.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from kubesight.modelcard import StretchPreprocessing

_Kernel = Callable[[np.ndarray], np.ndarray]


def stretch(image: np.ndarray, preprocessing: StretchPreprocessing) -> np.ndarray:
    """Resize a whole picture, whatever its aspect ratio.

    Args:
        image: RGB, uint8 [height, width, 3]; read with `min_size` the preprocessing's size, it is what
            `kubesight.models.keras.pictures.to_pixels` resizes.
        preprocessing: the size, and the way of resizing.

    Returns:
        uint8 [size, size, 3]; within one level of `to_pixels`.
    """
    size, way = preprocessing.size, preprocessing.interpolation
    if way == "nearest":
        rows, columns = (_nearest(side, size) for side in image.shape[:2])
        return image[rows][:, columns]
    down, across = (_weights(side, size, way) for side in image.shape[:2])
    height, width, _ = image.shape
    flat = down @ image.reshape(height, width * 3).astype(np.float32)
    resized = np.matmul(across, flat.reshape(size, width, 3))
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _nearest(side: int, size: int) -> np.ndarray:
    """Which pixel each output pixel is: the one that its centre lies in."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(side / size)
    return np.minimum(np.floor(centres), side - 1).astype(int)


@lru_cache(maxsize=64)  # pictures of a data set often share their sides
def _weights(side: int, size: int, way: str) -> np.ndarray:
    """The share of each input pixel in each output pixel, float32 [size, side]; rows sum to one."""
    if way == "area":
        return _overlaps(side, size)
    kernel, radius = _KERNELS[way]
    factor = max(side / size, 1.0)
    centres = (np.arange(size) + 0.5) * side / size
    distances = (np.arange(side) + 0.5 - centres[:, None]) / factor
    weights = np.where(np.abs(distances) <= radius, kernel(np.abs(distances)), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _overlaps(side: int, size: int) -> np.ndarray:
    """How much of each output pixel's area lies on each input pixel."""
    edges = np.arange(size + 1) * side / size
    pixels = np.arange(side)
    overlaps = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlaps, 0) * size / side).astype(np.float32)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - x, 0)


def _cubic(b: float, c: float) -> _Kernel:
    """Mitchell and Netravali's family (Computer Graphics 22, 1988), radius 2; B = 0, C = 1/2 is Keys' kernel."""

    def kernel(x: np.ndarray) -> np.ndarray:
        near = (12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + (6 - 2 * b)
        far = (-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + (8 * b + 24 * c)
        return np.where(x < 1, near, far) / 6

    return kernel


def _lanczos(radius: int) -> _Kernel:
    return lambda x: np.sinc(x) * np.sinc(x / radius)


def _gaussian(x: np.ndarray) -> np.ndarray:
    return np.exp(-(x**2) / (2 * 0.5**2))


_KERNELS: dict[str, tuple[_Kernel, float]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic(0, 0.5), 2),
    "mitchellcubic": (_cubic(1 / 3, 1 / 3), 2),
    "lanczos3": (_lanczos(3), 3),
    "lanczos5": (_lanczos(5), 5),
    "gaussian": (_gaussian, 1.5),
}
"""Each method's kernel, a function of the distance, and how far it reaches."""
