"""The split of 100,000 pictures with labels of 80 classes, beside another implementation of the same algorithm."""

import time

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

from kubesight.split.assign import assign
from kubesight.split.stratify import make_units
from kubesight.split.table import FREE, VALIDATION

PICTURES, CLASSES, RATIO = 100_000, 80, 0.2


def main() -> None:
    """Print the seconds of both, their ratio, and how far the classes' shares are from the asked one."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, CLASSES + 1)
    weights /= weights.sum()
    rows = [np.unique(rng.choice(CLASSES, 1 + rng.poisson(2), p=weights)) for _ in range(PICTURES)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    truth = np.zeros((PICTURES, CLASSES), np.int8)
    for row, labels in enumerate(rows):
        truth[row, labels] = 1

    began = time.perf_counter()
    units = make_units(np.arange(PICTURES), offsets, np.concatenate(rows))
    ours = assign(units, np.full(PICTURES, FREE), CLASSES, RATIO, 0.0, 0) == VALIDATION
    our_seconds = time.perf_counter() - began

    began = time.perf_counter()
    splitter = MultilabelStratifiedShuffleSplit(1, test_size=RATIO, random_state=0)
    theirs = np.zeros(PICTURES, bool)
    theirs[next(splitter.split(truth, truth))[1]] = True
    their_seconds = time.perf_counter() - began

    print(f"split of {PICTURES:,} pictures, {CLASSES} classes: {our_seconds:.2f} s")
    print(f"iterative-stratification: {their_seconds:.2f} s, {their_seconds / our_seconds:.1f} times as long")
    for name, chosen in (("ours", ours), ("theirs", theirs)):
        deviation = np.abs(truth[chosen].sum(axis=0) - RATIO * truth.sum(axis=0))
        excess = chosen.sum() - RATIO * PICTURES
        print(f"{name}: {deviation.mean():.2f} pictures a class off on average, {excess:+.0f} pictures in all")


if __name__ == "__main__":
    main()
