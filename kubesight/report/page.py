"""A page that a person wants to read: one self-contained HTML file without fetches; a script only where one is given.

Everything that a report needs can be imported from here: the page and its tables, the charts, the pictures.
All functions return markup. Names, cells and labels are escaped; only `Html` values and captions are markup already.
"""

import base64
import hashlib
import numbers
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, Self

from kubesight.report.charts import bars, heatmap, histogram, lines
from kubesight.report.markup import Html, escape, join, number, plural, shorten
from kubesight.report.pictures import (
    chip,
    draw_boxes,
    draw_masks,
    draw_polygons,
    fit_pictures,
    label_colours,
    pictures,
    shrink,
    thumbnail,
)
from kubesight.report.style import CSS

__all__ = [
    "Html",
    "Page",
    "bars",
    "chip",
    "draw_boxes",
    "draw_masks",
    "draw_polygons",
    "escape",
    "fit_pictures",
    "heatmap",
    "histogram",
    "label_colours",
    "lines",
    "notes",
    "number",
    "paragraph",
    "pictures",
    "plural",
    "shorten",
    "shrink",
    "side_by_side",
    "table",
    "thumbnail",
    "tiles",
]

# Nothing but what the file itself holds may load: a class name can then never make a reader's browser call out.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


_LONG_CELL = 16


class Page:
    """A page built section by section.

    Args:
        title: the heading, and the name of the browser tab.
        subtitle: one line under it.
        style: rules beside those of every page.
        script: run when the page is read; the browser runs this very text only, nothing that data might bring in.
    """

    def __init__(self, title: str, subtitle: str = "", *, style: str = "", script: str = "") -> None:
        """Start with no sections."""
        self.title = title
        self.subtitle = subtitle
        self._style = style
        self._script = script
        self._sections: list[str] = []

    def section(self, heading: str, *parts: str, note: str = "") -> Self:
        """Append a card.

        Args:
            heading: plain text.
            parts: markup from the functions of this package, in order; empty ones are left out.
            note: one plain sentence under the heading, saying how to read what follows.
        """
        remark = f'<p class="note">{escape(note)}</p>' if note else ""
        self._sections.append(f"<section><h2>{escape(heading)}</h2>{remark}{join(parts)}</section>")
        return self

    def render(self) -> str:
        """The whole file; it also works as the `srcdoc` of a sandboxed frame."""
        subtitle = f"<p>{escape(self.subtitle)}</p>" if self.subtitle else ""
        policy, script = _POLICY, ""
        if self._script:
            digest = base64.b64encode(hashlib.sha256(self._script.encode()).digest()).decode()
            policy += f"; script-src 'sha256-{digest}'"
            script = f"\n<script>{self._script}</script>"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{CSS}{self._style}</style></head>\n"
            f"<body><main><header><h1>{escape(self.title)}</h1>{subtitle}</header>\n"
            + "\n".join(self._sections)
            + f"\n</main>{script}</body></html>\n"
        )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Collection[str] | None = None) -> Html:
    """A table that scrolls inside its frame when long.

    Args:
        columns: the headings.
        rows: cells in the columns' order; numbers are formatted, `None` is a dash.
        numeric: the columns set flush right; by default those that hold only numbers and gaps.

    Raises:
        ValueError: `numeric` names no column, or a row has another number of cells than there are columns.
    """
    body = [list(row) for row in rows]
    if any(len(row) != len(columns) for row in body):
        raise ValueError(f"every row must have {len(columns)} cells")
    if numeric is None:
        flush = [bool(body) and all(_is_gap_or_number(row[i]) for row in body) for i in range(len(columns))]
    elif unknown := set(numeric) - set(columns):
        raise ValueError(f"no such columns: {sorted(unknown)}")
    else:
        flush = [column in numeric for column in columns]
    head = join(
        f'<th class="n">{escape(name)}</th>' if right else f"<th>{escape(name)}</th>"
        for right, name in zip(flush, columns, strict=True)
    )
    rest = join(f"<tr>{join(map(_table_cell, row, flush))}</tr>" for row in body)
    return Html(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rest}</tbody></table></div>')


def tiles(items: Iterable[tuple[str, object]]) -> Html:
    """Headline numbers: (name, value) each."""
    cells = (f'<div class="tile"><b>{_cell(value)}</b><span>{escape(name)}</span></div>' for name, value in items)
    return Html(f'<div class="tiles">{join(cells)}</div>')


def paragraph(text: str) -> Html:
    """One paragraph of plain text (or `Html`)."""
    return Html(f"<p>{escape(text)}</p>")


def notes(items: Iterable[tuple[str, str]], kind: Literal["warning", "bad", "good"] = "warning") -> Html:
    """A list of remarks, each a short name in bold and a sentence."""
    rows = [f'<li class="{kind}"><b>{escape(name)}</b> {escape(text)}</li>' for name, text in items]
    return Html(f'<ul class="notes">{join(rows)}</ul>') if rows else Html()


def side_by_side(*parts: str) -> Html:
    """Charts or tables beside one another, below one another where the page is narrow."""
    return Html(f'<div class="side">{join(f"<div>{part}</div>" for part in parts if part)}</div>')


def _is_gap_or_number(cell: object) -> bool:
    return cell is None or (isinstance(cell, numbers.Real) and not isinstance(cell, bool))


def _table_cell(value: object, right: bool) -> Html:
    text = _cell(value)
    # Words break where they must, but a column of long ones is not squeezed for it.
    kind = ' class="n"' if right else ' class="w"' if len(text) > _LONG_CELL else ""
    return Html(f"<td{kind}>{text}</td>")


def _cell(value: object) -> Html:
    return value if isinstance(value, Html) else escape(number(value))
