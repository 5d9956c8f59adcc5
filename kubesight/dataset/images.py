"""From a file to RGB bytes, as a viewer would show it.

Pictures are turned as their EXIF orientation says, once. Transparent pixels are laid over white. Greyscale of 16 bits
or more is scaled to 8, never cut. Of animations and multi-page files the first picture counts. A truncated file is an
error, since a half-grey picture teaches the wrong thing.
"""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from kubesight.dataset.rows import ImageDetails
from kubesight.dataset.urls import local_path, scheme
from kubesight.errors import DatasetError, StorageError

# Pillow itself refuses more; set KUBESIGHT_MAX_PIXELS where larger pictures are meant.
MAX_PIXELS = int(os.environ.get("KUBESIGHT_MAX_PIXELS", 178_956_970))
if "KUBESIGHT_MAX_PIXELS" in os.environ:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS

_ORIENTATION = 0x0112
_TRANSPOSED = {5, 6, 7, 8}


def read_image(url: str, *, min_size: int | None = None) -> np.ndarray:
    """Read a picture.

    Args:
        url: a local path or file URI.
        min_size: the pixels that the short side needs at least. A larger JPEG is then decoded at a half, quarter or
            eighth (or the steps between) by the codec itself, many times faster.

    Returns:
        RGB, uint8 [height, width, 3].

    Raises:
        DatasetError: the file is missing, no picture, damaged, or larger than `MAX_PIXELS`; it is named.
        StorageError: the address is not of this machine.
    """
    return decode_image(_read(url), name=url, min_size=min_size)


def decode_image(data: bytes, *, name: str, min_size: int | None = None) -> np.ndarray:
    """Decode a picture's bytes; see `read_image`.

    Args:
        data: the file's content.
        name: what to call it in errors.
        min_size: see `read_image`.
    """
    if not data:
        raise DatasetError("the file is empty", where=name)
    # Damaged files make decoders raise nearly anything; whatever it is, the user needs the file's name.
    try:
        with _opened(data) as picture:
            turned = _orientation(picture)
            if picture.format in ("JPEG", "MPO") and picture.mode in ("RGB", "L"):
                pixels = _decode_jpeg(data, picture, min_size)
            else:
                if min_size and picture.format in ("JPEG", "MPO"):
                    picture.draft(picture.mode, (min_size, min_size))
                pixels = _rgb(picture)
            return _turn(pixels, turned)
    except DatasetError as error:
        error.where = name
        raise
    except Exception as error:
        raise _damaged(error, name) from error


def read_details(path: Path) -> ImageDetails:
    """What a picture's header says, without decoding it.

    Returns:
        format, the file's bytes, and width and height as a viewer shows them.

    Raises:
        DatasetError: the file is missing, empty, no picture, or larger than `MAX_PIXELS`; it is named.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise DatasetError("the file is empty", where=str(path))
        with _opened(path) as picture:
            width, height = picture.size
            if _orientation(picture) in _TRANSPOSED:
                width, height = height, width
            return ImageDetails(format=(picture.format or "").lower(), width=width, height=height, bytes=size)
    except DatasetError as error:
        error.where = str(path)
        raise
    except Exception as error:
        raise _damaged(error, str(path)) from error


def _read(url: str) -> bytes:
    path = local_path(url)
    if path is None:
        raise StorageError(
            f"pictures at {scheme(url)}:// addresses cannot be read on this machine yet",
            where=url,
            hint="Copy them to a folder and convert again.",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"the picture cannot be read: {error.strerror}", where=str(path)) from error


def _opened(source: bytes | Path) -> Image.Image:
    """Read the header; pixels come later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        picture = Image.open(source if isinstance(source, Path) else io.BytesIO(source))
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{width} x {height}")
    return picture


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, that is still to be applied.

    Pillow applies a TIFF's itself, and would decode a whole PNG to look for one behind the pixels.
    """
    if picture.format == "TIFF" or (picture.format == "PNG" and "exif" not in picture.info):
        return 1
    return int(picture.getexif().get(_ORIENTATION) or 1)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply EXIF's orientation: 2, 4: mirrored; 3: upside down; 5 to 8: rows and columns change places, too."""
    if orientation in _TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_jpeg(data: bytes, picture: Image.Image, min_size: int | None) -> np.ndarray:
    least = min(min_size or 1 << 30, *picture.size)
    try:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least)
    except ValueError:
        # It stops at any warning. Pillow stops only where pixels are missing, and says what it found.
        return _rgb(picture)


def _rgb(picture: Image.Image) -> np.ndarray:
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return np.repeat(_scaled(np.asarray(picture), mode)[..., None], 3, axis=2)
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _scaled(values: np.ndarray, mode: str) -> np.ndarray:
    """Greyscale of more than 8 bits as uint8.

    16 bits: 65535 becomes 255. 32-bit integers and floats, which say nothing of their range: the first of [0, 1]
    (floats), [0, 255] (floats), [0, 65535] that holds all values; else from the least value to the greatest.
    """
    if mode.startswith("I;16"):
        return np.rint(values / 257).astype(np.uint8)
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        raise ValueError("the picture has values that are no numbers")
    ranges = [1.0, 255.0, 65535.0] if mode == "F" else [65535.0]
    top = next((top for top in ranges if least >= 0 and most <= top), None)
    if top is None:
        values, top = values - least, (most - least) or 1.0
    return np.rint(values * (255 / top)).astype(np.uint8)


def _damaged(error: Exception, name: str) -> DatasetError:
    if isinstance(error, Image.DecompressionBombError):
        return DatasetError(
            f"the picture has over {MAX_PIXELS:,} pixels ({error})",
            where=name,
            hint="Set KUBESIGHT_MAX_PIXELS higher if it is meant to.",
        )
    if isinstance(error, Image.UnidentifiedImageError):
        return DatasetError("not a picture in a known format", where=name)
    if isinstance(error, FileNotFoundError):
        return DatasetError("no such file", where=name)
    words = " ".join(str(error).split()) or type(error).__name__
    return DatasetError(f"the picture is damaged: {words}", where=name)
