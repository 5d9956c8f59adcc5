"""What a score threshold does: precision, recall and F1 of each class and of all, and which threshold is best.

All of it is read off the rankings of `kubesight.metrics.voc`. At a threshold the detections with a score no smaller
are kept. Precision is the share of them that is right, recall the share of objects found, F1 their harmonic mean
2 * hits / (kept + objects). Where there are objects but nothing is kept, precision is 0, as scikit-learn's with
`zero_division=0`. A value that nothing defines is None.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from kubesight.metrics.coco import CocoResult
from kubesight.metrics.objects import TrueObjects
from kubesight.metrics.voc import ClassCurve

SMALL, LARGE = 32.0**2, 96.0**2
"""COCO's limits between small, medium and large objects, in square pixels."""


@dataclass(frozen=True)
class Figures:
    """Precision, recall and F1, each in [0, 1] or None when nothing defines it."""

    precision: float | None
    recall: float | None
    f1: float | None

    def defined(self) -> dict[str, float]:
        """Name to value, without the undefined ones."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def figures(hits: int, kept: int, ground_truths: int) -> Figures:
    """Precision, recall and F1 from three numbers.

    Args:
        hits: true positives.
        kept: detections, right or wrong.
        ground_truths: objects to find.
    """
    if not kept and not ground_truths:
        return Figures(None, None, None)
    return Figures(
        precision=hits / kept if kept else 0.0,
        recall=hits / ground_truths if ground_truths else None,
        f1=2 * hits / (kept + ground_truths),
    )


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares at the deployment threshold, and at the threshold of its best F1.

    Attributes:
        name: the class.
        ground_truths: objects to find.
        detections: all detections, of any score.
        average_precision: of all detections, None without objects to find.
        hits: true positives at the deployment threshold.
        false: false positives there.
        missed: objects not found there.
        figures: precision, recall and F1 there.
        best_threshold: the smallest score to keep for the best F1: keep what scores no less. None when no detection
            is right at any.
        best: precision, recall and F1 there, or None.
    """

    name: str
    ground_truths: int
    detections: int
    average_precision: float | None
    hits: int
    false: int
    missed: int
    figures: Figures
    best_threshold: float | None
    best: Figures | None


def per_class_at(curves: Sequence[ClassCurve], score_threshold: float) -> list[ClassFigures]:
    """The figures of each class, in index order.

    Args:
        curves: `VocResult.per_class`.
        score_threshold: the deployment threshold; detections with a score no smaller are kept.
    """
    rows = []
    for curve in curves:
        hits, kept = _at(curve, score_threshold)
        threshold, best = best_f1(curve)
        rows.append(
            ClassFigures(
                name=curve.name,
                ground_truths=curve.ground_truths,
                detections=curve.detections,
                average_precision=curve.average_precision,
                hits=hits,
                false=kept - hits,
                missed=curve.ground_truths - hits,
                figures=figures(hits, kept, curve.ground_truths),
                best_threshold=threshold,
                best=best,
            )
        )
    return rows


def pooled_at(curves: Sequence[ClassCurve], score_threshold: float) -> Figures:
    """Precision, recall and F1 of all classes together (micro), at a score threshold."""
    counts = [_at(curve, score_threshold) for curve in curves]
    return figures(
        sum(hits for hits, _ in counts), sum(kept for _, kept in counts), sum(curve.ground_truths for curve in curves)
    )


def best_f1(curve: ClassCurve) -> tuple[float | None, Figures | None]:
    """The score threshold of the best F1, the greatest of equals, and the figures there; None without a hit."""
    if not curve.hit.any():
        return None, None
    # Equal scores are kept or dropped together.
    last = np.flatnonzero(np.append(np.diff(curve.score) != 0, True))
    hits = np.cumsum(curve.hit)[last]
    place = int(np.argmax(2 * hits / (last + 1 + curve.ground_truths)))
    return float(curve.score[last[place]]), figures(int(hits[place]), int(last[place]) + 1, curve.ground_truths)


@dataclass(frozen=True)
class ThresholdRow:
    """What one score threshold costs, all classes together.

    Attributes:
        threshold: detections with a score no smaller are kept.
        found: objects found.
        false: detections that are wrong.
        missed: objects not found.
        figures: precision, recall and F1.
    """

    threshold: float
    found: int
    false: int
    missed: int
    figures: Figures


THRESHOLDS = tuple(k / 20 for k in range(20))


def threshold_table(curves: Sequence[ClassCurve], thresholds: Sequence[float] = THRESHOLDS) -> list[ThresholdRow]:
    """Objects found and missed, and false detections, at each score threshold.

    Args:
        curves: `VocResult.per_class`.
        thresholds: 0, 0.05, ..., 0.95 unless given.
    """
    ground_truths = sum(curve.ground_truths for curve in curves)
    rows = []
    for threshold in thresholds:
        counts = [_at(curve, threshold) for curve in curves]
        hits, kept = sum(hits for hits, _ in counts), sum(kept for _, kept in counts)
        rows.append(
            ThresholdRow(threshold, hits, kept - hits, ground_truths - hits, figures(hits, kept, ground_truths))
        )
    return rows


@dataclass(frozen=True)
class SizeFigures:
    """How objects of one size fare, by COCO's rules; limits are included, so that one may count twice.

    Attributes:
        name: `small`, `medium` or `large`.
        smallest: least area in square pixels.
        largest: greatest area in square pixels; infinite for large objects.
        ground_truths: objects to find.
        average_precision: mean over overlaps of 0.5 to 0.95 and classes, None without objects to find.
        recall: mean over the same, of at most 100 detections a picture and class.
    """

    name: str
    smallest: float
    largest: float
    ground_truths: int
    average_precision: float | None
    recall: float | None


def by_size(truth: TrueObjects, coco: CocoResult) -> list[SizeFigures]:
    """Average precision and recall of small, medium and large objects.

    Args:
        truth: the labelled objects.
        coco: their `coco_metrics`.
    """
    rows = []
    limits = (("small", 0.0, SMALL), ("medium", SMALL, LARGE), ("large", LARGE, float("inf")))
    for name, smallest, largest in limits:
        to_find = (truth.area >= smallest) & (truth.area <= largest) & ~truth.crowd
        precision, recall = coco.summary.get(f"AP{name[0]}"), coco.summary.get(f"AR{name[0]}")
        rows.append(SizeFigures(name, smallest, largest, int(to_find.sum()), precision, recall))
    return rows


def _at(curve: ClassCurve, threshold: float) -> tuple[int, int]:
    """True positives and all detections among those with a score no smaller."""
    kept = int(np.searchsorted(-curve.score, -threshold, side="right"))
    return int(curve.hit[:kept].sum()), kept
