"""The formats that can be read: one class a file, found by name or recognised from what lies in the source."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from kubesight.convert.reading import COMMON_OPTIONS, Reading
from kubesight.dataset.rows import Row, Task
from kubesight.errors import DatasetError


class Reader(ABC):
    """Reads one source of one format.

    Subclasses say which `options` they know (name -> one line of help); `last_resort` is for a format without an
    annotation file, which is tried only when no other recognises the source.

    Args:
        reading: the source, the options, and where findings go.
    """

    options: ClassVar[Mapping[str, str]] = {}
    last_resort: ClassVar[bool] = False

    def __init__(self, reading: Reading) -> None:
        """Remember what to read; nothing is opened yet."""
        self.reading = reading

    @classmethod
    @abstractmethod
    def mismatch(cls, source: Path, options: Mapping[str, str]) -> str | None:
        """Why `source` is not of this format, in a few words; None when it is. Reads little."""

    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the labels can serve, first the one to take when the user names none.

        Raises:
            DatasetError: the source cannot be read, or its labels do not tell.
        """

    @abstractmethod
    def rows(self, task: Task) -> Iterator[Row]:
        """Stream the rows for `task`; whatever cannot be used becomes a finding."""

    @property
    def categories(self) -> Mapping[str, str]:
        """The source's own ids of classes, from id to name, known once the rows were read; empty when it has none."""
        return {}

    @property
    def root(self) -> Path:
        """The folder that the pictures lie under: what the content hash leaves out of their URLs."""
        return self.reading.source if self.reading.source.is_dir() else self.reading.source.parent


FORMATS: dict[str, type[Reader]] = {}


def register(name: str) -> Callable[[type[Reader]], type[Reader]]:
    """Make a reader known under `name` (`--format name`).

    Raises:
        ValueError: the name is taken.
    """

    def add(reader: type[Reader]) -> type[Reader]:
        if name in FORMATS:
            raise ValueError(f"the format {name!r} is registered twice: {FORMATS[name].__name__}, {reader.__name__}")
        FORMATS[name] = reader
        return reader

    return add


def find_format(source: Path, name: str, options: Mapping[str, str]) -> str:
    """The name of the format to read `source` with.

    Args:
        source: a file or folder that exists.
        name: a format's name, or `auto`.
        options: the user's options, which may name the annotation file.

    Raises:
        DatasetError: the name is unknown; no format recognises the source (each says why), or several do.
    """
    if name != "auto":
        if name not in FORMATS:
            raise DatasetError(f"unknown format {name!r}", hint=_nearest(name, ["auto", *FORMATS]))
        return name
    reasons: dict[str, str] = {}
    for last_resort in (False, True):
        found = []
        for candidate, reader in FORMATS.items():
            if reader.last_resort is last_resort:
                reason = reader.mismatch(source, options)
                found += [candidate] if reason is None else []
                reasons[candidate] = reason or ""
        if len(found) > 1:
            raise DatasetError(
                f"several formats fit: {', '.join(found)}",
                where=str(source),
                hint="Choose one with --format, or name the annotation file itself as the source.",
            )
        if found:
            return found[0]
    why = "; ".join(f"{candidate}: {reason}" for candidate, reason in reasons.items())
    raise DatasetError(
        f"no known annotation format is recognised here ({why})",
        where=str(source),
        hint="Point at the folder or file that holds the annotations, or force one with --format.",
    )


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Refuse options that the format does not know.

    Raises:
        DatasetError: with the nearest known name.
    """
    known = {**COMMON_OPTIONS, **FORMATS[name].options}
    for option in options:
        if option not in known:
            raise DatasetError(f"the format {name!r} has no option {option!r}", hint=_nearest(option, list(known)))


def format_of(reader: Reader) -> str:
    """The name that a reader's class is registered under."""
    return next(name for name, known in FORMATS.items() if known is type(reader))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}."
