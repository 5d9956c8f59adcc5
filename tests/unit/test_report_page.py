"""The page, its tables and remarks: escaped, self-contained, well formed, quiet in a real browser."""

import html
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from browser import open_page
from hypothesis import given
from hypothesis import strategies as st

from kubesight.report.markup import Html, escape, number, shorten
from kubesight.report.page import (
    Page,
    bars,
    chip,
    fit_pictures,
    heatmap,
    histogram,
    lines,
    notes,
    paragraph,
    pictures,
    side_by_side,
    table,
    thumbnail,
    tiles,
)

NASTY = "<script>console.error('ran')</script>"
NASTY_QUOTED = "\"'><img src=x onerror=\"console.error('ran')\">"
_VOID = {"meta", "img", "br"}


class _Outline(HTMLParser):
    """Collects tags and text, and fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(markup: str) -> _Outline:
    parser = _Outline()
    parser.feed(markup)
    parser.close()
    assert not parser.open
    return parser


def full_page() -> Page:
    names = [NASTY, NASTY_QUOTED, "Löwe & Sohn", "苹果"]
    picture = thumbnail(np.full((40, 60, 3), 200, np.uint8))
    page = Page(f"Report {NASTY}", f"of {NASTY_QUOTED}")
    page.section(
        NASTY,
        tiles([(NASTY, 1234), ("best", NASTY_QUOTED)]),
        notes([(NASTY, NASTY_QUOTED)], "bad"),
        paragraph(NASTY),
        note=NASTY,
    )
    page.section(
        "Charts",
        side_by_side(
            bars(names, [4, 3, 2, 1], title=NASTY),
            bars(names, {NASTY: [4, 3, 2, 1], "test": [1, 0, 1, 0]}),
            histogram(np.arange(100.0), 10, NASTY, title=NASTY),
            lines({NASTY: ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}, NASTY, NASTY, diagonal=True),
            heatmap(np.eye(4), names, names, row_label=NASTY, column_label=NASTY),
            heatmap(np.eye(60), [NASTY] * 60, [NASTY] * 60),
        ),
        table([NASTY, "n"], [[name, index] for index, name in enumerate(names)]),
        pictures([(picture, chip(NASTY, (1, 2, 3), NASTY))]),
    )
    return page


def test_every_text_is_escaped_and_every_tag_closes():
    markup = full_page().render()
    found = outline(markup)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "base", "form"}
    assert next(attributes for tag, attributes in found.tags if tag == "img")["src"].startswith("data:image/jpeg")
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert "".join(found.text).count(NASTY) >= 12
    assert NASTY not in markup


def test_nothing_is_fetched_from_outside():
    markup = full_page().render()
    assert not re.search(r"(https?:)?//[a-z]", markup.replace("http-equiv", ""), re.IGNORECASE)
    assert "url(" not in markup
    assert "@import" not in markup
    assert "default-src 'none'" in markup


@pytest.mark.parametrize("dark", [False, True])
def test_browser_shows_it_without_a_console_line(tmp_path, dark):
    page = tmp_path / "page.html"
    page.write_text(full_page().render(), encoding="utf-8")
    opened = open_page(page, tmp_path / "page.png", height=1400, dark=dark)
    assert opened.console == []
    corner = cv2.imread(str(opened.screenshot))[-5, 5]
    assert (corner < 60).all() if dark else (corner > 230).all()


def test_browser_shows_it_in_a_sandboxed_frame(tmp_path):
    outer = tmp_path / "outer.html"
    inner = html.escape(full_page().render(), quote=True)
    outer.write_text(
        f'<meta charset="utf-8"><body style="margin:0;background:red">'
        f'<iframe sandbox="allow-scripts" style="border:0;width:1200px;height:900px" srcdoc="{inner}"></iframe>',
        encoding="utf-8",
    )
    opened = open_page(outer, tmp_path / "outer.png", height=900)
    assert opened.console == []
    shown = cv2.imread(str(opened.screenshot))
    assert (shown[450, 600] > 200).all()  # the page's own ground, not the red behind the frame


def test_the_browser_helper_sees_console_lines(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('seen'); missing()</script>")
    console = open_page(page, tmp_path / "bad.png", height=200).console
    assert any("seen" in line for line in console)
    assert any("missing" in line for line in console)


def test_table_sets_numbers_flush_right_and_dashes_for_gaps():
    markup = table(["name", "count", "mixed"], [["a", 1234567, 1], ["b", None, "x"]])
    assert '<td class="n">1,234,567</td>' in markup
    assert '<td class="n">–</td>' in markup  # noqa: RUF001
    assert "<td>1</td>" in markup
    assert '<th class="n">count</th>' in markup
    assert "<th>mixed</th>" in markup
    assert table(["a"], [["1.5%"]], numeric=["a"]).count('class="n"') == 2


def test_table_refuses_ragged_rows_and_unknown_columns():
    with pytest.raises(ValueError, match="2 cells"):
        table(["a", "b"], [["only one"]])
    with pytest.raises(ValueError, match="'c'"):
        table(["a"], [], numeric=["c"])


def test_table_takes_markup_as_it_stands():
    assert "<td><b>x</b></td>" in table(["a"], [[Html("<b>x</b>")]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (np.int64(12345), "12,345"),
        (0.5, "0.5000"),
        (0.0, "0.0000"),
        (12.345, "12.35"),
        (-1234.6, "-1,235"),
        (0.00001234, "1.2e-05"),
        (np.float32(0.25), "0.2500"),
        (None, "–"),  # noqa: RUF001
        (float("nan"), "–"),  # noqa: RUF001
        (float("inf"), "–"),  # noqa: RUF001
        (True, "True"),
        ("text", "text"),
    ],
)
def test_number(value, shown):
    assert number(value) == shown


@given(st.text())
def test_escaped_text_comes_back_from_a_parser(text):
    found = outline(f"<p>{escape(text)}</p>")
    told = "".join(found.text)
    assert [tag for tag, _ in found.tags] == ["p"]
    kept = [a == b for a, b in zip(told, text, strict=True) if a != "\N{REPLACEMENT CHARACTER}"]
    assert all(kept)


@given(st.text(max_size=60), st.integers(3, 40))
def test_shorten_keeps_both_ends(text, length):
    short = shorten(text, length)
    assert len(short) == min(len(text), length)
    if len(text) <= length:
        assert short == text
    else:
        head, _, tail = short.partition("…") if "…" not in text else (short[:1], "", short[-1:])
        assert text.startswith(head)
        assert text.endswith(tail)


def test_fit_pictures_keeps_order_and_passes_over_what_is_too_large():
    items = [("data:" + "x" * 100, "a"), ("data:" + "x" * 10_000, "b"), ("data:" + "x" * 100, "c")]
    assert [caption for _, caption in fit_pictures(items, 1000)] == ["a", "c"]
    assert fit_pictures(items, 50) == []
    kept = fit_pictures(items * 50, 30_000)
    assert len(pictures(kept).encode()) < 31_000


def test_a_section_without_parts_still_has_its_heading():
    assert "<h2>Nothing</h2>" in Page("t").section("Nothing").render()
    assert notes([]) == ""
