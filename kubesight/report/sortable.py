"""Tables that sort by a click on a heading, and text to copy; both are plain where no script runs."""

import numbers
from collections.abc import Iterable, Sequence

from kubesight.report.markup import Html, escape, join, number

_LONG = 48


def sortable(columns: Sequence[str], rows: Iterable[tuple[int | None, Sequence[object]]]) -> Html:
    """A table whose headings are buttons (`interactive.SCRIPT` sorts); gaps stay last.

    Args:
        columns: the headings.
        rows: the number of the run that a row is about, or None, and its cells: numbers are formatted and sorted by
            their value, `Html` and text by what is read, None is a dash.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    body = [(run, list(cells)) for run, cells in rows]
    if any(len(cells) != len(columns) for _, cells in body):
        raise ValueError(f"every row must have {len(columns)} cells")
    flush = [
        bool(body) and all(_is_number(cells[i]) or cells[i] is None for _, cells in body) for i in range(len(columns))
    ]
    head = join(
        Html(f'<th class="{"n" if right else "t"}"><button type="button">{escape(name)}</button></th>')
        for right, name in zip(flush, columns, strict=True)
    )
    lines = (_row(run, join(map(_cell, cells, flush))) for run, cells in body)
    parts = f"<thead><tr>{head}</tr></thead><tbody>{join(lines)}</tbody>"
    return Html(f'<div class="scroll"><table class="sort">{parts}</table></div>')


def copyable(content: str) -> Html:
    """Text as it stands, with a button that copies it."""
    return Html(f'<div class="code"><button type="button">copy</button><pre>{escape(content)}</pre></div>')


def preformatted(content: str) -> Html:
    """Text as it stands: the end of a log."""
    return Html(f"<pre>{escape(content)}</pre>")


def _row(run: int | None, cells: Html) -> Html:
    return Html(f"<tr>{cells}</tr>" if run is None else f'<tr data-t="{run}">{cells}</tr>')


def _is_number(cell: object) -> bool:
    return isinstance(cell, numbers.Real) and not isinstance(cell, bool)


def _shown(value: numbers.Real) -> str:
    """Small numbers with three digits that count: rates of learning differ far behind the point."""
    size = abs(float(value))
    return f"{float(value):.3g}" if 1e-5 <= size < 0.1 else number(value)


def _cell(value: object, right: bool) -> Html:
    kind = ' class="n"' if right else ""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return Html(f'<td{kind} data-v="{float(value)!r}">{escape(_shown(value))}</td>')
    if value is None:
        return Html(f'<td{kind} data-v="">{escape(number(None))}</td>')
    # Long texts break into lines; names and numbers do not.
    kind = kind or (' class="w"' if len(str(value)) > _LONG and not isinstance(value, Html) else "")
    return Html(f"<td{kind}>{escape(value)}</td>")
