"""Warm workers: trials of our own command run in processes forked from one that has their framework imported already.

Importing torch or TensorFlow and the trainer takes seconds; on two cores it is most of what a short training costs.
"""

import json
import logging
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubesight.errors import JobError
from kubesight.tune.trials.processes import TrialProcess, signal_group, start
from kubesight.tune.trials.slots import visible_gpus
from kubesight.tune.trials.training import framework_of

log = logging.getLogger("kubesight")

_SECONDS_TO_IMPORT = 180.0
_SECONDS_TO_FORK = 60.0
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")
_PART = r"""(?:[A-Za-z0-9_@%+=:,./^-]|'[^']*'|"[^"\\$`!\n]*")"""
_BLANK = r"(?:[ \t]+(?:\\\n[ \t]*)*)"
_COMMAND_LINE = re.compile(rf"{_PART}+(?:{_BLANK}{_PART}+)*")

# Read when they are asked for, or set by the server itself; every other variable may be read by some library as it is
# imported, and has no effect on a process that is forked later.
_READ_LATE = re.compile(
    r"CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|OMP_NUM_THREADS|TF_NUM_\w*|KUBESIGHT_\w*|KATIB_\w*|PWD|OLDPWD|_|SHLVL"
)


def warm_arguments(argv: Sequence[str]) -> list[str] | None:
    """The arguments of a command that is `kubesight` and nothing else, so that a warm worker can run it.

    Args:
        argv: `kubesight ...`, or `sh -c "kubesight ..."` (or bash). The shell's text may hold plain words and quotes;
            whatever a shell would do more with (variables, patterns, several commands, redirections) is left to it.

    Returns:
        what follows `kubesight`, or None.
    """
    words: Sequence[str] = argv
    if len(argv) == 3 and argv[0] in _SHELLS and argv[1] == "-c":
        text = argv[2].strip()
        if not _COMMAND_LINE.fullmatch(text):
            return None
        words = ["".join(map(_unquoted, re.findall(_PART, word))) for word in re.findall(rf"{_PART}+", text)]
    return list(words[1:]) if words and words[0] == "kubesight" else None


def _unquoted(part: str) -> str:
    return part[1:-1] if part[0] in "'\"" else part


class WarmWorkers:
    """Runs `kubesight` commands in forked processes. To be used from one thread.

    A trial of another framework than the server's, or whose environment differs from it in a variable that a library
    may have read while it was imported, gets a server of its own kind when nothing else runs, else a plain process.
    TensorFlow's trials on GPUs are always plain processes: only torch says that its import leaves the driver alone.
    """

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._server: _Server | None = None
        self._usable = True

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def start(self, env: Mapping[str, str] | None = None, framework: str = "torch") -> None:
        """Start the server, without waiting for it; `run` does it too.

        Args:
            env: the environment of the trials to come; None is this process's.
            framework: of the trials to come, `torch` or `tensorflow`.
        """
        self.close()
        self._server = _Server(os.environ if env is None else env, framework)

    def run(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: Path) -> TrialProcess:
        """Run `kubesight ARGUMENTS`; see `kubesight.tune.processes.start` for the rest.

        The first call waits until the server has imported all. A trial whose server dies ends with -9, and its output
        says why; the next one gets a new server. When there can be no server, plain processes are started.

        Raises:
            JobError: the folder or the file cannot be used.
        """
        _check_usable(cwd, stdout)
        server = self._fitting(env, framework_of(arguments))
        if server is not None and (process := server.run(arguments, env, cwd, stdout)) is not None:
            return process
        command = [sys.executable, "-m", "kubesight.cli.main", *arguments]
        return start(command, env=env, cwd=cwd, stdout=stdout)

    def close(self) -> None:
        """Kill what still runs, and end the server."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _fitting(self, env: Mapping[str, str], framework: str) -> "_Server | None":
        """The server for this environment and framework, ready; None when a plain process must do."""
        if not self._usable or (framework == "tensorflow" and visible_gpus(env)):
            return None
        server, kind = self._server, (_early(env), framework)
        if server is None or not server.is_alive() or (server.kind != kind and not server.running):
            self.start(env, framework)
            server = self._server
        if server is None or server.kind != kind:
            return None
        if not server.wait_ready():
            log.warning(
                "warm workers cannot be started; every trial imports its framework anew: %s", server.complaint()
            )
            self._usable = False
            self.close()
            return None
        return server


def _early(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be read while libraries are imported."""
    return {name: value for name, value in env.items() if not _READ_LATE.fullmatch(name)}


def _check_usable(cwd: Path, stdout: Path) -> None:
    try:
        os.listdir(cwd)
        open(stdout, "ab").close()
    except OSError as error:
        raise JobError(f"the command cannot be started: {error.strerror}", where=str(error.filename)) from error


class _WarmProcess:
    """A process that the server forked and reaps."""

    def __init__(self, server: "_Server", stdout: Path) -> None:
        self._server = server
        self.stdout = stdout
        self.pid = 0
        self.code: int | None = None

    def poll(self) -> int | None:
        self._server.receive(0)
        return self.code

    def terminate(self) -> None:
        self._signal(15)

    def kill(self) -> None:
        self._signal(9)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            signal_group(self.pid, number)


class _Server:
    """The other end of `kubesight.tune.trials.warm_server`."""

    def __init__(self, env: Mapping[str, str], framework: str) -> None:
        self.kind = (_early(env), framework)
        self.running: dict[int, _WarmProcess] = {}
        self._ready = False
        self._buffer = b""
        self._number = 0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (`close` closes it)
        self._socket, other = socket.socketpair()
        # One thread of NumPy's linear algebra is enough for metrics, and none need be started anew in each process.
        # Without OMP_NUM_THREADS there are as many as cores, which a trial's own value then changes.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kubesight.tune.trials.warm_server", str(other.fileno()), framework],
            env={**self.kind[0], "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            pass_fds=[other.fileno()],
            start_new_session=True,
        )
        other.close()
        self._closed = False

    def is_alive(self) -> bool:
        self.receive(0)
        return not self._closed

    def wait_ready(self) -> bool:
        end = time.monotonic() + _SECONDS_TO_IMPORT
        while not self._ready and not self._closed and (left := end - time.monotonic()) > 0:
            self.receive(left)
        return self._ready and not self._closed

    def run(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, stdout: Path) -> _WarmProcess | None:
        """Have it fork; None when it does not answer."""
        self._number += 1
        process = self.running[self._number] = _WarmProcess(self, stdout)
        command = {
            **{"id": self._number, "arguments": list(arguments), "env": dict(env)},
            **{"cwd": str(cwd.absolute()), "stdout": str(stdout.absolute())},
        }
        try:
            self._socket.sendall(json.dumps(command).encode() + b"\n")
        except OSError:
            del self.running[self._number]
            self._lost()
            return None
        end = time.monotonic() + _SECONDS_TO_FORK
        while not process.pid and process.code is None and (left := end - time.monotonic()) > 0:
            self.receive(left)
        if not process.pid and process.code is None:
            self._lost()
        return process

    def receive(self, seconds: float) -> None:
        """Take in what the server says, waiting that long for the first word."""
        while not self._closed and select.select([self._socket], [], [], seconds)[0]:
            seconds = 0
            received = self._socket.recv(1 << 16)
            if not received:
                self._lost()
                return
            *lines, self._buffer = (self._buffer + received).split(b"\n")
            for line in lines:
                self._understand(json.loads(line))

    def _understand(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready = True
        elif "pid" in message:
            self.running[message["id"]].pid = message["pid"]
        else:
            self.running.pop(message["id"]).code = message["code"]

    def _lost(self) -> None:
        """It has died: all that it ran died with it."""
        if self._closed:
            return
        self._end()
        for process in self.running.values():
            if process.pid:
                signal_group(process.pid, 9)  # what the trial had started itself
            process.code = -9
            with open(process.stdout, "a", encoding="utf-8") as stream:
                stream.write(f"error: the server of warm workers died, and this trial with it. {self.complaint()}\n")
        self.running.clear()

    def complaint(self) -> str:
        """How it ended and the last it said."""
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip().splitlines()[-1:]
        return " ".join([f"Its exit code was {self._process.returncode}.", *words])

    def close(self) -> None:
        if not self._closed:
            self._end()
        for process in self.running.values():
            process.code = -9
        self.running.clear()
        self._said.close()

    def _end(self) -> None:
        """Close our end, upon which it kills what runs and ends."""
        self._closed = True
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
