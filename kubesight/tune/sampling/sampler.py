"""The next trial's parameters, by the name of one of Katib's algorithms.

Trial number n depends on the seed, on n and on what has been told before, never on the clock or the order of processes;
with `random`, `sobol` and `grid` on the seed and n alone. The seed is the setting `random_state`, 0 without it: Katib
draws another sweep every time then, this machine the same one.

A parameter with a condition that the drawn group does not fulfil gets a constant value of its range, because Katib's
templates need a value for every parameter; no model learns from it.
"""

import itertools
import logging
import math
import random
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kubesight.errors import JobError
from kubesight.sweep.names import GROUP_PARAMETER
from kubesight.tune.katib.objects import Experiment
from kubesight.tune.katib.settings import grid_size
from kubesight.tune.sampling.quantiles import grid_value, quantile
from kubesight.tune.sampling.space import Observation, Space

log = logging.getLogger("kubesight")


class Engine(Protocol):
    """What draws."""

    def ask(self, number: int) -> dict[str, str] | None:
        """As `Sampler.ask`."""

    def tell(self, number: int, value: float | None) -> None:
        """As `Sampler.tell`."""


class Sampler:
    """Draws the parameters of trials.

    Args:
        experiment: parameters, conditions, algorithm and settings.
        history: trials of earlier sweeps, from which `tpe`, `multivariate-tpe`, `bayesianoptimization` and `cmaes`
            learn. Those that do not lie in this sweep's space are dropped, and counted in a line of the log.

    Raises:
        JobError: an algorithm that this machine does not have.
    """

    def __init__(self, experiment: Experiment, *, history: Sequence[Observation] = ()) -> None:
        """Choose the engine of the algorithm."""
        self._names = [parameter.name for parameter in experiment.parameters]
        space = Space(experiment)
        fitting = [observation for observation in history if space.holds(observation)]
        if len(fitting) < len(history):
            log.warning(
                "%d of %d earlier trials do not lie in this sweep's space and are left out.",
                len(history) - len(fitting),
                len(history),
            )
        self._engine = _engine(experiment, space, fitting)

    def ask(self, number: int) -> dict[str, str] | None:
        """The parameters of trial `number`, from 0; each number is asked for once, in rising order.

        Returns:
            A value for every parameter. None when there is nothing to try before another trial is told (hyperband waits
            for a rung); when no trial is running, None says that the space is exhausted.
        """
        values = self._engine.ask(number)
        return None if values is None else {name: values[name] for name in self._names}

    def tell(self, number: int, value: float | None) -> None:
        """The objective of trial `number`; None (or no finite number): it failed."""
        self._engine.tell(number, value if value is not None and math.isfinite(value) else None)


class _Independent:
    """Trials that do not depend on each other's results."""

    def tell(self, number: int, value: float | None) -> None:
        """Nothing is learnt."""


class Random(_Independent):
    """Independent draws from the declared distributions."""

    def __init__(self, space: Space, seed: int) -> None:
        """Keep the seed; every trial has a generator of its own."""
        self._space, self._seed = space, seed

    def ask(self, number: int) -> dict[str, str]:
        """The draw of trial `number`."""
        return self._space.assign(
            np.random.default_rng([self._seed, number]).random(len(self._space.parameters)).tolist()
        )


class _Sobol(_Independent):
    """Points of a scrambled Sobol sequence: more even than random ones.

    Katib's goptuna takes the sequence unscrambled and without a seed.
    """

    def __init__(self, space: Space, seed: int) -> None:
        from scipy.stats.qmc import Sobol

        self._space = space
        self._sequence = Sobol(len(space.parameters), scramble=True, rng=np.random.default_rng(seed))

    def ask(self, number: int) -> dict[str, str]:
        self._sequence.reset()
        if number:
            self._sequence.fast_forward(number)
        return self._space.assign(self._sequence.random(1)[0].tolist())


class _Grid(_Independent):
    """Every combination once: the last parameter changes fastest, or in an order that `random_state` shuffles.

    A parameter that does not count for a group is not varied in it, so that the group's combinations are tried once.
    """

    def __init__(self, space: Space, seed: int | None) -> None:
        self._space = space
        groups = [parameter for parameter in space.parameters if parameter.name == GROUP_PARAMETER]
        values = groups[0].values if groups else (None,)
        self._sizes = [(group, self._group_sizes(group)) for group in values]
        self._total = sum(math.prod(sizes) for _, sizes in self._sizes)
        self._order = _shuffled(self._total, seed) if seed is not None else iter(range(self._total))
        self._drawn: list[int] = []

    def _group_sizes(self, group: str | None) -> list[int]:
        return [
            grid_size(parameter) if parameter.name != GROUP_PARAMETER and self._space.counts(parameter, group) else 1
            for parameter in self._space.parameters
        ]

    def ask(self, number: int) -> dict[str, str] | None:
        if number >= self._total:
            return None
        self._drawn += itertools.islice(self._order, number + 1 - len(self._drawn))
        left = self._drawn[number]
        for group, sizes in self._sizes:
            if left < math.prod(sizes):
                return self._combination(group, sizes, left)
            left -= math.prod(sizes)
        return None

    def _combination(self, group: str | None, sizes: list[int], index: int) -> dict[str, str]:
        digits = []
        for size in reversed(sizes):
            index, digit = divmod(index, size)
            digits.append(digit)
        values: dict[str, str] = {}
        for parameter, digit in zip(self._space.parameters, reversed(digits), strict=True):
            if parameter.name == GROUP_PARAMETER:
                values[parameter.name] = str(group)
            elif self._space.counts(parameter, group):
                values[parameter.name] = grid_value(parameter, digit)
            else:
                values[parameter.name] = quantile(parameter, 0.5)
        return values


def _shuffled(total: int, seed: int) -> "itertools.chain[int]":
    """The numbers below `total` in an order of chance; a grid may be far too large to write them all down."""
    generator, seen = random.Random(seed), set[int]()

    def draw() -> int:
        while (index := generator.randrange(total)) in seen:
            continue
        seen.add(index)
        return index

    return itertools.chain(draw() for _ in range(total))


def _engine(experiment: Experiment, space: Space, history: Sequence[Observation]) -> Engine:
    name = experiment.algorithm
    given = experiment.settings.get("random_state")
    seed = int(given or 0)
    if name == "random":
        return Random(space, seed)
    if name == "sobol":
        return _Sobol(space, seed)
    if name == "grid":
        return _Grid(space, None if given is None else seed)
    if name == "hyperband":
        from kubesight.tune.sampling.hyperband import Hyperband

        return Hyperband(experiment, Random(space, seed))
    if name in ("tpe", "multivariate-tpe", "bayesianoptimization", "cmaes"):
        from kubesight.tune.sampling.models import ModelSampler

        return ModelSampler(experiment, space, seed, history)
    raise JobError(
        f"the algorithm {name} is not here on this machine",
        hint="There are random, grid, sobol, tpe, multivariate-tpe, bayesianoptimization, cmaes and hyperband.",
    )
