"""Files of weights, wherever they are: a path, a `file://` or `https://` URL. Imports no framework."""

import contextlib
import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Literal
from urllib.parse import unquote, urlsplit

from kubesight.errors import ModelError
from kubesight.storage.files import atomic_file, sha256_file

NO_DOWNLOAD_HINT = (
    "Set weights to none to start from random ones, or to the path of a file of weights (weights: /path/to/file)."
)
_PROBE_SECONDS = 5
_DOWNLOAD_SECONDS = 30
_log = logging.getLogger("kubesight")


def cache_folder() -> Path:
    """Where kubesight keeps what it can make or fetch again: `$KUBESIGHT_CACHE`, by default `~/.cache/kubesight`."""
    return Path(os.environ.get("KUBESIGHT_CACHE") or "~/.cache/kubesight").expanduser()


def probe(url: str) -> None:
    """Raise an OSError unless something answers at `url` within a few seconds."""
    with contextlib.suppress(urllib.error.HTTPError):  # it answered
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PROBE_SECONDS).close()


def fetch(weights: str) -> tuple[Path, Literal["path", "url"]]:
    """The local file of a path, `file://` or `https://` URL; downloads are kept in the cache folder.

    Downloads are kept in `weights` there, a file a URL.

    Raises:
        ModelError: there is no such file, or it cannot be downloaded.
    """
    parts = urlsplit(weights)
    if parts.scheme in ("https", "http"):
        return _download(weights), "url"
    if parts.scheme not in ("", "file"):
        raise ModelError(
            f"weights cannot be read from {parts.scheme}:// URLs", where=weights,
            hint="Copy the file here and name its path, or give an https:// URL.",
        )  # fmt: skip
    path = Path(unquote(parts.path)) if parts.scheme else Path(weights).expanduser()
    if not path.is_file():
        raise ModelError(
            "no file of weights here", where=str(path),
            hint="weights takes default, none, a file, a URL, or a folder with a modelcard.json.",
        )  # fmt: skip
    return path, "path"


def _download(url: str) -> Path:
    name = Path(unquote(urlsplit(url).path)).name or "weights"
    path = cache_folder() / "weights" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    if not path.is_file():
        with atomic_file(path) as stream:
            copy_url(url, stream)
        _log.info("downloaded %s to %s, sha256 %s", url, path, sha256_file(path))
    return path


def copy_url(url: str, stream: IO[bytes], *, hint: str = NO_DOWNLOAD_HINT) -> None:
    """Write what a URL gives to a file that is open.

    Args:
        url: the address.
        stream: gets the bytes, from where it stands.
        hint: what to do when there is no way to it.

    Raises:
        ModelError: nothing answers within half a minute, it answers with an error, or the connection ends too soon.
    """
    start = stream.tell()
    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_SECONDS) as answer:
            shutil.copyfileobj(answer, stream)
            length = answer.headers.get("Content-Length")
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: no address
        raise ModelError(f"cannot be downloaded: {error}", where=url, hint=hint) from error
    # Reading in parts does not tell a connection that broke from one that ended.
    if length is not None and stream.tell() - start != int(length):
        count = stream.tell() - start
        raise ModelError(f"the connection ended after {count} of {length} bytes", where=url, hint="Try again.")
