"""Reading of options that several commands share, and how numbers are shown."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kubesight.errors import KubesightError

if TYPE_CHECKING:
    from rich.table import Table

    from kubesight.dataset.rows import Task


def task_named(name: str) -> "Task":
    """The task of a name.

    Raises:
        KubesightError: there is none; the names are given.
    """
    from kubesight.dataset.rows import Task

    try:
        return Task(name)
    except ValueError:
        raise KubesightError(f"unknown task {name!r}", where="--task", hint=f"One of {', '.join(Task)}.") from None


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a dictionary.

    Raises:
        KubesightError: a text has no `=`, or a name is given twice.
    """
    result: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise KubesightError(f"{text!r} is not NAME=VALUE", where=option)
        if name in result:
            raise KubesightError(f"{name!r} is given twice", where=option)
        result[name] = value
    return result


def number(value: object) -> str:
    """A figure for a table: whole numbers with separators, others with four digits after the point."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def show_table(table: "Table") -> None:
    """Print a table; where the output is no terminal, wide enough for what reads it."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)


def show_metrics(metrics: dict[str, float], *, title: str, first: str | None = None) -> None:
    """Print metrics as a table, the one that decides first."""
    from rich.table import Table

    table = Table("metric", "value", title=title)
    table.columns[1].justify = "right"
    for name in sorted(metrics, key=lambda name: name != first):
        table.add_row(name, number(float(metrics[name])), style="bold" if name == first else None)
    show_table(table)
