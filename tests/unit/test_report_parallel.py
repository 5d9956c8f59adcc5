"""Charts of many runs: what is drawn is read back from the markup."""

import re
from xml.etree import ElementTree

import pytest

from kubesight.report.interactive import shade
from kubesight.report.parallel import Axis, natural, parallel
from kubesight.report.runs import Run, best_so_far, curves, scatter
from kubesight.report.sortable import copyable, sortable


def drawing(markup):
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", markup, re.DOTALL)[0])


def lines(markup):
    """The runs' lines by number: heights at the axes (None where a run has no value)."""
    found = {}
    for path in drawing(markup).iter("path"):
        if path.get("data-y") is not None:
            found[int(path.get("data-t"))] = [float(y) if y else None for y in path.get("data-y").split(",")]
    return found


def circles(markup):
    return {int(c.get("data-t")): (float(c.get("cx")), float(c.get("cy"))) for c in drawing(markup).iter("circle")}


def chart():
    axes = [
        Axis("model", ["a", "b", "a", "b"]),
        Axis("rate", [0.001, 0.01, 0.1, 0.001], log=True),
        Axis("frozen", [0, None, 4, None]),
        Axis("accuracy", [0.5, 0.7, 0.9, None]),
    ]
    return parallel(axes, [f"run <{n}>" for n in range(4)], [0.0, 0.5, 1.0, None], best=2)


def test_heights_follow_the_values_on_linear_and_log_axes():
    found = lines(chart())
    bottom, top = found[0][3], found[2][3]
    assert bottom > top
    assert found[1][3] == pytest.approx((bottom + top) / 2)  # 0.7 lies between 0.5 and 0.9
    assert found[1][1] == pytest.approx((bottom + top) / 2)  # 0.01 lies between 0.001 and 0.1, on a log scale
    assert found[0][1] == bottom
    assert found[2][2] == top


def test_categories_have_a_room_each_and_spread_their_runs_in_it():
    found = lines(chart())
    middle = (found[0][3] + found[2][3]) / 2
    a, b = {found[0][0], found[2][0]}, {found[1][0], found[3][0]}
    assert len(a) == len(b) == 2
    assert min(a) > middle > max(b)  # a below, b above, and no overlap
    assert found[2][0] < found[0][0]  # the better run of a category is higher


def test_a_setting_that_a_run_does_not_have_leaves_a_gap():
    markup = chart()
    assert lines(markup)[1][2] is None
    by_kind = {kind: [] for kind in ("solid", "gap")}
    for path in drawing(markup).iter("path"):
        if path.get("data-t") == "1":
            by_kind["gap" if "gap" in path.get("class").split() else "solid"].append(path.get("d"))
    assert len(by_kind["gap"]) == 1
    assert by_kind["solid"][0].count("M") == 2  # two axes joined, then the result alone
    assert 1 in circles(markup)  # which gets a dot, for it has no line
    assert [p for p in drawing(markup).iter("path") if p.get("data-t") == "0" and "gap" in p.get("class").split()] == []


def test_the_best_run_is_drawn_last_and_bold_and_one_without_a_result_first_and_grey():
    paths = [path for path in drawing(chart()).iter("path") if path.get("data-y") is not None]
    assert [int(path.get("data-t")) for path in paths] == [3, 0, 1, 2]
    assert [path.get("class") for path in paths] == ["t qn", "t q0", "t q4", "t q8 best"]
    assert paths[-1].find("title").text == "run <2>"


def test_axes_tell_their_scale_to_the_script():
    axes = {axis.get("data-name"): axis for axis in drawing(chart()).iter("g") if axis.get("data-name")}
    assert list(axes) == ["model", "rate", "frozen", "accuracy"]
    assert (float(axes["rate"].get("data-low")), float(axes["rate"].get("data-high"))) == (0.001, 0.1)
    assert axes["rate"].get("data-log") == "1"
    assert axes["frozen"].get("data-log") is None
    assert axes["model"].get("data-low") is None
    names = [text.text for text in axes["model"].iter("text") if text.get("class") == "v"]
    assert names == ["a", "b"]
    assert {axis.get("tabindex") for axis in axes.values()} == {"0"}


@pytest.mark.parametrize("axis", [Axis("x", [None]), Axis("x", [3.0]), Axis("x", [0.0]), Axis("x", [1e-5], log=True)])
def test_one_run_and_axes_without_a_spread(axis):
    markup = parallel([axis, Axis("y", [0.5])], ["only"], [1.0], best=0)
    assert list(lines(markup)) == [0]
    assert not re.search(r"\b(nan|inf)\b", markup)


def test_many_categories_name_only_some():
    values = [f"value {n}" for n in range(100)]
    markup = parallel([Axis("x", values), Axis("y", list(range(100)))], values, [None] * 100, best=None)
    marks = [text for text in drawing(markup).iter("text") if text.get("class") == "v"]
    assert 10 < len(marks) < 30


def test_an_axis_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 values"):
        parallel([Axis("x", [1.0])], ["a", "b"], [None, None], best=None)


def test_numbers_sort_before_words():
    assert sorted(["10", "9", "b", "1e-3", "a"], key=natural) == ["1e-3", "9", "10", "a", "b"]


@pytest.mark.parametrize(
    ("share", "kind"), [(0, "q0"), (1, "q8"), (0.5, "q4"), (None, "qn"), (float("nan"), "qn"), (2, "q8")]
)
def test_shades(share, kind):
    assert shade(share) == kind


RUNS = [
    Run("first", 0.5, 0.6, [0.2, 0.6]),
    Run("stopped", 0.0, 0.3, [0.3], stopped=True),
    Run("best", 1.0, 0.9, [0.5, 0.8, 0.9]),
    Run("failed", None, None),
]


def test_curves_mark_where_runs_were_stopped():
    svg = drawing(curves(RUNS, "report", "accuracy", best=2))
    drawn = [path for path in svg.iter("path") if "t" in (path.get("class") or "").split()]
    assert [int(path.get("data-t")) for path in drawn] == [1, 0, 2]
    assert drawn[-1].get("class") == "t q8 best"
    crosses = [path.get("data-t") for path in svg.iter("path") if path.get("class") == "x"]
    assert crosses == ["1"]
    assert curves([RUNS[3]], "report", "accuracy", best=None) == ""


def test_a_curve_far_out_does_not_press_the_others_flat():
    runs = [Run(str(n), 0.5, 1.0, [1.0 + n / 10, 0.5 + n / 10]) for n in range(8)]
    svg = drawing(curves([*runs, Run("wild", 0.0, 1e6, [1e6, 1e9])], "report", "loss", best=0))
    heights = [float(y) for p in svg.iter("path") if p.get("data-t") in set("01234567") for y in heights_of(p)]
    assert max(heights) - min(heights) > 100
    ticks = [text.text for text in svg.iter("text")]
    assert not any("M" in (tick or "") for tick in ticks)


def heights_of(path):
    return re.findall(r"[ML][\d.-]+ ([\d.-]+)", path.get("d"))


def test_best_so_far_steps_up_only_where_a_run_is_better():
    values = [0.5, 0.4, 0.7, 0.7, 0.9, 0.8]
    markup = best_so_far([Run(str(n), 0.5, v) for n, v in enumerate(values)], "accuracy", maximize=True)
    step = next(p.get("d") for p in drawing(markup).iter("path") if p.get("class") == "top")
    assert step.count("V") == 2
    points = circles(markup)
    assert [f"{x:g}" for x in re.findall(r"H([\d.]+)V", step) for x in [float(x)]] == [
        f"{points[2][0]:g}",
        f"{points[4][0]:g}",
    ]
    lower = best_so_far([Run(str(n), 0.5, v) for n, v in enumerate(values)], "loss", maximize=False)
    assert next(p.get("d") for p in drawing(lower).iter("path") if p.get("class") == "top").count("V") == 1
    assert best_so_far([Run("none", None, None)], "accuracy", maximize=True) == ""


def test_scatter_places_numbers_and_categories():
    points = circles(scatter(RUNS, [0.01, 0.1, 1.0, 1.0], "rate", "accuracy", log=True, best=2))
    assert sorted(points) == [0, 1, 2]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.3)
    assert points[2][1] < points[0][1] < points[1][1]
    markup = scatter(RUNS, ["a", "b", "a", None], "kind", "accuracy")
    points = circles(markup)
    assert max(points[0][0], points[2][0]) < points[1][0]
    assert ">a</text>" in markup
    assert scatter(RUNS, [None, None, None, 1.0], "x", "y") == ""


def test_tables_sort_by_values_and_escape_names():
    markup = sortable(["name", "value"], [(0, ["<b>", 0.25]), (None, ["plain", None])])
    assert "&lt;b&gt;" in markup
    assert '<tr data-t="0">' in markup
    assert '<td class="n" data-v="0.25">0.2500</td>' in markup
    assert 'data-v="">' in markup
    assert markup.count("<button") == 2
    with pytest.raises(ValueError, match="2 cells"):
        sortable(["a", "b"], [(None, ["one"])])
    assert "<pre>a &lt; b</pre>" in copyable("a < b")
