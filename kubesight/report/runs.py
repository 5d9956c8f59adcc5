"""Charts of many runs of one kind: their curves, the best so far, one setting against the result.

Every run is one colour from the worst to the best (`interactive.shade`) and linked by its number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kubesight.report.axis import Scale, chart, frame, horizontal, log_ticks, round_ticks, text, vertical
from kubesight.report.interactive import crowd, shade
from kubesight.report.markup import Html, escape, join, number, shorten, whole
from kubesight.report.parallel import natural

_DOTTED_CURVE = 1


@dataclass(frozen=True)
class Run:
    """What charts say of a run.

    Attributes:
        name: what a reader sees when pointing at it.
        share: how good it is, from 0 (worst) to 1 (best); None without a result.
        value: its result.
        curve: results in the order of their reporting.
        stopped: whether it was ended early; the end of its curve gets a cross.
    """

    name: str
    share: float | None
    value: float | None
    curve: Sequence[float] = ()
    stopped: bool = False


def curves(runs: Sequence[Run], x_label: str, y_label: str, *, best: int | None, title: str = "") -> Html:
    """A curve a run; those ended early have a cross at their end, the best one is bold and on top.

    Args:
        runs: at least one of them should have a curve.
        x_label: what is counted from 1 along the curves.
        y_label: what the values are.
        best: the number of the best run.
        title: the heading over the chart.
    """
    shown = [run for run in _order(runs, best) if len(runs[run].curve)]
    values = [value for run in shown for value in runs[run].curve if math.isfinite(value)]
    if not values:
        return Html()
    longest = max(len(runs[run].curve) for run in shown)
    y_ticks, x_ticks = round_ticks(*_core(values), 6), _counts(longest)
    x, y = horizontal(min(1, longest - 1), longest), vertical(y_ticks[0], y_ticks[-1])
    drawn = [_curve(index, runs[index], x, y, bold=index == best) for index in shown]
    body = frame(x, y, x_ticks, y_ticks, x_label, y_label) + _together(drawn)
    return chart(body, title=title, label=f"{y_label} of {len(shown)} trials")


def best_so_far(runs: Sequence[Run], y_label: str, *, maximize: bool, title: str = "") -> Html:
    """A point a run in the order given, and a stepped line of the best result until then."""
    known = [(index, run.value) for index, run in enumerate(runs) if run.value is not None]
    if not known:
        return Html()
    last = max(1, len(runs) - 1)
    y_ticks = round_ticks(*_core([value for _, value in known]), 6)
    x_ticks = [tick for tick in round_ticks(0, last, 8, whole=True) if tick <= last]
    x, y = horizontal(0, last), vertical(y_ticks[0], y_ticks[-1])
    leader, top = known[0]
    steps = [f"M{x(leader):g} {_inside(y, top):g}"]
    for index, value in known[1:]:
        if (value > top) if maximize else (value < top):
            leader, top = index, value
            steps.append(f"H{x(index):g}V{_inside(y, top):g}")
    steps.append(f"H{x.end:g}")
    points = [_point(index, runs[index], x(index), _inside(y, value), bold=index == leader) for index, value in known]
    body = (
        frame(x, y, x_ticks, y_ticks, "trial", y_label)
        + f'<path class="top" d="{"".join(steps)}"/>'
        + _together(points)
    )
    return chart(body, title=title, label=f"best {y_label} so far over {len(runs)} trials")


def scatter(
    runs: Sequence[Run],
    settings: Sequence[float | str | None],
    x_label: str,
    y_label: str,
    *,
    log: bool = False,
    best: int | None = None,
    title: str = "",
) -> Html:
    """A point a run: a setting against the result. Runs without either are left out.

    Args:
        runs: with results.
        settings: one a run; texts are categories, spaced evenly, with a dash at the middle result of each.
        x_label: the setting.
        y_label: the result.
        log: a logarithmic x axis; numbers must be above 0.
        best: the number of the best run.
        title: the heading over the chart.
    """
    known = [
        (index, settings[index], run.value)
        for index, run in enumerate(runs)
        if run.value is not None and settings[index] is not None
    ]
    if not known:
        return Html()
    y_ticks = round_ticks(*_core([value for _, _, value in known]), 6)
    y = vertical(y_ticks[0], y_ticks[-1])
    categories = sorted({setting for _, setting, _ in known if isinstance(setting, str)}, key=natural)
    if categories:
        return _by_category(runs, known, categories, y, y_ticks, (x_label, y_label, title), best)
    numbers = [float(setting) for _, setting, _ in known if setting is not None]
    x, x_ticks = _number_axis(min(numbers), max(numbers), log)
    points = [
        _point(index, runs[index], x(float(setting or 0)), _inside(y, value), bold=index == best)
        for index, setting, value in known
    ]
    label = f"{x_label} (log scale)" if log else x_label
    body = frame(x, y, x_ticks, y_ticks, label, y_label) + _together(points)
    return chart(body, title=title, label=f"{y_label} against {x_label} of {len(known)} trials")


def _by_category(
    runs: Sequence[Run],
    known: Sequence[tuple[int, float | str | None, float]],
    categories: Sequence[str],
    y: Scale,
    y_ticks: Sequence[float],
    labels: tuple[str, str, str],
    best: int | None,
) -> Html:
    x = horizontal(0, len(categories))
    room = (x.end - x.start) / len(categories)
    parts, points = [frame(x, y, [], y_ticks, labels[0], labels[1])], []
    for column, name in enumerate(categories):
        members = [(index, value) for index, setting, value in known if setting == name]
        middle = x(column + 0.5)
        if room > 24 or column % math.ceil(24 / room) == 0:
            parts.append(text(middle, y.start + 17, shorten(name, max(3, int(room // 7))), "middle"))
        centre = sorted(value for _, value in members)[len(members) // 2]
        parts.append(Html(f'<path class="a" d="M{middle - room * 0.36:g} {_inside(y, centre):g}h{room * 0.72:g}"/>'))
        for place, (index, value) in enumerate(members):
            shift = ((place * 0.618034) % 1 - 0.5) * room * 0.5
            points.append(_point(index, runs[index], middle + shift, _inside(y, value), bold=index == best))
    return chart(
        join([*parts, _together(points)]),
        title=labels[2],
        label=f"{labels[1]} against {labels[0]} of {len(known)} trials",
    )


def _number_axis(low: float, high: float, log: bool) -> tuple[Scale, list[float]]:
    if log:
        low, high = low / 1.15, high * 1.15
        return horizontal(low, high, log=True), log_ticks(low, high)
    ticks = round_ticks(low, high, 6)
    return horizontal(ticks[0], ticks[-1]), ticks


def _curve(index: int, run: Run, x: Scale, y: Scale, *, bold: bool) -> Html:
    points = [(x(step), _inside(y, value)) for step, value in enumerate(run.curve, 1) if math.isfinite(value)]
    place = "L".join(f"{px:g} {py:g}" for px, py in points)
    kind = f"{shade(run.share)}{' best' if bold else ''}"
    parts = [f'<path class="t {kind}" data-t="{index}" d="M{place}"><title>{escape(run.name)}</title></path>']
    if len(points) <= _DOTTED_CURVE:
        parts += [_point(index, run, px, py, bold=bold) for px, py in points]
    if run.stopped and points:
        px, py = points[-1]
        parts.append(f'<path class="x" data-t="{index}" d="M{px - 4:g} {py - 4:g}l8 8m0 -8l-8 8"/>')
    return join(parts)


def _point(index: int, run: Run, px: float, py: float, *, bold: bool) -> Html:
    said = run.name if run.value is None else f"{run.name}: {number(whole(run.value))}"
    radius = 5.5 if bold else 4
    kind = f"{shade(run.share)}{' best' if bold else ''}"
    place = f'cx="{px:g}" cy="{py:g}" r="{radius:g}"'
    return Html(f'<circle class="p {kind}" data-t="{index}" {place}><title>{escape(said)}</title></circle>')


def _together(drawn: Sequence[Html]) -> Html:
    return Html(f'<g class="{crowd(len(drawn))}">{join(drawn)}</g>')


def _order(runs: Sequence[Run], best: int | None) -> list[int]:
    """From the worst to the best, so that the best are drawn over the others."""
    return sorted(range(len(runs)), key=lambda run: (run == best, -1.0 if runs[run].share is None else runs[run].share))


def _counts(longest: int) -> list[float]:
    return [tick for tick in round_ticks(min(1, longest - 1), longest, 8, whole=True) if 1 <= tick <= longest]


def _core(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values without those far out: ten times as far from the quartiles as these from one another.

    A single loss of a thousand would press all other curves into one line; it is drawn at the edge instead.
    """
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    far = 10 * (high - low)
    kept = [value for value in ordered if low - far <= value <= high + far] if far else ordered
    return kept[0], kept[-1]


def _inside(scale: Scale, value: float) -> float:
    return scale(min(scale.high, max(scale.low, value)))
