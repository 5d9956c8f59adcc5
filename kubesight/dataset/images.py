"""Reading pictures: upright 8-bit RGB of any file, or one error that names it.

Headers are read by Pillow. Ordinary JPEGs are decoded by libjpeg-turbo through simplejpeg, all else by Pillow. What
becomes of the kinds of pixels is said in `kubesight.dataset.pixels`. Of several pictures in one file (animations,
pages) the first is taken.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from kubesight.dataset.picture_cache import open_cache
from kubesight.dataset.pixels import orient, to_rgb
from kubesight.dataset.rows import ImageDetails
from kubesight.dataset.urls import local_path, scheme
from kubesight.errors import DatasetError, KubesightError, StorageError

MAX_PIXELS = 2**28
"""Width times height above which a picture is refused before it is decoded; `KUBESIGHT_MAX_PIXELS` overrides it."""

FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI",
    "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM",
)  # fmt: skip
"""What is read, whatever the file's name says. Pillow's formats that run other programs (EPS) are not among them."""

_T = TypeVar("_T")
_ORIENTATION = 0x0112
_TRANSPOSING = (5, 6, 7, 8)
_WIDTH_TAG, _HEIGHT_TAG = 256, 257
_MULTI_PICTURE = "MPO"  # a JPEG with more pictures behind it, as phones write them
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim")
_MEND = "Copy it again from its source, or take it out of the data set."


def read_image(url: str, *, min_size: int | None = None, keep: bool = True) -> np.ndarray:
    """Read a picture as it is shown; decoded ones may be kept, see `kubesight.dataset.picture_cache`.

    Args:
        url: a path or a `file:` URI.
        min_size: let the codec shrink a large JPEG, by 2, 4 or 8, as far as its short side stays this many pixels or
            more. Other formats, and pictures that are too small for it, come in full.
        keep: whether it will be read again, so that a cache may keep it.

    Returns:
        [height, width, 3] uint8 RGB, with EXIF orientation applied.

    Raises:
        DatasetError: the file cannot be read or is not a whole picture; it is named.
        StorageError: the address is on another machine.
    """
    path = _path(url)
    cache = open_cache()
    kept = cache and cache.path(path, min_size)
    if cache and kept and (pixels := cache.read(kept)) is not None:
        return pixels
    pixels = decode_image(_bytes(path), name=str(path), min_size=min_size)
    if cache and kept and keep:
        cache.write(kept, pixels)
    return pixels


def read_encoded(url: str) -> tuple[str, bytes]:
    """The name of a picture's file, for errors, and its bytes as they are.

    Args:
        url: a path or a `file:` URI.

    Raises:
        DatasetError: the file cannot be read; it is named.
        StorageError: the address is on another machine.
    """
    path = _path(url)
    return str(path), _bytes(path)


def decode_image(data: bytes, *, name: str, min_size: int | None = None) -> np.ndarray:
    """Decode a picture from the bytes of its file; see `read_image`.

    Args:
        data: the whole file.
        name: what errors call it.
        min_size: as for `read_image`. The short side is the same before and after EXIF orientation.

    Raises:
        DatasetError: not a whole picture, or one of more than `MAX_PIXELS` pixels.
    """
    image = open_header(io.BytesIO(data), name)
    if image.format in ("JPEG", _MULTI_PICTURE) and image.mode in ("RGB", "L"):
        pixels = _decode_jpeg(data, image.size, min_size, name)
        if pixels is not None:
            return orient(pixels, orientation(image))
    return _explain(lambda: _decode_by_pillow(image, min_size), name)


def read_details(path: Path) -> ImageDetails:
    """What a picture's header says, without decoding the picture.

    Returns:
        The format in lower case (`jpeg`, `png`), width and height as shown (after EXIF orientation), and the file's
        size in bytes.

    Raises:
        DatasetError: the file cannot be read, is not a picture, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            image = open_header(stream, str(path))
            width, height = _explain(lambda: _shown_size(image, stream), str(path))
    except (OSError, ValueError) as error:
        raise _unreadable_file(error, path) from error
    name = "jpeg" if image.format == _MULTI_PICTURE else (image.format or "").lower()
    return ImageDetails(format=name, width=width, height=height, bytes=size)


def max_pixels() -> int:
    """The limit in force: `KUBESIGHT_MAX_PIXELS` if it is set, else `MAX_PIXELS`.

    Raises:
        DatasetError: the variable is not a positive whole number.
    """
    text = os.environ.get("KUBESIGHT_MAX_PIXELS")
    if text is None:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and int(text)):
        raise DatasetError(f"{text!r} is not a positive whole number", where="environment KUBESIGHT_MAX_PIXELS")
    return int(text)


def open_header(stream: BinaryIO, name: str) -> Image.Image:
    """Read a picture's header.

    Raises:
        DatasetError: not a picture in a known format, or one of more than `max_pixels` pixels.
    """
    limit = max_pixels()
    # Pillow's own guard (for later frames, embedded pictures) follows the same limit.
    Image.MAX_IMAGE_PIXELS = limit
    try:
        image = Image.open(stream)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(error), limit, name) from error
    except UnidentifiedImageError as error:
        raise _unidentified(stream, name) from error
    except Exception as error:  # decoders raise anything on hostile bytes
        raise _undecodable(error, name) from error
    if image.format not in FORMATS:
        raise _unidentified(stream, name)
    if image.width * image.height > limit:
        raise _too_large(f"{image.width} x {image.height}", limit, name)
    return image


def _path(url: str) -> Path:
    path = local_path(url)
    if path is None:
        raise StorageError(
            f"pictures at {scheme(url)}:// addresses cannot be read on this machine yet",
            where=url,
            hint="Copy them to a folder and convert again.",
        )
    return path


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable_file(error, path) from error


def _decode_jpeg(data: bytes, size: tuple[int, int], min_size: int | None, name: str) -> np.ndarray | None:
    """Decode by libjpeg-turbo; None when it is unsure, so that Pillow, which forgives more, may try."""
    scale = _codec_scale(min(size), min_size)
    try:
        if scale == 1:
            return simplejpeg.decode_jpeg(data)
        return simplejpeg.decode_jpeg(data, min_width=-(-size[0] // scale), min_height=-(-size[1] // scale))
    except ValueError as error:
        # It also refuses harmless oddities, such as stray bytes between segments, which Pillow passes over. But of
        # these two Pillow says nothing and leaves a part of the picture grey.
        if any(sign in str(error).lower() for sign in ("premature end", "bad huffman")):
            raise _undecodable(error, name) from error
        return None


def _codec_scale(short_side: int, min_size: int | None) -> int:
    """The power of 2 that the codec may shrink by; its other scales (5/8, 3/8...) are slower than these."""
    if min_size is None:
        return 1
    return next((scale for scale in (8, 4, 2) if -(-short_side // scale) >= min_size), 1)


def _decode_by_pillow(image: Image.Image, min_size: int | None) -> np.ndarray:
    if min_size is not None:
        image.draft(None, (min_size, min_size))  # JPEG alone heeds it
    image.load()
    # Asked after loading: a PNG may say it behind its pixels, and a TIFF's pixels have been turned by Pillow.
    return orient(to_rgb(image), orientation(image))


def orientation(image: Image.Image) -> int:
    """EXIF's (or XMP's) orientation; 1 when there is none or it cannot be made out, as viewers have it."""
    try:
        # PNG's own method would decode the whole picture, to look behind its pixels.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not spoil the pixels
        return 1
    return value if isinstance(value, int) else 1


def _shown_size(image: Image.Image, stream: BinaryIO) -> tuple[int, int]:
    width, height = image.size
    if image.format == "TIFF":
        # Pillow gives the size before orientation or after it, by version; the tags give the one before.
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags[_WIDTH_TAG], tags[_HEIGHT_TAG]
    if image.format == "PNG" and _says_more_behind_pixels(stream):
        image.load()
    return (height, width) if orientation(image) in _TRANSPOSING else (width, height)


def _says_more_behind_pixels(stream: BinaryIO) -> bool:
    """Whether a PNG has a chunk behind its pixels that may hold the orientation. The place in `stream` is kept."""
    place, seen_pixels, found = stream.tell(), False, False
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and head[4:] != b"IEND" and not found:
        seen_pixels |= head[4:] == b"IDAT"
        found = seen_pixels and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    stream.seek(place)
    return found


def _explain(work: Callable[[], _T], name: str) -> _T:
    """Do it, with whatever a decoder raises said in our words."""
    try:
        return work()
    except KubesightError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(error), max_pixels(), name) from error
    except Exception as error:  # decoders raise anything on hostile bytes
        raise _undecodable(error, name) from error


def _unreadable_file(error: OSError | ValueError, path: Path) -> DatasetError:
    text = error.strerror if isinstance(error, OSError) else None
    return DatasetError(f"the picture file cannot be read: {text or error}", where=str(path))


def _undecodable(error: Exception, name: str) -> DatasetError:
    text = str(error) or type(error).__name__
    truncated = isinstance(error, EOFError) or any(sign in text.lower() for sign in ("truncated", "premature end"))
    what = "the picture file is truncated" if truncated else "the picture cannot be decoded"
    return DatasetError(f"{what} ({text})", where=name, hint=_MEND)


def _unidentified(stream: BinaryIO, name: str) -> DatasetError:
    stream.seek(0)
    start = stream.read(16)
    if not start:
        return DatasetError("the picture file is empty", where=name, hint=_MEND)
    if start.startswith(_SIGNATURES):
        return DatasetError("the picture file is truncated or damaged in its header", where=name, hint=_MEND)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        return DatasetError("HEIF pictures are not read", where=name, hint="Save them as JPEG and convert again.")
    return DatasetError("not a picture in a known format", where=name, hint=f"Known are {', '.join(FORMATS)}.")


def _too_large(size: str, limit: int, name: str) -> DatasetError:
    return DatasetError(
        f"the picture has over {limit:,} pixels ({size})",
        where=name,
        hint="Shrink or tile it, or allow more with the environment variable KUBESIGHT_MAX_PIXELS.",
    )
