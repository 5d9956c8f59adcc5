"""The reference page: the table as Markdown, and as rows for a terminal."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.hyperparameters.spec import Hyperparameter, Needs
from kubesight.hyperparameters.table import SECTIONS
from kubesight.models.names import ModelSpec, find_model

COLUMNS = ("name", "value", "default", "meaning")
_MARKDOWN_COLUMNS = ("name", "also", "value", "default", "applies to", "meaning", "named by")


def reference_table(model_name: str | None = None, task: Task | None = None) -> list[tuple[str, str, str, str]]:
    """The rows of `kubesight hyperparameters [MODEL]`, under `COLUMNS`.

    Args:
        model_name: only what applies to this model, with its defaults; None shows everything.
        task: only what applies to this task; None takes all that the model does.

    Raises:
        ModelError: the model is unknown.
    """
    return [_cells(row, _contexts(model_name, task)) for _, rows in _chosen(model_name, task) for row in rows]


def reference_markdown(model_name: str | None = None, task: Task | None = None) -> str:
    """The reference page: a table for each part, and the notes on where documents and service disagree.

    Args:
        model_name: as in `reference_table`.
        task: as in `reference_table`.

    Raises:
        ModelError: the model is unknown.
    """
    contexts = _contexts(model_name, task)
    lines = [f"# Hyperparameters of {model_name}" if model_name else "# Hyperparameters", ""]
    for title, rows in _chosen(model_name, task):
        lines += [f"## {title}", "", f"| {' | '.join(_MARKDOWN_COLUMNS)} |", "|" + "---|" * len(_MARKDOWN_COLUMNS)]
        for row in rows:
            name, value, default, meaning = _cells(row, contexts)
            also = ", ".join(f"`{alias}`" for alias in row.aliases)
            cells = (f"`{name}`", also, value, default, str(row.applies), meaning, ", ".join(row.origin))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        notes = [f"- `{row.name}`: {row.note}" for row in rows if row.note]
        lines += ["", *notes, ""] if notes else [""]
    return "\n".join(lines).rstrip() + "\n"


_Context = tuple[ModelSpec, Task]


def _contexts(model_name: str | None, task: Task | None) -> list[_Context]:
    """The model with each of its tasks; nothing without a model."""
    if model_name is None:
        return []
    spec = find_model(model_name)
    return [(spec, each) for each in Task if each in spec.tasks and task in (None, each)]


def _chosen(model_name: str | None, task: Task | None) -> list[tuple[str, list[Hyperparameter]]]:
    """The sections with the rows that apply, leaving out empty ones."""

    def applies(row: Hyperparameter) -> bool:
        if model_name is None:
            return task is None or row.applies.tasks is None or task in row.applies.tasks
        return any(row.applies.holds(spec, each) for spec, each in _contexts(model_name, task))

    chosen = [(title, [row for row in rows if applies(row)]) for title, rows in SECTIONS.items()]
    return [(title, rows) for title, rows in chosen if rows]


def _cells(row: Hyperparameter, contexts: Sequence[_Context]) -> tuple[str, str, str, str]:
    fitting = [(task, row.for_model(spec, task)) for spec, task in contexts if row.applies.holds(spec, task)]
    if fitting:
        shown = fitting[0][1]
        other = {_word(each.default): f"{task}: {_word(each.default)}" for task, each in reversed(fitting)}
        other.pop(_word(shown.default))
        values, defaults = [_allowed(shown)], [_word(shown.default), *other.values()]
    else:
        shown = row
        narrowed = [(case, dataclasses.replace(row, choices=case.choices)) for case in row.cases if case.choices]
        values = [_allowed(row), *(f"{case.scope}: {_allowed(each)}" for case, each in narrowed)]
        defaults = [_word(row.default), *(f"{case.scope}: {_word(case.default)}" for case in row.cases)]
    return row.name, "; ".join(values), "; ".join(defaults), " ".join([row.help, *map(_condition, shown.needs)])


def _allowed(row: Hyperparameter) -> str:
    return row.allowed().removesuffix(" (or none)")


def _condition(need: Needs) -> str:
    if need.values is None:
        return f"Only with {need.setting}."
    return f"Only with {need.setting} {' or '.join(map(_word, need.values))}."


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
