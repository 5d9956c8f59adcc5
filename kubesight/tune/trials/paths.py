"""The paths of a trial's container, replaced by folders of this machine inside its command."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kubesight.errors import JobError
from kubesight.tune.records import METRICS_FILE

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Collector
    from kubesight.tune.katib.template import TrialCommand

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
_SCRIPT_FLAG = re.compile(r"-[a-z]*c")
_MEMORY = "/dev/shm"
# What may stand before a whole path: a path that follows one of these characters is the rest of a longer one.
_START = r"(?<![\w.\-/~})*\]])"
_FILE_URL = r"(?<=file://)"
# `metrics.log.1` and `/database` are other paths than `metrics.log` and `/data`; a full stop may end a sentence.
_END = r"(?![\w\-]|\.\w)"
_HARMLESS = re.compile(r"[\w@%+=:,./\-]")


def local_paths(
    command: "TrialCommand", collector: "Collector", folder: Path, volumes: Mapping[str, Path]
) -> dict[str, Path]:
    """Where on this machine each path of the container lies.

    The metrics file and emptyDir volumes get places in the trial's folder; memory volumes stay. A claim gets the folder
    that was given for it; without one its mount path must exist here.

    Args:
        command: with its volumes.
        collector: whose file is the metrics file.
        folder: the trial's.
        volumes: for claims, the folders that hold their files.

    Raises:
        JobError: a claim is not known, and its mount path does not exist here.
    """
    found: dict[str, Path] = {}
    for mount, source in command.volumes.items():
        path = mount.rstrip("/") or "/"
        if source == "emptyDir":
            if not f"{path}/".startswith(f"{_MEMORY}/"):
                found[path] = folder / "volumes" / (path.strip("/").replace("/", "-") or "root")
            continue
        claim, _, inner = source.partition("/")
        if claim in volumes:
            found[path] = volumes[claim].absolute() / inner
        elif not Path(path).exists():
            raise JobError(
                f"the volume claim {claim} is mounted at {path}, which does not exist on this machine",
                where="spec.trialTemplate.trialSpec",
                hint=f"Name the folder that holds its files by --volume {claim}=FOLDER.",
            )
    if collector.kind == "File" and collector.path:
        found[str(PurePosixPath(collector.path))] = folder / METRICS_FILE
    return found


def check_volumes(command: "TrialCommand", volumes: Mapping[str, Path]) -> None:
    """Refuse `--volume` of a claim that no trial mounts, or of a folder that is not there.

    Raises:
        JobError: either.
    """
    claims = {source.partition("/")[0] for source in command.volumes.values() if source != "emptyDir"}
    for claim, folder in volumes.items():
        if claim not in claims:
            known = f"They mount {', '.join(sorted(claims))}." if claims else "They mount none."
            raise JobError(f"no trial mounts a volume claim {claim!r}", where="--volume", hint=known)
        if not folder.is_dir():
            raise JobError(f"{folder} is no folder", where=f"--volume {claim}")


def localize(argv: tuple[str, ...], paths: Mapping[str, Path]) -> list[str]:
    """A command with paths of the container replaced, a shell's text with the quoting that each place needs."""
    script = script_index(argv)
    return [
        _replace_in_script(word, paths) if index == script else replace_paths(word, paths)
        for index, word in enumerate(argv)
    ]


def replace_paths(text: str, paths: Mapping[str, Path]) -> str:
    """Text with every whole path of `paths`, or one below it, replaced: `/data/x` by `/data`, but not `/database`."""
    pattern = _pattern(paths)
    return text if pattern is None else pattern.sub(lambda found: str(paths[found[0]]), text)


def _replace_in_script(text: str, paths: Mapping[str, Path]) -> str:
    pattern = _pattern(paths)
    if pattern is None:
        return text
    parts, end, quotes = [], 0, [""]
    for found in pattern.finditer(text):
        quotes = _quotes_after(text[end : found.start()], quotes)
        parts += [text[end : found.start()], _escaped(str(paths[found[0]]), quotes[-1])]
        end = found.end()
    return "".join([*parts, text[end:]])


def _pattern(paths: Mapping[str, Path]) -> re.Pattern[str] | None:
    """One expression for all, the longest first, so that nothing is replaced twice."""
    ordered = sorted(paths, key=len, reverse=True)
    if not ordered:
        return None
    return re.compile(f"(?:{_START}|{_FILE_URL})(?:{'|'.join(map(re.escape, ordered))}){_END}", re.ASCII)


def script_index(argv: tuple[str, ...]) -> int | None:
    """Which argument is a shell's text: `sh -c TEXT`, `/bin/bash -ec TEXT`."""
    if not argv or PurePosixPath(argv[0]).name not in _SHELLS:
        return None
    for index, word in enumerate(argv[1:-1], start=1):
        if _SCRIPT_FLAG.fullmatch(word):
            return index + 1
    return None


def _quotes_after(text: str, quotes: list[str]) -> list[str]:
    """Inside which quotes a shell is after `text`, when it was inside `quotes` before.

    A single, a double or no quote for the text itself, and one more for every `$(` that is open; the last one counts.
    """
    quotes, escaped, before = list(quotes), False, ""
    for character in text:
        quote = quotes[-1]
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote != "'" and character == "(" and (before == "$" or (len(quotes) > 1 and not quote)):
            quotes.append("")
        elif character == ")" and len(quotes) > 1 and not quote:
            quotes.pop()
        elif character == quote:
            quotes[-1] = ""
        elif character in "'\"" and not quote:
            quotes[-1] = character
        before = character
    return quotes


def _escaped(path: str, quote: str) -> str:
    """A path as a shell reads it inside those quotes."""
    if quote == "'":
        return path.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'([\\"$`])', r"\\\1", path)
    return "".join(character if _HARMLESS.match(character) else f"\\{character}" for character in path)
