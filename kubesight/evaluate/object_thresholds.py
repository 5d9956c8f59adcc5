"""What each score threshold costs, in a sentence, two charts and a table."""

import math

import numpy as np

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.metrics.detection import THRESHOLDS, ThresholdRow, best_f1, threshold_table
from kubesight.metrics.voc import ClassCurve
from kubesight.report.page import Html, Page, lines, paragraph, side_by_side, table

_STEPS = 101
_FALSE_SHARE = 2.0  # where there are more false detections than so many times the objects, the chart ends


def all_classes(curves: list[ClassCurve]) -> ClassCurve:
    """The rankings of all classes merged into one, as a threshold that all classes share sees them."""
    score = np.concatenate([np.zeros(0), *(curve.score for curve in curves)])
    hit = np.concatenate([np.zeros(0, bool), *(curve.hit for curve in curves)])
    order = np.argsort(-score, kind="stable")
    return ClassCurve("all classes", sum(curve.ground_truths for curve in curves), score[order], hit[order], None)


def thresholds(page: Page, answers: ObjectAnswers, curve: ClassCurve) -> None:
    """Append the section.

    Args:
        page: the page.
        answers: what was judged.
        curve: the ranking of `all_classes`.
    """
    if not curve.detections or not curve.ground_truths:
        what = "Nothing was found" if not curve.detections else "Nothing is labelled"
        page.section("What each score threshold costs", paragraph(f"{what}: there is nothing to choose."))
        return
    now = answers.score_threshold
    best, _ = best_f1(curve)
    page.section(
        "What each score threshold costs",
        _advice(curve, now, best),
        side_by_side(*_charts(curve, now)),
        _table(curve, now, best),
        note=f"All classes together, at an overlap of {answers.iou_threshold:g} or more. A threshold keeps the "
        "detections that score no less; average precision does not depend on it.",
    )


def at(curve: ClassCurve, threshold: float) -> ThresholdRow:
    """What one score threshold costs."""
    return threshold_table([curve], [threshold])[0]


def round_down(score: float) -> float:
    """A score to four places, never upwards: used as a threshold it keeps all that the exact one keeps."""
    return math.floor(score * 10_000) / 10_000


def _advice(curve: ClassCurve, now: float, best: float | None) -> Html:
    if best is None:
        return paragraph("No detection is right, at any threshold.")
    here, there = at(curve, now), at(curve, best)
    f1_here, f1_there = here.figures.f1 or 0.0, there.figures.f1 or 0.0
    if f1_there - f1_here < 0.0005:
        return paragraph(f"F1 is best, {f1_there:.3f}, at the deployment threshold of {now:g} or as good as there.")
    found, false = there.found - here.found, there.false - here.false
    return paragraph(
        Html(
            f"F1 is best at a threshold of <b>{round_down(best):.4f}</b>: {f1_there:.3f} instead of {f1_here:.3f} at "
            f"the deployment threshold of {now:g}. It would find {_change(found, 'object', 'objects')} and give "
            f"{_change(false, 'false detection', 'false detections')}."
        )
    )


def _change(difference: int, one: str, many: str) -> str:
    if difference == 0:
        return f"as many {many}"
    return f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} {one if abs(difference) == 1 else many}"


def _charts(curve: ClassCurve, now: float) -> list[Html]:
    rows = threshold_table([curve], np.linspace(0, 1, _STEPS).tolist())
    here = at(curve, now)
    x = [row.threshold for row in rows]
    shares = {
        "precision": (x, [_or_gap(row.figures.precision if row.found + row.false else None) for row in rows]),
        "recall": (x, [_or_gap(row.figures.recall) for row in rows]),
        "F1": (x, [_or_gap(row.figures.f1) for row in rows]),
    }
    few = [row for row in rows if row.false <= _FALSE_SHARE * curve.ground_truths] or rows[-1:]
    x = [row.threshold for row in few]
    counts = {
        "found": (x, [row.found for row in few]),
        "missed": (x, [row.missed for row in few]),
        "false": (x, [row.false for row in few]),
    }
    ringed = {"precision": here.figures.precision, "recall": here.figures.recall, "F1": here.figures.f1}
    return [
        lines(
            shares,
            "score threshold",
            marks={name: (now, value) for name, value in ringed.items() if value is not None},
            title="Precision, recall and F1",
        ),
        lines(
            counts,
            "score threshold",
            marks={name: (now, getattr(here, name)) for name in counts if now >= few[0].threshold},
            title="Objects found and missed, false detections",
        ),
    ]


def _or_gap(value: float | None) -> float:
    return math.nan if value is None else value


def _table(curve: ClassCurve, now: float, best: float | None) -> Html:
    chosen = {*THRESHOLDS, now} | ({best} if best is not None else set())
    rows = []
    for row in threshold_table([curve], sorted(chosen)):
        remark = ", ".join(["deployment"] * (row.threshold == now) + ["best F1"] * (row.threshold == best))
        figures = row.figures
        counts = (row.found, row.false, row.missed)
        name = f"{round_down(row.threshold):.4f}" if row.threshold not in THRESHOLDS else f"{row.threshold:.2f}"
        rows.append((name, *counts, figures.precision, figures.recall, figures.f1, remark))
    heads = ["score threshold", "found", "false", "missed", "precision", "recall", "F1", ""]
    return table(heads, rows, numeric=heads[:-1])
