"""Finding the pictures that annotations name, and the coordinate frame of each."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from PIL import Image

from kubesight.convert.geometry import Frame
from kubesight.convert.layout import is_picture_name
from kubesight.convert.reading import Problem, Reading
from kubesight.dataset.images import read_details, read_image
from kubesight.dataset.rows import ImageDetails
from kubesight.dataset.urls import absolute_url, is_remote, local_path, map_prefix
from kubesight.errors import DatasetError

_UNMAPPED = ("azureml://", "amldatastore://")
_TRANSPOSING = (5, 6, 7, 8)
_ORIENTATION_TAG = 0x0112
_ENDINGS = ("", ".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".tif", ".tiff", ".bmp", ".webp")
# Sizes whose aspect ratios agree this well are one picture at two scales.
_SAME_ASPECT = 0.01


class Picture(NamedTuple):
    """A picture that exists: its absolute URL, its header, and the frame of its annotations (None: size unknown)."""

    url: str
    details: ImageDetails | None
    frame: Frame | None


class Pictures:
    """Finds pictures by name and reads their headers; whatever cannot be used becomes a finding.

    A name is tried as it is, then under each folder, then in the other Unicode normal forms, then with the usual
    endings, then without its leading folders one after another (so that paths of another machine do no harm; a
    warning says so, and two names are never taken for one picture).

    Args:
        reading: the options `images` and `trust_sizes`, the prefixes, and where findings go.
        folders: where pictures may lie when the option `images` does not say.
    """

    def __init__(self, reading: Reading, folders: Sequence[Path]) -> None:
        """Note where to look."""
        self._reading = reading
        self._trust = reading.flag("trust_sizes")
        base = images_base(reading)
        self._remote_base = base.rstrip("/") + "/" if base is not None and is_remote(base) else None
        self._folders = [os.path.abspath(folder) for folder in ([base] if base else folders)]
        self._by_ending: dict[str, str] = {}
        self._trusted_folder: str | None = None
        self._warned_remote = False

    @property
    def folders(self) -> list[Path]:
        """The local folders that pictures are looked for in; none when they are remote or trusted to exist."""
        return [] if self._trust or self._remote_base else [Path(folder) for folder in self._folders]

    def open(
        self, name: str, file: Path | str, line: int | None = None, *, declared: tuple[int, int] | None = None
    ) -> Picture | None:
        """The picture that an annotation names, or None after a finding that says why it cannot be used.

        Args:
            name: as the annotation gives it: a path, an ending of one, or a URL.
            file: the annotation file, for findings.
            line: its line.
            declared: width and height in pixels that the annotation gives for it.

        Raises:
            DatasetError: the name begins with a scheme of Azure ML that no prefix maps.
        """
        url = self.find(name, file, line)
        if url is None:
            self._drop("missing_picture", f"the picture {name!r} is not there", file, line)
            return None
        path = None if self._trust else local_path(url)
        if path is None:
            return self._unopened(url, file, line, declared)
        try:
            details = read_details(path)
            if self._reading.check_images:
                read_image(url, min_size=64)  # reads every byte, at the least scale that the codec has
        except DatasetError as error:
            self._drop("unreadable_picture", f"the picture {url} cannot be read: {error.message}", file, line)
            return None
        return Picture(url, details, self._frame(path, details, declared, file, line))

    def find(self, name: str, file: Path | str, line: int | None = None) -> str | None:
        """The absolute URL of a picture, or None when it is not there (never None for what cannot be looked up)."""
        name = map_prefix(name, self._reading.url_prefixes)
        if name.lower().startswith(_UNMAPPED):
            raise DatasetError(
                f"{name!r} is a path inside an Azure ML workspace, which cannot be read from here",
                where=f"{file}, line {line}" if line else str(file),
                hint="Say where the files are with --url-prefix 'azureml://.../paths/=/my/folder/'.",
            )
        if is_remote(name):
            return name
        if name.startswith("file:"):
            name = str(local_path(name))
        if self._remote_base:
            return self._remote_base + name.replace("\\", "/").removeprefix("./").lstrip("/")
        if self._trust:
            return self._assume_local(name)
        found = self._find_local(name)
        return found if found is not None else self._find_by_ending(name, file, line)

    def _assume_local(self, name: str) -> str:
        """The path that a name has in the folder where the first one was found; it is not looked for."""
        if self._trusted_folder is None:
            found = self._find_local(name) is not None  # then its folder is now the first
            self._trusted_folder = self._folders[0]
            if not found:
                message = f"the picture {name!r} is not there: paths are taken to be under {self._trusted_folder}"
                self._reading.note(
                    Problem("warning", "unseen_pictures", message), self._reading.source, subject="image"
                )
        return os.path.normpath(os.path.join(self._trusted_folder, name.replace("\\", "/")))

    def _find_local(self, name: str) -> str | None:
        if not name:
            return None
        forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        spellings = dict.fromkeys(spelling for form in forms for spelling in (form, form.replace("\\", "/")))
        endings = [""] if is_picture_name(name) else _ENDINGS
        for spelling in spellings:
            for ending in endings:
                for number, folder in enumerate(self._folders):
                    path = os.path.join(folder, spelling + ending)
                    if os.path.isfile(path):
                        # The next picture is most likely here too.
                        self._folders.insert(0, self._folders.pop(number))
                        return absolute_url(path, Path(folder))
        return None

    def _find_by_ending(self, name: str, file: Path | str, line: int | None) -> str | None:
        parts = PureWindowsPath(name).parts
        for start in range(1, len(parts)):
            found = self._find_local("/".join(parts[start:]))
            if found is not None:
                if not self._by_ending:
                    message = f"{name!r} is not there; {found} was taken for it, and others are found in the same way"
                    self._reading.note(Problem("warning", "found_by_ending", message), file, line, subject="image")
                return found if self._by_ending.setdefault(found, name) == name else None
        return None

    def _unopened(self, url: str, file: Path | str, line: int | None, declared: tuple[int, int] | None) -> Picture:
        if not self._trust and not self._warned_remote:
            self._warned_remote = True
            message = f"pictures at remote URLs ({url}, ...) are not opened: their declared sizes are trusted"
            self._reading.note(Problem("warning", "remote_pictures", message), file, line, subject="image")
        if declared is None:
            return Picture(url, None, None)
        details = ImageDetails(
            format=os.path.splitext(url)[1].lstrip(".").lower() or None, width=declared[0], height=declared[1]
        )
        return Picture(url, details, Frame(float(declared[0]), float(declared[1])))

    def _frame(
        self, path: Path, details: ImageDetails, declared: tuple[int, int] | None, file: Path | str, line: int | None
    ) -> Frame:
        """The frame of the annotations: the shown picture, unless the declared size tells another."""
        width, height = details.width or 0, details.height or 0
        if declared is None or declared == (width, height):
            return Frame(float(width), float(height))
        text = f"{path.name} is declared {declared[0]} x {declared[1]} but is {width} x {height}"
        if declared == (height, width):
            orientation = _orientation(path)
            if orientation in _TRANSPOSING:
                self._repair(
                    "exif_transposed", f"{text}: labels drawn before its EXIF rotation were turned", file, line
                )
                return Frame(float(declared[0]), float(declared[1]), orientation)
            self._repair("size_swapped", f"{text}: width and height were swapped", file, line)
            return Frame(float(width), float(height))
        if min(declared) > 0 and abs(declared[0] * height / (declared[1] * width) - 1) <= _SAME_ASPECT:
            self._repair("size_scaled", f"{text}: labels were scaled to it", file, line)
            return Frame(float(declared[0]), float(declared[1]))
        self._repair("size_mismatch", f"{text}: labels are taken as pixels of the file", file, line)
        return Frame(float(width), float(height))

    def _drop(self, reason: str, message: str, file: Path | str, line: int | None) -> None:
        self._reading.note(Problem("dropped", reason, message), file, line, subject="image")

    def _repair(self, reason: str, message: str, file: Path | str, line: int | None) -> None:
        self._reading.note(Problem("repaired", reason, message), file, line, subject="image")


def images_base(reading: Reading) -> str | None:
    """What the option `images` names: a URL prefix, or the absolute path of a folder; None when it is not given.

    Raises:
        DatasetError: it is no folder, neither from here nor from the source.
    """
    given = reading.options.get("images")
    if given is None or is_remote(given):
        return given
    for place in (Path(), reading.source, reading.source.parent):
        if (place / given).is_dir():
            return os.path.abspath(place / given)
    raise DatasetError(
        "the option images names no folder", where=given, hint="Name a folder, or a URL such as s3://..."
    )


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
