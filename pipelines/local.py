"""A pipeline run on this machine: the very components, each in a process of its own, without a cluster."""

import contextlib
import io
import logging
import os
import re
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from kfp import local
from kfp.dsl.base_component import BaseComponent
from kfp.local import subprocess_task_handler as handler

from kubesight import errors
from kubesight.errors import KubesightError

log = logging.getLogger("kubesight")

LOG_FILE = "run.log"
ROOT = "pipeline"
_LONGEST_END = 60.0
"""Seconds; a training has 30 to write its checkpoint, and a sweep waits for several."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_ENDED = re.compile(r"Task '([^']+)' finished with status (\w+)")
_LOGGED = re.compile(r"\[KFP Executor [^]]*]: (.*)")
_OF_KFP = re.compile(r"Looking for component|Loading KFP component|Wrote executor output")
_BETWEEN = re.compile(r"The above exception was|During handling of the above")
_METRICS = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z epoch=")
_ERROR = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)): (.*)")


class StepLog(io.TextIOBase):
    """Takes what a local run prints: everything goes to a file, the steps' own lines to the terminal.

    Args:
        file: takes everything.
        terminal: takes the steps' lines, without kfp's.
    """

    def __init__(self, file: TextIO, terminal: TextIO) -> None:
        """Start before any step."""
        self.file = file
        self.terminal = terminal
        self.step = ""
        self.seconds: dict[str, float] = {}
        self.error: tuple[str, str] | None = None
        self.last = ""
        self._began = 0.0
        self._line = ""
        self._input: str | None = None
        self._traceback = False

    def writable(self) -> bool:
        """This is a stream to print to."""
        return True

    def write(self, text: str) -> int:
        """Take a piece of text; whole lines are passed on."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._take(_COLOUR.sub("", line))
        return len(text)

    def _take(self, line: str) -> None:
        print(line, file=self.file, flush=True)
        if started := _STARTED.search(line):
            self.step, self._began, self.error, self.last = started[1], time.monotonic(), None, ""
            self._input = None
            print(f"-- {self.step}", file=self.terminal, flush=True)
        elif ended := _ENDED.search(line):
            self.seconds[ended[1]] = time.monotonic() - self._began
            self.step = self.step if ended[2] == "FAILURE" else ""
        elif self.step and line.startswith("    "):
            self._take_from_step(line)

    def _take_from_step(self, line: str) -> None:
        """Show what the step says, without kfp's words on it, tracebacks, and metric lines (its log repeats those)."""
        if self._input is not None:
            # A JSON object over many lines, whose last brace stands below the first one.
            self._input = self._input or line.replace("{", "}")
            if line == self._input:
                self._input = None
            return
        logged = _LOGGED.match(line.strip())
        text = logged[1] if logged else line.strip()
        if "Got executor_input" in text:
            self._input = ""
        elif raised := _ERROR.fullmatch(text):
            self.error, self._traceback = (raised[1], raised[2]), False
        elif text.startswith("Traceback (most recent call last)"):
            self._traceback = True
        elif text and not self._traceback and not any(one.match(text) for one in (_OF_KFP, _BETWEEN, _METRICS)):
            print(f"   {text}", file=self.terminal, flush=True)
            self.last = text


def run_locally(pipeline: BaseComponent, arguments: Mapping[str, Any], output: Path) -> tuple[Path, dict[str, float]]:
    """Run a pipeline's steps one after another.

    Args:
        pipeline: what `dsl.pipeline` made.
        arguments: its parameters.
        output: gets `run.log`, and the steps' outputs under `pipeline/`.

    Returns:
        the folder of this run (`STEP/OUTPUT` in it), and the seconds that each step took.

    Raises:
        KubesightError: a step failed; the message is the step's own.
    """
    root = output / ROOT
    root.mkdir(parents=True, exist_ok=True)
    # Tries after a failure are for nodes that vanish; here they would repeat a mistake.
    for task in pipeline.pipeline_spec.root.dag.tasks.values():
        task.ClearField("retry_policy")
    before = set(root.iterdir())
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
    with open(output / LOG_FILE, "w", encoding="utf-8") as file, _stopping_children(), warnings.catch_warnings():
        # Images, memory and pools are for the cluster; kfp warns at each step that they do nothing here.
        warnings.filterwarnings("ignore", message=".*(non-Python base image|have no effect in the current local).*")
        steps = StepLog(file, sys.stderr)
        try:
            with contextlib.redirect_stdout(steps), _arguments_kept():
                pipeline(**arguments)
        except RuntimeError as error:
            raise _step_error(steps, output / LOG_FILE) from error
    (folder,) = set(root.iterdir()) - before
    return folder, steps.seconds


@contextlib.contextmanager
def _arguments_kept() -> Iterator[None]:
    """Keep arguments as they are: kfp 2.17 puts this interpreter in place of any `python3`, also inside their paths."""
    replace = handler.replace_python_executable

    def before_arguments(command: list[str], executable: str) -> list[str]:
        end = command.index("--executor_input")
        return replace(command[:end], executable) + command[end:]

    handler.replace_python_executable = before_arguments
    try:
        yield
    finally:
        handler.replace_python_executable = replace


def _step_error(steps: StepLog, log_file: Path) -> KubesightError:
    """What a failed step said, as the error that it was there."""
    if steps.error is None:
        return KubesightError(f"the step {steps.step} failed; its last line was {steps.last!r}", where=str(log_file))
    name, message = steps.error
    known = getattr(errors, name.rpartition(".")[2], None)
    if name.startswith("kubesight.") and isinstance(known, type) and issubclass(known, KubesightError):
        return known(message, where=None)
    return KubesightError(f"the step {steps.step} failed: {name}: {message}", where=str(log_file))


def link_folder(source: Path, target: Path) -> None:
    """Give a folder's files a second, stable name, replacing an earlier one; files are not copied where links work."""
    fresh = target.with_name(f".{target.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, fresh, copy_function=_link)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextlib.contextmanager
def _stopping_children() -> Iterator[None]:
    """Pass SIGTERM on to the step that is running, so that a training writes its checkpoint; end when it has."""

    def stop(*_: object) -> None:
        children = _descendants(os.getpid())
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        deadline = time.monotonic() + _LONGEST_END
        while any(map(_is_alive, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        raise SystemExit(128 + signal.SIGTERM)

    try:
        earlier = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Not the main thread: signals are somebody else's business.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended stays in the table until somebody asks how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _descendants(process: int) -> list[int]:
    children: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        children += [int(number) for number in file.read_text().split()]
    return children + [number for child in children for number in _descendants(child)]
