"""The page that a person reads after an evaluation."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kubesight.evaluate.answers import Answers
from kubesight.evaluate.mistakes import confused, false_negatives, false_positives, gallery
from kubesight.evaluate.summary import confidence
from kubesight.metrics.classification import THRESHOLD, confusion_matrix
from kubesight.metrics.curves import CALIBRATION_BINS, macro_roc, precision_recall, roc
from kubesight.report.page import (
    Page,
    heatmap,
    histogram,
    lines,
    notes,
    number,
    paragraph,
    plural,
    shorten,
    side_by_side,
    table,
    tiles,
)

PICTURES = 24
PICTURE_BYTES = 350_000
TABLE_ROWS = 300
CURVE_POINTS = 100

TILES = {
    "iou": "IoU, mean over pictures",
    "accuracy": "accuracy",
    "top_5_accuracy": "top-5 accuracy",
    "f1_score_macro": "F1, mean over classes",
    "AUC_macro": "AUC, mean over classes",
    "average_precision_score_macro": "mean average precision",
    "expected_calibration_error": "calibration error",
}
SIDE_BY_SIDE_CLASSES = 14
"""Up to so many classes the confusion matrix leaves room for the table beside it."""


def render_report(answers: Answers, summary: dict[str, Any]) -> str:
    """One self-contained HTML file, under 1 MB.

    Args:
        answers: what was judged.
        summary: what `summarise` gives, with `model` and `predictions` added.
    """
    metrics, primary = summary["metrics"], summary["primary_metric"]
    size = f"{plural(summary['images'], 'picture')}, {plural(len(answers.classes), 'class', 'classes')}"
    page = Page(f"Evaluation: {primary} {number(metrics.get(primary))}", f"{_judged(summary)}; {size}")
    shown = [(_tile_name(name, answers), metrics[name]) for name in TILES if name in metrics]
    page.section("Headline", tiles(shown), notes(("Note", text) for text in answers.warnings))
    if answers.multilabel:
        _multilabel_mistakes(page, answers)
    else:
        _confusions(page, answers, summary)
        _multiclass_mistakes(page, answers)
    _per_class(page, answers, summary)
    if answers.probabilities is not None:
        _curves(page, answers, summary)
        _calibration(page, answers, summary)
    page.section(
        "All metrics",
        table(["metric", "value"], list(metrics.items())),
        note="A mean over classes leaves out the classes for which a value is undefined. "
        + _averaged(summary["averaged_over"], len(answers.classes)),
    )
    page.section("What was evaluated", table(["", "value"], _facts(summary)))
    return page.render()


def _judged(summary: dict[str, Any]) -> str:
    if summary["predictions"]:
        return f"predictions of {summary['predictions']['path']}"
    return f"{summary['model']['model_name']} ({summary['model']['path']})"


def _tile_name(name: str, answers: Answers) -> str:
    if name == "accuracy" and answers.multilabel:
        return "pictures with every label right"
    return TILES[name]


def _facts(summary: dict[str, Any]) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [("task", summary["task"]), ("data set", summary["data"]["path"])]
    if summary["data"]["part"]:
        facts.append(("part", summary["data"]["part"]))
    facts += [("content hash", summary["data"]["content_hash"]), ("pictures", summary["images"])]
    if summary["model"]:
        facts += [("model", summary["model"]["model_name"]), ("model folder", summary["model"]["path"])]
    if summary["predictions"]:
        facts += [("predictions", summary["predictions"]["path"]), ("their SHA-256", summary["predictions"]["sha256"])]
    return facts


def _averaged(over: dict[str, int], classes: int) -> str:
    fewer = {family: count for family, count in over.items() if 0 < count < classes}
    if not fewer:
        return f"Here every mean is over all {classes}." if all(over.values()) else ""
    return f"Of {classes} classes: " + ", ".join(f"{family} over {count}" for family, count in fewer.items()) + "."


def _confusions(page: Page, answers: Answers, summary: dict[str, Any]) -> None:
    matrix = confusion_matrix(answers.labels, answers.predicted, len(answers.classes))
    present = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    names = [answers.classes[k] for k in present]
    drawn = heatmap(
        matrix[np.ix_(present, present)], names, names, row_label="true class", column_label="predicted class"
    )
    heads = ["true class", "predicted as", "pictures", "share of the class"]
    rows = [(c["label"], c["predicted"], c["count"], f"{c['share']:.1%}") for c in summary["confusions"]]
    listed = table(heads, rows, numeric=heads[2:]) if rows else paragraph("No picture was confused.")
    wrong = int((answers.labels != answers.predicted).sum())
    page.section(
        "Confusion matrix",
        *([side_by_side(drawn, listed)] if len(present) <= SIDE_BY_SIDE_CLASSES else [drawn, listed]),
        note=f"Rows are true classes, shaded by their share of the row. {plural(wrong, 'picture')} of "
        f"{summary['images']:,} {'is' if wrong == 1 else 'are'} wrong; the table lists the most frequent confusions.",
    )


def _multiclass_mistakes(page: Page, answers: Answers) -> None:
    mistakes = confused(answers, PICTURES)
    if mistakes:
        sure = "the surest errors first" if answers.probabilities is not None else "the most frequent confusions first"
        page.section("Worst mistakes", gallery(answers, mistakes, PICTURE_BYTES), note=f"Wrong pictures, {sure}.")


def _multilabel_mistakes(page: Page, answers: Answers) -> None:
    for heading, find, note in (
        ("Said but not there", false_positives, "False positives, the most probable first; each picture once."),
        ("There but missed", false_negatives, "False negatives, the least probable first; each picture once."),
    ):
        mistakes = find(answers, PICTURES // 2)
        if mistakes:
            page.section(heading, gallery(answers, mistakes, PICTURE_BYTES // 2), note=note)
        else:
            page.section(heading, paragraph("None."))


def _per_class(page: Page, answers: Answers, summary: dict[str, Any]) -> None:
    columns = {
        "class": "name",
        "pictures": "support",
        "predicted": "predicted",
        "precision": "precision",
        "recall": "recall",
        "F1": "f1_score",
        "IoU": "iou",
        "AUC": "AUC",
        "average precision": "average_precision_score",
    }
    if not answers.multilabel:
        del columns["IoU"]
    if answers.probabilities is None:
        del columns["AUC"], columns["average precision"]
    rows = sorted(summary["per_class"], key=lambda row: (row["f1_score"] is None, row["f1_score"] or 0, row["name"]))
    cells = [[row[key] for key in columns.values()] for row in rows[:TABLE_ROWS]]
    heads = list(columns)
    if not answers.multilabel:
        heads.append("mostly taken for")
        taken = _mostly_taken_for(answers)
        cells = [[*row, taken.get(str(row[0]), "")] for row in cells]
    note = "The lowest F1 first. A dash: undefined for this class."
    if answers.multilabel:
        note += f" A class counts as predicted at a probability above {THRESHOLD}."
    if len(rows) > TABLE_ROWS:
        note += f" The first {TABLE_ROWS} of {len(rows):,} classes; metrics.json has all."
    page.section("Classes", table(heads, cells, numeric=set(heads) - {"class", "mostly taken for"}), note=note)


def _mostly_taken_for(answers: Answers) -> dict[str, str]:
    wrong: dict[int, Counter[int]] = {}
    for true, given in zip(answers.labels, answers.predicted, strict=True):
        if true != given:
            wrong.setdefault(int(true), Counter())[int(given)] += 1
    most = {true: counts.most_common(1)[0] for true, counts in wrong.items()}
    return {answers.classes[true]: f"{answers.classes[given]} ({count:,})" for true, (given, count) in most.items()}


def _curves(page: Page, answers: Answers, summary: dict[str, Any]) -> None:
    scores, truth = answers.probabilities, answers.truth_matrix
    assert scores is not None
    rocs: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    if "roc" in summary:
        name = f"micro average ({number(summary['metrics']['AUC_micro'])})"
        rocs[name] = (summary["roc"]["fpr"], summary["roc"]["tpr"])
    if mean := macro_roc(truth, scores, CURVE_POINTS):
        rocs[f"macro average ({number(summary['metrics'].get('AUC_macro'))})"] = mean
    for k, name in _extremes(summary["per_class"], "AUC"):
        if curve := roc(truth[:, k], scores[:, k], CURVE_POINTS):
            rocs[name] = (curve.fpr, curve.tpr)
    recalls: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    if both := precision_recall(truth.ravel(), scores.ravel(), CURVE_POINTS):
        value = number(summary["metrics"].get("average_precision_score_micro"))
        recalls[f"micro average ({value})"] = (both.recall, both.precision)
    for k, name in _extremes(summary["per_class"], "average_precision_score"):
        if line := precision_recall(truth[:, k], scores[:, k], CURVE_POINTS):
            recalls[name] = (line.recall, line.precision)
    page.section(
        "ROC and precision-recall curves",
        side_by_side(
            lines(rocs, "false positive rate", "true positive rate", diagonal=True, title="ROC (area)"),
            lines(recalls, "recall", "precision", title="Precision and recall (average precision)"),
        ),
        note="One class against the rest: the averages, the lowest three classes and the best.",
    )


def _extremes(rows: list[dict[str, Any]], key: str) -> list[tuple[int, str]]:
    """Index and legend of the three lowest classes and of the best."""
    known = sorted((row[key], k) for k, row in enumerate(rows) if row[key] is not None)
    chosen = known if len(known) <= 4 else [*known[:3], known[-1]]
    return [(k, f"{shorten(rows[k]['name'], 24)} ({number(value)})") for value, k in chosen]


def _calibration(page: Page, answers: Answers, summary: dict[str, Any]) -> None:
    sure, _ = confidence(answers)
    bins = [row for row in summary["calibration"] if row["count"]]
    reached = {"": ([row["confidence"] for row in bins], [row["accuracy"] for row in bins])}
    edges = [k / CALIBRATION_BINS for k in range(CALIBRATION_BINS + 1)]
    what = "label's probability" if answers.multilabel else "probability of the predicted class"
    page.section(
        "Calibration",
        side_by_side(
            lines(reached, what, "share that is right", diagonal=True, title="Reliability"),
            histogram(
                sure,
                edges,
                what,
                title="How sure the answers are",
                y_label="labels" if answers.multilabel else "pictures",
            ),
        ),
        note="On the diagonal, answers with probability 0.8 are right 8 times in 10. Below it the model is too sure. "
        f"Expected calibration error: {number(summary['metrics']['expected_calibration_error'])}.",
    )
