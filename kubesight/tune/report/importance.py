"""How much each setting explains of what differs between trials.

The measure is the analysis of variance that functional ANOVA (Hutter, Hoos, Leyton-Brown 2014) estimates with a random
forest, here by grouping the trials directly: the share of the results' variance that lies between the groups of trials
with about the same value of a setting, less what as many groups would show by chance (epsilon squared, Kelley 1935:
(SS_between - (k - 1) MS_within) / SS_total). It needs no model and no random numbers but those of its test of chance,
gives every setting its own share, and can be worked by hand. Two settings together count in the same way.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_TRIALS = 8
"""With fewer results nothing is said."""

_PERMUTATIONS = 500
_PER_GROUP = 5
_GROUPS = (3, 10)
_FAR = 3.0

Column = Sequence[float | str | None]


@dataclass(frozen=True)
class Importance:
    """What a setting explains.

    Attributes:
        setting: its name.
        share: of the variance of all results, 0 to 1, by itself.
        chance: how often results dealt out at random show a share as large (permutation test).
        partner: the setting with which it explains most beyond what both explain alone; None without such a one.
        joint: the share that both explain together.
        trials: how many have the setting and a result.
    """

    setting: str
    share: float
    chance: float
    partner: str | None
    joint: float
    trials: int


def importance(settings: Mapping[str, Column], values: Sequence[float | None]) -> list[Importance]:
    """The settings, the most important first; none when there are fewer than `LEAST_TRIALS` results or all are equal.

    A setting that only some trials have explains differences among those, as a share of all differences. Results
    further than three interquartile ranges beyond the quartiles count as just so far: one that diverged would
    otherwise be all that is explained.

    Args:
        settings: columns, one value a trial: numbers (grouped by quantiles), texts, or None where a trial has none.
        values: the results; None where a trial has none.
    """
    known = np.array([index for index, value in enumerate(values) if value is not None], int)
    results = _tamed(np.array([values[index] for index in known], np.float64))
    total = float(((results - results.mean()) ** 2).sum()) if len(known) else 0.0
    if len(known) < LEAST_TRIALS or total <= 1e-24 * max(1.0, float((results**2).sum())):
        return []
    groups = {name: _groups([column[index] for index in known]) for name, column in settings.items()}
    groups = {name: labels for name, labels in groups.items() if labels.max() > 0}
    alone = {name: _share(labels, results, total) for name, labels in groups.items()}
    pairs = {
        pair: _share(_crossed(groups[pair[0]], groups[pair[1]]), results, total)
        for pair in itertools.combinations(groups, 2)
    }
    found = []
    for name, labels in groups.items():
        partner, joint = _best_partner(name, alone, pairs)
        chance = _chance(labels, results, alone[name], total)
        found.append(Importance(name, alone[name], chance, partner, joint, int((labels >= 0).sum())))
    # What only two settings together explain counts half for either.
    more = {each.setting: each.joint - each.share - alone[each.partner] for each in found if each.partner}
    return sorted(found, key=lambda each: -each.share - more.get(each.setting, 0.0) / 2)


def _tamed(results: np.ndarray) -> np.ndarray:
    if not len(results):
        return results
    low, high = np.percentile(results, [25, 75])
    room = _FAR * (high - low)
    return np.clip(results, low - room, high + room) if room else results


def _groups(column: Column) -> np.ndarray:
    """The group of each trial, from 0; -1 for a trial without the setting."""
    present = [index for index, value in enumerate(column) if value is not None]
    labels = np.full(len(column), -1)
    if not present:
        return labels
    raw = [column[index] for index in present]
    if any(isinstance(value, str) for value in raw):
        labels[present] = np.unique([str(value) for value in raw], return_inverse=True)[1]
        return labels
    numbers = np.array(raw, np.float64)
    levels, codes = np.unique(numbers, return_inverse=True)
    count = int(np.clip(len(present) // _PER_GROUP, *_GROUPS))
    if len(levels) > count:
        edges = np.quantile(numbers, np.linspace(0, 1, count + 1)[1:-1])
        codes = np.unique(np.searchsorted(edges, numbers, side="right"), return_inverse=True)[1]
    labels[present] = codes
    return labels


def _crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Groups of the trials that agree in both; -1 without either."""
    both = (first >= 0) & (second >= 0)
    labels = np.full(len(first), -1)
    labels[both] = np.unique(first[both] * (second.max() + 1) + second[both], return_inverse=True)[1]
    return labels


def _share(labels: np.ndarray, results: np.ndarray, total: float) -> float:
    """Epsilon squared of the groups, as a share of the variance of all results."""
    inside = labels >= 0
    counts = np.bincount(labels[inside])
    spare = int(inside.sum()) - len(counts)
    if len(counts) < 2 or spare < 1:
        return 0.0
    members = results[inside]
    means = np.bincount(labels[inside], members) / counts
    between = float((counts * (means - members.mean()) ** 2).sum())
    within = max(0.0, float(((members - members.mean()) ** 2).sum()) - between)
    return max(0.0, (between - (len(counts) - 1) * within / spare) / total)


def _best_partner(
    name: str, alone: Mapping[str, float], pairs: Mapping[tuple[str, str], float]
) -> tuple[str | None, float]:
    """The setting that tells most together with this one; a twentieth more than both alone at least."""
    best: tuple[str | None, float] = (None, 0.0)
    most = 0.05
    for (first, second), joint in pairs.items():
        if name in (first, second) and joint - alone[first] - alone[second] > most:
            most = joint - alone[first] - alone[second]
            best = (second if name == first else first, joint)
    return best


def _chance(labels: np.ndarray, results: np.ndarray, share: float, total: float) -> float:
    """The share of random deals of the results that explain as much, the deal at hand counted as one."""
    if share == 0.0:
        return 1.0
    inside = labels >= 0
    members, kinds = results[inside], labels[inside]
    counts = np.bincount(kinds)
    random = np.random.default_rng(0)
    deals = random.permuted(np.tile(members, (_PERMUTATIONS, 1)), axis=1)
    means = deals @ np.eye(len(counts))[kinds] / counts
    between = (counts * (means - members.mean()) ** 2).sum(axis=1)
    spread = float(((members - members.mean()) ** 2).sum())
    actual = np.bincount(kinds, members) / counts
    seen = float((counts * (actual - members.mean()) ** 2).sum())
    return float((1 + (between >= seen - 1e-12 * spread).sum()) / (1 + _PERMUTATIONS))
