"""A trial's command as a process of this machine, ended as a container is: with all that it started."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kubesight.errors import JobError


class TrialProcess(Protocol):
    """A running command of a trial."""

    @property
    def pid(self) -> int:
        """The process's number, which is its process group's and its session's too."""

    def poll(self) -> int | None:
        """The exit code; None while it runs, minus the signal's number when a signal ended it."""

    def terminate(self) -> None:
        """Ask it to end: SIGTERM to its process group. Nothing happens when it has ended."""

    def kill(self) -> None:
        """End it at once: SIGKILL to its process group. Nothing happens when it has ended."""


def start(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: Path) -> TrialProcess:
    """Start a command in a session of its own, so that signals to this process do not reach it.

    Args:
        argv: the command and its arguments; looked for in the PATH of `env`.
        env: its whole environment.
        cwd: its working folder.
        stdout: where its standard output and standard error go, one behind the other, after what is there already.

    Raises:
        JobError: there is no such command, it may not be run, or the folder or the file cannot be used.
    """
    try:
        with open(stdout, "ab") as stream:
            process = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise JobError(
            f"the command cannot be started: {error.strerror}",
            where=str(error.filename or argv[0]),
            hint="A trial's command runs on this machine as it is: install it here, or name its full path.",
        ) from error
    return _Started(process)


class _Started:
    """A process that this one started and must reap."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        if self._process.returncode is None and has_ended(self.pid):
            # Before reaping: until then the number cannot go to another process.
            signal_group(self.pid, signal.SIGKILL)
            self._process.wait()
        return self._process.returncode

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            signal_group(self.pid, number)


def has_ended(pid: int) -> bool:
    """Whether a child of this process has ended; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def signal_group(pid: int, number: int) -> None:
    """Send a signal to all processes of a group; to none when there is none any more."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
