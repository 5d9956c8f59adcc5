"""From a trial's values to a process of this machine: what its container would run, with this machine's paths."""

import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubesight.errors import JobError, StorageError
from kubesight.tune.katib.template import TrialCommand, trial_command
from kubesight.tune.records import METRICS_FILE, STDOUT_FILE
from kubesight.tune.trials.leftovers import remember
from kubesight.tune.trials.paths import check_volumes, local_paths, localize, replace_paths
from kubesight.tune.trials.processes import TrialProcess, start
from kubesight.tune.trials.slots import VISIBLE
from kubesight.tune.trials.training import output_of
from kubesight.tune.trials.warm import WarmWorkers, warm_arguments

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment, Parameter

log = logging.getLogger("kubesight")

DEFAULT_NAMESPACE = "default"

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""What torch and TensorFlow ask how many threads to use; without them every trial would take all cores."""

PICTURES_FOLDER = ".pictures"
"""Beside the trials' folders while a sweep runs: see `kubesight.dataset.picture_cache`. Hidden, since it is removed
afterwards, and a user's own pictures may well be in a folder that is called so.
"""


@dataclass(frozen=True)
class TrialPlan:
    """How one trial is run.

    Attributes:
        command: what its manifest says.
        folder: the trial's own.
        paths: for paths of the container, those of this machine.
        name: the trial's.
    """

    command: TrialCommand
    folder: Path
    paths: Mapping[str, Path]
    name: str

    @property
    def argv(self) -> list[str]:
        """The command with this machine's paths."""
        return localize(self.command.argv, self.paths)

    @property
    def cwd(self) -> Path:
        """The folder that it runs in."""
        place = self.command.working_dir
        return Path(replace_paths(place, self.paths)) if place else self.folder

    @property
    def output(self) -> Path:
        """The folder that its training writes to."""
        return output_of(self.argv, self.cwd, self.folder)


class Launcher:
    """Starts the trials of one sweep.

    Args:
        experiment: whose template.
        trials: the folder that gets one folder a trial.
        volumes: for volume claims, the folders that hold their files.
        warm: runs `kubesight` commands; None: they are run like any other.
        parallel: trials at a time, which share the cores; None is what the Experiment says.
    """

    def __init__(
        self,
        experiment: "Experiment",
        trials: Path,
        volumes: Mapping[str, Path],
        warm: WarmWorkers | None,
        *,
        parallel: int | None = None,
    ) -> None:
        """Keep what all trials share."""
        self._experiment = experiment
        self._trials = trials
        self._pictures = trials.absolute().parent / PICTURES_FOLDER
        self._volumes = volumes
        self._warm = warm
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._threads = str(max(1, cores // (parallel or experiment.parallel)))

    def forget_pictures(self) -> None:
        """Remove the decoded pictures that the trials have shared: a sweep that is over reads none."""
        shutil.rmtree(self._pictures, ignore_errors=True)

    def check(self) -> TrialCommand:
        """Make the command of an imaginary trial, so that what fails for all fails before the first one.

        Raises:
            JobError: the template cannot be run here, a volume or the working folder is not known.
        """
        values = {parameter.name: _some_value(parameter) for parameter in self._experiment.parameters}
        plan = self.plan(f"{self._experiment.name}-00000000", values)
        check_volumes(plan.command, self._volumes)
        self._check_metrics_file(plan)
        place = plan.command.working_dir
        if place and not self._is_made(plan) and not plan.cwd.is_dir():
            raise JobError(
                f"the working folder {place} does not exist on this machine",
                where="spec.trialTemplate.trialSpec",
                hint="Remove workingDir, or make that folder.",
            )
        return plan.command

    def plan(self, name: str, assignments: Mapping[str, str]) -> TrialPlan:
        """What a trial runs.

        Raises:
            JobError: a value breaks the manifest, or a volume is not known.
        """
        experiment = self._experiment
        namespace = experiment.namespace or DEFAULT_NAMESPACE
        manifest = experiment.template.render(name, namespace, assignments)
        command = trial_command(manifest, experiment.template.primary_container)
        folder = self._trials / name
        return TrialPlan(command, folder, local_paths(command, experiment.collector, folder, self._volumes), name)

    def launch(self, plan: TrialPlan, devices: Sequence[str]) -> TrialProcess:
        """Start a trial's command; its folder is there.

        Args:
            plan: what.
            devices: the GPUs that it may see.

        Raises:
            JobError: the command cannot be started.
            StorageError: a folder cannot be made.
        """
        argv, cwd = plan.argv, plan.cwd
        _make([path for path in plan.paths.values() if path.is_relative_to(plan.folder / "volumes")])
        stdout, env = plan.folder / STDOUT_FILE, self._environment(plan, devices)
        arguments = warm_arguments(argv) if self._warm is not None else None
        if self._warm is not None and arguments is not None:
            process = self._warm.run(arguments, env=env, cwd=cwd, stdout=stdout)
        else:
            process = start(argv, env=env, cwd=cwd, stdout=stdout)
        remember(plan.folder, process.pid)
        return process

    def _environment(self, plan: TrialPlan, devices: Sequence[str]) -> dict[str, str]:
        """This process's variables, under what a trial needs, under what its container says."""
        programs = str(Path(sys.executable).parent)  # so that `kubesight` and `python` are those of this program
        env = dict.fromkeys(THREADS, self._threads) | {"KUBESIGHT_PICTURES": str(self._pictures)}
        env |= {**os.environ, VISIBLE: ",".join(devices)}
        env |= {"PYTHONUNBUFFERED": "1", "KATIB_TRIAL_NAME": plan.name}
        env |= {name: replace_paths(value, plan.paths) for name, value in plan.command.env.items()}
        env["PATH"] = os.pathsep.join([programs, env.get("PATH") or os.defpath])
        return env

    def _check_metrics_file(self, plan: TrialPlan) -> None:
        """Say when the metrics file cannot be put elsewhere, since the command does not name it."""
        path = self._experiment.collector.path
        places = {path: plan.paths[path]} if path and path in plan.paths else {}
        words = [*plan.command.argv, *plan.command.env.values()]
        if places and all(replace_paths(word, places) == word for word in words):
            log.warning(
                "the command does not name its metrics file %s: here metrics are read from %s in each trial's folder; "
                "have the command name the file, by an argument or a variable",
                *(path, METRICS_FILE),
            )

    def _is_made(self, plan: TrialPlan) -> bool:
        """Whether the working folder is inside a folder that is made for each trial."""
        return plan.cwd.is_relative_to(plan.folder)


def _some_value(parameter: "Parameter") -> str:
    return parameter.values[0] if parameter.values else f"{parameter.low:g}"


def _make(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(error.strerror or str(error), where=str(folder)) from error
