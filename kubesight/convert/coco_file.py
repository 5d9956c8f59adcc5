"""One COCO file in memory: the bytes once, and where each image and annotation lies in them.

`msgspec.Raw` leaves every annotation undecoded until its image's turn, so that a file of half a gigabyte needs little
more memory than its bytes, and decoding is typed and fast.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from kubesight.convert.geometry import pixel_size
from kubesight.convert.reading import NOT_JSON, Problem, Reading
from kubesight.errors import DatasetError

Id = int | float | str


class CocoImage(msgspec.Struct):
    """An entry of `images`."""

    id: Id
    file_name: str
    width: float | None = None
    height: float | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """The declared width and height in pixels, when both are there and positive."""
        return pixel_size(self.width, self.height)


class CocoAnnotation(msgspec.Struct, gc=False):
    """An entry of `annotations`; `segmentation` stays undecoded, since only segmentation needs it."""

    category_id: Id
    id: Id | None = None
    bbox: list[float | None] | None = None
    area: Any = None
    iscrowd: Id | bool | None = 0
    segmentation: Raw = Raw()
    attributes: dict[str, Any] | None = None


class _Key(msgspec.Struct, gc=False):
    image_id: Id
    segmentation: Raw = Raw()


class _Category(msgspec.Struct):
    id: Id
    name: str


class _File(msgspec.Struct):
    images: list[Raw]
    annotations: list[Raw]
    categories: list[_Category]


_READ_FIELDS = frozenset({"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "attributes"})
# JSON has no NaN, but Python's json writes it.
_NOT_JSON = re.compile(rb"(?<=[\[,:\s])(?:NaN|-?Infinity)(?=[\],}\s])")

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_key = msgspec.json.Decoder(_Key).decode
_decode_image = msgspec.json.Decoder(CocoImage, strict=False).decode


class CocoFile:
    """A COCO file, its annotations grouped by image.

    Args:
        path: the JSON file.
        reading: where findings go.

    Raises:
        DatasetError: it cannot be read, is not JSON, or lacks images, annotations or categories.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        """Read the file and group its annotations."""
        self.path = path
        self._reading = reading
        content = _parse(path)
        self._annotations = content.annotations
        self.names = self._category_names(content.categories)
        self.images, index = self._read_images(content.images)
        self.outlined = 0
        self._order, self._starts = self._group(index)
        reading.report.annotations_read += len(self._annotations)
        self._warn_unread_fields()

    @property
    def annotation_count(self) -> int:
        """The number of entries in `annotations`."""
        return len(self._annotations)

    def groups(self) -> Iterator[tuple[CocoImage, list[Raw]]]:
        """Every image with its undecoded annotations, in the file's order."""
        annotations, order, starts = self._annotations, self._order, self._starts
        for number, image in enumerate(self.images):
            chosen = order[starts[number] : starts[number + 1]]
            yield image, [annotations[k] for k in chosen.tolist()]

    def note(self, severity: str, reason: str, message: str, *, image: bool = False, count: int = 1) -> None:
        """Keep a finding about this file."""
        problem = Problem(severity, reason, message)  # type: ignore[arg-type]
        self._reading.note(problem, self.path, subject="image" if image else "annotation", count=count)

    def _category_names(self, categories: list[_Category]) -> dict[str, str]:
        names: dict[str, str] = {}
        for category in categories:
            key = id_key(category.id)
            if names.get(key, category.name) != category.name:
                message = f"category id {key} is both {names[key]!r} and {category.name!r}"
                raise DatasetError(message, where=str(self.path), hint="Give each category its own id.")
            names[key] = category.name
        by_name: dict[str, list[str]] = {}
        for key, name in names.items():
            by_name.setdefault(name, []).append(key)
        for name, keys in by_name.items():
            if len(keys) > 1:
                message = (
                    f"the categories {' and '.join(keys)} are both named {name!r}; they were merged into one class"
                )
                self.note("repaired", "duplicate_category", message)
        return names

    def _read_images(self, entries: list[Raw]) -> tuple[list[CocoImage], dict[str, int]]:
        """The images, and from each id to its place; entries of one file name are one image."""
        images: list[CocoImage] = []
        index: dict[str, int] = {}
        by_name: dict[str, int] = {}
        for entry in entries:
            try:
                image = _decode_image(entry)
            except NOT_JSON as error:
                self.note("dropped", "malformed_image", f"an entry of images is unusable: {error}", image=True)
                continue
            key = id_key(image.id)
            if key in index:
                first = images[index[key]].file_name
                message = (
                    f"image id {key} belongs to {first!r} and again to {image.file_name!r}; the second is left out"
                )
                self.note("dropped", "duplicate_image_id", message, image=True)
                continue
            index[key] = by_name.setdefault(image.file_name, len(images))
            if index[key] == len(images):
                images.append(image)
            else:
                message = f"{image.file_name!r} is listed under ids {id_key(images[index[key]].id)} and {key}; merged"
                self.note("repaired", "duplicate_image", message, image=True)
        self._reading.report.images_read += len(entries)
        return images, index

    def _group(self, index: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        """The annotations' order by image, and where each image's begin; counts the outlined ones."""
        owner = np.full(len(self._annotations), -1, np.int64)
        for number, entry in enumerate(self._annotations):
            try:
                key = _decode_key(entry)
            except NOT_JSON as error:
                self.note("dropped", "malformed_annotation", f"{describe(entry)} is unusable: {error}")
                continue
            self.outlined += has_outline(key.segmentation)
            place = index.get(id_key(key.image_id))
            if place is None:
                message = f"{describe(entry)} is on image {key.image_id!r}, which is not among the images"
                self.note("dropped", "unknown_image", message)
            else:
                owner[number] = place
        order = np.argsort(owner, kind="stable")
        return order, np.searchsorted(owner[order], np.arange(len(self.images) + 1))

    def _warn_unread_fields(self) -> None:
        """Mention what the first annotation has beyond the known fields; one that cannot be decoded is noted anyway."""
        with contextlib.suppress(IndexError, *NOT_JSON):
            unread = sorted(set(_decode_fields(self._annotations[0])) - _READ_FIELDS)
            if unread:
                message = f"annotations have fields that no task here uses: {', '.join(unread)}"
                self.note("warning", "unused_fields", message, count=len(self._annotations))


def id_key(value: Id) -> str:
    """One spelling of an id, whatever its type: 7, 7.0 and "7" are the same."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def whole_id(value: Id) -> int | str:
    """An id as the rows keep it: a number or a text."""
    return (
        int(value) if isinstance(value, float) and value.is_integer() else value if type(value) is int else str(value)
    )


def has_outline(segmentation: Raw) -> bool:
    """Whether a segmentation holds anything, without decoding it."""
    size = memoryview(segmentation).nbytes
    return size > 4 and (size > 64 or bytes(segmentation).translate(None, b" \n\r\t[]{}") not in (b"", b"null"))


def describe(entry: Raw) -> str:
    """`annotation ID`, as far as an entry of `annotations` tells it."""
    try:
        return f"annotation {msgspec.json.decode(entry)['id']}"
    except (*NOT_JSON, KeyError, TypeError):
        return "an annotation without id"


def _parse(path: Path) -> _File:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(error.strerror or str(error), where=str(path)) from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    decode = msgspec.json.Decoder(_File).decode
    try:
        try:
            return decode(data)
        except msgspec.ValidationError:
            raise
        except NOT_JSON:
            return decode(_NOT_JSON.sub(b"null", data))
    except msgspec.ValidationError as error:
        raise DatasetError(f"not a COCO file: {error}", where=str(path)) from error
    except NOT_JSON as error:
        raise DatasetError(f"not JSON: {error}", where=str(path)) from error
