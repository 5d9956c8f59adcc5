"""The parts of the page on boxes or outlines that speak of classes, kinds of errors and sizes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_thresholds import round_down
from kubesight.evaluate.object_verdicts import LAYERS, OF_ERROR
from kubesight.metrics.confusion import detection_confusion
from kubesight.metrics.detection import ClassFigures, SizeFigures, per_class_at
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


def confusions(page: Page, answers: ObjectAnswers) -> None:
    """Append the confusion matrix with its background, and the most frequent confusions."""
    matrix = detection_confusion(
        answers.truth,
        answers.found,
        answers.classes,
        iou_threshold=answers.iou_threshold,
        score_threshold=answers.score_threshold,
        masks=answers.masks,
    )
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
    listed = table(heads, rows, numeric=heads[2:]) if rows else paragraph("No class was taken for another.")
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


def class_table(
    page: Page, answers: ObjectAnswers, curves: Sequence[ClassCurve], precision: Mapping[str, float]
) -> None:
    """Append the table of classes.

    Args:
        page: the page.
        answers: what was judged.
        curves: each class's ranking.
        precision: class to COCO's AP, for those that have one.
    """
    rows = sorted(per_class_at(curves, answers.score_threshold), key=_lowest_first)
    heads = ["class", "labelled", "AP", f"AP at {answers.iou_threshold:g}", "precision", "recall", "F1"]
    heads += ["found", "missed", "false", "threshold of best F1", "F1 there"]
    note = (
        f"Precision, recall, F1 and counts at the deployment threshold of {answers.score_threshold:g}; AP is of "
        "all detections, the first one averaged over overlaps from 0.50 to 0.95. Lowest first; a dash: undefined."
    )
    if len(rows) > TABLE_ROWS:
        note += f" The first {TABLE_ROWS} of {len(rows):,} classes; metrics.json has all."
    cells = [_class_cells(row, precision) for row in rows[:TABLE_ROWS]]
    page.section("Classes", table(heads, cells, numeric=heads[1:]), note=note)


def _class_cells(row: ClassFigures, precision: Mapping[str, float]) -> list[object]:
    best = row.best_threshold
    return [
        shorten(row.name, 60),
        row.ground_truths,
        precision.get(row.name),
        row.average_precision,
        row.figures.precision,
        row.figures.recall,
        row.figures.f1,
        row.hits,
        row.missed,
        row.false,
        None if best is None else f"{round_down(best):.3f}",
        row.best.f1 if row.best else None,
    ]


def _lowest_first(row: ClassFigures) -> tuple[bool, float, str]:
    return row.average_precision is None, row.average_precision or 0.0, row.name


def curve_charts(page: Page, answers: ObjectAnswers, curves: Sequence[ClassCurve]) -> None:
    """Append precision against recall: all classes, or the lowest and the best."""
    known = sorted(
        (curve for curve in curves if curve.average_precision is not None),
        key=lambda curve: (curve.average_precision or 0.0, curve.name),
    )
    if not known:
        page.section("Precision and recall", paragraph("Nothing is labelled: there is no recall."))
        return
    if len(known) <= CURVES:
        charts = [_curves(known[::-1], answers.score_threshold, "")]
    else:
        low = min(CURVES, len(known) // 2)
        charts = [
            _curves(known[:low], answers.score_threshold, f"The {low} lowest classes"),
            _curves(known[-min(CURVES, len(known) - low) :][::-1], answers.score_threshold, "The best classes"),
        ]
    left_out = len(known) - 2 * CURVES
    page.section(
        "Precision and recall",
        side_by_side(*charts) if len(charts) > 1 else charts[0],
        note=f"Each class's detections from the surest to the least sure, at an overlap of "
        f"{answers.iou_threshold:g} or more; in brackets the average precision. A ring is the deployment "
        f"threshold of {answers.score_threshold:g}."
        + (f" {left_out:,} classes in the middle are not drawn." if left_out > 0 else ""),
    )


def _curves(curves: Sequence[ClassCurve], threshold: float, title: str) -> Html:
    series, marks = {}, {}
    for curve in curves:
        name = f"{shorten(curve.name, NAME)} ({curve.average_precision:.3f})"
        recall, precision = curve.recall, curve.precision
        if not curve.detections:
            series[name] = ([0.0], [0.0])
            continue
        series[name] = ([0.0, *recall.tolist()], [float(precision[0]), *precision.tolist()])
        kept = int((curve.score >= threshold).sum())
        if kept:
            marks[name] = (float(recall[kept - 1]), float(precision[kept - 1]))
    return lines(series, "recall", "precision", marks=marks, title=title)


MEANINGS = {
    "localisation": "The class is right, but the overlap is too small to count.",
    "class": "The place is right, but the class is another one.",
    "both": "It touches an object of another class, too little to count.",
    "duplicate": "A surer detection has the same object already.",
    "background": "Nothing is labelled there.",
    "missed": "A labelled object that no detection speaks of, not even a badly placed one or one of a wrong class.",
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
    chart = bars(
        [str(row[0]) for row in sorted(rows, key=lambda row: -(row[4] or 0))],
        [max(0.0, row[4] or 0) for row in sorted(rows, key=lambda row: -(row[4] or 0))],
        title="AP that each kind costs",
    )
    page.section(
        "Kinds of errors",
        table(heads, rows, numeric=heads[2:]),
        chart if breakdown.cost else Html(),
        note=f"Counts at the deployment threshold of {answers.score_threshold:g}. What a kind costs is how "
        f"far AP at {answers.iou_threshold:g} ({number(breakdown.average_precision)}, of all detections) "
        "would rise if these errors alone were mended; costs do not add up. Kinds are those of TIDE (Bolya and others, "
        f"2020): overlaps of 0.1 to {answers.iou_threshold:g} are badly placed.",
    )


def size_table(page: Page, rows: Sequence[SizeFigures]) -> None:
    """Append small, medium and large objects."""
    cells = []
    for row in rows:
        low, high = round(row.smallest**0.5), row.largest**0.5
        limits = f"over {low} x {low}" if high == float("inf") else f"up to {high:.0f} x {high:.0f}"
        cells.append((row.name, limits, row.ground_truths, row.average_precision, row.recall))
    heads = ["objects", "pixels", "labelled", "AP", "recall"]
    page.section(
        "Small, medium and large objects",
        table(heads, cells, numeric=heads[2:]),
        note="By the area of the labelled object in pixels, as COCO draws the limits. AP and recall are means over "
        "overlaps from 0.50 to 0.95 and classes.",
    )
