"""Charts say what the numbers say: positions, lengths and counts are read back from the SVG."""

import base64
import math
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.report.axis import LEFT, RIGHT, WIDTH, log_ticks, round_ticks, tick_text
from kubesight.report.charts import bars, heatmap, histogram, lines


def drawing(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", markup, re.DOTALL)[0])


def titles(markup: str) -> list[str]:
    return [element.text or "" for element in drawing(markup).iter("title")]


@given(st.floats(-1e5, 1e5), st.floats(1e-1, 1e9), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_cover_the_range_at_round_steps(low, span, unit, count):
    low, span = low * unit, span * unit
    ticks = round_ticks(low, low + span, count)
    slack = 1e-6 * span
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert len(ticks) <= count + 3
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0], rtol=1e-4)
    mantissa = float(steps[0]) / 10.0 ** math.floor(math.log10(float(steps[0])) + 1e-6)
    assert any(abs(mantissa - m) < 1e-2 * m for m in (1, 2, 2.5, 5))


def test_ticks_of_known_ranges():
    assert round_ticks(0, 1, 6) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert round_ticks(0, 87, 5) == [0, 25, 50, 75, 100]
    assert round_ticks(0, 2, 5, whole=True) == [0, 1, 2]
    assert round_ticks(3, 3, 3)[0] <= 3
    assert log_ticks(0.01, 1) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
    assert log_ticks(1e-6, 1e3) == pytest.approx([10.0**p for p in range(-6, 4)])


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.25, "0.25"), (2000, "2,000"), (30000, "30k"), (1.5e6, "1.5M"), (-2e9, "-2G")]
)
def test_tick_text(value, shown):
    assert tick_text(value) == shown


def test_bars_are_as_long_as_their_values():
    svg = drawing(bars(["a", "b", "none"], [200, 50, 0]))
    widths = [float(rect.get("width")) for rect in svg.iter("rect")]
    assert len(widths) == 2
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.01)
    assert titles(bars(["a"], [1200])) == ["a: 1,200"]
    assert "1,200" in bars(["a"], [1200])
    assert "0.1250" in bars(["a"], [0.125])


def test_stacked_bars_lie_end_to_end_and_name_their_series():
    markup = bars(["a"], {"train": [30], "test": [10]})
    first, second = drawing(markup).iter("rect")
    assert float(first.get("x")) + float(first.get("width")) == pytest.approx(float(second.get("x")), abs=0.2)
    assert titles(markup) == ["a, train: 30", "a, test: 10"]
    assert "train</span>" in markup


def test_bars_tell_how_many_more_there_are():
    markup = bars([f"class {i}" for i in range(100)], list(range(100)), limit=10)
    assert "and 90 more" in markup
    assert "class 9<" in markup
    assert "class 10<" not in markup
    with pytest.raises(ValueError, match="2 values"):
        bars(["a", "b"], [1])


def test_bars_of_nothing():
    assert drawing(bars([], [])).tag == "svg"
    assert len(list(drawing(bars(["a"], [0])).iter("rect"))) == 0


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=200))
def test_histogram_counts_every_value_once(values):
    markup = histogram(values, 10, "x")
    assert sum(int(title.rsplit(": ", 1)[1].replace(",", "")) for title in titles(markup)) == len(values)


def test_histogram_gives_each_small_whole_number_its_bar():
    assert titles(histogram([1, 1, 2, 5], None, "boxes")) == ["1: 2", "2: 1", "5: 1"]


def test_histogram_takes_edges_and_leaves_out_what_is_not_finite():
    assert titles(histogram([0.5, 1.5, 1.7, float("nan"), float("inf")], [0, 1, 2])) == ["0 to 1: 1", "1 to 2: 2"]


def test_histogram_on_a_logarithmic_axis():
    markup = histogram([0.001, 0.01, 0.1, 1.0, 0.0, -1], 3, "size", log=True)
    assert [title.split(": ")[1] for title in titles(markup)] == ["1", "1", "2"]
    widths = [float(rect.get("width")) for rect in drawing(markup).iter("rect")]
    assert max(widths) - min(widths) < 0.3
    assert drawing(histogram([2.0, 2.0], None, log=True, x_label="side")).tag == "svg"
    assert sum(int(title.split(": ")[1]) for title in titles(histogram([2.0, 2.0], 5, log=True))) == 2


def test_histogram_says_when_there_is_one_value_or_none():
    assert "all 3 are 640" in histogram([640, 640, 640], None, "width")
    assert "nothing to count" in histogram([float("nan")])


def test_tallest_bar_of_a_histogram_is_in_proportion():
    rects = list(drawing(histogram([0] * 40 + [1] * 10, None, "n")).iter("rect"))
    assert float(rects[0].get("height")) / float(rects[1].get("height")) == pytest.approx(4, rel=0.02)


def test_lines_of_many_points_keep_their_shape():
    xs = np.linspace(0, 1, 200_000)
    markup = lines({"roc": (xs, xs**0.3)}, "false positive rate", "true positive rate", diagonal=True)
    assert len(markup) < 12_000
    path = next(e for e in drawing(markup).iter("path") if e.get("class") == "l").get("d")
    points = np.array([[float(v) for v in pair.split()] for pair in path[1:].split("L")])
    left, right = LEFT, WIDTH - RIGHT
    shares = (points[:, 0] - left) / (right - left)
    bottom, top = points[0, 1], points[-1, 1]
    drawn_y = (bottom - points[:, 1]) / (bottom - top)
    between = np.interp(xs, shares, drawn_y)
    flat = xs > 0.02  # where it is steep, a tenth of a pixel across is much more than that upwards
    assert np.abs(between - xs**0.3)[flat].max() < 0.005
    assert [shares[0], shares[-1]] == [0, 1]


def test_lines_mark_the_points_of_short_series_and_leave_out_gaps():
    markup = lines({"loss": ([1, 2, 3], [0.5, float("nan"), 0.25])}, "epoch", "loss")
    assert len(list(drawing(markup).iter("circle"))) == 2
    assert "loss: 3, 0.2500" in titles(markup)


def test_a_line_of_one_point_and_of_none():
    assert len(list(drawing(lines({"a": ([1], [2])})).iter("circle"))) == 1
    assert "nothing to draw" in lines({"a": ([], [])})
    assert "nothing to draw" in lines({})


def test_heatmap_names_each_cell_and_shades_by_row():
    markup = heatmap([[8, 2], [0, 5]], ["cat", "dog"], ["cat", "dog"], row_label="true", column_label="predicted")
    assert titles(markup) == [
        "cat → cat: 8 (80.0% of the row)",
        "cat → dog: 2 (20.0% of the row)",
        "dog → dog: 5 (100.0% of the row)",
    ]
    shades = [float(r.get("fill-opacity")) for r in drawing(markup).iter("rect") if r.get("class") == "c"]
    assert shades == pytest.approx([0.06 + 0.94 * share for share in (0.8, 0.2, 1.0)], abs=0.01)


def test_heatmap_shades_by_the_largest_cell_when_asked():
    shades = [
        float(rect.get("fill-opacity"))
        for rect in drawing(heatmap([[10.5, 5.25]], ["r"], ["a", "b"], by_row=False)).iter("rect")
    ]
    assert shades == [1.0, 0.53]


def test_heatmap_of_45_classes_is_labelled_and_of_46_is_a_picture():
    names = [f"c{i}" for i in range(46)]
    small = heatmap(np.ones((45, 45)), names[:45], names[:45])
    assert len(titles(small)) == 45 * 45
    assert len(small) < 450_000
    assert "data:image/png" not in small
    large = heatmap(np.ones((46, 46)), names, names)
    assert "data:image/png" in large
    assert titles(large) == []


def test_large_heatmap_pools_neighbours_and_stays_small():
    side = 1000
    markup = heatmap(np.eye(side) * 7, [str(i) for i in range(side)], [str(i) for i in range(side)])
    assert len(markup) < 60_000
    data = base64.b64decode(re.search(r"base64,([^\"]+)", markup)[1])
    alpha = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3]
    assert alpha.shape == (167, 167)
    assert (np.diag(alpha) > 200).all()
    assert alpha.sum() == np.diag(alpha).sum()


def test_heatmap_of_nothing_and_of_the_wrong_shape():
    assert heatmap(np.zeros((0, 0)), [], []) == ""
    assert titles(heatmap([[0.0]], ["a"], ["a"])) == []
    with pytest.raises(ValueError, match="3 column names"):
        heatmap(np.eye(2), ["a", "b"], ["a", "b", "c"])


@pytest.mark.parametrize("values", [[5e-324], [5e-324, 1e-323], [1e300, 1.1e300], [-1e-42, 1.0], [1e15, 1e15 + 1]])
def test_histograms_of_extreme_values_count_them(values):
    counted = [int(title.rsplit(": ", 1)[1]) for title in titles(histogram(values, 10))]
    assert sum(counted) == len(values)


def test_ringed_points_lie_on_the_axes_and_replace_the_dots():
    plain = lines({"a": ([0.2, 0.4], [0.7, 0.9])}, "x", "y")
    ringed = lines({"a": ([0.2, 0.4], [0.7, 0.9])}, "x", "y", marks={"a": (0.4, 0.9)}, shares=True)
    assert plain.count("<circle") == 2
    assert ringed.count("<circle") == 1
    # x runs from 56 to 506 pixels, y from 214 up to 12, both for 0 to 1.
    assert 'class="m" cx="236" cy="32.2"' in ringed
    assert "<title>a: 0.4000, 0.9000</title>" in ringed
