"""Texts that components show in the Kubeflow UI."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kubesight.modelcard import ModelCard
from kubesight.tune.records import Trial

_ROWS = 500
"""The UI cuts Markdown off at 400,000 characters."""


def training_markdown(card: ModelCard, history: Path) -> str:
    """How a training went: one table row an evaluation, and the settings that it used.

    Args:
        card: of the finished model.
        history: `metrics.jsonl`; its last 500 evaluations are shown.
    """
    records = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()][-_ROWS:]
    columns = list(dict.fromkeys(name for record in records for name, value in record.items() if _is_number(value)))
    lines = [
        f"# {card.model_name}",
        f"Task `{card.task}`, {len(card.classes)} classes, best epoch {card.training.get('best_epoch')}.",
        "",
        *_table(columns, [[_text(record.get(name)) for name in columns] for record in records]),
        "",
        "## Hyperparameters",
        "",
        *_table(["name", "value"], [[name, _text(value)] for name, value in card.hyperparameters.items()]),
    ]
    return "\n".join(lines) + "\n"


def sweep_markdown(trials: Sequence[Trial], best: Trial, metric: str, reason: str) -> str:
    """How a sweep went: one table row a trial, the best first; 500 of them at most.

    Args:
        trials: all of them.
        best: the best one.
        metric: what they were judged by.
        reason: why the sweep ended.
    """
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.assignments))
    first = [best, *(trial for trial in trials if trial.name != best.name)]
    rows = [
        [trial.name, trial.condition, _text(trial.value), _text(trial.epochs), _text(round(trial.seconds))]
        + [_text(trial.assignments.get(name)) for name in parameters]
        for trial in first[:_ROWS]
    ]
    lines = [
        f"# {best.name}: {metric} {_text(best.value)}",
        f"{len(trials)} trials. {reason}",
        "",
        *_table(["trial", "condition", metric, "epochs", "seconds", *parameters], rows),
    ]
    return "\n".join(lines) + "\n"


def sweep_counts(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials there were, and how many ended how: `trials`, `trials_Succeeded`, ..."""
    ended = Counter(f"trials_{trial.condition}" for trial in trials)
    return {"trials": len(trials), **ended}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
