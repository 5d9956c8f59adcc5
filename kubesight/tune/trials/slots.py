"""The GPUs of this machine, handed to trials."""

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping

from kubesight.errors import JobError

log = logging.getLogger("kubesight")

VISIBLE = "CUDA_VISIBLE_DEVICES"


class GpuSlots:
    """Which GPUs are free.

    A trial sees the GPUs that it has asked for and no others, as in a pod. On a machine without any, trials that ask
    for some run on the CPU.
    """

    def __init__(self, devices: list[str] | None = None) -> None:
        """Take the devices, or find them out (see `visible_gpus`)."""
        self._all = visible_gpus() if devices is None else list(devices)
        self._free = list(self._all)

    def check(self, wanted: int) -> None:
        """Refuse a trial that this machine can never run, and say when it will run without its GPUs.

        Raises:
            JobError: it asks for more than there are.
        """
        if wanted and not self._all:
            log.warning("each trial asks for %s; this machine has none, so they run on its CPU", _count(wanted))
        elif wanted > len(self._all):
            raise JobError(
                f"a trial asks for {_count(wanted)}, and this machine has {len(self._all)}",
                where="spec.trialTemplate.trialSpec",
                hint="Ask for fewer, or run the Experiment on a cluster.",
            )

    def take(self, wanted: int) -> list[str] | None:
        """That many devices, or None while too few are free."""
        if not self._all:
            return []
        if wanted > len(self._free):
            return None
        taken, self._free = self._free[:wanted], self._free[wanted:]
        return taken

    def give(self, devices: list[str]) -> None:
        """Take devices back; the lowest are handed out first."""
        self._free = sorted([*self._free, *devices], key=self._all.index)


def visible_gpus(env: Mapping[str, str] | None = None) -> list[str]:
    """The GPUs that a process may use: those of CUDA_VISIBLE_DEVICES, else all that `nvidia-smi` lists."""
    env = os.environ if env is None else env
    if VISIBLE in env:
        # CUDA itself takes the devices before the first that is not one.
        named = [device.strip() for device in env[VISIBLE].split(",")]
        valid = [not device.startswith("-") and device != "" for device in named]
        return named[: valid.index(False)] if False in valid else named
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi does not answer (%s): trials run without GPUs", error)
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def _count(wanted: int) -> str:
    return "1 GPU" if wanted == 1 else f"{wanted} GPUs"
