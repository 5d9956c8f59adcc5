"""The parts of the page on boxes or outlines that speak of classes, kinds of errors and sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_thresholds import round_down
from kubesight.evaluate.object_verdicts import LAYERS, OF_ERROR
from kubesight.metrics.detection import threshold_table
from kubesight.metrics.errors import BOTH, KINDS, ErrorBreakdown
from kubesight.metrics.errors import CLASS as CLASS_ERROR
from kubesight.metrics.voc import ClassCurve
from kubesight.report.page import (
    Html,
    Page,
    bars,
    heatmap,
    lines,
    number,
    paragraph,
    plural,
    shorten,
    side_by_side,
    table,
)

MATRIX_CLASSES = 30
"""With more classes the confusion matrix names those with the most errors and pools the others."""

SIDE_BY_SIDE_CLASSES = 12
CONFUSIONS = 20
CURVES = 8
"""Lines in one chart, as many as there are colours."""

TABLE_ROWS = 200
NAME = 24
_FREQUENT = 10
_GRID = [step / 50 for step in range(51)]


def confusions(page: Page, answers: ObjectAnswers) -> None:
    """Append the confusion matrix with its background, and the most frequent confusions."""
    matrix = answers.confusion
    if not matrix.any():
        page.section("Confusion matrix", paragraph("Nothing counts as labelled, and nothing was found."))
        return
    shown, names, pooled = pool(matrix, answers.classes)
    drawn = heatmap(
        shown,
        [*names, "nothing labelled"],
        [*names, "missed"],
        row_label="labelled as",
        column_label="found as",
    )
    rows = frequent_confusions(matrix, answers.classes)
    heads = ["labelled as", "found as", "objects", "share of the class"]
    listed = table(heads, rows, numeric=heads[2:]) if rows else Html()
    if not rows and len(answers.classes) > 1:
        listed = paragraph("No class was taken for another.")
    beside = len(names) <= SIDE_BY_SIDE_CLASSES
    page.section(
        "Confusion matrix",
        *([side_by_side(drawn, listed)] if beside else [drawn, listed]),
        note="A row is what an object is labelled as, a column what it was found as; the diagonal is right. The last "
        "column holds the objects that were missed, the last row the detections where nothing is labelled. Cells are "
        f"shaded by their share of the row. At a score of {answers.score_threshold:g} and an overlap of "
        f"{answers.iou_threshold:g} or more, whatever the classes."
        + (f" The {pooled:,} classes with the fewest errors are pooled as (others)." if pooled else "")
        + f" {_listed(rows)}",
    )


def _listed(rows: Sequence[object]) -> str:
    return f"The table lists the {len(rows)} most frequent confusions of classes." if len(rows) > 1 else ""


def pool(matrix: NDArray[np.int64], classes: Sequence[str]) -> tuple[NDArray[np.int64], list[str], int]:
    """A matrix that can be read: classes that occur, of many those with the most errors, the others as one.

    Args:
        matrix: [classes + 1, classes + 1], background last.
        classes: the class names.

    Returns:
        The smaller matrix, background last; the names; and how many classes were pooled under the last name.
    """
    occur = np.flatnonzero((matrix.sum(axis=0) + matrix.sum(axis=1))[:-1])
    if len(occur) <= MATRIX_CLASSES:
        kept = np.append(occur, len(classes))
        return matrix[np.ix_(kept, kept)], [classes[k] for k in occur.tolist()], 0
    wrong = (matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diag(matrix))[:-1]
    worst = np.sort(occur[np.argsort(-wrong[occur], kind="stable")[:MATRIX_CLASSES]])
    place = np.full(len(classes) + 1, len(worst))
    place[worst] = np.arange(len(worst))
    place[-1] = len(worst) + 1
    small = np.zeros((len(worst) + 2,) * 2, np.int64)
    np.add.at(small, (place[:, None], place[None, :]), matrix)
    return small, [*(classes[k] for k in worst.tolist()), "(others)"], len(occur) - len(worst)


def frequent_confusions(matrix: NDArray[np.int64], classes: Sequence[str]) -> list[tuple[str, str, int, str]]:
    """Label, class found, number of objects, share of the label's objects: the most frequent ones."""
    wrong = matrix[:-1, :-1].copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(flat), len(classes)) for flat in order]
    return [
        (classes[i], classes[j], int(wrong[i, j]), f"{wrong[i, j] / matrix[i].sum():.1%}")
        for i, j in pairs
        if wrong[i, j]
    ]


def class_table(page: Page, answers: ObjectAnswers, rows: Sequence[dict[str, Any]]) -> None:
    """Append the table of classes; `rows` are those of `metrics.json`."""
    ordered = sorted(rows, key=lambda row: (row["average_precision"] is None, row["average_precision"], row["name"]))
    columns = {
        "class": "name",
        "labelled": "ground_truths",
        "AP": "coco_AP",
        f"AP at {answers.iou_threshold:g}": "average_precision",
        "precision": "precision",
        "recall": "recall",
        "F1": "f1",
        "found": "hits",
        "missed": "missed",
        "false": "false",
        "best F1": "best_f1",
        "at score": "best_threshold",
    }
    cells = [[_class_cell(key, row[key]) for key in columns.values()] for row in ordered[:TABLE_ROWS]]
    note = (
        f"Precision, recall, F1 and counts at the deployment threshold of {answers.score_threshold:g}; AP is of all "
        "detections, over overlaps from 0.50 to 0.95 in its first column. The lowest come first; a dash: undefined."
    )
    if len(ordered) > TABLE_ROWS:
        note += f" The first {TABLE_ROWS} of {len(ordered):,} classes; metrics.json has all."
    page.section("Classes", table(list(columns), cells, numeric=list(columns)[1:]), note=note)


def _class_cell(key: str, value: Any) -> object:
    if key == "name":
        return shorten(value, 60)
    if isinstance(value, float):
        return f"{round_down(value):.4f}" if key == "best_threshold" else f"{value:.3f}"
    return value


def curve_charts(page: Page, answers: ObjectAnswers, curves: Sequence[ClassCurve]) -> None:
    """Append precision against recall, and F1 against the score: of all classes, or of the lowest and the best."""
    known = sorted(
        (curve for curve in curves if curve.average_precision is not None),
        key=lambda curve: (curve.average_precision or 0.0, curve.name),
    )
    if not known or not any(curve.detections for curve in known):
        what = "found" if known else "labelled"
        page.section("Precision and recall", paragraph(f"Nothing is {what}: there are no curves."))
        return
    now, every = answers.score_threshold, len(known)
    # Of many classes the lowest are those with an object or two, which tell nothing.
    frequent = [curve for curve in known if curve.ground_truths >= _FREQUENT]
    known = frequent if every > 2 * CURVES <= len(frequent) else known
    if len(known) <= CURVES:
        charts = _charts(known[::-1], now, "")
    else:
        low, high = known[: min(CURVES, len(known) // 2)], known[-min(CURVES, (len(known) + 1) // 2) :]
        charts = _charts(low, now, f", the lowest {len(low)} classes") + _charts(
            high[::-1], now, f", the best {len(high)}"
        )
    left_out = every - 2 * CURVES
    among = f" Drawn are classes with {_FREQUENT} labelled objects or more." if len(known) < every else ""
    page.section(
        "Precision and recall",
        side_by_side(*charts),
        note="Each class's detections from the surest to the least sure, at an overlap of "
        f"{answers.iou_threshold:g} or more; in brackets the average precision. A ring is the deployment threshold of "
        f"{now:g}.{among}" + (f" {plural(left_out, 'class', 'classes')} more are not drawn." if left_out > 0 else ""),
    )


def _charts(curves: Sequence[ClassCurve], now: float, which: str) -> list[Html]:
    recalls: dict[str, Any] = {}
    f1: dict[str, Any] = {}
    ringed: dict[str, Any] = {}
    marks: dict[str, Any] = {}
    for curve in curves:
        name = f"{shorten(curve.name, NAME)} ({curve.average_precision:.3f})"
        name += f" {len(recalls) + 1}" * (name in recalls)  # two long names may be shortened to the same
        recall, precision = curve.recall, curve.precision
        first = [float(precision[0])] if curve.detections else [0.0]
        recalls[name] = ([0.0, *recall.tolist()], [*first, *precision.tolist()])
        rows = threshold_table([curve], _GRID)
        f1[name] = (_GRID, [row.figures.f1 or 0.0 for row in rows])
        marks[name] = (now, threshold_table([curve], [now])[0].figures.f1 or 0.0)
        if kept := int((curve.score >= now).sum()):
            ringed[name] = (float(recall[kept - 1]), float(precision[kept - 1]))
    return [
        lines(recalls, "recall", "precision", marks=ringed, shares=True, title=f"Precision and recall{which}"),
        lines(f1, "score threshold", "F1", marks=marks, shares=True, title=f"F1 by threshold{which}"),
    ]


MEANINGS = {
    "localisation": "The class is right, but the overlap is too small to count.",
    "class": "The place is right, but the class is another one.",
    "both": "It touches an object of another class, too little to count.",
    "duplicate": "A surer detection has the same object already.",
    "background": "Nothing is labelled there.",
    "missed": "A labelled object that no detection speaks of, not even a wrong one.",
}


def error_table(page: Page, answers: ObjectAnswers, breakdown: ErrorBreakdown) -> None:
    """Append the kinds of errors: how many, and what each costs."""
    total = sum(breakdown.counts.values())
    if not total and not any(breakdown.cost.values()):
        page.section("Kinds of errors", paragraph("There are none."))
        return
    kinds = sorted(KINDS, key=lambda kind: -breakdown.counts[kind])
    names = {kind: LAYERS[OF_ERROR[index]].name for index, kind in enumerate(KINDS)}
    rows = [
        (
            names[kind],
            MEANINGS[kind],
            breakdown.counts[kind],
            f"{breakdown.counts[kind] / max(1, total):.0%}",
            breakdown.cost.get(kind),
        )
        for kind in kinds
        if len(answers.classes) > 1 or kind not in (KINDS[CLASS_ERROR], KINDS[BOTH])
    ]
    heads = ["error", "what it means", "count", "share", "AP it costs"]
    shown = [str(row[0]) for row in rows]
    charts = [
        bars(shown, [row[2] for row in rows], title="How many"),
        bars(shown, [max(0.0, row[4] or 0.0) for row in rows], title="AP it costs") if breakdown.cost else Html(),
    ]
    page.section(
        "Kinds of errors",
        table(heads, rows, numeric=heads[2:]),
        side_by_side(*charts),
        note=f"Counts at the deployment threshold of {answers.score_threshold:g}. What a kind costs is how "
        f"far AP at {answers.iou_threshold:g} ({number(breakdown.average_precision)}, of all detections) "
        "would rise if these errors alone were mended; costs do not add up. Kinds are those of TIDE (Bolya and others, "
        f"2020): overlaps of 0.1 to {answers.iou_threshold:g} are badly placed.",
    )


def size_table(page: Page, rows: Sequence[dict[str, Any]]) -> None:
    """Append small, medium and large objects; `rows` are those of `metrics.json`."""
    cells = []
    for row in rows:
        low, high = f"{row['smallest'] ** 0.5:.0f}", f"{(row['largest'] or 0) ** 0.5:.0f}"
        limits = f"{low} x {low} or more" if row["largest"] is None else f"up to {high} x {high}"
        cells.append((row["name"], limits, row["ground_truths"], row["average_precision"], row["recall"]))
    heads = ["objects", "area in pixels", "labelled", "AP", "recall"]
    page.section(
        "Small, medium and large objects",
        table(heads, cells, numeric=heads[2:]),
        note="By the area of the labelled object, with COCO's limits. AP and recall are means over overlaps from 0.50 "
        "to 0.95 and over classes.",
    )
