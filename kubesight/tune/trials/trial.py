"""One trial's life: started, read while it writes, ended, and judged by how it went."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubesight.errors import JobError, StorageError
from kubesight.storage.files import read_json
from kubesight.sweep.names import CACHE_FILE, STOP_METRIC
from kubesight.tune.records import METRICS_FILE, OBSERVED, STDOUT_FILE, Condition, Trial
from kubesight.tune.status import rfc3339
from kubesight.tune.trials.collect import BrokenLog, LineReader, Observation, Report, Tail
from kubesight.tune.trials.processes import TrialProcess

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment

STOP_SECONDS = 60.0
"""How long a trial that early stopping ends may take after SIGTERM; Katib's collector waits as long."""

END_SECONDS = 30.0
"""How long any other trial may take after SIGTERM; Kubernetes waits as long."""

_DEAD_SECONDS = 10.0  # after SIGKILL; a process that hangs in the kernel is then left to it

Launch = Callable[[], TrialProcess]
Judge = Callable[[Trial], str | None]


@dataclass(frozen=True)
class _Stop:
    """Why a trial was sent SIGTERM, and when patience ends."""

    condition: Condition | None
    reason: str
    kill_at: float


class RunningTrial:
    """A trial whose command runs.

    Attributes:
        process: of the last attempt.
        is_over: whether that was seen to end, and no other attempt follows.

    Args:
        record: what is known of it; kept up to date.
        experiment: whose metrics and collector.
        reader: of its lines.
        launch: starts its command once.
        judge: says after every report of the objective whether early stopping ends it.
        retries: how often a failed command is run again.
        deadline: seconds that all its attempts may take together; None: any time.
        is_guard: whether it waits for SIGTERM once it has printed `es_stop=1`.

    Raises:
        JobError: its command cannot be started.
        StorageError: its folder cannot be made.
    """

    def __init__(
        self,
        record: Trial,
        experiment: "Experiment",
        reader: LineReader,
        launch: Launch,
        *,
        judge: Judge,
        retries: int = 0,
        deadline: float | None = None,
        is_guard: bool = False,
    ) -> None:
        """Start it."""
        self.record = record
        self._experiment = experiment
        self._reader = reader
        self._launch = launch
        self._judge = judge
        self._retries = retries
        self._is_guard = is_guard
        self.is_over = False
        self._stop: _Stop | None = None
        self._began = time.monotonic()
        self._deadline = self._began + deadline if deadline is not None else math.inf
        record.started = rfc3339(microseconds=True)
        self._start()
        record.condition, record.reason = "Running", "TrialRunning"

    def _start(self) -> None:
        """One attempt: what an earlier one reported does not count, as in a new pod."""
        folder, collector = Path(self.record.folder), self._experiment.collector
        stdout, start = folder / STDOUT_FILE, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / METRICS_FILE).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                start = stdout.stat().st_size
        except OSError as error:
            raise StorageError(error.strerror or str(error), where=str(error.filename)) from error
        self._tail = Tail(folder / METRICS_FILE) if collector.kind == "File" else Tail(stdout, start)
        self._broken = self._asked = False
        self._forget()
        self.record.attempts += 1
        self.record.decisions.clear()
        self.record.exit_code = None
        self.process = self._launch()

    def poll(self) -> bool:
        """See what has become of it; call it often.

        Returns:
            whether the record has changed in a way that is worth showing.
        """
        code = self.process.poll()  # before the lines, so that the last ones are there
        changed = self._read(final=code is not None)
        now = time.monotonic()
        if code is None and not self._is_lost(now):
            self._end_in_time(now)
            return changed
        self.record.exit_code = code
        if self._is_to_be_tried_again(code, now):
            return self._try_again()
        self._settle(code)
        return True

    def stop(self, condition: Condition | None, reason: str, seconds: float = END_SECONDS) -> None:
        """Send SIGTERM, once; SIGKILL follows when it does not end. One that has ended already is left to `poll`.

        Args:
            condition: what it is to be when it has ended; None leaves it unfinished, for another run to go on with.
            reason: why.
            seconds: how long it may take.
        """
        if self._stop is None and self.process.poll() is None:
            self._stop = _Stop(condition, reason, time.monotonic() + seconds)
            self.process.terminate()

    def kill(self) -> None:
        """End it at once; `stop` says as what."""
        if self._stop is not None:
            self._stop = _Stop(self._stop.condition, self._stop.reason, time.monotonic())
        self.process.kill()

    def _read(self, *, final: bool) -> bool:
        """Take in what it has printed; judge it after every report of the objective."""
        changed = False
        if self._broken:
            return False
        try:
            for line in self._tail.lines(final=final):
                if self._tail.renewals != self._renewals:  # Katib reads what the file holds at the end
                    self._forget()
                for report in self._reader.read(line):
                    changed |= self._take(report, final=final)
        except BrokenLog:
            # Katib takes nothing from such a file.
            self._broken = True
            self._forget()
        return changed

    def _forget(self) -> None:
        """What was reported counts no more."""
        self._seen, self._renewals = Observation(), self._tail.renewals
        self.record.curve.clear()

    def _take(self, report: Report, *, final: bool) -> bool:
        if report.name == STOP_METRIC:
            self._asked |= report.value == 1
            if self._asked and self._is_guard and not final:
                self.stop("EarlyStopped", STOP_METRIC, STOP_SECONDS)
        if report.name in self._experiment.strategies:
            self._seen.add(report)
        if report.name != self._experiment.metric or report.value is None:
            return False
        self.record.curve.append(report.value)
        self.record.epochs = len(self.record.curve)
        if self._stop is None and not final and (policy := self._judge(self.record)) is not None:
            self.stop("EarlyStopped", policy, STOP_SECONDS)
        return True

    def _end_in_time(self, now: float) -> None:
        if self._stop is None and now >= self._deadline:
            self.stop("Failed", "DeadlineExceeded")
        elif self._stop is not None and now >= self._stop.kill_at:
            self.process.kill()

    def _is_lost(self, now: float) -> bool:
        return self._stop is not None and now >= self._stop.kill_at + _DEAD_SECONDS

    def _is_to_be_tried_again(self, code: int | None, now: float) -> bool:
        failed = code != 0 and not self._asked and self._stop is None
        return failed and self.record.attempts <= self._retries and now < self._deadline

    def _try_again(self) -> bool:
        try:
            self._start()
        except JobError:
            self._settle(self.record.exit_code)
        return True

    def _settle(self, code: int | None) -> None:
        """Put down what came of it."""
        self.is_over = True
        record, strategies = self.record, self._experiment.strategies
        record.seconds += time.monotonic() - self._began
        record.metrics, record.epochs = self._seen.metrics(), len(record.curve)
        record.cache_hits = cache_hits(record.results)
        condition, reason = self._verdict(code)
        if condition is None:
            return
        record.condition, record.reason, record.ended = condition, reason, rfc3339(microseconds=True)
        if condition in OBSERVED:
            metric = self._experiment.metric
            record.value = self._seen.value(metric, strategies[metric])

    def _verdict(self, code: int | None) -> tuple[Condition | None, str]:
        if self._stop is not None:
            return self._stop.condition, self._stop.reason
        if self._asked:
            return "EarlyStopped", STOP_METRIC
        if code != 0:
            return "Failed", "BackoffLimitExceeded"
        if self._broken:
            return "MetricsUnavailable", "NotJson"
        if not self._seen.has(self._experiment.metric):
            return "MetricsUnavailable", "MetricsUnavailable"
        return "Succeeded", "TrialSucceeded"


def wanted_metrics(experiment: "Experiment") -> Sequence[str]:
    """The names to look for on a trial's lines: the Experiment's, and the sign of a stop."""
    return (*dict.fromkeys([experiment.metric, *experiment.additional_metrics, STOP_METRIC]),)


def cache_hits(folder: Path) -> int:
    """How often a training of ours found something ready in the caches that trials share; 0 for all others."""
    try:
        counts = read_json(folder / CACHE_FILE)
    except StorageError:
        return 0
    found = counts.items() if isinstance(counts, dict) else ()
    return sum(value for name, value in found if name.endswith("_hits") and isinstance(value, int))
