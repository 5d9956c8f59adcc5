"""Katib's trial loop on this machine: an Experiment is run here as Katib would run it on a cluster.

What differs from Katib, and why:

- When the sweep is over (goal, failures, time), trials that still run are ended and are Killed. Katib lets them run
  and hold their GPUs (kubeflow/katib#2061).
- A trial that early stopping ends gets SIGKILL 60 s after SIGTERM; Katib would wait for ever.
- A machine's parallelTrialCount is what its GPUs allow, if that is less.
- `retain` has no meaning: metrics of early-stopped trials always count, and no trial's files are removed.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kubesight.errors import JobError
from kubesight.tune.folder import SweepFolder
from kubesight.tune.interrupts import Interrupts
from kubesight.tune.limits import SUGGESTION_END, Ending, ending_of
from kubesight.tune.records import TRIALS_FILE, TRIALS_FOLDER, Suggestion, Trial, append_record, best_of, read_trials
from kubesight.tune.status import rfc3339, status_of
from kubesight.tune.stopping import EarlyStopping
from kubesight.tune.suggestions import Suggestions
from kubesight.tune.suggestions import warm_start as known_from
from kubesight.tune.trials.collect import LineReader, check_collector
from kubesight.tune.trials.launching import Launcher, TrialPlan
from kubesight.tune.trials.leftovers import end_leftover
from kubesight.tune.trials.slots import GpuSlots
from kubesight.tune.trials.trial import RunningTrial, wanted_metrics
from kubesight.tune.trials.warm import WarmWorkers
from kubesight.tune.waiting import Waiter

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment

log = logging.getLogger("kubesight")

_LOOK_SECONDS = 0.2
_STATUS_SECONDS = 0.5


class Observer(Protocol):
    """Is told what happens in a sweep."""

    def started(self, trial: Trial) -> None:
        """A trial's command was started."""

    def reported(self, trial: Trial) -> None:
        """A trial has reported its objective, or is tried again."""

    def ended(self, trial: Trial) -> None:
        """A trial has ended."""

    def finished(self, result: "SweepResult") -> None:
        """The sweep is over, or interrupted."""


@dataclass(frozen=True)
class SweepResult:
    """What came of a sweep.

    Attributes:
        best: the trial with the best objective; None when no trial has one.
        trials: all that have ended, in the order in which they did.
        status: in the shape of Katib's `Experiment.status`.
        reason: one word for why it is over, as in the status; `Interrupted` when it is not.
        finished: whether it is over; False after SIGINT or SIGTERM, when the same call goes on with it.
    """

    best: Trial | None
    trials: list[Trial]
    status: dict[str, Any]
    reason: str
    finished: bool


def run_sweep(
    experiment: "Experiment",
    output: Path,
    *,
    volumes: Mapping[str, Path] | None = None,
    warm_start: Sequence[Path] = (),
    parallel: int | None = None,
    observer: Observer | None = None,
    warm_workers: bool = True,
) -> SweepResult:
    """Run an Experiment. Called again after any interruption, it keeps ended trials and goes on with the others.

    Args:
        experiment: what to run; it may be called again with other counts and limits, and nothing else changed.
        output: the sweep's folder; see `kubesight.tune.records` for what it gets.
        volumes: for volume claims of the trials, folders of this machine.
        warm_start: folders of earlier sweeps with the same objective, to learn from.
        parallel: how many trials to run at a time; None is what the Experiment says.
        observer: is told what happens.
        warm_workers: whether trials that run `kubesight` are forked from a process that has their framework loaded.

    Raises:
        JobError: before anything runs: the Experiment cannot be run here, or the folder holds another one's sweep or is
            in use.
        StorageError: the disk is full or cannot be written; ended trials are kept.
    """
    check_collector(experiment.collector)
    folder, interrupts = SweepFolder(output, experiment), Interrupts()
    with folder, interrupts, WarmWorkers() as workers:
        launcher = Launcher(
            experiment, folder.path / TRIALS_FOLDER, volumes or {}, workers if warm_workers else None, parallel=parallel
        )
        sweep = _Sweep(experiment, folder, launcher, interrupts, observer, warm_start, parallel)
        result = sweep.run()
        if result.finished:
            launcher.forget_pictures()
    if observer is not None:
        observer.finished(result)
    return result


@dataclass
class _Running:
    """A running trial and what it occupies."""

    trial: RunningTrial
    devices: list[str] = field(default_factory=list)


class _Sweep:
    """One run of a sweep."""

    def __init__(
        self,
        experiment: "Experiment",
        folder: SweepFolder,
        launcher: Launcher,
        interrupts: Interrupts,
        observer: Observer | None,
        warm_start: Sequence[Path],
        parallel: int | None,
    ) -> None:
        self._experiment = experiment
        self._folder = folder
        self._launcher = launcher
        self._interrupts = interrupts
        self._observer = observer
        self._parallel = parallel or experiment.parallel
        command = launcher.check()
        self._slots = GpuSlots()
        self._slots.check(command.gpus)
        self._reader = LineReader(experiment.collector, wanted_metrics(experiment))
        self._ended = read_trials(folder.path, repair=True)
        self._suggestions = Suggestions(experiment, folder.path, self._ended, known_from(experiment, warm_start))
        self._stopping = EarlyStopping(experiment, self._ended)
        self._running: list[_Running] = []
        self._started = folder.started or rfc3339()
        self._written = 0.0
        self._has_run = False
        done = {trial.number for trial in self._ended}
        self._unfinished = [each for each in self._suggestions.made if each.number not in done]

    def run(self) -> SweepResult:
        """Until it is over, or interrupted."""
        waiter, ending = Waiter(), None
        for left in self._unfinished:
            end_leftover(self._folder.trial_folder(left.name), left.name)
        try:
            while not self._interrupts.count and (ending := self._ending()) is None:
                if not self._start_trials() and not self._running:
                    ending = SUGGESTION_END
                    break
                self._write_status()
                waiter.wait([each.trial.process.pid for each in self._running], _LOOK_SECONDS)
                self._poll()
            self._end_running(ending, waiter)
        except BaseException:
            self._observer = None  # it may be what has failed
            self._end_running(None, waiter)
            raise
        finally:
            waiter.close()
        return self._result(ending)

    def _ending(self) -> Ending | None:
        return ending_of(self._experiment, self._ended, seconds=self._folder.seconds)

    def _start_trials(self) -> bool:
        """Start as many as there is room for.

        Returns:
            whether there are more to come, now or later.
        """
        while len(self._running) < self._parallel:
            suggestion = self._next()
            if suggestion is None:
                return False
            plan = self._launcher.plan(suggestion.name, suggestion.assignments)
            devices = self._slots.take(plan.command.gpus)
            if devices is None:
                self._unfinished.insert(0, suggestion)
                return True
            self._start(suggestion, plan, devices)
        return True

    def _next(self) -> Suggestion | None:
        """A trial that was not finished, or a new one; None when there are enough, or no more."""
        if self._unfinished:
            return self._unfinished.pop(0)
        most = self._experiment.max_trials
        if most is not None and len(self._suggestions.made) >= most:
            return None
        return self._suggestions.next()

    def _start(self, suggestion: Suggestion, plan: TrialPlan, devices: list[str]) -> None:
        record = Trial(suggestion.name, suggestion.number, suggestion.assignments)
        record.folder, record.output = str(plan.folder), str(plan.output.absolute())
        self._stopping.begin(record)
        try:
            trial = RunningTrial(
                record,
                self._experiment,
                self._reader,
                lambda: self._launcher.launch(plan, devices),
                judge=self._stopping.stops,
                retries=plan.command.retries,
                deadline=plan.command.deadline_seconds,
                is_guard=self._stopping.is_guard,
            )
        except JobError as error:
            self._slots.give(devices)
            self._cannot_start(record, error)
            return
        self._has_run = True
        self._running.append(_Running(trial, devices))
        if self._observer is not None:
            self._observer.started(record)

    def _cannot_start(self, record: Trial, error: JobError) -> None:
        """What cannot be started once will not be started a hundred times; later on it fails one trial alone."""
        if not self._has_run:
            if not self._ended:
                self._suggestions.forget()
            raise error
        log.warning("%s: %s", record.name, error)
        record.condition, record.reason, record.ended = "Failed", "StartError", rfc3339(microseconds=True)
        if self._observer is not None:
            self._observer.started(record)
        self._keep(record)

    def _poll(self) -> None:
        """See what has become of the running trials."""
        for each in list(self._running):
            changed = each.trial.poll()
            if each.trial.is_over:
                self._running.remove(each)
                self._slots.give(each.devices)
                if each.trial.record.has_ended:
                    self._keep(each.trial.record)
            elif changed and self._observer is not None:
                self._observer.reported(each.trial.record)

    def _keep(self, record: Trial) -> None:
        """Write an ended trial down before anyone learns of it."""
        append_record(self._folder.path / TRIALS_FILE, record)
        self._ended.append(record)
        self._stopping.end(record)
        self._suggestions.tell(record)
        if self._observer is not None:
            self._observer.ended(record)

    def _end_running(self, ending: Ending | None, waiter: Waiter) -> None:
        """End what runs: as Killed when the sweep is over, else for another run to go on with."""
        before = self._interrupts.count
        for each in self._running:
            each.trial.stop("Killed" if ending else None, ending.reason if ending else "Interrupted")
        while self._running:
            if self._interrupts.count > max(1, before):
                for each in self._running:
                    each.trial.kill()
            waiter.wait([each.trial.process.pid for each in self._running], _LOOK_SECONDS)
            self._poll()

    def _trials(self) -> list[Trial]:
        return [*self._ended, *(each.trial.record for each in self._running)]

    def _write_status(self) -> None:
        """At most twice a second: it lists every trial, so writing it at each change would cost the square of them."""
        if time.monotonic() - self._written >= _STATUS_SECONDS:
            self._put_status(None)

    def _put_status(self, ending: Ending | None) -> dict[str, Any]:
        trials = self._trials()
        now = None if self._has_run else self._folder.completed  # run again when it was over: nothing has changed
        status = status_of(self._experiment, trials, started=self._started, now=now, ending=ending)
        self._folder.write_status(status, best_of(trials, maximize=self._experiment.maximize))
        self._written = time.monotonic()
        return status

    def _result(self, ending: Ending | None) -> SweepResult:
        status = self._put_status(ending)
        best = best_of(self._ended, maximize=self._experiment.maximize)
        reason = ending.reason if ending else "Interrupted"
        return SweepResult(best, list(self._ended), status, reason, finished=ending is not None)
