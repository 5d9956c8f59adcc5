"""COCO's JSON decoded into typed entries, and its outlines into masks, just as COCO's own tools read them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from pycocotools import mask as coco_mask

from kubesight.dataset.objects import MaskRle, compress
from kubesight.dataset.rle import run_lengths
from kubesight.dataset.rows import Rle
from kubesight.errors import DatasetError, StorageError

Id = int | float | str
T = TypeVar("T")

# Python's json writes what is not JSON; as null it can be named.
_NOT_JSON = re.compile(rb"(?<=[\[,:\s])(?:NaN|-?Infinity)(?=[\],}\s])")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode_rle = msgspec.json.Decoder(Rle).decode
_decode_rings = msgspec.json.Decoder(list[list[float | None]]).decode


def read_bytes(path: Path) -> bytes:
    """A whole file, without a byte order mark.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(path)) from error


def decode(data: bytes, kind: type[T], where: str, what: str) -> T:
    """Decode JSON, not-a-number and infinity as null.

    Args:
        data: the text.
        kind: the type to decode as.
        where: file and perhaps line, for errors.
        what: what the text should be, for errors.

    Raises:
        DatasetError: it is not JSON, or not of this type.
    """
    decoder = msgspec.json.Decoder(kind)
    try:
        try:
            return decoder.decode(data)
        except msgspec.ValidationError:
            raise
        except _UNREADABLE:
            return decoder.decode(_NOT_JSON.sub(b"null", data))
    except msgspec.ValidationError as error:
        raise DatasetError(f"not {what}: {error}", where=where) from error
    except _UNREADABLE as error:
        raise DatasetError(f"not JSON: {error}", where=where) from error


def id_key(value: Id) -> str:
    """One spelling of an id, whatever its type: 7, 7.0 and "7" are the same."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def check_box(box: Sequence[float | None], where: str) -> None:
    """Refuse a box x, y, width, height that is none.

    Raises:
        DatasetError: it has not four finite numbers, or a side is negative.
    """
    if len(box) != 4:
        raise DatasetError(f"a box of {len(box)} numbers", where=where, hint="Write x, y, width, height in pixels.")
    x, y, width, height = box
    if x is None or y is None or width is None or height is None or not math.isfinite(x + y + width + height):
        raise DatasetError(f"the box {list(box)} has a side that is no number", where=where)
    if width < 0 or height < 0:
        raise DatasetError(
            f"the box {list(box)} has a negative side",
            where=where,
            hint="The third and fourth number are width and height, not the far corner.",
        )


def has_outline(segmentation: Raw) -> bool:
    """Whether a segmentation holds anything, without decoding it."""
    size = memoryview(segmentation).nbytes
    return size > 4 and (size > 64 or bytes(segmentation).translate(None, b" \n\r\t[]{}") not in (b"", b"null"))


def coco_rle(segmentation: Raw, width: int, height: int, where: str) -> MaskRle:
    """A segmentation as compressed run lengths.

    Run lengths are taken as they are; rings are filled and joined as `pycocotools` does it, so that a pixel belongs to
    the object when any of them covers it.

    Args:
        segmentation: rings of x, y in pixels, or run lengths, compressed or listed.
        width: the picture's width in pixels.
        height: its height.
        where: for errors.

    Raises:
        DatasetError: it is neither, is of another size than the picture, or a ring has fewer than three points.
    """
    try:
        if bytes(memoryview(segmentation)[:1]) == b"{":
            return picture_rle(_decode_rle(segmentation), width, height, where)
        rings = _decode_rings(segmentation)
    except _UNREADABLE as error:
        raise DatasetError(f"its segmentation is unusable: {error}", where=where) from error
    for ring in rings:
        check_ring(ring, where)
    merged: MaskRle = coco_mask.merge(coco_mask.frPyObjects(rings, height, width))
    return merged


def picture_rle(rle: Rle, width: int, height: int, where: str) -> MaskRle:
    """Run lengths of a picture's size, compressed.

    Raises:
        DatasetError: they are of another size, or do not fill it.
    """
    if tuple(rle.size) != (height, width):
        raise DatasetError(
            f"a mask of {rle.size[1]} x {rle.size[0]} pixels for a picture of {width} x {height}",
            where=where,
            hint="The size of a mask is [height, width], of the labelled picture.",
        )
    try:
        runs = run_lengths(rle)
    except DatasetError as error:
        raise DatasetError(error.message, where=where) from error
    if isinstance(rle.counts, str):
        return {"size": [height, width], "counts": rle.counts.encode()}
    return compress(runs.tolist(), height, width)


def check_ring(ring: Sequence[Any], where: str) -> None:
    """Refuse a ring of fewer than three points, of half a point, or with numbers that are not finite.

    Raises:
        DatasetError: it is one of these.
    """
    if len(ring) % 2 or len(ring) < 6:
        raise DatasetError(
            f"a ring of {len(ring)} numbers, which are not the x and y of three points or more", where=where
        )
    if None in ring or not math.isfinite(sum(ring)):
        raise DatasetError("a ring with numbers that are not finite", where=where)
