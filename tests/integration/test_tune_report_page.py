"""The page of a sweep in a real browser: nothing on the console, and what a reader can do with it."""

import base64
import json
import re

import cv2
import pytest
from browser import open_page
from sweep_folders import grocery, mnist, write_sweep

from kubesight.tune.records import Trial, read_trials
from kubesight.tune.report.page import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = grocery(tmp_path_factory.mktemp("sweep") / "out")
    write_report(folder)
    return folder


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (420, False)])
def test_the_page_opens_without_a_console_line(tmp_path, folder, width, dark):
    opened = open_page(folder / "report.html", tmp_path / "page.png", width=width, height=3000, dark=dark)
    assert opened.console == []
    corner = cv2.imread(str(opened.screenshot))[-5, 3]
    assert (corner < 60).all() if dark else (corner > 230).all()


@pytest.mark.parametrize("trials", [0, 1])
def test_pages_of_next_to_nothing_open_too(tmp_path, trials):
    assigned = {"lr": "0.02", "momentum": "0.6"}
    done = [Trial("random-1", 0, assigned, "Succeeded", value=0.5, curve=[0.5], epochs=1)][:trials]
    page = write_report(write_sweep(tmp_path, mnist(), done))
    assert open_page(page, tmp_path / "page.png", height=1500).console == []


def answers(folder, tmp_path, steps):
    """Run a script after the page's own; what it passes to `say` is given back.

    The page's policy lets no other script run, so that a copy without the policy is opened.
    """
    text = (folder / "report.html").read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    tools = """
      const say = value => console.log('SAID ' + btoa(unescape(encodeURIComponent(JSON.stringify(value)))));
      const all = (css, from = document) => [...from.querySelectorAll(css)];
      const press = (e, key, more = {}) => {
        e.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, ...more}));
      };
      const axis = name => all('svg.par .axis').find(e => e.dataset.name === name);
      const kept = () => all('svg.par path.t[data-y]').filter(e => !e.classList.contains('off')).map(e => e.dataset.t);
      const said = () => document.querySelector('output.said').textContent;
      const point = (e, kind, x, y) => {
        const at = new DOMPoint(x, y).matrixTransform(document.querySelector('svg.par').getScreenCTM());
        e.setPointerCapture = () => {};
        e.dispatchEvent(new PointerEvent(kind, {clientX: at.x, clientY: at.y, bubbles: true, pointerId: 1}));
      };
    """
    page = tmp_path / "driven.html"
    page.write_text(text.replace("</body>", f"<script>{{{tools}{steps}}}</script></body>"))
    console = open_page(page, tmp_path / "driven.png", height=3000).console
    found = [line.removeprefix("SAID ") for line in console if line.startswith("SAID ")]
    assert len(found) == len(console), console
    return [json.loads(base64.b64decode(each)) for each in found]


def test_no_other_script_than_its_own_may_run(folder, tmp_path):
    text = (folder / "report.html").read_text().replace("</body>", "<script>console.log('ran')</script></body>")
    (tmp_path / "more.html").write_text(text)
    console = open_page(tmp_path / "more.html", tmp_path / "more.png", height=300).console
    assert len(console) == 1
    assert "Content Security Policy" in console[0]


def test_a_click_on_a_heading_sorts_the_table(folder, tmp_path):
    steps = """
      const table = all('section').find(s => s.querySelector('h2').textContent === 'Trials').querySelector('table');
      const heads = all('th', table), at = heads.findIndex(h => h.textContent === 'accuracy');
      const column = () => [...table.tBodies[0].rows].map(r => r.cells[at].dataset.v);
      heads[at].querySelector('button').click(); say(column()); say(heads[at].ariaSort);
      heads[at].querySelector('button').click(); say(column()); say(heads[at].ariaSort);
      heads[2].querySelector('button').click();
      say([...table.tBodies[0].rows].map(r => r.cells[2].textContent)); say(heads[at].ariaSort);
    """
    up, up_said, down, down_said, conditions, unsorted = answers(folder, tmp_path, steps)
    known = [float(value) for value in up if value]
    assert known == sorted(known)
    assert up[-2:] == down[-2:] == ["", ""]  # failed trials stay last
    assert [float(value) for value in down if value] == known[::-1]
    assert (up_said, down_said, unsorted) == ("ascending", "descending", None)
    assert conditions == sorted(conditions)
    assert len(set(conditions)) == 3


def test_a_range_of_an_axis_keeps_its_trials_everywhere(folder, tmp_path):
    steps = """
      const svg = document.querySelector('svg.par'), x = +svg.dataset.x.split(',')[1];
      const [top, bottom] = svg.dataset.range.split(',').map(Number), middle = (top + bottom) / 2;
      point(axis('learning_rate'), 'pointerdown', x, top); point(axis('learning_rate'), 'pointermove', x, middle);
      point(axis('learning_rate'), 'pointerup', x, middle);
      say(kept()); say(said());
      say(all('tr.off').length > 0 && all('tr:not(.off)[data-t]').every(r => kept().includes(r.dataset.t)));
      press(axis('learning_rate'), 'Escape'); say(kept().length); say(said());
      const model = axis('model_name'), mark = all('text.v', model).find(e => e.textContent === 'resnet18');
      point(model, 'pointerdown', +svg.dataset.x.split(',')[0], +mark.dataset.y);
      point(model, 'pointerup', +svg.dataset.x.split(',')[0], +mark.dataset.y);
      say(kept()); say(said());
    """
    upper, told, rows_follow, whole, hint, resnet, chosen = answers(folder, tmp_path, steps)
    trials = read_trials(folder)
    models = {t.number: "resnet18" if t.assignments["group"] == "0" else "mobilenetv2" for t in trials}
    rates = {t.number: float(t.assignments[f"{models[t.number]}_learning_rate"]) for t in trials}
    middle = (min(rates.values()) * max(rates.values())) ** 0.5
    assert sorted(map(int, upper)) == sorted(number for number, rate in rates.items() if rate >= middle)
    assert told.startswith(f"{len(upper)} of 24 trials. learning_rate: ")
    assert float(told.split(": ")[1].split(" to ")[0]) == pytest.approx(middle, rel=0.02)
    assert rows_follow is True
    assert whole == 24
    assert hint.startswith("Point at a line")
    assert sorted(map(int, resnet)) == sorted(number for number, model in models.items() if model == "resnet18")
    assert chosen == f"{len(resnet)} of 24 trials. model_name: resnet18"


def test_the_keyboard_does_the_same(folder, tmp_path):
    steps = """
      const chart = document.querySelector('svg.par');
      press(chart, 'ArrowRight'); say(all('path.hot[data-y]').map(e => e.dataset.t)); say(said());
      say(all('tr.hot').length);
      press(chart, 'ArrowRight'); say(all('path.hot[data-y]').map(e => e.dataset.t));
      press(axis('accuracy'), 'ArrowUp'); say(kept().length);
      press(axis('accuracy'), 'ArrowDown', {shiftKey: true}); say(kept().length);
      press(axis('accuracy'), 'Escape'); say(kept().length);
    """
    first, told, hot_rows, second, upper, more, whole = answers(folder, tmp_path, steps)
    ranked = sorted((t for t in read_trials(folder) if t.value is not None), key=lambda t: -t.value)
    assert first == [str(ranked[0].number)]
    assert second == [str(ranked[1].number)]
    assert told.startswith(f"#{ranked[0].number} {ranked[0].name}, succeeded: accuracy {ranked[0].value:.4f}; ")
    assert hot_rows >= 1
    assert 0 < upper <= more < whole == 24


def test_pointing_at_a_point_shows_the_trial_in_every_chart(folder, tmp_path):
    steps = """
      const dot = all('svg:not(.par) circle[data-t]')[0];
      dot.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
      say(dot.dataset.t); say(all('.hot').map(e => e.dataset.t)); say(all('path.hot').length);
      document.querySelector('h1').dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); say(all('.hot').length);
    """
    number, hot, paths, after = answers(folder, tmp_path, steps)
    assert set(hot) == {number}
    assert paths >= 2  # its line and its curve
    assert after == 0
