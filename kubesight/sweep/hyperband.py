"""The brackets of hyperband, as Katib's service counts them."""

import math
from dataclasses import dataclass

from kubesight.errors import JobError
from kubesight.sweep.sampling import Sampling

DEFAULT_FACTOR = 3


@dataclass(frozen=True)
class Brackets:
    """How hyperband deals out epochs (Li et al., "Hyperband", 2018).

    Attributes:
        longest: the epochs of the longest trials, Katib's `r_l`.
        factor: one in so many trials goes on, with so many times the epochs; Katib's `eta`.
        rounds: how often the first bracket halves, floor(log(longest) / log(factor)).
        shortest: the epochs of the first bracket's first trials, floor(longest / factor ** rounds).
        parallel: the trials that Katib's service wants to run at a time, factor ** rounds.
    """

    longest: int
    factor: int
    rounds: int
    shortest: int
    parallel: int

    @classmethod
    def of(cls, longest: int, factor: int) -> "Brackets":
        """Count the brackets.

        The number of rounds is Katib's, rounding of logarithms included (log 243 / log 3 is less than 5 there).
        """
        rounds = int(math.log(longest) / math.log(factor))
        return cls(longest, factor, rounds, longest // factor**rounds, factor**rounds)

    @classmethod
    def checked(cls, longest: int, sampling: Sampling, where: str | None) -> "Brackets":
        """The brackets of a sampler's settings.

        Raises:
            JobError: there would be but one round, or `min_resource` is not what the other settings make it.
        """
        brackets = cls.of(longest, sampling.reduction_factor or DEFAULT_FACTOR)
        if brackets.rounds == 0:
            raise JobError(
                f"hyperband has nothing to share out: {longest} epochs cannot be divided by {brackets.factor}",
                where=where,
                hint=f"Set max_resource to {brackets.factor} or more, or a smaller reduction_factor.",
            )
        if sampling.min_resource not in (None, brackets.shortest):
            raise JobError(
                f"min_resource is {sampling.min_resource}, but with max_resource {longest} and reduction_factor "
                f"{brackets.factor} the shortest trials have {brackets.shortest} epochs",
                where=where,
                hint="Katib's hyperband always starts there: leave min_resource out, or change the other two.",
            )
        return brackets


def factor_for(longest: int, shortest: int) -> int | None:
    """The reduction factor, nearest to the usual 3, with which the shortest trials have so many epochs."""
    factors = sorted(range(2, longest + 1), key=lambda factor: abs(factor - DEFAULT_FACTOR))
    counted = (Brackets.of(longest, factor) for factor in factors)
    return next((each.factor for each in counted if each.rounds and each.shortest == shortest), None)
