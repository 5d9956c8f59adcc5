"""From a decoded picture of any kind to upright 8-bit RGB, by stated rules.

- 1-bit, 8-bit grey, palette, YCbCr, CMYK, YCCK: Pillow's own conversion (CMYK without colour profiles; the inverted
  values of Adobe's CMYK JPEGs are undone).
- An alpha channel or a transparent colour: the picture laid over white, as a viewer shows it on a page.
- 16-bit colour: the upper 8 bits.
- Grey of 9 to 16 bits: scaled from the whole range that so many bits can hold, signed or not, so that the pictures of
  one camera stay comparable.
- 32-bit integer and floating point grey, which say nothing of their range: scaled from the first of 0..1 (floats
  alone), 0..255 (floats alone) and 0..65535 that holds all values of the picture, else from its lowest to its highest.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED = 1, 2


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of a loaded picture as [height, width, 3] uint8 RGB, by the rules above.

    Raises:
        ValueError: Pillow knows no way from this kind to RGB, or floating point values are not all finite.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return cv2.cvtColor(_deep_grey(image), cv2.COLOR_GRAY2RGB)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as they are stored into pixels as they are shown.

    Args:
        pixels: [height, width, 3] uint8.
        orientation: the value of EXIF's tag 0x0112; 1 to 8, anything else leaves the picture as it is.
    """
    if orientation == 2:
        return cv2.flip(pixels, 1)
    if orientation == 3:
        return cv2.rotate(pixels, cv2.ROTATE_180)
    if orientation == 4:
        return cv2.flip(pixels, 0)
    if orientation == 5:
        return cv2.transpose(pixels)
    if orientation == 6:
        return cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
    if orientation == 7:
        return cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
    if orientation == 8:
        return cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return pixels


def _over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.uint16)
    # At most 255 * 255 + 127, so 16 bits hold every step.
    mixed = rgba[..., :3] * alpha + (255 - alpha) * np.uint16(255)
    return ((mixed + np.uint16(127)) // np.uint16(255)).astype(np.uint8)


def _deep_grey(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits as [height, width] uint8."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    low, high = _range(image.mode, values, tags)
    scale = 255 / (high - low) if high > low else 0.0
    grey = np.rint((values.astype(np.float64) - low) * scale).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey = np.where(values == transparent, np.uint8(255), grey)
    return grey


def _range(mode: str, values: np.ndarray, tags: Mapping) -> tuple[float, float]:
    """The values that become 0 and 255."""
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if mode != "F" and bits <= 16:
        signed = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _SIGNED
        return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("the picture has values that are no numbers")
    if low < 0:
        return low, high
    known = (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,)
    return next(((0.0, top) for top in known if high <= top), (low, high))
