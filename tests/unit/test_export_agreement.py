"""When two runs of a detector count as agreeing."""

import numpy as np
import pytest

from kubesight.dataset.detections import Detections
from kubesight.export.agreement import LEAST, agreement, too_far

SIZE = (100.0, 200.0)  # height and width in pixels


def found(count: int, seed: int = 0, masks: bool = False) -> Detections:
    """So many boxes of 10 x 10 pixels in a lattice, none near another, with scores from 0.9 down to 0.4."""
    places = np.array([(x, y) for y in range(5, 95, 15) for x in range(5, 185, 15)][:count], np.float32).reshape(-1, 2)
    boxes = np.hstack([places, places + 10]) / np.float32([200, 100, 200, 100])
    rng = np.random.default_rng(seed)
    return Detections(
        boxes.astype(np.float32), rng.integers(0, 3, count), np.linspace(0.9, 0.4, count, dtype=np.float32),
        rng.random((count, 28, 28), dtype=np.float32) if masks else None,
    )  # fmt: skip


def changed(one: Detections, **parts: np.ndarray) -> Detections:
    values = {"boxes": one.boxes, "labels": one.labels, "scores": one.scores, "masks": one.masks} | parts
    return Detections(**values)


def compare(ours: Detections, theirs: Detections, threshold: float = 0.3) -> dict:
    return agreement([ours], [theirs], [SIZE], threshold)


def test_equal_answers_agree() -> None:
    record = compare(found(60, masks=True), found(60, masks=True))
    assert record["agreement"] == record["matched"] == 1
    assert record["detections"] == 120  # of both runs
    assert [record[f"max_{what}_difference"] for what in ("box", "score", "mask")] == [0, 0, 0]
    assert record["score_floor"] == 0.3
    assert too_far(record) is None


def test_order_does_not_matter() -> None:
    one = found(60)
    other = one.select(np.random.default_rng(1).permutation(60))
    assert compare(one, other)["agreement"] == 1


@pytest.mark.parametrize(
    ("lost", "share", "good"), [(1, 59 * 2 / 119, True), (3, 57 * 2 / 117, True), (7, 53 * 2 / 113, False)]
)
def test_a_few_may_come_or_go_but_not_many(lost, share, good) -> None:
    one = found(60)
    for ours, theirs in ((one, one.select(slice(lost, None))), (one.select(slice(lost, None)), one)):
        record = compare(ours, theirs)
        assert record["agreement"] == record["matched"] == pytest.approx(share)
        assert (too_far(record) is None) is good


def test_small_differences_are_measured() -> None:
    one = found(60, masks=True)
    shift = np.zeros((60, 4), np.float32)
    shift[7, 2] = 0.05 / 200  # one right side by a twentieth of a pixel
    scores = one.scores.copy()
    scores[3] += 5e-4
    masks = one.masks.copy()
    masks[5] += 4e-3
    record = compare(one, changed(one, boxes=one.boxes + shift, scores=scores, masks=masks))
    assert record["max_box_difference"] == pytest.approx(0.05, rel=1e-2)
    assert record["max_score_difference"] == pytest.approx(5e-4, rel=1e-2)
    assert record["max_mask_difference"] == pytest.approx(4e-3, rel=1e-2)
    assert record["agreement"] == 1


@pytest.mark.parametrize("what", ["boxes", "labels", "scores", "masks"])
def test_a_systematic_difference_is_refused(what) -> None:
    one = found(60, masks=True)
    other = {
        "boxes": one.boxes + np.float32(0.2 / 200),  # a fifth of a pixel
        "labels": (one.labels + 1) % 3,
        "scores": one.scores - np.float32(0.002),
        "masks": one.masks * np.float32(0.9),
    }
    record = compare(one, changed(one, **{what: other[what]}))
    assert record["agreement"] == 0
    assert record["matched"] == (0 if what == "labels" else 1)
    assert "only 0.0% of 120 boxes" in too_far(record)


def test_a_box_is_no_partner_of_two() -> None:
    one = found(60)
    twice = one.select(np.repeat(np.arange(60), 2))
    assert compare(one, twice)["matched"] == pytest.approx(120 / 180)


def test_no_number_is_no_agreement() -> None:
    one = found(60)
    record = compare(one, changed(one, scores=np.full(60, np.nan, np.float32)))
    assert too_far(record)


def test_the_floor_follows_the_threshold_or_the_scores_that_there_are() -> None:
    many = found(72)
    low = changed(many, scores=many.scores * np.float32(0.5))  # 0.45 down to 0.2
    tail = low.select(low.scores >= low.scores[LEAST - 1])
    assert compare(many, many)["score_floor"] == 0.3
    assert compare(low, low)["score_floor"] == pytest.approx(float(low.scores[LEAST - 1]))
    # What is missing below the floor does not count: ties at the end of a full list decide who is in it.
    assert compare(low, tail)["agreement"] == 1
    assert compare(low, low)["detections"] == 2 * LEAST


def test_nothing_found_by_both_agrees() -> None:
    record = compare(Detections.empty(masks=True), Detections.empty(masks=True))
    assert record["detections"] == 0
    assert too_far(record) is None
    record = compare(found(60), Detections.empty(masks=False))
    assert record["agreement"] == 0
