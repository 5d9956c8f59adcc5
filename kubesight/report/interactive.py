"""What a page with many runs can do: one hovered run shows everywhere, ranges filter, tables sort, code is copied.

Runs are linked by the attribute `data-t` (the run's number): on lines of charts, on points, on rows of tables. The
script is optional: without it (a frame without scripts, an old browser) every chart and table is there, only still.
"""

import math

SHADES_LIGHT = ("#d8ab2c", "#a9b03a", "#78b04e", "#48a96a", "#2a9b83", "#248499", "#2d6aa6", "#3d4ca0", "#43267f")
"""From the worst to the best on a light ground: ever darker, apart also for colour-blind readers (as viridis is)."""

SHADES_DARK = ("#6b55b5", "#5270bd", "#3f8abf", "#38a3b5", "#40b89b", "#63ca7c", "#98d85f", "#cfe052", "#fdea5a")
"""The same for a dark ground: ever lighter."""


MANY = 120
"""With more runs, lines and points are drawn thinner."""


def crowd(count: int) -> str:
    """The class of a drawing of so many runs."""
    return "many" if count > MANY else "few"


def shade(share: float | None) -> str:
    """The class of a colour: `q0` (worst, share 0) to `q8` (best, share 1), `qn` for a run without a value."""
    if share is None or not math.isfinite(share):
        return "qn"
    last = len(SHADES_LIGHT) - 1
    return f"q{min(last, max(0, round(share * last)))}"


def _variables(colours: tuple[str, ...]) -> str:
    return ";".join(f"--q{index}:{colour}" for index, colour in enumerate(colours))


_RULES = """
.qn{--q:var(--muted)}
svg path.t{fill:none;stroke:var(--q);stroke-width:1.6;stroke-opacity:.8;stroke-linejoin:round}
svg path.t.gap{stroke-dasharray:2 5;stroke-width:1;stroke-opacity:.6}
svg path.t.qn{stroke-dasharray:4 3;stroke-width:1.1}
svg path.t.best{stroke-width:3.2;stroke-opacity:1}
svg path.top{fill:none;stroke:var(--text);stroke-width:2}
svg circle.p{fill:var(--q);stroke:var(--card);stroke-width:1}
svg circle.p.best{stroke:var(--text);stroke-width:2}
svg path.x{stroke:var(--bad);stroke-width:1.6;fill:none}
.many path.t{stroke-width:.8;stroke-opacity:.55}
.many path.t.best{stroke-width:3;stroke-opacity:1}
.many circle.p{r:2.6px;stroke-width:.5}
.many circle.p.best{r:5.5px;stroke-width:2}
.many path.x{stroke-width:.7}
svg .off{opacity:.06}
svg.par .off{opacity:.045}
svg path.t.hot{stroke:var(--text);stroke-width:3.4;stroke-opacity:1}
svg circle.hot{stroke:var(--text);stroke-width:3}
tr.hot td{background:var(--warn-bg)}
tr.off{display:none}
svg.par{max-width:none;min-width:var(--least);touch-action:pan-x;user-select:none;-webkit-user-select:none}
svg.par text.v,svg.par text.o{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg.par .axis{cursor:crosshair}
svg.par .axis .hit{fill:transparent}
svg.par .axis .band{fill:var(--s0);fill-opacity:.22;stroke:var(--s0)}
svg.par .axis:focus{outline:none}
svg.par .axis:focus-visible .hit{stroke:var(--s0);stroke-width:2}
svg.par:focus-visible{outline:2px solid var(--s0);outline-offset:4px}
output.said{display:block;min-height:3em;font-size:13.5px;color:var(--muted);margin-top:6px;overflow-wrap:anywhere}
.scale{display:flex;align-items:center;gap:8px;font-size:13px;color:var(--muted);margin:0 0 8px}
.scale i{width:14px;height:11px;background:var(--q);margin-right:-8px}
.scale i:last-of-type{margin-right:0}
th button{all:unset;cursor:pointer;font-weight:620}
th button:focus-visible{outline:2px solid var(--s0)}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
table.sort td{min-width:0;white-space:nowrap}
table.sort td.w{min-width:22em;white-space:normal}
td .dot{display:inline-block;width:10px;height:10px;border-radius:5px;background:var(--q);margin-right:6px}
.code{position:relative;margin-bottom:16px}
pre{margin:0;background:var(--bg);border:1px solid var(--line);border-radius:8px;padding:11px 14px;overflow:auto;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Consolas,"DejaVu Sans Mono",monospace;white-space:pre-wrap;
overflow-wrap:anywhere;max-height:460px}
.code button{position:absolute;top:7px;right:7px;font:12px system-ui,sans-serif;color:var(--text);cursor:pointer;
background:var(--card);border:1px solid var(--line);border-radius:6px;padding:3px 9px}
td a,p a{color:var(--s0)}
@media print{.code button,output.said{display:none}}
"""

STYLE = (
    f":root{{{_variables(SHADES_LIGHT)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(SHADES_DARK)}}}}}"
    + "".join(f".q{index}{{--q:var(--q{index})}}" for index in range(len(SHADES_LIGHT)))
    + _RULES
)
"""Rules for pages whose runs are linked; give it to `Page`."""

_LINKED = """
const runs = new Map(), hot = [];
for (const e of document.querySelectorAll('[data-t]')) {
  if (!runs.has(e.dataset.t)) runs.set(e.dataset.t, []);
  runs.get(e.dataset.t).push(e);
}
const mark = t => {
  hot.splice(0).forEach(e => e.classList.remove('hot'));
  for (const e of runs.get(t) || []) { e.classList.add('hot'); hot.push(e); }
};
for (const kind of ['mouseover', 'focusin']) document.addEventListener(kind, event => {
  const near = event.target.closest('[data-t]');
  if (near) mark(near.dataset.t); else if (!event.target.closest('svg.par')) mark(null);
});
"""

_TABLES = """
const worth = cell => cell.dataset.v ?? cell.textContent.trim();
const order = new Intl.Collator(undefined, {numeric: true}).compare;
for (const head of document.querySelectorAll('table.sort th')) head.firstChild.addEventListener('click', () => {
  const up = head.getAttribute('aria-sort') !== 'ascending', body = head.closest('table').tBodies[0];
  for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const rows = [...body.rows].map(row => [worth(row.cells[head.cellIndex]), row]);
  const plain = rows.every(([v]) => v === '' || !isNaN(v));
  const compare = (a, b) => (a === '') - (b === '') || (a === '' ? 0 : (up ? 1 : -1) * (plain ? a - b : order(a, b)));
  body.append(...rows.sort((a, b) => compare(a[0], b[0])).map(([, row]) => row));
});
for (const button of document.querySelectorAll('.code button')) button.addEventListener('click', async () => {
  const code = button.parentNode.querySelector('pre');
  getSelection().selectAllChildren(code);
  try { await navigator.clipboard.writeText(code.textContent); button.textContent = 'copied'; }
  catch { button.textContent = 'selected'; }
});
"""

_PARALLEL = """
for (const chart of document.querySelectorAll('svg.par')) {
  const list = text => text.split(',').map(v => v === '' ? null : +v);
  const lines = [...chart.querySelectorAll('path.t[data-y]')].map(e => ({e, t: e.dataset.t, y: list(e.dataset.y)}));
  const xs = list(chart.dataset.x), [top, bottom] = list(chart.dataset.range);
  const axes = [...chart.querySelectorAll('.axis')], ranges = axes.map(() => null);
  const said = chart.closest('figure').querySelector('output'), hint = said.textContent;
  const place = event => new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
  const text = value => String(+value.toPrecision(3));
  const words = i => {
    const [a, b] = ranges[i], d = axes[i].dataset;
    const names = [...axes[i].querySelectorAll('text.v')].filter(e => e.dataset.y >= a && e.dataset.y <= b);
    if (d.low === undefined) return d.name + ': ' + (names.map(e => e.textContent).join(', ') || 'nothing');
    const at = y => {
      const share = (bottom - y) / (bottom - top);
      return text(d.log ? d.low * (d.high / d.low) ** share : +d.low + share * (d.high - d.low));
    };
    return d.name + ': ' + at(b) + ' to ' + at(a);
  };
  const filter = () => {
    let kept = 0;
    for (const line of lines) {
      const out = ranges.some((r, i) => r && (line.y[i] === null || line.y[i] < r[0] - .1 || line.y[i] > r[1] + .1));
      for (const e of runs.get(line.t)) e.classList.toggle('off', out);
      kept += !out;
    }
    axes.forEach((axis, i) => {
      const band = axis.querySelector('.band'), r = ranges[i];
      band.setAttribute('y', r ? r[0] : top);
      band.setAttribute('height', r ? Math.max(1, r[1] - r[0]) : 0);
    });
    const chosen = ranges.flatMap((r, i) => r ? [words(i)] : []);
    said.textContent = chosen.length ? kept + ' of ' + lines.length + ' trials. ' + chosen.join('; ') : hint;
  };
  const choose = (i, a, b) => {
    const inside = y => Math.max(top - 8, Math.min(bottom + 8, y));
    ranges[i] = a === null ? null : [inside(Math.min(a, b)), inside(Math.max(a, b))];
    filter();
  };
  axes.forEach((axis, i) => {
    let from = null;
    axis.addEventListener('pointerdown', event => {
      from = place(event).y; axis.setPointerCapture(event.pointerId); event.stopPropagation();
    });
    axis.addEventListener('pointermove', event => {
      if (from === null) return;
      event.stopPropagation();
      if (Math.abs(place(event).y - from) > 3) choose(i, from, place(event).y);
    });
    axis.addEventListener('pointerup', event => {
      if (from !== null && Math.abs(place(event).y - from) <= 3) {
        const marks = axis.dataset.low === undefined ? [...axis.querySelectorAll('text.v')].map(e => +e.dataset.y) : [];
        const near = marks.sort((a, b) => Math.abs(a - from) - Math.abs(b - from))[0], half = axis.dataset.half;
        const again = ranges[i] && ranges[i][0] <= from && from <= ranges[i][1];
        if (near === undefined || again) choose(i, null); else choose(i, near - half, near + +half);
      }
      from = null;
    });
    axis.addEventListener('keydown', event => {
      const step = (bottom - top) / 20, r = ranges[i], up = event.key === 'ArrowUp' ? -1 : 1;
      if (event.key === 'Escape') choose(i, null);
      else if (event.key !== 'ArrowUp' && event.key !== 'ArrowDown') return;
      else if (!r) choose(i, up < 0 ? top - 8 : (top + bottom) / 2, up < 0 ? (top + bottom) / 2 : bottom + 8);
      else if (event.shiftKey) choose(i, r[0], Math.max(r[0] + step, r[1] + up * step));
      else choose(i, r[0] + up * step, r[1] + up * step);
      event.preventDefault(); event.stopPropagation();
    });
  });
  const tell = line => { mark(line ? line.t : null); if (line) said.textContent = line.e.textContent; };
  const seen = () => lines.filter(line => !line.e.classList.contains('off'));
  chart.addEventListener('pointermove', event => {
    if (event.buttons) return;
    const {x, y} = place(event), i = xs.findIndex((left, k) => left <= x && x <= xs[k + 1]);
    const far = line => {
      if (i < 0 || line.y[i] === null || line.y[i + 1] === null) return 1e9;
      return Math.abs(line.y[i] + (line.y[i + 1] - line.y[i]) * (x - xs[i]) / (xs[i + 1] - xs[i]) - y);
    };
    const near = seen().map(line => [far(line), line]).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < 9) tell(near[1]);
  });
  chart.addEventListener('pointerleave', () => { mark(null); filter(); });
  let at = 0;
  chart.addEventListener('keydown', event => {
    const shown = seen().reverse(), step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step || !shown.length) return;
    const now = shown.findIndex(line => line.e.classList.contains('hot'));
    at = now < 0 ? 0 : (now + step + shown.length) % shown.length;
    tell(shown[at]);
    event.preventDefault();
  });
}
"""

SCRIPT = f"(() => {{{_LINKED}{_TABLES}{_PARALLEL}}})();"
"""The script of pages whose runs are linked; give it to `Page`."""
