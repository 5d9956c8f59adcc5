"""Decoded pictures on disk, shared by processes that read the same ones: the trials of a sweep.

Used where the environment variable `KUBESIGHT_PICTURES` names a folder, and only there: pixels take ten times the room
of the JPEGs that they come from, so a plain training keeps none. What is kept is exactly what decoding gives. Once the
folder holds its limit, no more is added: `KUBESIGHT_PICTURES_GB` (10^9 bytes), by default 8 or a tenth of the disk's
free room, whichever is less. Nothing is ever removed: whoever names the folder does that.
"""

import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import struct
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from kubesight.errors import DatasetError

log = logging.getLogger("kubesight")

DEFAULT_GIGABYTES = 8.0
SHARE_OF_FREE_DISK = 0.1

# Height, width, and the checksum of the pixels, which follow. Files are not flushed to disk one by one, so a crash of
# the machine may leave some with other bytes than were written.
_HEADER = struct.Struct("<IIQ")
_BLOCK = 1 << 16


class PictureCache:
    """One folder of decoded pictures.

    Hits and misses are counted in memory that processes forked from this one share: loader workers count with it.

    Args:
        folder: where they are kept; made when it is missing.
        limit: bytes above which nothing is added.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        """Make the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._used = folder / "used"
        self.limit = _default_limit(self) if limit is None else limit
        self._counts = multiprocessing.Array("q", 2)
        self._writable = True

    @property
    def hits(self) -> int:
        """Pictures that were found here."""
        return self._counts[0]

    @property
    def misses(self) -> int:
        """Pictures that were asked for and were not here."""
        return self._counts[1]

    def used(self) -> int:
        """Bytes that all processes together have put here, each picture rounded up to 64 KiB.

        The file `used` has a byte for each such block. Appending is atomic, so that processes need no lock.
        """
        try:
            return self._used.stat().st_size * _BLOCK
        except FileNotFoundError:
            return 0

    def path(self, picture: Path, min_size: int | None) -> Path | None:
        """Where a picture's pixels are, or would be; None when there is no such picture.

        A picture is known by its path, size and time of change; the pixels by the decoders' versions and `min_size`.
        """
        try:
            status = os.stat(picture)
        except (OSError, ValueError):
            return None
        said = (os.path.abspath(picture), status.st_size, status.st_mtime_ns, min_size, _decoders())
        name = hashlib.blake2b(repr(said).encode(), digest_size=20).hexdigest()
        return self.folder / name[:2] / name[2:]

    def read(self, path: Path) -> np.ndarray | None:
        """The pixels kept there, [height, width, 3] uint8; None when there are none, or damaged ones."""
        pixels = _read(path)
        with self._counts.get_lock():
            self._counts[0 if pixels is not None else 1] += 1
        return pixels

    def write(self, path: Path, pixels: np.ndarray) -> None:
        """Keep pixels, unless the limit is reached. A full or failing disk ends the adding, not the training.

        Args:
            path: from `path`, asked for before the picture was read.
            pixels: [height, width, 3] uint8.
        """
        blocks = -(-(pixels.nbytes + _HEADER.size) // _BLOCK)
        if not self._writable or self.used() + blocks * _BLOCK > self.limit:
            return
        pixels = np.ascontiguousarray(pixels)
        header = _HEADER.pack(*pixels.shape[:2], _checksum(pixels))
        try:
            path.parent.mkdir(exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
            try:
                with open(descriptor, "wb") as stream:
                    stream.write(header)
                    stream.write(pixels.data)
                os.replace(name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
            with open(self._used, "ab") as stream:
                stream.write(bytes(blocks))
        except OSError as error:
            self._writable = False
            log.warning("no more decoded pictures are kept in %s: %s", self.folder, error.strerror)


def open_cache() -> PictureCache | None:
    """The cache that the environment names; None when it names none. The same one at each call.

    Raises:
        DatasetError: the folder cannot be made, or the limit is no positive number.
    """
    folder = os.environ.get("KUBESIGHT_PICTURES")
    return _open(folder, os.environ.get("KUBESIGHT_PICTURES_GB")) if folder else None


@cache
def _open(folder: str, gigabytes: str | None) -> PictureCache:
    limit = None
    if gigabytes is not None:
        try:
            limit = int(float(gigabytes) * 1e9)
        except (ValueError, OverflowError):
            limit = 0
        if limit <= 0:
            raise DatasetError(f"{gigabytes!r} is not a positive number", where="environment KUBESIGHT_PICTURES_GB")
    try:
        return PictureCache(Path(folder), limit)
    except OSError as error:
        raise DatasetError(
            f"decoded pictures cannot be kept here: {error.strerror}",
            where=folder,
            hint="Name another folder in the environment variable KUBESIGHT_PICTURES, or none.",
        ) from error


def _default_limit(store: PictureCache) -> int:
    free = shutil.disk_usage(store.folder).free + store.used()
    return int(min(DEFAULT_GIGABYTES * 1e9, free * SHARE_OF_FREE_DISK))


@cache
def _decoders() -> str:
    """The versions of all that decodes; ours is in it too, since it turns and converts what they give."""
    return json.dumps([version(name) for name in ("kubesight", "simplejpeg", "pillow", "numpy")])


def _read(path: Path) -> np.ndarray | None:
    try:
        with open(path, "rb", buffering=0) as stream:
            height, width, checksum = _HEADER.unpack(stream.read(_HEADER.size))
            if os.fstat(stream.fileno()).st_size != _HEADER.size + height * width * 3:
                return None
            pixels = np.empty((height, width, 3), np.uint8)
            read = stream.readinto(pixels.data)
    except (OSError, struct.error):
        return None
    return pixels if read == pixels.nbytes and _checksum(pixels) == checksum else None


def _checksum(pixels: np.ndarray) -> int:
    """The sum of the bytes, eight at a time: a tenth of the time of a CRC, which would be most of that of reading."""
    flat = pixels.reshape(-1)
    whole = flat.size // 8 * 8
    return (int(np.add.reduce(flat[:whole].view(np.uint64))) + int(flat[whole:].sum())) % 2**64
