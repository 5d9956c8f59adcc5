"""A folder of pictures per class, perhaps under folders for training, validation and test."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kubesight.convert.layout import is_hidden, is_picture_name, part_folders, subfolders
from kubesight.convert.objects import make_row
from kubesight.convert.pictures import Pictures
from kubesight.convert.reading import Problem, Reading, unknown_label
from kubesight.convert.registry import Reader, register
from kubesight.dataset.images import read_details
from kubesight.dataset.rows import Part, Row, Task
from kubesight.errors import DatasetError


@register("folder")
class FolderReader(Reader):
    """Reads `CLASS/PICTURE` or `PART/CLASS/PICTURE`, pictures in deeper folders included; the folder is the class.

    Folders named train, valid, test and the like are parts when all top folders are and they hold folders themselves.
    """

    last_resort = True

    def __init__(self, reading: Reading) -> None:
        """Find the parts."""
        super().__init__(reading)
        if not reading.source.is_dir():
            raise DatasetError("not a folder, so there is no folder per class", where=str(reading.source))
        self._parts = _parts(reading.source)

    @classmethod
    def mismatch(cls, source: Path, options: Mapping[str, str]) -> str | None:
        """Whether two folders or more hold pictures."""
        if not source.is_dir():
            return "not a folder"
        found = 0
        for folder, _ in _parts(source):
            for class_folder in subfolders(folder):
                found += next(_files(class_folder, pictures_only=True), None) is not None
                if found == 2:
                    return None
        return f"{'one folder holds' if found else 'no folders hold'} pictures"

    def tasks(self) -> tuple[Task, ...]:
        """One label a picture."""
        return (Task.CLASSIFICATION,)

    def rows(self, task: Task) -> Iterator[Row]:
        """The pictures of each part, class by class, in the order of their names.

        Raises:
            DatasetError: a class has no picture in any part.
        """
        written: dict[str, int] = {}
        for folder, part in self._parts:
            self._note_strays(folder)
            for class_folder in subfolders(folder):
                before = written.get(class_folder.name, 0)
                for row in self._class_rows(class_folder, part):
                    written[class_folder.name] = written.get(class_folder.name, 0) + 1
                    yield row
                if written.setdefault(class_folder.name, 0) == before:
                    self._note("warning", "empty_class", "the folder of a class holds no usable picture", class_folder)
        self.reading.report.check()
        for name, count in written.items():
            if count == 0 and unknown_label(name, self.reading.accepted) is None:
                raise DatasetError(
                    f"the class {name!r} has no usable picture",
                    where=str(self.reading.source),
                    hint="Add pictures to its folder, or remove the folder.",
                )

    def _class_rows(self, folder: Path, part: Part | None) -> Iterator[Row]:
        problem = unknown_label(folder.name, self.reading.accepted)
        report = self.reading.report
        root = self.reading.source
        pictures = Pictures(self.reading, [root])
        for path in self.reading.track(_files(folder), total=None, what=folder.name):
            if not is_picture_name(path.name) and not self._is_picture(path):
                self._note("warning", "not_a_picture", f"{path.name} is not a picture; it is left out", path)
                continue
            report.images_read += 1
            report.annotations_read += 1
            if problem is not None:
                self._note("dropped", problem.reason, problem.message, path)
                continue
            picture = pictures.open(str(path.relative_to(root)), path)
            if picture is not None:
                yield make_row(Task.CLASSIFICATION, picture.url, picture.details, folder.name, split=part)

    def _is_picture(self, path: Path) -> bool:
        """Whether a file with another ending, or none, is a picture all the same."""
        if self.reading.flag("trust_sizes"):
            return False
        try:
            read_details(path)
        except DatasetError:
            return False
        return True

    def _note_strays(self, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            if path.is_dir() or is_hidden(path.name):
                continue
            if is_picture_name(path.name):
                self.reading.report.images_read += 1
                self._note("dropped", "no_class_folder", "the picture lies beside the folders of the classes", path)
            else:
                self._note("warning", "not_a_picture", f"{path.name} is not a picture; it is left out", path)

    def _note(self, severity: str, reason: str, message: str, path: Path) -> None:
        self.reading.note(Problem(severity, reason, message), path, subject="image")  # type: ignore[arg-type]


def _parts(source: Path) -> list[tuple[Path, Part | None]]:
    """The folders above the classes: the parts, or the source itself."""
    parts = part_folders(source)
    if len(parts) == len(subfolders(source)) and any(subfolders(folder) for folder, _ in parts):
        return [(folder, part if len(parts) > 1 else None) for folder, part in parts]
    return [(source, None)]


def _files(folder: Path, *, pictures_only: bool = False) -> Iterator[Path]:
    """All files under a folder that are not hidden, by name; linked folders are followed once."""
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if not is_hidden(name) and (is_picture_name(name) or not pictures_only):
                yield Path(place, name)
