"""How annotation files and folders are laid out: parts by folder name, pictures by ending."""

import fnmatch
from collections.abc import Callable, Iterable
from pathlib import Path

from kubesight.dataset.rows import Part
from kubesight.errors import DatasetError

PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}

PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pnm"}
)

# Left by operating systems and notebooks beside pictures; never anybody's data.
_LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "@eaDir"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over: hidden, or litter of an operating system."""
    return name.startswith(".") or name in _LITTER


def is_picture_name(name: str) -> bool:
    """Whether the ending is that of a picture."""
    return Path(name).suffix.lower() in PICTURE_ENDINGS


def part_of(name: str) -> Part | None:
    """The part that a folder or file name tells: the whole name, or one of its words (`instances_val2017`)."""
    lowered = name.lower()
    if lowered in PART_NAMES:
        return PART_NAMES[lowered]
    words = "".join(c if c.isalpha() else " " for c in lowered).split()
    parts = {PART_NAMES[word] for word in words if word in PART_NAMES and word != "dev"}
    return parts.pop() if len(parts) == 1 else None


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder` that are not hidden, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def part_folders(source: Path) -> list[tuple[Path, Part]]:
    """The sub-folders named after parts (`train`, `valid`, `test`, ...); none when `source` is a file."""
    if not source.is_dir():
        return []
    return [
        (folder, PART_NAMES[folder.name.lower()]) for folder in subfolders(source) if folder.name.lower() in PART_NAMES
    ]


def files_in(folder: Path, endings: Iterable[str]) -> list[Path]:
    """The files directly in `folder` with one of these endings (lower case), by name, hidden ones left out."""
    wanted = tuple(endings)
    return sorted(
        path
        for path in folder.iterdir()
        if not is_hidden(path.name) and path.name.lower().endswith(wanted) and path.is_file()
    )


def annotation_files(
    source: Path, pattern: str | None, endings: Iterable[str], fits: Callable[[Path], bool]
) -> list[tuple[Path, list[Path]]]:
    """The folders that hold annotation files, with those files.

    The source itself comes first (it may be such a file), then `annotations/` in it, then its part folders.

    Args:
        source: a file or folder.
        pattern: a file name, perhaps with wildcards, that files in folders must match.
        endings: the endings, lower case, that files in folders must have.
        fits: whether a file is of the format.
    """
    if source.is_file():
        return [(source.parent, [source])] if fits(source) else []
    for group in ([source], [source / "annotations"], [folder for folder, _ in part_folders(source)]):
        found = []
        for folder in group:
            files = files_in(folder, endings) if folder.is_dir() else []
            found.append(
                (folder, [file for file in files if fnmatch.fnmatch(file.name, pattern or "*") and fits(file)])
            )
        if any(files for _, files in found):
            return [(folder, files) for folder, files in found if files]
    return []


def choose_files(
    source: Path, pattern: str | None, endings: Iterable[str], fits: Callable[[Path], bool]
) -> list[tuple[Path, Part | None]]:
    """The annotation files to read and the part that each is; see `annotation_files`.

    Several files in one folder are taken when their names tell different parts (`train.csv`, `valid.csv`). A single
    file is no part, whatever it is called.

    Raises:
        DatasetError: there is none, or one folder holds several and the user must choose.
    """
    found = annotation_files(source, pattern, endings, fits)
    if not found:
        which = f" that matches {pattern!r}" if pattern else ""
        raise DatasetError(f"no annotation file of this format{which}", where=str(source))
    if len(found) == 1 and len(found[0][1]) > 1:
        files = found[0][1]
        parts = [part_of(file.stem) for file in files]
        if None not in parts and len(set(parts)) == len(parts):
            return list(zip(files, parts, strict=True))
    for folder, files in found:
        if len(files) > 1:
            raise DatasetError(
                f"several annotation files: {', '.join(file.name for file in files)}",
                where=str(folder),
                hint="Name one of them as the source, or with --option annotations=NAME.",
            )
    if len(found) == 1:
        return [(found[0][1][0], None)]
    return [(files[0], part_of(folder.name)) for folder, files in found]


def picture_folders(file: Path) -> list[Path]:
    """Where the pictures of an annotation file are looked for: beside it, in `images/`, in `../train2017` and so on."""
    here, above, word = file.parent, file.parent.parent, file.stem.rpartition("_")[2]
    near = [here, here / "images", here / word, above / word, above / "images" / word, above / "images", above]
    return [folder for folder in near if folder.is_dir()]
