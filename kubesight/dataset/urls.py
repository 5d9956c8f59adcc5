"""Where a picture is: a local path, a file URI, or an address elsewhere."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

from kubesight.errors import DatasetError

# Two letters at least: `C:` is a drive, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_THIS_HOST = ("", "localhost")


def scheme(url: str) -> str:
    """The part before `://` in lower case, or an empty string for a path."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def is_remote(url: str) -> bool:
    """Whether the address is not a file of this machine."""
    return scheme(url) not in ("", "file")


def local_path(url: str) -> Path | None:
    """The path that a path or file URI names; None for another address.

    In a file URI `%` escapes are decoded, into bytes, so that names which are not UTF-8 survive; `#` and `?` belong to
    the name, since pictures have neither fragments nor queries. A plain path is taken letter by letter. Nothing is
    looked up on disk.

    Raises:
        DatasetError: a file URI that names another host.
    """
    if url[:5].lower() == "file:":
        return Path(_uri_path(url))
    return None if scheme(url) else Path(url)


def absolute_url(path_or_url: str, root: Path) -> str:
    """An address that does not depend on where it is read.

    Args:
        path_or_url: an address as it is, or a path, which may be relative to `root` and written with backslashes.
        root: the folder that relative paths start from.

    Returns:
        the address unchanged, or an absolute path without `.` and `..`, which are taken out of the text without
        following links. `..` may lead out of `root`: `../images/1.jpg` is what many annotation files say.

    Raises:
        DatasetError: a file URI that names another host.
    """
    named = local_path(path_or_url)
    if named is None:
        return path_or_url
    if path_or_url[:5].lower() == "file:":
        return os.path.normpath(Path.cwd() / named)
    path = root / path_or_url
    if "\\" in path_or_url and not path.exists():
        path = root / path_or_url.replace("\\", "/")
    return os.path.normpath(Path.cwd() / path)


def map_prefix(url: str, prefixes: Mapping[str, str]) -> str:
    """Replace the beginning of an address by a table, such as an Azure datastore by the folder it was copied to.

    The longest prefix wins. A prefix ends where a path segment ends, with or without its `/`: `azureml://a/paths` is
    no prefix of `azureml://a/paths2/1.jpg`. Schemes compare without regard to case (`AmlDatastore://`), all else with.

    Args:
        url: any address.
        prefixes: beginning -> what takes its place (a folder or a URL).

    Returns:
        The mapped address, or `url` itself when no prefix fits.
    """
    folded = _fold_scheme(url)
    for prefix in sorted(prefixes, key=len, reverse=True):
        beginning = _fold_scheme(prefix)
        if not beginning or not folded.startswith(beginning):
            continue
        rest = folded[len(beginning) :]
        if not rest or rest.startswith("/") or beginning.endswith("/"):
            return _join(prefixes[prefix], rest.lstrip("/"))
    return url


def _join(folder: str, rest: str) -> str:
    if not rest:
        return folder
    return folder + rest if folder.endswith("/") else f"{folder}/{rest}"


def _fold_scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[0].lower() + url[match.end() :] if match else url


def _uri_path(uri: str) -> str:
    rest = uri[5:]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in _THIS_HOST:
            raise DatasetError(
                f"a file on another machine, {host!r}, cannot be read",
                where=uri,
                hint="Write file:///PATH with three slashes, or a plain path.",
            )
        rest = slash + path
    return os.fsdecode(unquote_to_bytes(rest.encode("utf-8", "surrogateescape")))
