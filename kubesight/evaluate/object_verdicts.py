"""What became of each detection and of each labelled object at the deployment threshold, and how it is drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.metrics import errors
from kubesight.metrics.errors import ErrorBreakdown
from kubesight.report.overlay import Layer

LABELLED, IGNORED, LEFT_OUT, RIGHT, DUPLICATE, LOCALISATION, CLASS, BOTH, BACKGROUND, MISSED = range(10)
HIDDEN = -1

LAYERS = (
    Layer("labelled", (255, 255, 255), dashed=True, note="A labelled object that a detection speaks of."),
    Layer("labelled, not counted", (175, 185, 195), dashed=True, note="Marked as difficult, or as a crowd of objects."),
    Layer("found, not counted", (175, 185, 195), note="Found where an object is labelled that does not count."),
    Layer("right", (40, 215, 145), note="Class and place are right."),
    Layer("duplicate", (90, 190, 255), "2\N{MULTIPLICATION SIGN}", note="A surer detection has the object."),
    Layer("badly placed", (255, 225, 70), "↔", note="The class is right, but the overlap is too small."),
    Layer("wrong class", (205, 140, 255), "≠", note="The place is right, but the class is not."),
    Layer("wrong class, badly placed", (255, 150, 215), "≠↔", note="It touches an object of another class."),
    Layer("nothing there", (255, 95, 85), "+", note="Found where nothing is labelled."),
    Layer("missed", (255, 160, 50), "?", dashed=True, note="A labelled object that no detection speaks of."),
)
"""How each kind is drawn, by its number; what is labelled is dashed."""

OF_ERROR = {
    errors.RIGHT: RIGHT,
    errors.LEFT_OUT: LEFT_OUT,
    errors.LOCALISATION: LOCALISATION,
    errors.CLASS: CLASS,
    errors.BOTH: BOTH,
    errors.DUPLICATE: DUPLICATE,
    errors.BACKGROUND: BACKGROUND,
    errors.MISSED: MISSED,
}
"""The metrics' kinds of errors to the layers."""


@dataclass(frozen=True)
class Verdicts:
    """What is drawn of each object.

    Attributes:
        found: [detections] index into `LAYERS`, or `HIDDEN` below the deployment threshold.
        target: [detections] the labelled object that each speaks of, or -1.
        labelled: [objects] LABELLED, IGNORED or MISSED.
        errors: [pictures] wrong detections and missed objects.
    """

    found: NDArray[np.int64]
    target: NDArray[np.int64]
    labelled: NDArray[np.int64]
    errors: NDArray[np.int64]

    def worst_pictures(self, limit: int) -> list[int]:
        """The pictures with the most errors, at most `limit`; none without errors."""
        order = np.argsort(-self.errors, kind="stable")[:limit].tolist()
        return [index for index in order if self.errors[index]]


def judge(answers: ObjectAnswers, breakdown: ErrorBreakdown) -> Verdicts:
    """The verdicts that go with an error breakdown at the deployment threshold."""
    found = np.full(len(answers.found), HIDDEN, np.int64)
    shown = answers.found.score >= answers.score_threshold
    for kind, layer in OF_ERROR.items():
        found[shown & (breakdown.found_kind == kind)] = layer
    labelled = np.select([breakdown.missed, answers.truth.ignored], [MISSED, IGNORED], LABELLED)
    return Verdicts(found, breakdown.target, labelled, breakdown.per_picture.sum(axis=1))
