"""The arithmetic of the split: properties that hold for any counts, and a comparison with another implementation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.split.assign import assign
from kubesight.split.stratify import Units, apportion, make_units
from kubesight.split.table import FREE, TEST, TRAIN, VALIDATION

RATIOS = st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.4])


def single_label(counts: list[int]) -> tuple[Units, np.ndarray]:
    labels = np.repeat(np.arange(len(counts)), counts)
    return make_units(np.arange(len(labels)), np.arange(len(labels) + 1), labels), labels


def free(units: Units) -> np.ndarray:
    return np.full(len(units.sizes), FREE, np.int64)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), RATIOS, st.integers(0, 9))
def test_each_class_is_within_one_of_its_share(counts: list[int], ratio: float, seed: int) -> None:
    units, labels = single_label(counts)
    parts = assign(units, free(units), len(counts), ratio, 0.0, seed)
    assert set(parts) <= {TRAIN, VALIDATION}
    got = np.bincount(labels[parts == VALIDATION], minlength=len(counts))
    assert np.all(np.abs(got - ratio * np.array(counts)) < 1 + 1e-9) or len(labels) < 1 / ratio
    assert np.all(got < counts)
    # Classes of one picture, which must not leave training, are the only reason for a total beyond rounding.
    if min(counts) > 1:
        assert abs(got.sum() - max(1, ratio * len(labels))) <= 0.5 + 1e-9


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), RATIOS, RATIOS, st.integers(0, 9))
def test_three_parts_are_each_within_one_of_their_share(
    counts: list[int], split_ratio: float, test_ratio: float, seed: int
) -> None:
    units, labels = single_label(counts)
    parts = assign(units, free(units), len(counts), split_ratio, test_ratio, seed)
    whole = np.array(counts)
    shares = {VALIDATION: split_ratio, TEST: test_ratio, TRAIN: 1 - split_ratio - test_ratio}
    if len(labels) * min(shares.values()) < 1:
        return
    for part, share in shares.items():
        got = np.bincount(labels[parts == part], minlength=len(counts))
        assert np.all(np.abs(got - share * whole) < 1 + 1e-9), (part, got, share * whole)
        # Training keeps a picture of each class, and that may be more than its share.
        if min(counts) * shares[TRAIN] >= 1:
            assert abs(got.sum() - share * len(labels)) <= 1 + 1e-9
    assert np.all(np.bincount(labels[parts == TRAIN], minlength=len(counts)) >= 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), RATIOS)
def test_units_are_never_torn_and_no_class_leaves_training(seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(5, 200)), int(rng.integers(1, 12))
    lengths = rng.integers(1, 4, rows)
    labels = np.concatenate([rng.permutation(classes)[:length] for length in lengths])
    offsets = np.concatenate([[0], np.cumsum([len(rng.permutation(classes)[:length]) for length in lengths])])
    unit_of_row = np.unique(rng.integers(0, rows, rows), return_inverse=True)[1]
    units = make_units(unit_of_row, offsets, labels)
    assert units.sizes.sum() == rows
    assert units.counts.sum() == len(labels)
    parts = assign(units, free(units), classes, ratio, 0.1, seed)
    present = units.totals(free(units) == FREE, classes) > 0
    assert np.all(units.totals(parts == TRAIN, classes)[present] > 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=30), st.integers(0, 99))
def test_apportion_rounds_to_neighbours_and_meets_the_total(quotas: list[float], seed: int) -> None:
    values = np.array(quotas)
    low, high = np.floor(values).astype(int), np.ceil(values).astype(int)
    total = round(sum(quotas))
    result = apportion(values, low, high, total, np.random.default_rng(seed))
    assert np.all((result == low) | (result == high))
    assert result.sum() == min(max(total, low.sum()), high.sum())


def test_many_small_classes_do_not_inflate_the_part() -> None:
    # With fractional targets each class of three would give one picture: 100 of 300 instead of 60.
    units, labels = single_label([3] * 100)
    parts = assign(units, free(units), 100, 0.2, 0.0, 0)
    assert (parts == VALIDATION).sum() == 60
    assert np.bincount(labels[parts == VALIDATION]).max() == 1


def test_every_picture_has_the_same_chance() -> None:
    units, _ = single_label([10, 5])
    hits = sum((assign(units, free(units), 2, 0.2, 0.0, seed) == VALIDATION).astype(int) for seed in range(2000))
    # Binomial(2000, 0.2): four standard deviations are 72.
    assert np.all(np.abs(hits - 400) < 72)


def test_groups_of_many_sizes_come_near_the_ratio() -> None:
    rng = np.random.default_rng(0)
    unit_of_row = np.repeat(np.arange(300), rng.integers(1, 30, 300))
    labels = rng.integers(0, 5, len(unit_of_row))
    units = make_units(unit_of_row, np.arange(len(labels) + 1), labels)
    parts = assign(units, free(units), 5, 0.2, 0.0, 0)
    shares = units.totals(parts == VALIDATION, 5) / units.totals(parts != FREE, 5)
    assert shares == pytest.approx(np.full(5, 0.2), abs=0.01)


def test_one_large_group_does_not_leave_validation_empty() -> None:
    units = make_units(np.repeat([0, 1], 50), np.arange(101), np.zeros(100, int))
    assert sorted(assign(units, free(units), 1, 0.2, 0.0, 0)) == [TRAIN, VALIDATION]


def test_multilabel_is_as_even_as_the_published_algorithm() -> None:
    stratifiers = pytest.importorskip("iterstrat.ml_stratifiers")
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, 41)
    rows = [rng.choice(40, 1 + rng.poisson(2), replace=False, p=weights / weights.sum()) for _ in range(4000)]
    truth = np.zeros((4000, 40), int)
    for row, labels in enumerate(rows):
        truth[row, labels] = 1
    offsets = np.concatenate([[0], np.cumsum([len(labels) for labels in rows])])
    units = make_units(np.arange(4000), offsets, np.concatenate(rows))
    ours = assign(units, free(units), 40, 0.2, 0.0, 0) == VALIDATION
    splitter = stratifiers.MultilabelStratifiedShuffleSplit(1, test_size=0.2, random_state=0)
    theirs = np.zeros(4000, bool)
    theirs[next(splitter.split(truth, truth))[1]] = True

    def unevenness(chosen: np.ndarray) -> float:
        return float(np.abs(truth[chosen].sum(0) - 0.2 * truth.sum(0)).mean())

    assert unevenness(ours) <= unevenness(theirs) + 0.25
    assert math.isclose(ours.sum(), 800, abs_tol=20)
