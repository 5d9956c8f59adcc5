"""A sweep while it runs: a table that changes in a terminal, plain lines anywhere else."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kubesight.report.markup import number
from kubesight.tune.records import FAILED, Trial, best_of, read_trials
from kubesight.tune.report.settings import Settings
from kubesight.tune.report.words import WORDS, duration, short

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment
    from kubesight.tune.runner import SweepResult

_SECONDS_BETWEEN_LINES = 30.0
_ROWS = 12
_SETTINGS = 5


class LiveTable:
    """Shows a sweep on standard error. Give it to the runner as its observer, inside `with`.

    In a terminal: a row a running trial, and under them the best trial so far, counts and an estimate of the time left.
    Elsewhere (a log file, a pod): one line when a trial starts or ends, and at most one in half a minute for the
    reports of a trial.

    Args:
        experiment: what runs.
        output: the sweep's folder; trials that have ended there before count. None: a new sweep.
        parallel: trials at a time, when not as the Experiment says.
        console: where to write; standard error.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        experiment: "Experiment",
        output: Path | None = None,
        *,
        parallel: int | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is shown yet."""
        self._experiment = experiment
        self._parallel = parallel or experiment.parallel
        self._settings = Settings(experiment)
        self._console = console or Console(file=sys.stderr)
        self._clock = clock
        self._begun = clock()
        self._running: dict[str, tuple[Trial, float]] = {}
        self._told: dict[str, float] = {}
        self._ended = read_trials(output) if output is not None else []
        self._best = best_of(self._ended, maximize=experiment.maximize)
        self._logs: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []
        self._live = (
            Live(console=self._console, get_renderable=self.__rich__, refresh_per_second=2, transient=True)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        """Show the table; what is logged meanwhile stays above it."""
        if self._live is not None:
            before = sys.stderr
            self._live.start()
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                    self._logs.append((handler, before))
                    handler.setStream(sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the table away, whatever happened."""
        if self._live is not None:
            self._live.stop()
        for handler, stream in self._logs:
            handler.setStream(stream)
        self._logs.clear()

    def started(self, trial: Trial) -> None:
        """A trial begins, or goes on after an interruption."""
        self._running[trial.name] = (trial, self._clock())
        self._told[trial.name] = self._clock()
        if self._live is None:
            self._print(f"{_label(trial)} started: {self._words(trial)}")

    def reported(self, trial: Trial) -> None:
        """A trial has printed its objective once more."""
        now = self._clock()
        if self._live is None and now - self._told.get(trial.name, now) >= _SECONDS_BETWEEN_LINES:
            self._told[trial.name] = now
            self._print(f"{_label(trial)} report {trial.epochs}: {self._experiment.metric} {self._latest(trial)}")

    def ended(self, trial: Trial) -> None:
        """A trial is over, however it ended."""
        self._running.pop(trial.name, None)
        self._ended.append(trial)
        best = best_of([*([self._best] if self._best else []), trial], maximize=self._experiment.maximize)
        is_best, self._best = best is trial, best
        line = self._end_line(trial, is_best)
        # Failures and new bests stay above the table; the rest of what ended is in its counts.
        if self._live is None or is_best or trial.condition in FAILED:
            self._print(line)

    def finished(self, result: "SweepResult") -> None:
        """The sweep is over."""
        best = result.best
        said = "no trial has a value" if best is None else f"best {self._value(best)} in {_label(best)}"
        self._print(
            f"{self._experiment.name} ended ({result.reason}) after {self._elapsed()}: {self._counts()}; {said}"
        )

    def __rich__(self) -> Group:
        """The table as it is now; called from the thread that refreshes it."""
        running = list(self._running.values())
        table = Table(title=f"{self._experiment.name}: {self._counts()}", title_justify="left", expand=True)
        names = [setting.name for setting in self._settings.swept[:_SETTINGS]]
        for name in ("trial", *names, "reports", self._experiment.metric, "time"):
            table.add_column(name, justify="left" if name in ("trial", *names) else "right", overflow="ellipsis")
        for trial, since in running[:_ROWS]:
            row = self._settings.of(trial.name, trial.assignments)
            cells = [_label(trial), *(short(row.get(name, "-")) for name in names), str(trial.epochs)]
            table.add_row(*map(Text, [*cells, self._latest(trial), duration(self._clock() - since)]))
        if len(running) > _ROWS:
            table.add_row(f"and {len(running) - _ROWS} more")
        best = "none yet" if self._best is None else f"{self._value(self._best)} in {_label(self._best)}"
        return Group(table, Text(f"best: {best}"), Text(f"{self._elapsed()} so far{self._left()}"))

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _words(self, trial: Trial) -> str:
        row = self._settings.of(trial.name, trial.assignments)
        names = [setting.name for setting in self._settings.swept]
        return ", ".join(f"{name}={short(row[name])}" for name in names if name in row)

    def _end_line(self, trial: Trial, is_best: bool) -> str:
        value = "no value" if trial.value is None else self._value(trial)
        reason = f" ({trial.reason})" if trial.reason and trial.condition != "Succeeded" else ""
        code = f", exit code {trial.exit_code}" if trial.exit_code else ""
        line = f"{_label(trial)} {WORDS[trial.condition]}{reason}{code} after {duration(trial.seconds)}: {value}"
        return f"{line}, the best so far; {self._words(trial)}" if is_best else line

    def _value(self, trial: Trial) -> str:
        return f"{self._experiment.metric} {number(trial.value)}"

    def _latest(self, trial: Trial) -> str:
        return number(trial.curve[-1]) if trial.curve else "-"

    def _counts(self) -> str:
        counts = Counter(str(trial.condition) for trial in self._ended)
        parts = [f"{counts[condition]} {word}" for condition, word in WORDS.items() if counts[condition]]
        most = self._experiment.max_trials
        whole = f"{len(self._ended)} of {most} trials" if most else f"{len(self._ended)} trials"
        return whole + (f" ({', '.join(parts)})" if parts else "")

    def _elapsed(self) -> str:
        return duration(self._clock() - self._begun)

    def _left(self) -> str:
        """About how long the trials that are left take, from the mean time of those that have ended."""
        most = self._experiment.max_trials
        known = [trial.seconds for trial in self._ended if trial.condition not in FAILED and trial.seconds > 0]
        if not known or not most or len(self._ended) >= most:
            return ""
        mean = sum(known) / len(known)
        running = [min(self._clock() - since, mean) for _, since in list(self._running.values())]
        left = ((most - len(self._ended)) * mean - sum(running)) / self._parallel
        return f", about {duration(max(left, 0.0))} left"


def _label(trial: Trial) -> str:
    return f"#{trial.number} {trial.name}"
