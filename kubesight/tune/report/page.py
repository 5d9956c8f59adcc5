"""The page that a person reads after a sweep, and the few lines that a terminal shows of it."""

from collections.abc import Sequence
from pathlib import Path

from kubesight.report.interactive import SCRIPT, STYLE
from kubesight.report.page import Html, Page, notes, number, paragraph, plural, side_by_side, table, tiles
from kubesight.report.parallel import Axis, parallel
from kubesight.report.runs import Run, best_so_far, curves, scatter
from kubesight.storage.files import atomic_file
from kubesight.tune.report.importance import LEAST_TRIALS, Importance, importance
from kubesight.tune.report.notes import doubts
from kubesight.tune.report.settings import Setting
from kubesight.tune.report.sweep import SweepRecord, read_sweep
from kubesight.tune.report.tables import best_settings, decisions, failures, trials_table
from kubesight.tune.report.words import WORDS, duration, short

REPORT_FILE = "report.html"
_STRATEGIES = {"min": "least", "max": "greatest", "latest": "last"}
_SCATTERS = 6
_AXES = 12


def write_report(output: Path) -> Path:
    """Write `report.html` of a sweep's folder; it may be unfinished, and no trial need have succeeded.

    Args:
        output: the folder with experiment.yaml, status.json and trials.jsonl.

    Returns:
        the page's path.

    Raises:
        JobError: there is no sweep, or its Experiment or status cannot be read.
        StorageError: a record is broken, or the page cannot be written.
    """
    path = output / REPORT_FILE
    page = render_report(read_sweep(output))
    with atomic_file(path, "w") as stream:
        stream.write(page)
    return path


def render_report(sweep: SweepRecord) -> str:
    """One self-contained HTML file, under about 3 MB for 500 trials; links lead to the folder beside it."""
    page = Page(_title(sweep), _subtitle(sweep), style=STYLE, script=SCRIPT)
    page.section("Result", tiles(_tiles(sweep)), *_epochs_said(sweep), notes(doubts(sweep)))
    if sweep.best is not None:
        page.section("Best trial", *best_settings(sweep), note=_best_note(sweep))
    shares = _shares(sweep)
    runs = [
        Run(f"#{trial.number} {trial.name}", share, trial.value, trial.curve, trial.condition == "EarlyStopped")
        for trial, share in zip(sweep.trials, shares, strict=True)
    ]
    best = None if sweep.best is None else sweep.trials.index(sweep.best)
    if sweep.swept and any(sweep.columns):
        page.section("All trials through their settings", _parallel(sweep, shares, best), note=_parallel_note(sweep))
    _progress(page, sweep, runs, best)
    if best is not None:
        _importance(page, sweep, runs, best)
    page.section("Trials", trials_table(sweep, shares), note="A click on a heading sorts. Times in seconds.")
    decisions(page, sweep)
    failures(page, sweep)
    page.section("What ran", table(["", "value"], _facts(sweep)))
    return page.render()


def summary(output: Path) -> str:
    """What a terminal says after a sweep: the best trial and its settings, counts, epochs saved, where the page is.

    Raises:
        JobError: there is no sweep, or its Experiment or status cannot be read.
        StorageError: a record is broken.
    """
    sweep = read_sweep(output)
    condition, reason = sweep.state
    lines = [f"{sweep.experiment.name}: {_counted(sweep)}" + (f"; {condition} ({reason})" if reason else "")]
    if sweep.best is None:
        lines.append("no trial has a value")
    else:
        lines.append(f"best: {sweep.experiment.metric} {number(sweep.best.value)} in {sweep.best.name}")
        row = sweep.columns[sweep.trials.index(sweep.best)]
        lines.append("  " + "  ".join(f"{name}={short(row[name])}" for name in _names(sweep) if name in row))
    if (epochs := sweep.epochs) is not None and epochs.by_policy:
        lines.append(
            f"epochs: {epochs.run:,} run, {epochs.by_policy:,} of {epochs.planned:,} ({epochs.share:.0%}) saved by "
            "stopping early"
        )
    if (output / REPORT_FILE).exists():
        lines.append(f"report: {output / REPORT_FILE}")
    return "\n".join(lines)


def _title(sweep: SweepRecord) -> str:
    result = f"{sweep.experiment.metric} {number(sweep.best.value)}" if sweep.best else "no result"
    return f"Sweep {sweep.experiment.name}: {result}"


def _subtitle(sweep: SweepRecord) -> str:
    experiment = sweep.experiment
    aim = f"{'maximize' if experiment.maximize else 'minimize'} {experiment.metric}"
    if experiment.goal is not None:
        aim += f" until {experiment.goal:g}"
    condition, reason = sweep.state
    ended = f"; {condition.lower()}{f' ({reason})' if reason else ''}" if condition else ""
    return f"{aim}; {_counted(sweep)}{ended}"


def _counted(sweep: SweepRecord) -> str:
    parts = [f"{sweep.counts[condition]:,} {word}" for condition, word in WORDS.items() if sweep.counts[condition]]
    return f"{plural(len(sweep.trials), 'trial')} ({', '.join(parts)})" if parts else "no trials"


def _tiles(sweep: SweepRecord) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    if sweep.best is not None:
        found += [(f"best {sweep.experiment.metric}", sweep.best.value), ("best trial", f"#{sweep.best.number}")]
    found += [(word, sweep.counts[condition]) for condition, word in WORDS.items() if sweep.counts[condition]]
    if (wall := sweep.wall_seconds) is not None:
        found.append(("wall time", duration(wall)))
    found.append(("time of all trials", duration(sum(trial.seconds for trial in sweep.trials))))
    if (epochs := sweep.epochs) is not None:
        found += [("epochs run", epochs.run), ("epochs saved", f"{epochs.share:.0%}")]
    return [*found, ("cache hits", sum(trial.cache_hits for trial in sweep.trials))]


def _epochs_said(sweep: SweepRecord) -> list[Html]:
    epochs = sweep.epochs
    if epochs is None:
        return []
    said = (
        f"Epochs saved: {epochs.by_policy:,} of {epochs.planned:,} planned ({epochs.share:.1%}), those that stopped "
        f"trials did not run; {epochs.basis}. Failed and killed trials do not count."
    )
    if epochs.by_themselves:
        said += f" Trials that ended by themselves before their planned end left out {epochs.by_themselves:,} more."
    return [paragraph(said)]


def _best_note(sweep: SweepRecord) -> str:
    best = sweep.best
    assert best is not None
    reports = f"{plural(best.epochs, 'report')} in {duration(best.seconds)}"
    said = f"#{best.number} {best.name}, {WORDS[best.condition]} after {reports}."
    strategy = sweep.experiment.strategies.get(sweep.experiment.metric, "latest")
    return f"{said} A trial's value is the {_STRATEGIES[strategy]} of its reports."


def _shares(sweep: SweepRecord) -> list[float | None]:
    """How good each trial is among those with a value: its rank, equals alike; the best is 1."""
    sign = 1 if sweep.experiment.maximize else -1
    values = [None if trial.value is None else sign * trial.value for trial in sweep.trials]
    known = sorted(value for value in values if value is not None)
    first = {value: index for index, value in reversed(list(enumerate(known)))}
    last = {value: index for index, value in enumerate(known)}
    span = max(1, len(known) - 1)
    return [
        None if value is None else 1.0 if value == known[-1] else (first[value] + last[value]) / 2 / span
        for value in values
    ]


def _parallel(sweep: SweepRecord, shares: Sequence[float | None], best: int | None) -> Html:
    axes = [_axis(sweep, setting) for setting in sweep.swept[:_AXES]]
    axes.append(Axis(sweep.experiment.metric, [trial.value for trial in sweep.trials]))
    names = []
    for trial, row in zip(sweep.trials, sweep.columns, strict=True):
        told = "no value" if trial.value is None else f"{sweep.experiment.metric} {number(trial.value)}"
        settings = ", ".join(f"{name}={short(row[name])}" for name in _names(sweep) if name in row)
        names.append(f"#{trial.number} {trial.name}, {WORDS[trial.condition]}: {told}; {settings}")
    return parallel(axes, names, shares, best=best)


def _axis(sweep: SweepRecord, setting: Setting) -> Axis:
    values = sweep.column(setting)
    order = tuple(dict.fromkeys(value for parameter in setting.parameters for value in parameter.values))
    listed = order if all(isinstance(value, str) for value in values if value is not None) else ()
    return Axis(setting.name, values, setting.log, tuple(value for value in listed if value in values))


def _parallel_note(sweep: SweepRecord) -> str:
    told = "Each line is a trial. "
    if any(setting.name not in row for setting in sweep.swept for row in sweep.columns if row):
        told += "A dotted line passes over a setting that the trial does not have. "
    if len(sweep.swept) > _AXES:
        told += f"The first {_AXES} of {len(sweep.swept)} settings; the table has all. "
    return told + "Trials without a value are grey and end before the last axis."


def _progress(page: Page, sweep: SweepRecord, runs: Sequence[Run], best: int | None) -> None:
    metric = sweep.experiment.metric
    drawn = [
        curves(runs, "report", metric, best=best, title="Every trial's curve"),
        best_so_far(runs, metric, maximize=sweep.experiment.maximize, title="Best so far"),
    ]
    if any(drawn):
        note = "A cross: stopped early. The best trial is bold. Values far outside the others lie at the edge."
        page.section("Progress", side_by_side(*drawn), note=note)


def _importance(page: Page, sweep: SweepRecord, runs: Sequence[Run], best: int) -> None:
    columns = {setting.name: sweep.column(setting) for setting in sweep.swept}
    logs = {setting.name: setting.log for setting in sweep.swept}
    values = [trial.value for trial in sweep.trials]
    found = importance(columns, values)
    order = [each.setting for each in found] or list(columns)
    drawn = [
        scatter(runs, columns[name], name, sweep.experiment.metric, log=logs[name], best=best, title=name)
        for name in order[:_SCATTERS]
    ]
    scored = sum(value is not None for value in values)
    if found:
        heads = ["setting", "explains alone", "by chance?", "explains with another", "trials"]
        listed = table(heads, [_importance_row(each) for each in found], numeric=["explains alone", "trials"])
        note = (
            "The share of the variance between trials that lies between groups of about the same value of a setting, "
            "less what chance gives (analysis of variance). It tells what mattered in this space, not what to choose."
        )
        page.section("Importance of settings", listed, side_by_side(*drawn), note=note)
    elif any(drawn):
        why = (
            f"{plural(scored, 'value')}: too few to tell how important settings are; it takes {LEAST_TRIALS}."
            if scored < LEAST_TRIALS
            else "All values are equal: no setting made a difference."
        )
        page.section("Settings against the result", paragraph(why), side_by_side(*drawn))


def _importance_row(each: Importance) -> list[object]:
    likely = "unlikely" if each.chance < 0.05 else "possible" if each.chance < 0.2 else "likely"
    pair = f"{each.joint:.0%} with {each.partner}" if each.partner else ""
    return [each.setting, f"{each.share:.0%}", f"{likely} (p = {each.chance:.3f})", pair, each.trials]


def _names(sweep: SweepRecord) -> list[str]:
    return [setting.name for setting in sweep.swept]


def _facts(sweep: SweepRecord) -> list[tuple[str, object]]:
    experiment = sweep.experiment
    stopping = experiment.early_stopping
    said = ", ".join(f"{key} {value}" for key, value in experiment.settings.items())
    facts: list[tuple[str, object]] = [
        ("experiment", experiment.name),
        ("objective", f"{'maximize' if experiment.maximize else 'minimize'} {experiment.metric}"),
        ("goal", experiment.goal),
        ("sampler", f"{experiment.algorithm}{f' ({said})' if said else ''}"),
        ("trials at most", experiment.max_trials),
        ("at a time", experiment.parallel),
        ("failed trials that end it", experiment.max_failed),
        ("time limit of the sweep, seconds", experiment.limits.timeout_seconds),
    ]
    if stopping is not None:
        told = ", ".join(f"{key} {value}" for key, value in stopping[1].items())
        facts.append(("early stopping", f"{stopping[0]}{f' ({told})' if told else ''}"))
    for parameter in experiment.parameters:
        step = f" in steps of {parameter.step:g}" if parameter.step else ""
        span = f"{parameter.low} to {parameter.high}{step}, {parameter.distribution}"
        listed = ", ".join(parameter.values) if parameter.values else span
        facts.append((f"parameter {parameter.name}", f"{parameter.kind}: {listed}"))
    return [(name, value) for name, value in facts if value is not None]
