"""Local files and folders: written under a temporary name, then renamed."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from kubesight.errors import StorageError


@contextlib.contextmanager
def atomic_file(path: Path | str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it, on failure remove it.

    Args:
        path: the final name; its folder is made when missing.
        mode: `wb`, `w+b` to read it again before it is renamed, or `w`.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    except OSError as error:
        raise _storage_error(error, path) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _storage_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str, *, marker: str) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; on success it takes the place of `path`, on failure it goes.

    Args:
        path: the final name. An existing folder is replaced only when it is empty or holds `marker`.
        marker: the file that tells a folder of this kind (`dataset.json`, `modelcard.json`, `metrics.json`).

    Raises:
        StorageError: `path` is something else of the user's, or cannot be written.
    """
    path = Path(path).absolute()
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / marker).exists())):
        raise StorageError(
            "the output exists and is not one that this command wrote, so it is not replaced",
            where=str(path),
            hint="Name another output, or remove that one.",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise _storage_error(error, path) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        old = temporary.with_suffix(".old")
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _storage_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_partials(folder: Path | str) -> None:
    """Remove what writers that were killed have left in a folder.

    Args:
        folder: nobody else writes in it now; one that is not there has nothing.
    """
    for left in Path(folder).glob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Keys keep their order; `nan` becomes `null`."""
    with atomic_file(path) as stream:
        stream.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        StorageError: it is missing, unreadable or not JSON.
    """
    try:
        return orjson.loads(Path(path).read_bytes())
    except OSError as error:
        raise _storage_error(error, Path(path)) from error
    except orjson.JSONDecodeError as error:
        raise StorageError(f"not JSON: {error}", where=f"{path}, line {error.lineno}") from error


def sha256_file(path: Path | str) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _storage_error(error: OSError, path: Path) -> StorageError:
    return StorageError(error.strerror or str(error), where=str(error.filename or path))
