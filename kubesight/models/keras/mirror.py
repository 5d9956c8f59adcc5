"""A mirror of Keras's weights: a folder, or what serves it, with the files under Keras's names and `index.json`.

`index.json` has an entry for each file: `{FILE: {"sha256": ..., "bytes": ..., "url": ..., "licence": ...}}`.
"""

import io
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from kubesight.errors import ModelError
from kubesight.models.files import copy_url, probe
from kubesight.models.keras.official import OFFICIAL, OfficialFile, check, official_file
from kubesight.models.names import find_model
from kubesight.storage.files import atomic_file, remove_partials, write_json
from kubesight.storage.locks import locked

INDEX_FILE = "index.json"
_log = logging.getLogger("kubesight")

Index = dict[str, dict[str, Any]]


class Source:
    """Where official files are copied from: a folder or an `https://` prefix that has them under Keras's names.

    Args:
        where: its path or URL; what follows a `?` is kept behind each file's name.

    Raises:
        ModelError: it is neither.
    """

    def __init__(self, where: str) -> None:
        """Tell a folder from a URL."""
        parts = urlsplit(where)
        self.where = where
        self.folder: Path | None = None
        if parts.scheme in ("", "file"):
            self.folder = Path(unquote(parts.path) if parts.scheme else where).expanduser()
            if not self.folder.is_dir():
                raise ModelError("no folder here", where=where, hint="Name a folder of files of weights, or its URL.")
        elif parts.scheme not in ("http", "https"):
            raise ModelError(
                f"weights cannot be read from {parts.scheme}:// URLs", where=where,
                hint="Name a folder, or an https:// URL.",
            )  # fmt: skip

    def address(self, file: str) -> str:
        """The path or URL of one of its files."""
        if self.folder is not None:
            return str(self.folder / file)
        parts = urlsplit(self.where)
        return parts._replace(path=f"{parts.path.rstrip('/')}/{file}").geturl()

    def index(self) -> Index:
        """What its `index.json` says.

        Raises:
            ModelError: there is none, or it is no index.
        """
        text = io.BytesIO()
        try:
            self.copy(INDEX_FILE, text)
        except ModelError as error:
            error.hint = "`kubesight weights MODEL --output DIR` makes a mirror, with its index."
            raise
        where = self.address(INDEX_FILE)
        try:
            found = json.loads(text.getvalue())
        except ValueError as error:
            raise ModelError(f"not JSON: {error}", where=where) from error
        if not isinstance(found, dict) or not all(
            isinstance(entry, dict) and isinstance(entry.get("sha256"), str) for entry in found.values()
        ):
            raise ModelError("not an index of weights: every entry needs a sha256", where=where)
        return found

    def recorded(self) -> Index:
        """What its `index.json` says, nothing where it has none: for folders that are no mirrors."""
        try:
            return self.index()
        except ModelError:
            return {}

    def copy(self, file: str, stream: IO[bytes]) -> None:
        """Write one of its files to a file that is open.

        Raises:
            ModelError: there is none, or it cannot be had.
        """
        where = self.address(file)
        if self.folder is None:
            return copy_url(where, stream)
        try:
            with open(where, "rb") as given:
                shutil.copyfileobj(given, stream)
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", where=where) from error


@dataclass(frozen=True)
class Kept:
    """A file that a mirror has: its name, size in bytes, SHA-256, and whether it was fetched just now."""

    file: str
    bytes: int
    sha256: str
    fetched: bool


def mirror(names: Sequence[str], output: Path | str, source: str | None = None) -> list[Kept]:
    """Make or extend a mirror.

    Started again after an interruption, it goes on with what is missing.

    Args:
        names: models, names of official files, or `all`.
        output: the folder.
        source: where the files come from: another mirror, or a folder or URL that has them under Keras's names, such
            as `~/.keras/models`; Keras's own addresses without it.

    Raises:
        ModelError: a name is unknown or no keras model's, a file cannot be had, or it or one that is here already is
            not what it should be.
    """
    wanted = _wanted(names)
    origin = Source(source) if source else None
    theirs = origin.recorded() if origin else {}
    output = Path(output).expanduser()
    kept = []
    with locked(output / ".lock", f"another command writes to {output}: waiting for it"):
        remove_partials(output)
        index: Index = Source(str(output)).index() if (output / INDEX_FILE).exists() else {}
        for official in wanted:
            said = index.get(official.file) or theirs.get(official.file) or {}
            one = _keep(official, output, said.get("sha256"), origin)
            kept.append(one)
            index[one.file] = {
                "sha256": one.sha256, "bytes": one.bytes, "url": official.url, "licence": official.licence,
            }  # fmt: skip
            write_json(output / INDEX_FILE, dict(sorted(index.items())))
    return kept


def _wanted(names: Sequence[str]) -> list[OfficialFile]:
    """The files of all names, each once."""
    found: dict[str, OfficialFile] = {}
    for name in names:
        if name == "all":
            found |= OFFICIAL
            continue
        official = OFFICIAL.get(name)
        if official is None:
            spec = find_model(name)
            if spec.framework != "tensorflow" or spec.size is None:
                raise ModelError(
                    f"{name} is no model of keras.applications; the weights of other models are not mirrored here",
                    where="kubesight weights", hint="`kubesight models` lists the names.",
                )  # fmt: skip
            official = official_file(spec, spec.size)
        found[official.file] = official
    return list(found.values())


def _keep(official: OfficialFile, output: Path, recorded: str | None, origin: Source | None) -> Kept:
    """Have one file in the mirror's folder, and say what it is."""
    path = output / official.file
    there = path.is_file() and (recorded or official.hash) is not None
    if there:
        try:
            with open(path, "rb") as stream:
                digest = check(stream, official, recorded, str(path))
        except ModelError as error:
            error.hint = "Remove this file, and it is fetched anew."
            raise
    else:
        digest = fetch_official(official, path, recorded, origin)
    return Kept(official.file, path.stat().st_size, digest, not there)


def fetch_official(official: OfficialFile, path: Path, recorded: str | None, source: Source | None) -> str:
    """Put one official file in place once it is complete and proves right; return its SHA-256.

    Args:
        official: which.
        path: where to; what is there is replaced.
        recorded: the SHA-256 that a mirror has of it.
        source: where from; Keras's own address without it, which is tried for a few seconds before it counts as out of
            reach.

    Raises:
        ModelError: it cannot be had, or is not what it should be.
    """
    where = source.address(official.file) if source else official.url
    with atomic_file(path, "w+b") as stream:
        if source:
            source.copy(official.file, stream)
        else:
            try:
                probe(official.url)
            except OSError as error:
                raise ModelError(f"cannot be downloaded: {error}", where=official.url) from error
            copy_url(official.url, stream)
        stream.seek(0)
        digest = check(stream, official, recorded, where)
    _log.info("%s: %d bytes from %s, sha256 %s", official.file, path.stat().st_size, where, digest)
    if official.hash is None and recorded is None:
        _log.info("%s: Keras publishes no hash of this file, so nothing shows that it is the right one", official.file)
    return digest
