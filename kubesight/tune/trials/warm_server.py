"""The server of warm workers: it has a trainer and its framework imported, and forks a process for each command.

`kubesight.tune.trials.warm` starts it as `python -m kubesight.tune.trials.warm_server SOCKET FRAMEWORK`, with one end
of a socket pair. Over it go JSON lines: in come commands, `{"id", "arguments", "env", "cwd", "stdout"}`; out go
`{"ready"}` once all is imported, `{"id", "pid"}` from each forked process once signals reach it, and `{"id", "code"}`
when it has ended. When the other end is closed, all that runs is killed and the server ends.

Nothing here may start a thread, run anything of OpenMP or ask for a GPU: a forked process would inherit a broken copy.

`tune` starts `train` by its command and does not import it. So the modules are named here by strings: they are what
that command, run in the forked process, would import a moment later.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from typing import Any

from kubesight.tune.trials.processes import has_ended, signal_group

_COMMAND = "kubesight.cli.main"
_PRELOADED = (_COMMAND, "kubesight.train.trainer")
_TRAINERS = {"torch": "kubesight.train.torch_training", "tensorflow": "kubesight.train.keras.training"}
_PR_SET_PDEATHSIG = 1


def serve(connection: socket.socket, framework: str) -> None:
    """Fork a process for each command that comes, until the other end is closed."""
    for name in _PRELOADED:
        importlib.import_module(name)
    with suppress(ModuleNotFoundError):  # images have one framework each; a command that needs the other says so
        importlib.import_module(_TRAINERS[framework])
    # What is there now is never garbage. Left alone, its pages stay shared with the forked processes.
    gc.collect()
    gc.freeze()
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    _send(connection, {"ready": os.getpid()})
    running: dict[int, int] = {}
    try:
        _loop(connection, woken, running)
    finally:
        for pid in running:
            signal_group(pid, signal.SIGKILL)


def _loop(connection: socket.socket, woken: socket.socket, running: dict[int, int]) -> None:
    """Answer the socket and the ends of processes; `running` is process to id."""
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    buffer = b""
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if woken in ready:
            woken.recv(4096)
            _reap(connection, running)
        if connection in ready:
            if not (received := connection.recv(1 << 16)):
                return
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                command = json.loads(line)
                running[_fork(connection, command)] = command["id"]


def _reap(connection: socket.socket, running: dict[int, int]) -> None:
    for pid in [pid for pid in running if has_ended(pid)]:
        # As when a container ends: nothing that the process started outlives it.
        signal_group(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _send(connection, {"id": running.pop(pid), "code": code})


def _fork(connection: socket.socket, command: dict[str, Any]) -> int:
    server = os.getpid()
    with warnings.catch_warnings():
        # Of NumPy's linear algebra there may be threads, which OpenBLAS itself ends before a fork and starts after it.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _become(connection, command, server)
        code = _run(command["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)
    raise AssertionError  # `_leave` does not return


def _become(connection: socket.socket, command: dict[str, Any], server: int) -> None:
    """Make this forked process what a new one would be: session, signals, environment, folder, output, threads."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os.kill(os.getpid(), signal.SIGKILL)
    output = os.open(command["stdout"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(command["env"])
    os.chdir(command["cwd"])
    _set_threads(command["env"].get("OMP_NUM_THREADS"))
    _send(connection, {"id": command["id"], "pid": os.getpid()})
    connection.close()


def _set_threads(asked: str | None) -> None:
    """Follow OMP_NUM_THREADS, which libgomp read when the server loaded it, before this command's was known."""
    torch = sys.modules.get("torch")
    if torch and asked and asked.isascii() and asked.isdigit() and int(asked):
        torch.set_num_threads(int(asked))


def _run(arguments: list[str]) -> int:
    """The command line's own exit code."""
    sys.argv = ["kubesight", *arguments]
    try:
        importlib.import_module(_COMMAND).main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    return 0


def _leave(code: int) -> None:
    """End as the interpreter does, without taking apart module by module what the server still needs."""
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end, sys.argv[2])
