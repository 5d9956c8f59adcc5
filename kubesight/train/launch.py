"""Several processes on one machine: `torchrun` started from here, its errors and signals passed on."""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from kubesight import errors
from kubesight.errors import KubesightError, ModelError


def launch(processes: int, arguments: dict[str, Any]) -> None:
    """Run `train(**arguments)` in several processes and wait for them; they may have been stopped at a checkpoint.

    Args:
        processes: how many; each takes one GPU, when there are any.
        arguments: what `train` takes, as plain JSON values.

    Raises:
        KubesightError: what the first failing process raised.
    """
    with tempfile.TemporaryDirectory() as folder:
        error_file = Path(folder) / "error.json"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
            *("-m", "kubesight.train", json.dumps(arguments), str(error_file)),
        ]
        process = subprocess.Popen(command)
        stopped = False

        def pass_on(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            stopped = True
            process.send_signal(number)

        earlier = signal.signal(signal.SIGTERM, pass_on)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, earlier)
        if error_file.exists():
            raise _error(json.loads(error_file.read_text()))
    if code and not stopped:
        raise ModelError(f"the training processes ended with exit code {code}", hint="Their messages stand above.")


def leave_error(error: KubesightError, error_file: Path) -> None:
    """In one of the processes: put an error where the launcher looks for it."""
    said = {"type": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
    error_file.write_text(json.dumps(said))


def _error(said: dict[str, Any]) -> KubesightError:
    kind = getattr(errors, said["type"], KubesightError)
    return kind(said["message"], where=said["where"], hint=said["hint"])
