"""Views of a picture: the one that evaluation sees, and the random ones that training sees. Bytes in, bytes out.

Colours change as by torchvision's functions of the same names. Results are rounded to bytes where torchvision cuts, so
that the two differ by a level, in saturation rarely by two, and ours do not darken.
"""

import math
import threading

import cv2
import numpy as np

from kubesight.modelcard import CropPreprocessing

# Pictures are worked on side by side, in processes or threads of the loaders; OpenCV's own threads would only compete.
cv2.setNumThreads(0)

_JITTER = 0.4
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Each row takes the grey of ITU-R BT.601 from red, green and blue.
_LUMA = np.array([[0.299, 0.587, 0.114]] * 3)
_scratch = threading.local()
# Up to this factor bilinear interpolation is as near to the average over areas as anything that costs more.
_BILINEAR_FACTOR = 1.3
# Of a picture longer than this many times its short side, the evaluation view takes the middle before it resizes.
_LONGEST = 4


def decode_size_for_training(crop_size: int) -> int:
    """The short side, in pixels, that a picture needs before a random crop of it becomes `crop_size`.

    Twice the crop: then crops of a quarter of the area or more, 8 of 10, still shrink, and the smallest, of 8 %, are
    enlarged 1.8 times at most, as they are on photos of 500 x 375 pixels that such training is known to work with.
    Decoding more pixels would sharpen the smallest crops alone and takes 1.3 to 1.5 times as long for each doubling.
    """
    return 2 * crop_size


def evaluation_view(image: np.ndarray, preprocessing: CropPreprocessing) -> np.ndarray:
    """The one view that validation, evaluation, export and serving see.

    Args:
        image: RGB, uint8 [height, width, 3].
        preprocessing: `resize_size` for the short side, `crop_size` for the centre that is cut out.

    Returns:
        uint8 [crop_size, crop_size, 3]. A crop larger than the resized picture is filled up with black, equally on
        both sides.
    """
    image = _middle(image, preprocessing)
    height, width = image.shape[:2]
    scale = preprocessing.resize_size / min(height, width)
    resized = _resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
    return _centre(resized, preprocessing.crop_size)


def training_view(
    image: np.ndarray,
    crop_size: int,
    rng: np.random.Generator,
    *,
    jitter: bool = True,
    flip: bool = True,
    min_scale: float = 0.08,
) -> np.ndarray:
    """A random view: resized crop, mirrored with probability 1/2, colours changed with probability 1/2.

    These are the hosted service's augmentations of classification pictures.

    Args:
        image: RGB, uint8 [height, width, 3].
        crop_size: height and width of the view, in pixels.
        rng: where chance comes from.
        jitter: change brightness, contrast and saturation by up to 40 % and hue by up to 0.4 turns, in random order.
        flip: mirror left and right.
        min_scale: the least share of the picture's area that a crop may have, in (0, 1].

    Returns:
        uint8 [crop_size, crop_size, 3].
    """
    top, left, height, width = random_crop(image.shape[0], image.shape[1], rng, min_scale)
    view = _resize_fast(image[top : top + height, left : left + width], crop_size)
    if flip and rng.random() < 0.5:
        view = cv2.flip(view, 1)
    if jitter and rng.random() < 0.5:
        view = _jitter(view, rng)
    return np.ascontiguousarray(view)


def random_crop(height: int, width: int, rng: np.random.Generator, min_scale: float) -> tuple[int, int, int, int]:
    """A crop's top, left, height and width: area share in [min_scale, 1], aspect ratio in [3/4, 4/3].

    As Inception's training does: after ten attempts that do not fit, the largest central crop of an allowed ratio.
    """
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(min_scale, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            return top, left, crop_height, crop_width
    ratio = min(max(width / height, _RATIO[0]), _RATIO[1])
    crop_width = max(1, min(width, round(height * ratio)))
    crop_height = max(1, min(height, round(width / ratio)))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def adjust_brightness(image: np.ndarray, factor: float, out: np.ndarray | None = None) -> np.ndarray:
    """Multiply all values by `factor`, cut at 255; into `out` (which may be `image`) if it is given."""
    return cv2.LUT(image, _table(factor, 0.0), dst=out)


def adjust_contrast(image: np.ndarray, factor: float, out: np.ndarray | None = None) -> np.ndarray:
    """Blend with the picture's mean grey: 0 gives plain grey, 1 the picture."""
    mean = cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    return cv2.LUT(image, _table(factor, (1 - factor) * mean), dst=out)


def adjust_saturation(image: np.ndarray, factor: float, out: np.ndarray | None = None) -> np.ndarray:
    """Blend with the greyscale picture: 0 gives greyscale, 1 the picture."""
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * _LUMA, dst=out)


def adjust_hue(image: np.ndarray, turns: float, out: np.ndarray | None = None) -> np.ndarray:
    """Turn the hue by a share of the circle, in [-0.5, 0.5]."""
    # In floats: as bytes, hue and saturation would be off by several levels.
    rgb, hsv = _floats(image.shape)
    np.copyto(rgb, image)
    cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV, dst=hsv)
    hsv[..., 0] += 360 * (turns % 1)
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=rgb)
    out = np.empty_like(image) if out is None else out
    np.copyto(out, np.rint(rgb, out=rgb), casting="unsafe")
    return out


def _floats(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays to calculate in, one pair a thread: to get the memory anew each time takes longer than the rest."""
    if getattr(_scratch, "shape", None) != shape:
        _scratch.shape = shape
        _scratch.pair = np.empty(shape, np.float32), np.empty(shape, np.float32)
    return _scratch.pair


def _jitter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the colours of `image` in its place."""
    brightness, contrast, saturation = rng.uniform(1 - _JITTER, 1 + _JITTER, 3)
    hue = rng.uniform(-_JITTER, _JITTER)
    changes = (
        (adjust_brightness, brightness),
        (adjust_contrast, contrast),
        (adjust_saturation, saturation),
        (adjust_hue, hue),
    )
    for number in rng.permutation(len(changes)):
        change, amount = changes[number]
        change(image, amount, out=image)
    return image


def _table(factor: float, shift: float) -> np.ndarray:
    return np.rint(np.clip(np.arange(256) * factor + shift, 0, 255)).astype(np.uint8)


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average over areas when the picture shrinks, so that fine patterns do not alias; else bilinear."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resize_fast(image: np.ndarray, size: int) -> np.ndarray:
    """Nearly the average over areas, several times faster: 2 x 2 samples a pixel, of a picture halved as often as fits.

    OpenCV averages areas quickly for whole factors alone.
    """
    height, width = image.shape[:2]
    if min(height, width) < size or height * width <= (_BILINEAR_FACTOR * size) ** 2:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    while min(image.shape[:2]) >= 4 * size:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    samples = cv2.resize(image, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(samples, (size, size), interpolation=cv2.INTER_AREA)


def _middle(image: np.ndarray, preprocessing: CropPreprocessing) -> np.ndarray:
    """The picture, or the middle of a very long one, which else might fill the memory once its short side has grown."""
    height, width = image.shape[:2]
    wanted = max(_LONGEST, math.ceil(preprocessing.crop_size / preprocessing.resize_size)) * min(height, width)
    top, left = max(0, (height - wanted) // 2), max(0, (width - wanted) // 2)
    return image[top : height - top, left : width - left]


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    if height < size or width < size:
        down, right = max(0, size - height), max(0, size - width)
        image = cv2.copyMakeBorder(
            image, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_CONSTANT
        )
        height, width = image.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size])
