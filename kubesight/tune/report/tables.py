"""The tables and texts of a sweep's page: the best settings, all trials, decisions, failures."""

import os
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import yaml

from kubesight.report.interactive import shade
from kubesight.report.page import Html, Page, escape, number, paragraph, plural, side_by_side
from kubesight.report.sortable import copyable, preformatted, sortable
from kubesight.sweep.names import MODEL_FOLDER
from kubesight.tune.records import FAILED, STDOUT_FILE, Trial
from kubesight.tune.report.settings import MODEL, Command, as_flags, typed
from kubesight.tune.report.sweep import SweepRecord, decisions_of, folder_of, results_of

_LOG_LINES = 20
_LOG_BYTES = 4096
_FAILURES = 12
_DECISIONS = 400
_DATA_FLAGS = ("training_data", "validation_data", "weights", "primary_metric")


def best_settings(sweep: SweepRecord) -> list[Html]:
    """The best trial's settings as a part of a job file and as a command, and where its model is."""
    best = sweep.best
    assert best is not None
    row = sweep.columns[sweep.trials.index(best)]
    parts = [_links_paragraph(sweep, best)]
    if not sweep.settings.ours:
        words = [f"{name}: {value}" for name, value in row.items()]
        return [*parts, copyable("\n".join(words))]
    ordered = dict(sorted(typed(row).items(), key=lambda setting: setting[0] != MODEL))
    text = yaml.safe_dump({"training_parameters": ordered}, sort_keys=False, allow_unicode=True)
    command = sweep.settings.command(best.name, best.assignments)
    assert command is not None
    return [*parts, side_by_side(copyable(text), copyable(_train_command(command, row)))]


def _train_command(command: Command, settings: dict[str, str]) -> str:
    """`kubesight train` with the settings in plain flags, a line a flag."""
    data = {name: command.flags[name] for name in _DATA_FLAGS if name in command.flags}
    words = [*as_flags(settings), *as_flags(data), "--output", "OUTPUT"]
    pairs = [f"{flag} {shlex.quote(value)}" for flag, value in zip(words[::2], words[1::2], strict=True)]
    return " \\\n  ".join(["kubesight train", *pairs])


def trials_table(sweep: SweepRecord, shares: Sequence[float | None]) -> Html:
    """Every trial, the best first as a reader sees it; sorts by a click.

    Args:
        sweep: the sweep.
        shares: how good each trial is, 0 to 1, for the colour beside its name.
    """
    columns = [sweep.column(setting) for setting in sweep.swept]
    heads = ["#", "trial", "condition", "reason", sweep.experiment.metric, *(setting.name for setting in sweep.swept)]
    heads += ["epochs", "seconds", "attempts", "exit code", "files"]
    order = sorted(range(len(sweep.trials)), key=lambda i: (shares[i] is None, -(shares[i] or 0.0), i))
    rows = []
    for index in order:
        trial = sweep.trials[index]
        name = Html(f'<span class="dot {shade(shares[index])}"></span>{escape(trial.name)}')
        cells: list[object] = [trial.number, name, trial.condition, trial.reason, trial.value]
        cells += [column[index] for column in columns]
        cells += [trial.epochs, round(trial.seconds, 1), trial.attempts, trial.exit_code, _links(sweep, trial)]
        rows.append((index, cells))
    return sortable(heads, rows)


def decisions(page: Page, sweep: SweepRecord) -> None:
    """What the early-termination policy said, those that stopped a trial first."""
    numbers = {trial.name: index for index, trial in enumerate(sweep.trials)}
    every = [(trial, decision) for trial in sweep.trials for decision in decisions_of(sweep, trial)]
    if not every:
        return
    stops = sum(bool(decision.get("stop")) for _, decision in every)
    shown = sorted(every, key=lambda each: not each[1].get("stop"))[:_DECISIONS]
    keys = ("policy", "interval", "value", "threshold", "peers")
    rows: list[tuple[int, list[object]]] = []
    for trial, decision in shown:
        said = "stop" if decision.get("stop") else "go on"
        cells = [f"#{trial.number} {trial.name}", *(decision.get(key) for key in keys), said]
        rows.append((numbers[trial.name], cells))
    note = f"{plural(len(every), 'decision')}, {stops:,} of them ended a trial."
    if len(every) > len(shown):
        note += f" The first {len(shown)} are listed; trials.jsonl has all."
    page.section("Early termination", sortable(["trial", *keys, "decision"], rows), note=note)


def failures(page: Page, sweep: SweepRecord) -> None:
    """The ends of the logs of failed trials, trials with the same last line together."""
    failed = [trial for trial in sweep.trials if trial.condition in FAILED]
    if not failed:
        return
    alike: dict[tuple[str, str], list[tuple[Trial, str]]] = defaultdict(list)
    for trial in failed:
        end = _log_end(folder_of(sweep, trial) / STDOUT_FILE)
        alike[trial.condition, end.splitlines()[-1] if end else ""].append((trial, end))
    parts = []
    for (condition, _), members in list(alike.items())[:_FAILURES]:
        trial, end = members[0]
        others = f", and {plural(len(members) - 1, 'trial')} with the same last line" if len(members) > 1 else ""
        code = "" if trial.exit_code is None else f", exit code {trial.exit_code}"
        said = f"{condition}{f' ({trial.reason})' if trial.reason else ''}{code}{others}. "
        head = Html(f"<b>#{trial.number} {escape(trial.name)}</b> {escape(said)}{_links(sweep, trial)}")
        parts += [paragraph(head), preformatted(end) if end else paragraph("Its log is empty.")]
    if len(alike) > _FAILURES:
        parts.append(paragraph(f"And {len(alike) - _FAILURES} more kinds of failure; the table has all trials."))
    page.section("Failures", *parts, note=f"The last {_LOG_LINES} lines of each log.")


def _links(sweep: SweepRecord, trial: Trial) -> Html:
    """Links to a trial's log and, when there is one, its model."""
    found = {"log": folder_of(sweep, trial) / STDOUT_FILE, "model": results_of(sweep, trial) / MODEL_FOLDER}
    links = [
        f'<a href="{escape(quote(os.path.relpath(path, sweep.path)))}">{name}</a>'
        for name, path in found.items()
        if path.exists()
    ]
    return Html(" ".join(links))


def _links_paragraph(sweep: SweepRecord, trial: Trial) -> Html:
    links = _links(sweep, trial)
    value = f"{sweep.experiment.metric} {number(trial.value)}"
    return paragraph(Html(f"{escape(value)}. {links}")) if links else Html()


def _log_end(path: Path) -> str:
    """The last lines of a file, read from its end; nothing when there is no file."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = text.rstrip().splitlines()[-_LOG_LINES:]
    return "\n".join(lines)
