"""Trials that outlived a runner which was killed: ended before they are started again.

Two processes of one trial would write into one folder. Every trial leads a session of its own, so that all that it has
started can be found; its number alone would not do, since numbers are used again.
"""

import logging
import signal
import time
from contextlib import suppress
from pathlib import Path

from kubesight.tune.trials.processes import signal_group

log = logging.getLogger("kubesight")

PROCESS_FILE = "process"

_PROC = Path("/proc")
_SECONDS = 30.0
_STATE, _SESSION, _START = 0, 3, 19  # fields of /proc/PID/stat behind the command's name (proc(5))


def remember(folder: Path, pid: int) -> None:
    """Write down which process a trial is; where that cannot be done, a leftover will not be found."""
    fields = _fields(pid)
    if fields:
        with suppress(OSError):
            (folder / PROCESS_FILE).write_text(f"{pid} {fields[_START]}\n")


def end_leftover(folder: Path, name: str) -> None:
    """End what an earlier run has left of a trial: SIGTERM, and SIGKILL after 30 s.

    Args:
        folder: the trial's.
        name: the trial's; its processes have it in their environment.
    """
    try:
        pid, start = (folder / PROCESS_FILE).read_text().split()
    except (OSError, ValueError):
        return
    if not _is_ours(int(pid), start, name):
        return
    log.warning("%s is still running from an earlier, killed run; it is ended and goes on anew", name)
    signal_group(int(pid), signal.SIGTERM)
    end = time.monotonic() + _SECONDS
    while _session(int(pid)):
        if time.monotonic() > end:
            signal_group(int(pid), signal.SIGKILL)
            end += _SECONDS
        time.sleep(0.05)


def _is_ours(pid: int, start: str, name: str) -> bool:
    """Whether a session is the trial's: by its leader's start, or, when that has ended, by its environment."""
    leader = _fields(pid)
    if leader:
        return leader[_START] == start and bool(_session(pid))
    return any(_has_name(member, name) for member in _session(pid))


def _has_name(pid: int, name: str) -> bool:
    try:
        return f"KATIB_TRIAL_NAME={name}".encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for path in _PROC.glob("[0-9]*"):
        fields = _fields(int(path.name))
        if fields and fields[_SESSION] == str(leader) and fields[_STATE] not in "ZX":
            found.append(int(path.name))
    return found


def _fields(pid: int) -> list[str]:
    """What the kernel tells of a process; nothing when there is none (or no /proc)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()
