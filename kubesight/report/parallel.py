"""Parallel coordinates: a line a run through one axis a setting, coloured from the worst to the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubesight.report.axis import Scale, log_ticks, round_ticks, text, tick_text
from kubesight.report.interactive import SHADES_LIGHT, crowd, shade
from kubesight.report.markup import Html, escape, join, shorten

_TOP, _BOTTOM, _HEIGHT = 52, 392, 412
_WIDTH = 1064
_EDGE = 12
_LEAST_STEP = 104
_SPREAD = 0.3
_HINT = (
    "Point at a line, or focus the chart and press the left and right arrow keys, to see a trial. Drag along an axis, "
    "click a name, or focus an axis and press the up and down arrow keys (with Shift to resize), to keep a range; "
    "Escape or a click clears it. Points and rows of the whole page follow."
)


@dataclass(frozen=True)
class Axis:
    """One setting (or result) of all runs.

    Attributes:
        name: over the axis.
        values: one a run: numbers on a scale, or texts, which are categories; None where a run does not have it.
        log: a logarithmic scale; numbers must be above 0.
        order: the categories from the bottom up; by default those that there are, numbers by size, else by name.
    """

    name: str
    values: Sequence[float | str | None]
    log: bool = False
    order: Sequence[str] = field(default=())

    @property
    def categories(self) -> list[str]:
        """The categories from the bottom up; none when the values are numbers."""
        found = {value for value in self.values if isinstance(value, str)}
        return [*self.order, *sorted(found - set(self.order), key=natural)] if found else []


def natural(value: str) -> tuple[int, float, str]:
    """A sort key: numbers by size, then words."""
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0.0, value


def parallel(axes: Sequence[Axis], names: Sequence[str], shares: Sequence[float | None], *, best: int | None) -> Html:
    """The chart, with its key and a line that tells of the run that is pointed at (by `interactive.SCRIPT`).

    Runs of one category are spread over it a little, in the order of their result, so that their lines can be followed.

    Args:
        axes: from left to right; the last is the result as a rule.
        names: what is said of each run.
        shares: how good each run is, from 0 (worst) to 1 (best); None draws it grey, behind the others.
        best: the run that is drawn bold, on top.

    Raises:
        ValueError: an axis has another number of values than there are runs.
    """
    if any(len(axis.values) != len(names) for axis in axes) or len(shares) != len(names):
        raise ValueError(f"every axis must have {len(names)} values")
    step = max(_LEAST_STEP, (_WIDTH - _EDGE - 130) / max(1, len(axes) - 1))
    xs = [round(_EDGE + 48 + step * index, 1) for index in range(len(axes))]
    ranks = sorted(range(len(names)), key=lambda run: (run == best, -1.0 if shares[run] is None else shares[run]))
    places = [_places(axis, ranks) for axis in axes]
    parts = [_line(run, xs, places, names[run], shade(shares[run]), best=run == best) for run in ranks]
    parts += [_axis(axis, x, step) for axis, x in zip(axes, xs, strict=True)]
    width = xs[-1] + 84
    least = min(width, 88 * len(axes))
    kind = f'class="par {crowd(len(names))}" role="group" tabindex="0"'
    size = f'viewBox="0 0 {width:g} {_HEIGHT}" style="--least:{least:g}px"'
    data = f'data-x="{",".join(f"{x:g}" for x in xs)}" data-range="{_TOP},{_BOTTOM}"'
    label = f"parallel coordinates of {len(names)} trials; left and right arrow keys go through them"
    return Html(
        f'<figure class="chart">{_scale()}<div class="wide">'
        f'<svg {kind} aria-label="{label}" {size} {data}>{join(parts)}</svg></div>'
        f'<output class="said" aria-live="polite">{_HINT}</output></figure>'
    )


def _scale() -> Html:
    swatches = join(f'<i class="q{index}"></i>' for index in range(len(SHADES_LIGHT)))
    return Html(f'<div class="scale">worst&ensp;{swatches}&ensp;best, by rank</div>')


def _bounds(axis: Axis) -> tuple[float, float]:
    numbers = [float(value) for value in axis.values if value is not None and not isinstance(value, str)]
    if not numbers:
        return (1.0, 10.0) if axis.log else (0.0, 1.0)
    low, high = min(numbers), max(numbers)
    if low == high:
        return (low / 2, high * 2) if axis.log else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
    return low, high


def _places(axis: Axis, ranks: Sequence[int]) -> Sequence[float | None]:
    """The height of each run on an axis."""
    if not axis.categories:
        scale = Scale(*_bounds(axis), _BOTTOM, _TOP, axis.log)
        return [None if value is None else scale(float(value)) for value in axis.values]
    centres, room = _centres(axis.categories)
    groups: dict[str, list[int]] = {}
    for run in ranks:
        if (value := axis.values[run]) is not None:
            groups.setdefault(str(value), []).append(run)
    found: list[float | None] = [None] * len(axis.values)
    for name, runs in groups.items():
        for index, run in enumerate(runs):
            shift = (index + 0.5) / len(runs) - 0.5 if len(runs) > 1 else 0.0
            found[run] = round(centres[name] - 2 * _SPREAD * room * shift, 1)
    return found


def _centres(categories: Sequence[str]) -> tuple[Mapping[str, float], float]:
    """The middle of each category, from the bottom up, and the room that each has."""
    room = (_BOTTOM - _TOP) / len(categories)
    return {name: round(_BOTTOM - (index + 0.5) * room, 1) for index, name in enumerate(categories)}, room


def _line(
    run: int, xs: Sequence[float], places: Sequence[Sequence[float | None]], name: str, kind: str, *, best: bool
) -> Html:
    """Solid between neighbouring axes, dotted over axes that the run does not have."""
    points = [(x, heights[run]) for x, heights in zip(xs, places, strict=True)]
    solid, dotted, dots = [], [], []
    last: int | None = None
    for index, (x, y) in enumerate(points):
        if y is None:
            continue
        joined = last is not None and last == index - 1
        if last is not None and not joined:
            dotted.append(f"M{points[last][0]:g} {points[last][1]:g}L{x:g} {y:g}")
        solid.append(f"{'L' if joined else 'M'}{x:g} {y:g}")
        alone = not joined and (index + 1 == len(points) or points[index + 1][1] is None)
        if alone:
            dots.append(f'<circle class="p {kind}" data-t="{run}" cx="{x:g}" cy="{y:g}" r="3"/>')
        last = index
    heights = ",".join("" if y is None else f"{y:g}" for _, y in points)
    bold = " best" if best else ""
    gap = f'<path class="t gap {kind}" data-t="{run}" d="{"".join(dotted)}"/>' if dotted else ""
    return Html(
        f'{gap}<path class="t {kind}{bold}" data-t="{run}" data-y="{heights}" d="{"".join(solid)}">'
        f"<title>{escape(name)}</title></path>{join(dots)}"
    )


def _axis(axis: Axis, x: float, step: float) -> Html:
    room = int((step - 8) // 7)
    if axis.categories:
        marks = _category_marks(axis.categories, x, room)
        about = f'data-half="{_centres(axis.categories)[1] / 2:g}"'
    else:
        low, high = _bounds(axis)
        marks = _number_marks(low, high, axis.log, x)
        about = f'data-low="{low:.8g}" data-high="{high:.8g}"' + (' data-log="1"' if axis.log else "")
    name = shorten(axis.name, max(8, room))
    title = f"<title>{escape(axis.name)}</title>" if name != axis.name else ""
    label = escape(f"{axis.name}: up and down arrow keys choose a range, Escape clears it")
    head = f'<text class="k" x="{x:g}" y="{_TOP - 24}">{escape(name)}{title}</text>'
    kind = text(x, _TOP - 40, "log", "middle") if axis.log else ""
    return Html(
        f'<g class="axis" tabindex="0" role="group" aria-label="{label}" '
        f'data-name="{escape(axis.name)}" {about}>'
        f'<path class="a" d="M{x:g} {_TOP - 8}V{_BOTTOM + 8}"/>'
        f'<rect class="band" x="{x - 8:g}" y="{_TOP}" width="16" height="0"/>'
        f'<rect class="hit" x="{x - 14:g}" y="{_TOP - 12}" width="28" height="{_BOTTOM - _TOP + 24}"/>'
        f"{head}{kind}{marks}</g>"
    )


def _category_marks(categories: Sequence[str], x: float, room: int) -> Html:
    centres, space = _centres(categories)
    every = max(1, round(13 / space + 0.49))
    return join(
        f'<text class="v" data-y="{centres[name]:g}" x="{x + 9:g}" y="{centres[name] + 4:g}">'
        f"{escape(shorten(name, max(6, room - 1)))}</text>"
        for name in categories[::every]
    )


def _number_marks(low: float, high: float, log: bool, x: float) -> Html:
    scale = Scale(low, high, _BOTTOM, _TOP, log)
    ticks = log_ticks(low, high) if log else round_ticks(low, high, 6)
    inside = [tick for tick in ticks if low <= tick <= high] or [low, high]
    parts = []
    for tick in inside:
        said = tick_text(tick) if abs(tick) >= 1e-3 or tick == 0 else f"{tick:.0e}".replace("e-0", "e-")
        parts.append(f'<path class="a" d="M{x - 4:g} {scale(tick):g}h4"/>')
        parts.append(text(x - 7, scale(tick) + 4, said, "end", "o"))
    return join(parts)
