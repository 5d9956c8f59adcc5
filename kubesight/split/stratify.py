"""Drawing one part out of the rest so that every class is shared out in proportion.

Whole-number targets come first: every class gets the floor or the ceiling of its fair share, so chosen that the part's
size is right too. Then iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the stratification of
multi-label data") fills them, rarest class first. With one class a picture the targets are met exactly; the published
algorithm, with fractional targets, gives every class of three pictures one to a part of a fifth.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kubesight.split.table import Ints

_MOVES = 300


@dataclass(frozen=True)
class Units:
    """Sets of rows that stay together, with how many of their pictures show each class.

    `counts[offsets[u]:offsets[u + 1]]` are the numbers of pictures of unit u with the classes of the same slice of
    `classes`; `sizes` [n] the numbers of pictures.
    """

    offsets: Ints
    classes: Ints
    counts: Ints
    sizes: Ints

    def totals(self, chosen: npt.NDArray[np.bool_], num_classes: int) -> Ints:
        """Pictures of each class in the chosen units."""
        wanted = np.repeat(chosen, np.diff(self.offsets))
        return np.bincount(self.classes[wanted], self.counts[wanted], minlength=num_classes).astype(np.int64)


def make_units(unit_of_row: Ints, offsets: Ints, labels: Ints) -> Units:
    """Gather rows into units.

    Args:
        unit_of_row: [n] the unit of each row, numbered from 0 without gaps.
        offsets: [n + 1] where each row's labels begin.
        labels: the class numbers.
    """
    span = int(labels.max(initial=0)) + 1
    pairs, counts = np.unique(np.repeat(unit_of_row, np.diff(offsets)) * span + labels, return_counts=True)
    sizes = np.bincount(unit_of_row)
    begins = np.searchsorted(pairs // span, np.arange(len(sizes) + 1))
    return Units(begins.astype(np.int64), pairs % span, counts.astype(np.int64), sizes.astype(np.int64))


def apportion(quotas: npt.NDArray[np.float64], low: Ints, high: Ints, total: int, rng: np.random.Generator) -> Ints:
    """Whole numbers between `low` and `high` that lie near the quotas and sum to `total` where the bounds allow it.

    The largest remainders are rounded up; equal ones in an order drawn at random.
    """
    result = low.copy()
    missing = total - int(low.sum())
    if missing > 0:
        order = np.lexsort((rng.random(len(quotas)), low - quotas))
        result[order[high[order] > low[order]][:missing]] += 1
    return result


def draw(
    units: Units, free: npt.NDArray[np.bool_], targets: Ints, size: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Choose units for a part so that its classes come as near to their targets as can be.

    Args:
        units: all units.
        free: [n] those that may be chosen.
        targets: pictures of each class that the part should get.
        size: pictures that it should get.
        rng: settles ties and the order of equals.

    Returns:
        [n] the chosen ones.
    """
    want = targets.tolist()
    keep = (units.totals(free, len(targets)) - targets).tolist()
    room, rest = size, int(units.sizes[free].sum()) - size
    waiting = free.copy()
    chosen = np.zeros(len(free), bool)
    by_class = _units_by_class(units, free, len(targets), rng)
    left = np.array([len(members) for members in by_class])
    offsets, classes, counts = units.offsets.tolist(), units.classes.tolist(), units.counts.tolist()
    sizes, coins = units.sizes.tolist(), rng.random(len(free)).tolist()
    while left.any():
        rarest = int(np.where(left, left, len(free) + 1).argmin())
        for unit in by_class[rarest]:
            if not waiting[unit]:
                continue
            waiting[unit] = False
            take = (want[rarest], room, coins[unit]) > (keep[rarest], rest, 0.5)
            chosen[unit] = take
            budget = want if take else keep
            for at in range(offsets[unit], offsets[unit + 1]):
                budget[classes[at]] -= counts[at]
                left[classes[at]] -= 1
            room, rest = (room - sizes[unit], rest) if take else (room, rest - sizes[unit])
    return chosen


def polish(
    units: Units, free: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_], targets: Ints, size: int
) -> npt.NDArray[np.bool_]:
    """Move single units in or out, the best move first, while that brings classes and size nearer to their targets.

    What is lowered is the sum of squared deviations, each over its target. This mends what the greedy rule leaves
    where units hold many pictures of several classes.
    """
    chosen = chosen.copy()
    weights = 1 / np.maximum(targets, 1)
    owners = np.repeat(np.arange(len(free)), np.diff(units.offsets))
    squares = _sums(owners, weights[units.classes] * units.counts**2, len(free)) + units.sizes**2 / max(size, 1)
    for _ in range(_MOVES):
        excess = weights * (units.totals(chosen, len(targets)) - targets)
        surplus = (int(units.sizes[chosen].sum()) - size) / max(size, 1)
        slopes = _sums(owners, excess[units.classes] * units.counts, len(free)) + units.sizes * surplus
        change = np.where(chosen, -2, 2) * slopes + squares
        change[~free] = np.inf
        best = int(change.argmin())
        if change[best] > -1e-9:
            break
        chosen[best] = not chosen[best]
    return chosen


def _sums(owners: Ints, values: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    return np.bincount(owners, values, minlength=length).astype(np.float64)


def _units_by_class(
    units: Units, free: npt.NDArray[np.bool_], num_classes: int, rng: np.random.Generator
) -> list[list[int]]:
    """The free units that show each class: those with most pictures of it first, equals in random order."""
    owners = np.repeat(np.arange(len(units.sizes)), np.diff(units.offsets))
    usable = np.flatnonzero(free[owners])
    order = usable[np.lexsort((rng.random(len(free))[owners[usable]], -units.counts[usable], units.classes[usable]))]
    ends = np.cumsum(np.bincount(units.classes[order], minlength=num_classes))
    return [part.tolist() for part in np.split(owners[order], ends[:-1])]
