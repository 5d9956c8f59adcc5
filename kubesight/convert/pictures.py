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
# Sizes whose aspect ratios agree this well are one picture at two scales.
_SAME_ASPECT = 0.01


class Picture(NamedTuple):
    """A picture that exists: its absolute URL, its header, and the frame of its annotations (None: size unknown)."""

    url: str
    details: ImageDetails | None
    frame: Frame | None


class Pictures:
    """Finds pictures by name and reads their headers; whatever cannot be used becomes a finding.

    A name is tried as it is, then under each folder, then by its last part under each folder (so that absolute paths
    of another machine do no harm), then in the other Unicode normal forms.

    Args:
        reading: the options `images` and `trust_sizes`, the prefixes, and where findings go.
        folders: where pictures may lie when the option `images` does not say.
    """

    def __init__(self, reading: Reading, folders: Sequence[Path]) -> None:
        """Note where to look."""
        self._reading = reading
        self._trust = reading.flag("trust_sizes")
        given = reading.options.get("images")
        self._base: str | None = None
        if given is not None and is_remote(given):
            self._base = given.rstrip("/") + "/"
        elif given is not None:
            folder = Path(given)
            places = [folder, *(place / folder for place in (reading.source, reading.source.parent))]
            folders = [place for place in places if place.is_dir()][:1]
            if not folders:
                raise DatasetError("the option images names no folder", where=given)
        self._folders = [os.path.abspath(folder) for folder in folders]
        self._warned_remote = False

    @property
    def folders(self) -> list[Path]:
        """The local folders that pictures are looked for in; none when they are remote or trusted to exist."""
        return [] if self._trust or self._base is not None else [Path(folder) for folder in self._folders]

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
                read_image(url)
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
        if self._base is not None:
            return self._base + name.replace("\\", "/").removeprefix("./").lstrip("/")
        if self._trust:
            return os.path.normpath(os.path.join(self._folders[0], name.replace("\\", "/")))
        return self._find_local(name)

    def _find_local(self, name: str) -> str | None:
        for form in (None, "NFC", "NFD"):
            spelled = unicodedata.normalize(form, name) if form else name  # type: ignore[arg-type]
            for spelling in dict.fromkeys((spelled, spelled.replace("\\", "/"))):
                for number, folder in enumerate(self._folders):
                    path = os.path.join(folder, spelling)
                    if os.path.isfile(path):
                        # The next picture is most likely here too.
                        self._folders.insert(0, self._folders.pop(number))
                        return absolute_url(path, Path(folder))
            last = PureWindowsPath(spelled).name
            for folder in self._folders:
                path = os.path.join(folder, last)
                if last != spelled and os.path.isfile(path):
                    return absolute_url(path, Path(folder))
        return self._find_ending(name)

    def _find_ending(self, name: str) -> str | None:
        """The picture that is called `name` and an ending; ids in tables have none."""
        if name and not is_picture_name(name):
            for ending in (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".tif", ".bmp", ".webp"):
                for folder in self._folders:
                    path = os.path.join(folder, name + ending)
                    if os.path.isfile(path):
                        return absolute_url(path, Path(folder))
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


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
