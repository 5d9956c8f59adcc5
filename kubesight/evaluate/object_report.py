"""The page that a person reads after an evaluation of boxes or outlines."""

from typing import Any

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_gallery import gallery
from kubesight.evaluate.object_sections import (
    class_table,
    confusions,
    curve_charts,
    error_table,
    size_table,
)
from kubesight.evaluate.object_thresholds import all_classes, at, thresholds
from kubesight.evaluate.object_verdicts import judge
from kubesight.metrics.detection import ThresholdRow
from kubesight.report.page import Html, Page, notes, number, paragraph, plural, table, tiles

METRIC_ROWS = 300

_OVERALL = {
    "coco.AP": "AP, IoU 0.50 to 0.95",
    "coco.AP50": "AP, IoU 0.50",
    "coco.AP75": "AP, IoU 0.75",
}
_AT_THRESHOLD = {"precision": "precision", "recall": "recall", "f1": "F1"}


def render_object_report(answers: ObjectAnswers, summary: dict[str, Any]) -> str:
    """One self-contained HTML file, under 3 MB.

    Args:
        answers: what was judged.
        summary: what `metrics.json` holds.
    """
    voc, breakdown = answers.ranking, answers.errors
    pooled = all_classes(voc.per_class)
    metrics = summary["metrics"]
    size = f"{plural(len(answers.urls), 'picture')}, {plural(len(answers.classes), 'class', 'classes')}"
    primary = metrics.get("mean_average_precision")
    title = f"Evaluation: mean average precision {'undefined' if primary is None else number(primary)}"
    page = Page(title, f"{_judged(summary)}; {size}")
    _headline(page, answers, summary, at(pooled, answers.score_threshold))
    _pictures(page, answers, gallery(answers, judge(answers, breakdown)))
    confusions(page, answers)
    class_table(page, answers, summary["per_class"])
    curve_charts(page, answers, voc.per_class)
    thresholds(page, answers, pooled)
    error_table(page, answers, breakdown)
    size_table(page, summary["sizes"])
    _metrics(page, metrics)
    page.section("What was evaluated", table(["", "value"], _facts(answers, summary)))
    return page.render()


def _headline(page: Page, answers: ObjectAnswers, summary: dict[str, Any], now: ThresholdRow) -> None:
    metrics, settings = summary["metrics"], summary["settings"]
    rule = "COCO, IoU 0.50" if settings["metric_type"] == "coco" else f"VOC, IoU {answers.iou_threshold:g}"
    overall = {"mean_average_precision": f"mAP ({rule})"} | _OVERALL
    reached = [(label, metrics[name]) for name, label in overall.items() if name in metrics]
    counts = [("found", now.found), ("missed", now.missed), ("false", now.false)]
    page.section(
        "Headline",
        tiles(reached) if reached else Html(),
        paragraph(_in_words(answers, now)),
        tiles([*counts, *((label, metrics[name]) for name, label in _AT_THRESHOLD.items() if name in metrics)]),
        notes(("Note", text) for text in answers.warnings),
    )


def _in_words(answers: ObjectAnswers, now: ThresholdRow) -> str:
    where = (
        f"At the deployment threshold (a score of {answers.score_threshold:g} and an overlap of "
        f"{answers.iou_threshold:g} or more)"
    )
    to_find, said = now.found + now.missed, now.found + now.false
    if not to_find:
        return f"{where} there is nothing to find, and {plural(said, 'detection')} all the same."
    text = f"{where} {now.found:,} of {plural(to_find, 'object')} are found ({now.found / to_find:.0%})"
    if not said:
        return f"{text}, for nothing scores so high."
    return f"{text}, and {now.false:,} of {plural(said, 'detection')} are wrong ({now.false / said:.0%})."


def _pictures(page: Page, answers: ObjectAnswers, drawn: Html) -> None:
    heading = "Pictures with the most errors"
    if not drawn:
        page.section(heading, paragraph("No picture has an error."))
        return
    shape = "Outlines" if answers.masks else "Boxes"
    tags = "a tag gives the score" if len(answers.classes) == 1 else "a tag gives the class and the score"
    page.section(
        heading,
        drawn,
        note=f"{shape} in dashed lines are labelled, in solid lines found at a score of "
        f"{answers.score_threshold:g} or more; {tags}, and resting the pointer on a shape tells more. The "
        "boxes with ticks show and hide each kind.",
    )


def _metrics(page: Page, metrics: dict[str, float]) -> None:
    rows = list(metrics.items())
    note = "AP is average precision, AR average recall; s, m and l are small, medium and large objects."
    if len(rows) > METRIC_ROWS:
        note += f" The first {METRIC_ROWS} of {len(rows):,}; metrics.json has all."
    page.section("All metrics", table(["metric", "value"], rows[:METRIC_ROWS]), note=note)


def _judged(summary: dict[str, Any]) -> str:
    if summary["predictions"]:
        return f"predictions of {summary['predictions']['path']}"
    return f"{summary['model']['model_name']} ({summary['model']['path']})"


def _facts(answers: ObjectAnswers, summary: dict[str, Any]) -> list[tuple[str, object]]:
    data, settings, model, predictions = (summary[key] for key in ("data", "settings", "model", "predictions"))
    facts: list[tuple[str, object]] = [
        ("task", str(answers.task)),
        ("data set", answers.dataset),
        ("part", data.get("part")),
        ("content hash", data.get("content_hash")),
        ("pictures", len(answers.urls)),
        ("labelled objects", len(answers.truth)),
        ("of them difficult or crowds, not counted", int(answers.truth.ignored.sum())),
        ("detections, of any score", len(answers.found)),
        ("compared by", "outlines" if answers.masks else "boxes"),
        ("score threshold of deployment", f"{answers.score_threshold:g}"),
        ("overlap (IoU) threshold", f"{answers.iou_threshold:g}"),
        ("mean average precision by", settings["metric_type"]),
        ("VOC's eleven points", "yes" if settings["eleven_points"] else "no"),
        ("VOC's inclusive pixels", "yes" if settings["inclusive_pixels"] else "no"),
    ]
    if model:
        facts += [("model", model["model_name"]), ("model folder", model["path"])]
    if predictions:
        facts += [("predictions", predictions["path"]), ("their SHA-256", predictions["sha256"])]
    return [(name, value) for name, value in facts if value not in (None, "")]
