"""The pictures behind the rows: which are missing, unreadable, changed since conversion, or there twice."""

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from kubesight.dataset.images import decode_image, read_details
from kubesight.dataset.rows import ClassificationRow, ImageDetails, MultilabelRow, Row
from kubesight.dataset.urls import local_path
from kubesight.errors import DatasetError

_DIGEST_BYTES = 16
_MISSING, _REMOTE = -1, -2
# A decoder that may shrink while decoding still reads the whole file; the small picture saves time and memory.
_CHECKED_SIDE = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


class Place(NamedTuple):
    """Where a row is: its part, the data set's rows file, and the line."""

    part: str
    file: str
    line: int


@dataclass
class Integrity:
    """What was found; every list holds rows as `report.json` keeps them.

    `check_images` says whether pictures were decoded, `decoded` how many without an error.
    """

    unreadable: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    remote: int = 0
    decoded: int = 0
    check_images: bool = False

    def duplicate_counts(self) -> dict[str, int]:
        """Groups of equal pictures, surplus pictures in them, groups across parts, groups with unequal labels."""
        return {
            "groups": len(self.duplicates),
            "surplus_pictures": sum(len(group["pictures"]) - 1 for group in self.duplicates),
            "groups_across_parts": sum(group["across_parts"] for group in self.duplicates),
            "groups_with_different_labels": sum(group["different_labels"] for group in self.duplicates),
        }


class Examiner:
    """Looks at the pictures in three passes over the rows, keeping 8 bytes a picture, and 24 more for equal sizes.

    Call `note_size` for each row, then `examine` and `name_duplicates` with the same rows in the same order.
    """

    def __init__(self) -> None:
        """Start with no sizes."""
        self.found = Integrity()
        self._sizes = array("q")
        self._indices = array("q")
        self._digests = bytearray()

    def note_size(self, row: Row) -> None:
        """Remember the size of a row's file."""
        path = local_path(row.image_url)
        if path is None:
            self.found.remote += 1
            self._sizes.append(_REMOTE)
            return
        try:
            self._sizes.append(os.stat(path).st_size)
        except (OSError, ValueError):
            self._sizes.append(_MISSING)

    def examine(
        self, rows: Iterable[tuple[Place, Row]], *, decode: bool, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Read the files that need it: all of them to decode, else those whose size is not theirs alone.

        `progress` is called with the number of files read and to be read.
        """
        self.found.check_images = decode
        sizes = np.asarray(self._sizes)
        _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
        shared = (counts[inverse] > 1) & (sizes >= 0)
        needed = sizes != _REMOTE if decode else shared | (sizes == _MISSING)
        total = int(needed.sum())
        if not total:
            return

        def check(work: tuple[int, Place, Row]) -> tuple[int, Place, Row, _Checked]:
            index, place, row = work
            return index, place, row, _check(row, decode=decode, digest=bool(shared[index]))

        work = ((index, place, row) for index, (place, row) in enumerate(rows) if needed[index])
        for done, (index, place, row, checked) in enumerate(_parallel(check, work), start=1):
            self._keep(index, place, row, checked, decode=decode)
            if progress is not None:
                progress(done, total)

    def _keep(self, index: int, place: Place, row: Row, checked: "_Checked", *, decode: bool) -> None:
        entry = {"part": place.part, "image_url": row.image_url, "file": place.file, "line": place.line}
        if checked.problem is not None:
            self.found.unreadable.append({**entry, "message": checked.problem})
        else:
            self.found.decoded += decode
        if checked.change is not None:
            self.found.changed.append({**entry, "message": checked.change})
        if checked.digest is not None:
            self._indices.append(index)
            self._digests += checked.digest

    def name_duplicates(self, rows: Iterable[tuple[Place, Row]]) -> None:
        """Find the equal digests and look up their rows, which alone are kept."""
        digests = np.frombuffer(bytes(self._digests), dtype=f"S{_DIGEST_BYTES}")
        _, group, counts = np.unique(digests, return_inverse=True, return_counts=True)
        groups = {
            index: int(number)
            for index, number in zip(self._indices, group.tolist(), strict=True)
            if counts[number] > 1
        }
        if not groups:
            return
        members: dict[int, list[tuple[Place, Row]]] = {}
        for index, (place, row) in enumerate(rows):
            if index in groups:
                members.setdefault(groups[index], []).append((place, row))
        self.found.duplicates = [_describe(group) for group in members.values()]


class _Checked(NamedTuple):
    digest: bytes | None
    problem: str | None
    change: str | None


def _check(row: Row, *, decode: bool, digest: bool) -> _Checked:
    path = local_path(row.image_url)
    assert path is not None
    try:
        data = path.read_bytes()
    except OSError as error:
        return _Checked(None, error.strerror or str(error), None)
    except ValueError as error:  # a NUL in a name
        return _Checked(None, str(error), None)
    found = hashlib.sha256(data).digest()[:_DIGEST_BYTES] if digest else None
    if not decode:
        return _Checked(found, None, None)
    try:
        decode_image(data, name=str(path), min_size=_CHECKED_SIDE)
        return _Checked(found, None, _change(row.image_details, path))
    except DatasetError as error:
        return _Checked(found, error.message, None)


def _change(said: ImageDetails | None, path: Path) -> str | None:
    if said is None or said.width is None or said.height is None:
        return None
    real = read_details(path)
    if (real.width, real.height) == (said.width, said.height):
        return None
    return f"the picture is {real.width}x{real.height} pixels, its row says {said.width}x{said.height}"


def _describe(group: list[tuple[Place, Row]]) -> dict[str, Any]:
    pictures = [
        {
            "part": place.part,
            "image_url": row.image_url,
            "file": place.file,
            "line": place.line,
            "labels": sorted(set(row.class_names())),
        }
        for place, row in group
    ]
    return {
        "across_parts": len({place.part for place, _ in group}) > 1,
        "different_labels": len({_label_key(row) for _, row in group}) > 1,
        "pictures": pictures,
    }


def _label_key(row: Row) -> bytes:
    """Equal for equal labels, whatever their order."""
    if isinstance(row, ClassificationRow):
        return row.label.encode()
    if isinstance(row, MultilabelRow):
        return msgspec.json.encode(sorted(set(row.label)))
    return b"\n".join(sorted(msgspec.json.encode(item) for item in row.label))


def _parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order, from threads (decoders release the interpreter's lock), with few items under way at once."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 16 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
