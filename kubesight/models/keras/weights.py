"""The published weights of a Keras network, put where Keras looks for them, so that it downloads nothing.

They come from the mirror that `KUBESIGHT_KERAS_WEIGHTS` names, from Keras's cache, or from Keras's own address, and are
checked each time. Imports no framework.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from kubesight.errors import ModelError
from kubesight.models.files import cache_folder
from kubesight.models.keras.mirror import Source, fetch_official
from kubesight.models.keras.official import OfficialFile, check, official_file
from kubesight.models.names import ModelSpec
from kubesight.storage.locks import locked

MIRROR_VARIABLE = "KUBESIGHT_KERAS_WEIGHTS"
_log = logging.getLogger("kubesight")


def place_weights(spec: ModelSpec, size: int) -> tuple[Path, dict[str, Any]]:
    """Have the published weights of a network, without its classifier, as a file on this machine.

    Processes that need the same file at a time wait for the one that gets it.

    Args:
        spec: the network.
        size: width and height of the pictures, in pixels.

    Returns:
        The file, unchanged; and the record of it: `source`, `detail` (its name), `sha256`, `licence`, `checked` (what
        it was checked by).

    Raises:
        ModelError: there are none of this network, they cannot be had, or they are not what they should be; it says
            how a mirror is made.
    """
    official = official_file(spec, size)
    address = os.environ.get(MIRROR_VARIABLE)
    source = Source(address) if address else None
    recorded = _recorded(source, official, spec) if source else None
    folder = writable_models_folder()
    with locked(folder / f".{official.file}.lock", f"another process gets {official.file}: waiting for it"):
        for path in dict.fromkeys((folder / official.file, keras_models_folder() / official.file)):
            digest = _right(path, official, recorded)
            if digest:
                break
        else:
            path = folder / official.file
            digest = _get(official, path, recorded, source, spec)
    checked = [f"the sha256 of {address}"] if recorded else []
    checked += ["the hash that Keras publishes"] if official.hash else []
    return path, {
        "source": "default", "detail": official.file, "sha256": digest, "licence": official.licence,
        "checked": " and ".join(checked) or "nothing: Keras publishes no hash of this file",
    }  # fmt: skip


def keras_models_folder() -> Path:
    """Where Keras keeps its weights: what it settled on when it was imported, or will settle on.

    Keras reads `KERAS_HOME` once, when it is imported, and otherwise takes `~/.keras`, or `/tmp/.keras` where the home
    folder is not writable.
    """
    config = sys.modules.get("keras.src.backend.config")
    if config is not None:
        home = config.keras_home()
    else:
        base = os.path.expanduser("~")
        home = os.environ.get("KERAS_HOME") or os.path.join(base if os.access(base, os.W_OK) else "/tmp", ".keras")
    return Path(home).expanduser() / "models"


def writable_models_folder() -> Path:
    """Where files are put: Keras's folder, or where that is not writable one of ours, which Keras is told of.

    Keras ignores a folder that it may read and not write, and would download to `/tmp/.keras`. A Keras that is already
    imported cannot be told of another folder; what loads the file by its path does not mind.

    Raises:
        ModelError: neither is writable.
    """
    folder = keras_models_folder()
    if _is_writable(folder):
        return folder
    ours = cache_folder() / "keras" / "models"
    if not _is_writable(ours):
        raise ModelError(
            f"neither {folder} nor {ours} can be written to, so there is no place for weights", where="weights",
            hint="Set KERAS_HOME or KUBESIGHT_CACHE to a folder that can.",
        )  # fmt: skip
    _log.info("%s is not writable, weights are put into %s", folder, ours)
    os.environ["KERAS_HOME"] = str(ours.parent)
    return ours


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    # Keras asks of the folder above whether it may write.
    return os.access(folder, os.W_OK) and os.access(folder.parent, os.W_OK)


def _recorded(source: Source, official: OfficialFile, spec: ModelSpec) -> str:
    """The mirror's SHA-256 of a file."""
    entry = source.index().get(official.file)
    if entry is None:
        raise ModelError(
            f"the mirror has no {official.file}, which {spec.name} starts from", where=source.where,
            hint=_ways(spec, official, source.where if source.folder else "DIR"),
        )  # fmt: skip
    return entry["sha256"]


def _right(path: Path, official: OfficialFile, recorded: str | None) -> str | None:
    """The SHA-256 of a file that is there and as it should be; None for any other."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as stream:
            return check(stream, official, recorded, str(path))
    except (ModelError, OSError) as error:
        _log.warning("%s; it is not used", error)
        return None


def _get(official: OfficialFile, path: Path, recorded: str | None, source: Source | None, spec: ModelSpec) -> str:
    """Put the file into Keras's folder, from the mirror or from Keras's own address."""
    if source is None:
        _log.info("%s is not in %s: trying Keras's own address", official.file, path.parent)
    try:
        return fetch_official(official, path, recorded, source)
    except ModelError as error:
        error.message = f"the weights of {spec.name}, {official.file}: {error.message}"
        error.hint = _ways(spec, official, "DIR")
        raise


def _ways(spec: ModelSpec, official: OfficialFile, folder: str) -> str:
    """What can be done where weights are missing."""
    usual = spec.size is not None and official_file(spec, spec.size) == official
    return (
        f"Where there is a network, run `kubesight weights {spec.name if usual else official.file} --output {folder}`, "
        f"and set {MIRROR_VARIABLE} to that folder, or to the https:// address that serves it; or set weights to none, "
        "or to a file of weights."
    )
