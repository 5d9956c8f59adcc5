"""Where a picture is: a local path, a file URI, or an address elsewhere."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme(url: str) -> str:
    """The part before `://` in lower case, or an empty string for a path."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def is_remote(url: str) -> bool:
    """Whether the address is not a file of this machine."""
    return scheme(url) not in ("", "file")


def local_path(url: str) -> Path | None:
    """The path that a path or file URI names; None for another address."""
    kind = scheme(url)
    if kind == "file":
        return Path(unquote(urlsplit(url).path))
    return None if kind else Path(url)


def absolute_url(path_or_url: str, root: Path) -> str:
    """An address that does not depend on where it is read.

    Args:
        path_or_url: an address as it is, or a path, which may be relative to `root` and written with backslashes.
        root: the folder that relative paths start from.

    Returns:
        the address unchanged, or an absolute path without `.` and `..`.
    """
    if scheme(path_or_url):
        path = local_path(path_or_url)
        return path_or_url if path is None else str(path)
    path = root / path_or_url
    if "\\" in path_or_url and not path.exists():
        path = root / path_or_url.replace("\\", "/")
    return os.path.normpath(Path.cwd() / path)


def map_prefix(url: str, prefixes: Mapping[str, str]) -> str:
    """Put the longest matching prefix's replacement in its place; an address that none matches stays as it is."""
    matching = [prefix for prefix in prefixes if url.startswith(prefix)]
    if not matching:
        return url
    longest = max(matching, key=len)
    rest = url[len(longest) :]
    replacement = prefixes[longest]
    if rest and not rest.startswith("/") and not replacement.endswith("/"):
        replacement += "/"
    return replacement + rest
