"""Finding a data set's picture by what somebody else calls it."""

import itertools
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from kubesight.errors import DatasetError

_DIGITS = re.compile(r"\d+")


class PictureIndex:
    """Finds the picture that a URL, a path, the end of one, a name without ending or a number can only mean.

    Args:
        urls: the pictures; one that comes several times is one picture.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        """Sort the pictures by URL and by file name."""
        self.rows: dict[str, list[int]] = {}
        for position, url in enumerate(urls):
            self.rows.setdefault(url, []).append(position)
        self._by_name: dict[str, list[str]] = {}
        for url in self.rows:
            self._by_name.setdefault(path_of(url).name, []).append(url)
        self._by_stem: dict[str, list[str]] | None = None
        self._by_number: dict[int, list[str]] | None = None

    def find(self, picture: str, where: str) -> str | None:
        """The picture of this URL, else the only one whose path has the longest end in common with it, or None.

        Raises:
            DatasetError: it can be several.
        """
        if picture in self.rows:
            return picture
        alike = self._by_name.get(path_of(picture).name, [])
        shared = [shared_ending(url, picture) for url in alike]
        return self._only(
            [url for url, length in zip(alike, shared, strict=True) if length == max(shared)], picture, where
        )

    def find_stem(self, stem: str, where: str) -> str | None:
        """The only picture whose file name without its ending this is, or None.

        Raises:
            DatasetError: it can be several.
        """
        if self._by_stem is None:
            self._by_stem = {}
            for url in self.rows:
                self._by_stem.setdefault(path_of(url).stem, []).append(url)
        return self._only(self._by_stem.get(stem, []), stem, where)

    def find_number(self, number: int, where: str) -> str | None:
        """The only picture whose file name holds this number and no other (`000005.jpg`, `img_5.png`), or None.

        Raises:
            DatasetError: it can be several.
        """
        if self._by_number is None:
            self._by_number = {}
            for url in self.rows:
                found = _DIGITS.findall(path_of(url).stem)
                if len(found) == 1:
                    self._by_number.setdefault(int(found[0]), []).append(url)
        return self._only(self._by_number.get(number, []), number, where)

    def _only(self, found: list[str], picture: str | int, where: str) -> str | None:
        if len(found) > 1:
            raise DatasetError(
                f"{picture!r} can be {len(found)} pictures of the data set: {found[0]}, {found[1]}, ...",
                where=where,
                hint="Give the picture's whole URL as the data set has it.",
            )
        return found[0] if found else None


def shared_ending(one: str, other: str) -> int:
    """How many parts of two paths agree, from the file name upwards."""
    pairs = zip(reversed(path_of(one).parts), reversed(path_of(other).parts), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def path_of(picture: str) -> PurePosixPath:
    """The path in a URL or a file name, with either kind of slash."""
    scheme, mark, rest = picture.partition("://")
    path = unquote(rest) if mark and scheme == "file" else rest if mark else picture
    return PurePosixPath(path.replace("\\", "/"))
