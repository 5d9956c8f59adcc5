"""The space that a sampler draws from, and the trials of earlier sweeps that lie in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubesight.sweep.names import GROUP_PARAMETER
from kubesight.tune.katib.objects import Experiment, Parameter
from kubesight.tune.sampling.quantiles import quantile, share


@dataclass(frozen=True)
class Observation:
    """A trial of an earlier sweep.

    Attributes:
        assignments: its parameters. Those that this sweep does not have are passed over.
        value: its objective.
    """

    assignments: Mapping[str, str]
    value: float


class Space:
    """The parameters of an Experiment, and which of them count when.

    Attributes:
        parameters: the group's parameter first, then the others in the document's order.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Put the group's parameter first."""
        self.parameters = tuple(sorted(experiment.parameters, key=lambda each: each.name != GROUP_PARAMETER))
        self._conditions = experiment.conditions

    def counts(self, parameter: Parameter, group: str | None) -> bool:
        """Whether a parameter has a meaning for a value of the group's parameter."""
        return parameter.name not in self._conditions or group in self._conditions[parameter.name]

    def assign(self, shares: Sequence[float]) -> dict[str, str]:
        """Values at the given shares of the parameters' distributions; constants for those that do not count."""
        values: dict[str, str] = {}
        for parameter, drawn in zip(self.parameters, shares, strict=True):
            counts = self.counts(parameter, values.get(GROUP_PARAMETER))
            values[parameter.name] = quantile(parameter, drawn if counts else 0.5)
        return values

    def holds(self, observation: Observation) -> bool:
        """Whether every parameter that counts has a value of its space, and the objective is a number."""
        group = observation.assignments.get(GROUP_PARAMETER)
        return math.isfinite(observation.value) and all(
            share(parameter, observation.assignments.get(parameter.name, "")) is not None
            for parameter in self.parameters
            if self.counts(parameter, group)
        )
