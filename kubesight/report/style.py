"""The look of every page: colours that tell apart for colour-blind readers, in light, dark and print."""

SERIES_LIGHT = ("#0067a5", "#c44e00", "#00805c", "#a8478a", "#7a5c00", "#4b4fb8", "#5f6b76", "#b3243c")
"""Eight line and bar colours, each of contrast 4.5 or more on white (Okabe and Ito's hues, darkened)."""

SERIES_DARK = ("#5ab4ec", "#f08a4b", "#35c49a", "#e08cc4", "#d9b945", "#9fa3f5", "#a9b4be", "#f27c8c")
"""The same hues for a dark ground."""

LAYERS = 10
"""How many layers a drawing may have."""

LIGHT = {
    "bg": "#f6f7f9",
    "card": "#ffffff",
    "text": "#1b2127",
    "muted": "#5a6672",
    "line": "#dbe0e5",
    "grid": "#e8ebee",
    "strong": "#ffffff",
    "warn-bg": "#fff6e0",
    "warn": "#8a5300",
    "bad-bg": "#fdebec",
    "bad": "#a8182d",
    "good-bg": "#e7f6ef",
    "good": "#00684a",
}

DARK = {
    "bg": "#13171b",
    "card": "#1b2126",
    "text": "#e6eaee",
    "muted": "#a0abb6",
    "line": "#333c45",
    "grid": "#2a323a",
    "strong": "#0c1013",
    "warn-bg": "#33290f",
    "warn": "#f0c060",
    "bad-bg": "#3a1a1f",
    "bad": "#ff9aa6",
    "good-bg": "#12302a",
    "good": "#6fd8b0",
}


def _variables(colours: dict[str, str], series: tuple[str, ...]) -> str:
    named = [f"--{name}:{value}" for name, value in colours.items()]
    return ";".join(named + [f"--s{index}:{value}" for index, value in enumerate(series)])


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","DejaVu Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:28px 24px 56px}
header{margin-bottom:20px}
h1{font-size:27px;line-height:1.25;margin:0;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
header p{margin:4px 0 0;color:var(--muted);overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 22px 20px;margin:0 0 18px}
h2{font-size:18px;line-height:1.3;margin:0 0 12px;font-weight:620}
h3{font-size:14px;margin:0 0 6px;font-weight:620}
p{margin:0 0 12px;max-width:78ch}
.note{color:var(--muted);margin:-6px 0 14px;font-size:14px}
code{font:.92em ui-monospace,SFMono-Regular,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(118px,1fr));gap:10px;margin-bottom:16px}
.tile{background:var(--bg);border:1px solid var(--line);border-radius:8px;padding:9px 13px 10px}
.tile b{display:block;font-size:22px;line-height:1.3;font-weight:620;overflow-wrap:anywhere}
.tile span{color:var(--muted);font-size:13px;overflow-wrap:anywhere}
.scroll{overflow:auto;max-height:460px;border:1px solid var(--line);border-radius:8px;margin-bottom:16px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{padding:5px 12px;text-align:left;vertical-align:top;border-bottom:1px solid var(--grid)}
tr:last-child td{border-bottom:0}
th{position:sticky;top:0;background:var(--bg);font-weight:620;white-space:nowrap;z-index:1;box-shadow:0 1px var(--line)}
td{overflow-wrap:anywhere;min-width:6em}
td.n{min-width:0}
td.w{min-width:14em}
.side td.w{min-width:9em}
.side th,.side td{padding:5px 9px}
th.n,td.n{text-align:right;white-space:nowrap;overflow-wrap:normal}
.side{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:18px 26px;
margin-bottom:16px;align-items:start}
.side>*{min-width:0;margin-bottom:0}
figure{margin:0 0 16px}
figcaption{font-size:13px;color:var(--muted);overflow-wrap:anywhere}
figure.chart figcaption{color:var(--text);font-size:14px;font-weight:620;margin-bottom:4px}
svg{display:block;width:100%;height:auto;max-width:var(--w,640px);font:12px system-ui,-apple-system,"Segoe UI",
Roboto,"Noto Sans","DejaVu Sans",Arial,sans-serif;overflow:visible}
svg text{fill:var(--muted)}
svg text.v{fill:var(--text)}
svg .g{stroke:var(--grid);fill:none}
svg .a{stroke:var(--muted);fill:none}
svg .d{stroke:var(--muted);fill:none;stroke-dasharray:4 4}
svg .l{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
svg .m{fill:var(--card);stroke-width:3}
svg .c{fill:var(--s0)}
svg .e{fill:var(--grid);fill-opacity:.45}
svg text.k{fill:var(--text);text-anchor:middle}
svg text.k.i{fill:var(--strong)}
.wide{overflow:auto;max-width:100%}
.key{display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 0 0;font-size:13px;color:var(--muted)}
.key span,.chip{display:inline-flex;align-items:center;gap:6px;overflow-wrap:anywhere}
.chip{margin-right:8px;align-items:baseline}
.key i,.chip i{flex:none;width:11px;height:11px;border-radius:3px}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--w,140px)),1fr));gap:14px 12px;
margin-bottom:16px}
.pictures figure{margin:0}
.pictures img{display:block;width:100%;height:auto;border-radius:6px;background:var(--grid)}
.pictures figcaption{margin-top:4px;line-height:1.35}
.scenes{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:18px 16px;
margin-bottom:16px;align-items:start}
.scenes figure{margin:0;min-width:0}
.scenes figcaption{margin-top:5px;line-height:1.4}
.scenes figure:has(.zoom input:checked){grid-column:1/-1}
.zoom{float:right;margin-left:10px;cursor:pointer}
.zoom input,.switches input{margin:0 4px 0 0;vertical-align:-1px;accent-color:var(--muted)}
svg.over{max-width:none;border-radius:6px;background:#3a424a;overflow:hidden}
svg.over path{fill:none;stroke-width:2;vector-effect:non-scaling-stroke;pointer-events:all}
svg.over path.o{stroke:#000;stroke-width:4;stroke-opacity:.5;pointer-events:none}
svg.over path.dash{stroke-width:1.5;stroke-dasharray:5 4}
svg.over path.o.dash{stroke-width:2.5;stroke-opacity:.35;stroke-dasharray:none}
svg.thin path{stroke-width:1.2}
svg.thin path.o{stroke-width:2}
svg.over text{font-size:22px;font-weight:600;paint-order:stroke;stroke:#000;stroke-opacity:.8;stroke-width:5px;
stroke-linejoin:round;pointer-events:none}
.scenes figure:has(.zoom input:checked) svg text{font-size:13px;stroke-width:3px}
.switches{display:flex;flex-wrap:wrap;gap:6px 18px;margin:0 0 14px;font-size:14px}
.switches label{display:inline-flex;align-items:center;gap:5px;cursor:pointer}
.switches i{flex:none;width:20px;height:14px;border:2px solid;border-radius:2px;background:#3a424a}
details{margin-bottom:16px}
summary{cursor:pointer;margin-bottom:12px;font-weight:620}
ul.notes{list-style:none;margin:0 0 16px;padding:0;display:grid;gap:8px}
ul.notes li{padding:8px 13px;border-radius:8px;border-left:4px solid;overflow-wrap:anywhere}
ul.notes li.warning{background:var(--warn-bg);border-color:var(--warn)}
ul.notes li.bad{background:var(--bad-bg);border-color:var(--bad)}
ul.notes li.good{background:var(--good-bg);border-color:var(--good)}
li.warning b{color:var(--warn)}li.bad b{color:var(--bad)}li.good b{color:var(--good)}
main section>:last-child,.side>*>:last-child{margin-bottom:0}
@media(max-width:600px){main{padding:16px 10px}section{padding:14px 12px}td.w{min-width:9em}}
@media print{body{background:#fff;font-size:12px}main{max-width:none;padding:0}section{border:0;padding:0 0 10px}
.scroll{max-height:none;overflow:visible}th{position:static}figure,.tile,li,tr{break-inside:avoid}}
"""

# Layers of drawings: their colours are set by each drawing; a check box without its tick hides its layer.
_LAYER_RULES = "".join(
    f"svg.over path.k{k}{{stroke:var(--k{k})}}svg.over text.k{k}{{fill:var(--k{k})}}"
    f"section:has(.w{k}:not(:checked)) svg.over .k{k}{{display:none}}"
    for k in range(LAYERS)
)

CSS = (
    f":root{{color-scheme:light dark;{_variables(LIGHT, SERIES_LIGHT)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK, SERIES_DARK)}}}}}"
    f"{_LAYER_RULES}{_RULES}"
)


def series_colour(index: int) -> str:
    """The CSS colour of the `index`-th series; the eight colours come round again."""
    return f"var(--s{index % len(SERIES_LIGHT)})"
