"""Which part each unit of rows goes to."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from kubesight.split.stratify import Units, apportion, draw, polish
from kubesight.split.table import FREE, TEST, TRAIN, VALIDATION, Ints

Mask = npt.NDArray[np.bool_]


def assign(units: Units, marks: Ints, num_classes: int, split_ratio: float, test_ratio: float, seed: int) -> Ints:
    """Draw the test part, then the validation part, from the units that have none; the others go to training.

    The test part depends on its own ratio and the seed only, not on the validation part's ratio.

    Args:
        units: sets of rows that stay together.
        marks: [n] the part that is given, or FREE.
        num_classes: one more than the highest class number.
        split_ratio: the validation part's share of the pictures of free units, in [0, 1).
        test_ratio: the test part's share of them, in [0, 1).
        seed: of the source of chance.

    Returns:
        [n] the parts.
    """
    parts = marks.copy()
    everything = units.totals(marks == FREE, num_classes)
    pictures = int(units.sizes[marks == FREE].sum())
    rest = Fraction(1)
    for part, ratio in ((TEST, test_ratio), (VALIDATION, split_ratio)):
        # As written: 0.1 of 30 pictures is 3, not 3.0000000000000004.
        share = Fraction(str(ratio))
        rest -= share
        if share:
            rng = np.random.default_rng([seed, part])
            free = (parts == FREE) & ~_shows(units, lone_classes(units, parts, num_classes))
            targets = _targets(units, parts, free, everything, share, rest, rng)
            size = max(1, round(share * pictures))
            chosen = polish(units, free, draw(units, free, targets, size, rng), targets, size)
            parts[_mend(units, parts, free, chosen, num_classes)] = part
    parts[parts == FREE] = TRAIN
    return parts


def lone_classes(units: Units, parts: Ints, num_classes: int) -> Ints:
    """Classes that one free unit shows and no unit of the training part: training must have that one."""
    free = np.repeat(parts == FREE, np.diff(units.offsets))
    holders = np.bincount(units.classes[free], minlength=num_classes)
    return np.flatnonzero((holders == 1) & (units.totals(parts == TRAIN, num_classes) == 0))


def _shows(units: Units, classes: Ints) -> Mask:
    """The units that show any of the classes."""
    owners = np.repeat(np.arange(len(units.sizes)), np.diff(units.offsets))
    shown = np.zeros(len(units.sizes), bool)
    shown[owners[np.isin(units.classes, classes)]] = True
    return shown


def _targets(
    units: Units, parts: Ints, free: Mask, everything: Ints, share: Fraction, rest: Fraction, rng: np.random.Generator
) -> Ints:
    """Pictures of each class that a part should get: the floor or the ceiling of its share.

    What stays behind must be such a rounding of `rest` too, and leave training a picture of each class.
    """
    present = units.totals(parts == FREE, len(everything))
    floor, ceiling = _around(everything, share)
    rest_floor, rest_ceiling = _around(everything, rest)
    spared = (units.totals(parts == TRAIN, len(everything)) == 0).astype(np.int64)
    high = np.minimum(np.minimum(ceiling, present - rest_floor), present - spared)
    high = np.clip(high, 0, units.totals(free, len(everything)))
    low = np.clip(np.maximum(floor, present - rest_ceiling), 0, high)
    total = round(share * int(everything.sum()))
    return apportion(everything.astype(np.float64) * float(share), low, high, total, rng)


def _around(counts: Ints, share: Fraction) -> tuple[Ints, Ints]:
    """Floor and ceiling of a share of each count."""
    scaled = counts * share.numerator
    return scaled // share.denominator, -(-scaled // share.denominator)


def _mend(units: Units, parts: Ints, free: Mask, chosen: Mask, num_classes: int) -> Mask:
    """Give training back a unit of each class that it would miss, and the new part one unit if it got none."""
    chosen = chosen.copy()
    kept = units.totals(((parts == FREE) | (parts == TRAIN)) & ~chosen, num_classes)
    for number in np.flatnonzero((kept == 0) & (units.totals(chosen, num_classes) > 0)):
        if kept[number] == 0:
            holders = np.flatnonzero(chosen & _shows(units, np.array([number])))
            back = np.arange(len(chosen)) == holders[np.argmin(units.sizes[holders])]
            chosen &= ~back
            kept += units.totals(back, num_classes)
    if not chosen.any() and free.sum() > 1:
        candidates = np.flatnonzero(free)
        chosen[candidates[np.argmin(units.sizes[candidates])]] = True
    return chosen
