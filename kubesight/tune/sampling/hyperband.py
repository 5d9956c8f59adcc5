"""Hyperband: many configurations with few resources, the best of them again with more.

L. Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18 (2018), algorithm 1,
with Katib's settings (`r_l`: the most resources, `eta`: the factor, `resource_name`: the parameter that gets them) and
its rounding up of the number that goes on. Unlike Katib's, the first bracket has the paper's size and not that of the
first request, a failed trial does not block its bracket, and slots that wait for a rung start on the next bracket.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

from kubesight.tune.katib.objects import Experiment


class _Draws(Protocol):
    def ask(self, number: int) -> dict[str, str]:
        """A configuration."""


@dataclass
class _Rung:
    """Trials with the same resources.

    Attributes:
        size: how many there may be.
        resources: of each.
        configurations: by trial number.
        values: by trial number, of those that have ended; None: failed.
    """

    size: int
    resources: int
    configurations: dict[int, dict[str, str]] = field(default_factory=dict)
    values: dict[int, float | None] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return len(self.values) == self.size


class Hyperband:
    """Brackets of rungs, the widest first.

    Args:
        experiment: settings and direction.
        draws: gives the configurations that brackets begin with.
    """

    def __init__(self, experiment: Experiment, draws: _Draws) -> None:
        """Lay out all brackets."""
        settings = experiment.settings
        self._draws, self._maximize, self._resource = draws, experiment.maximize, settings["resource_name"]
        self._brackets = brackets(float(settings["r_l"]), float(settings.get("eta", 3)))
        self._rungs: dict[int, _Rung] = {}

    def ask(self, number: int) -> dict[str, str] | None:
        """The next configuration of the first bracket that has one; None while all of them wait for trials to end."""
        for rungs in self._brackets:
            for index, rung in enumerate(rungs):
                if len(rung.configurations) < rung.size:
                    drawn = self._promoted(rungs[index - 1], rung) if index else self._draws.ask(number)
                    rung.configurations[number] = {**drawn, self._resource: str(rung.resources)}
                    self._rungs[number] = rung
                    return dict(rung.configurations[number])
                if not rung.ended:
                    break
                if index + 1 < len(rungs):
                    # Failed trials do not go on, so that the next rung may be smaller than planned.
                    succeeded = sum(value is not None for value in rung.values.values())
                    rungs[index + 1].size = min(rungs[index + 1].size, succeeded)
        return None

    def tell(self, number: int, value: float | None) -> None:
        """The objective of a trial, or a failure."""
        self._rungs[number].values[number] = value

    def _promoted(self, before: _Rung, rung: _Rung) -> dict[str, str]:
        """The next best configuration of the rung before; of equal ones the earlier."""
        sign = -1.0 if self._maximize else 1.0
        ranked = sorted((sign * value, number) for number, value in before.values.items() if value is not None)
        return before.configurations[ranked[len(rung.configurations)][1]]


def brackets(most: float, eta: float) -> list[list[_Rung]]:
    """The rungs of every bracket: most configurations and fewest resources first.

    Args:
        most: resources of a trial at the end (`r_l`), 1 or more.
        eta: factor between rungs, above 1.
    """
    deepest = math.floor(math.log(most) / math.log(eta) + 1e-9)
    planned = []
    for depth in range(deepest, -1, -1):
        size = math.ceil((deepest + 1) * eta**depth / (depth + 1) - 1e-9)
        rungs = [_Rung(size, _whole(most * eta**-depth))]
        for step in range(1, depth + 1):
            kept = math.ceil(math.ceil(size * eta ** (1 - step) - 1e-9) / eta - 1e-9)
            rungs.append(_Rung(kept, _whole(most * eta ** (step - depth))))
        planned.append(rungs)
    return planned


def _whole(resources: float) -> int:
    """Whole resources; 8.999999999 of a power is 9."""
    return max(1, math.floor(resources + 1e-9))
