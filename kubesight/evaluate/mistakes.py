"""The pictures that were judged wrong, worst first, as small pictures with captions."""

from dataclasses import dataclass

import numpy as np

from kubesight.dataset.images import read_image
from kubesight.errors import KubesightError
from kubesight.evaluate.answers import Answers
from kubesight.report.page import Html, escape, fit_pictures, join, pictures, plural, shorten, thumbnail

THUMBNAIL = 128
"""Long side of a small picture, in pixels."""

NAMED_CLASSES = 3
"""How many of the most probable classes a caption names."""


@dataclass(frozen=True)
class Mistake:
    """One wrong answer: the picture's row, the class that it speaks of, and the probability that made it wrong."""

    row: int
    class_index: int
    probability: float | None


def confused(answers: Answers, limit: int) -> list[Mistake]:
    """Wrongly classified pictures, the surest errors first; of answers without probabilities the most frequent ones.

    Without probabilities the errors go round the kinds of confusion, most frequent first, so that each is shown.
    """
    wrong = np.flatnonzero(answers.predicted != answers.labels)
    given = answers.predicted[wrong]
    if answers.probabilities is not None:
        sure = answers.probabilities[wrong, given]
        order = np.argsort(-sure, kind="stable")[:limit]
        return [Mistake(int(wrong[k]), int(given[k]), float(sure[k])) for k in order]
    kinds: dict[tuple[int, int], list[int]] = {}
    for row in wrong:
        kinds.setdefault((int(answers.labels[row]), int(answers.predicted[row])), []).append(int(row))
    ordered = sorted(kinds.values(), key=len, reverse=True)
    turns = sorted((turn, place, row) for place, rows in enumerate(ordered) for turn, row in enumerate(rows[:limit]))
    return [Mistake(row, int(answers.predicted[row]), None) for _, _, row in turns[:limit]]


def false_positives(answers: Answers, limit: int) -> list[Mistake]:
    """Multilabel: classes that were given to pictures without them, the most probable first, each picture once."""
    return _each_picture_once(answers, answers.predicted_matrix & ~answers.truth_matrix, -1, limit)


def false_negatives(answers: Answers, limit: int) -> list[Mistake]:
    """Multilabel: classes that pictures have and were not given, the least probable first, each picture once."""
    return _each_picture_once(answers, answers.truth_matrix & ~answers.predicted_matrix, 1, limit)


def _each_picture_once(answers: Answers, wrong: np.ndarray, sign: int, limit: int) -> list[Mistake]:
    rows, classes = np.nonzero(wrong)
    if answers.probabilities is None:
        order = np.arange(len(rows))
    else:
        order = np.argsort(sign * answers.probabilities[rows, classes], kind="stable")
    found: dict[int, Mistake] = {}
    for k in order:
        if len(found) == limit:
            break
        row, chosen = int(rows[k]), int(classes[k])
        probability = None if answers.probabilities is None else float(answers.probabilities[row, chosen])
        found.setdefault(row, Mistake(row, chosen, probability))
    return list(found.values())


def gallery(answers: Answers, mistakes: list[Mistake], budget_bytes: int) -> Html:
    """The pictures of mistakes with what is true, what was said, and the probabilities.

    A picture that cannot be read here (its storage may not be reachable for one who judges a file of predictions)
    is left out, and a line says so.
    """
    items, unread = [], []
    for mistake in mistakes:
        try:
            image = read_image(answers.truth.urls[mistake.row], min_size=THUMBNAIL)
        except KubesightError as error:
            unread.append(str(error))
            continue
        items.append((thumbnail(image, THUMBNAIL), caption(answers, mistake)))
    shown = pictures(fit_pictures(items, budget_bytes)) if items else Html()
    if not unread:
        return shown
    gap = f'<p class="note">{plural(len(unread), "picture")} could not be read: {escape(unread[0])}</p>'
    return join([shown, Html(gap)])


def caption(answers: Answers, mistake: Mistake) -> Html:
    """What is true, what was said, and the probabilities, for one picture."""
    row, names = mistake.row, answers.truth.names[mistake.row]
    lines = []
    if answers.multilabel:
        what = "said" if answers.predicted[row][mistake.class_index] else "missed"
        lines.append(
            f"{what} <b>{escape(answers.classes[mistake.class_index])}</b> {_probability(mistake.probability)}"
        )
        lines.append(f"truth: {escape(_listed(names))}")
        lines.append(f"said: {escape(_listed(answers.predicted_names(row)))}")
    else:
        true = None if answers.probabilities is None else float(answers.probabilities[row, answers.labels[row]])
        lines.append(f"said <b>{escape(answers.predicted_names(row)[0])}</b> {_probability(mistake.probability)}")
        lines.append(f"is <b>{escape(names[0])}</b> {_probability(true)}")
        if answers.probabilities is not None:
            lines.append(_others(answers, row))
    lines.append(f"<code>{escape(shorten(_file_name(answers.truth.urls[row]), 28))}</code>")
    return Html("<br>".join(line for line in lines if line))


def _others(answers: Answers, row: int) -> Html:
    """The most probable classes besides the two that the caption names already."""
    assert answers.probabilities is not None
    vector = answers.probabilities[row]
    top = np.argsort(-vector, kind="stable")[:NAMED_CLASSES]
    left = [k for k in top if k not in (answers.labels[row], answers.predicted[row]) and vector[k] >= 0.005]
    return escape(", ".join(f"{answers.classes[k]} {_probability(float(vector[k]))}" for k in left))


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "none"


def _file_name(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]
