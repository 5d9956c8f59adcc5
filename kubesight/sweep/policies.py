"""When a trial is ended early: one code for training processes, for Katib's early-stopping service and for runs here.

Intervals count reports of the objective, from 1. A policy is asked at an interval N of a trial, with the curves of all
trials; only curves that hold N reports or more count, and of those only the first N, so that every trial is compared
at the same age, whether it runs or has finished. Without such peers nothing stops. Ties always survive.

Rules are written for metrics to be maximised. For metrics to be minimised all values change their sign first, and the
threshold changes it back: minimising a loss and maximising its negative decide the same.
"""

import json
import statistics
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kubesight.errors import JobError
from kubesight.section import Section, problem

Curve = Sequence[float]
"""The finite values of the objective that a trial has reported, in order; one report each."""


@dataclass(frozen=True)
class Decision:
    """What a policy said of one trial at one interval.

    Attributes:
        policy: its type.
        trial: whose curve was judged.
        interval: the number of reports that it had made.
        value: what of its curve was compared.
        threshold: what `value` must not be worse than; None when too few trials have come as far.
        peers: other trials that were compared with.
        stop: whether the trial is to end.
    """

    policy: str
    trial: str
    interval: int
    value: float
    threshold: float | None
    peers: int
    stop: bool

    def __str__(self) -> str:
        """One sentence for a log."""
        against = "no threshold" if self.threshold is None else f"threshold {self.threshold:.6g}"
        verdict = "stop" if self.stop else "go on"
        return f"{self.policy} at interval {self.interval}: {self.value:.6g}, {against}, {self.peers} peers: {verdict}"


@dataclass(frozen=True)
class Rule:
    """A rule that Katib fixes when it makes a trial: stop when the best value so far is worse at one report.

    Attributes:
        value: the threshold.
        comparison: how the best value so far compares with it when the trial is stopped.
        start_step: the only report at which Katib looks (its collector never looks again).
    """

    value: float
    comparison: Literal["less", "greater"]
    start_step: int


class Policy(Section):
    """What all policies share: how decisions and rules come from a threshold."""

    type: str

    @property
    @abstractmethod
    def first_interval(self) -> int:
        """The first interval at which the policy is applied, 1 or later."""

    @abstractmethod
    def due(self, interval: int) -> bool:
        """Whether the policy is applied after that many reports."""

    def decide(
        self, trial: str, curves: Mapping[str, Curve], *, maximize: bool, finished: Collection[str] = ()
    ) -> Decision:
        """Judge a trial after its last report, whether that interval is due or not.

        Args:
            trial: whose turn it is.
            curves: those of all trials, its own among them.
            maximize: whether more is better.
            finished: trials that run no more.

        Raises:
            ValueError: the trial has reported nothing.
        """
        interval = len(curves[trial])
        if not interval:
            raise ValueError(f"{trial} has reported nothing yet")
        own = _first(curves[trial], interval, maximize)
        peers = [
            _first(curve, interval, maximize)
            for name, curve in curves.items()
            if name != trial and len(curve) >= interval and self._counts(name in finished)
        ]
        value, threshold = self._value(own), self._threshold(own, peers) if peers else None
        return Decision(
            policy=self.type,
            trial=trial,
            interval=interval,
            value=_signed(value, maximize),
            threshold=None if threshold is None else _signed(threshold, maximize),
            peers=len(peers),
            stop=threshold is not None and value < threshold,
        )

    def frozen_rule(self, history: Mapping[str, Curve], *, maximize: bool) -> Rule | None:
        """The rule for a trial about to be made, as far as Katib's own early stopping can carry the policy.

        Katib looks once, at the policy's first interval, compares the best value so far, and never hears of trials that
        report later. A bandit's rule therefore stops some of the trials that `decide` stops, and never others.

        Args:
            history: curves of trials that have ended; those shorter than the first interval do not count.
            maximize: whether more is better.

        Returns:
            None while too few trials have come as far.
        """
        step = self.first_interval
        peers = [_first(curve, step, maximize) for curve in history.values() if len(curve) >= step]
        if not peers or not self._counts(finished=True):
            return None
        threshold = self._frozen_threshold(peers)
        if threshold is None:
            return None
        return Rule(_signed(threshold, maximize), "less" if maximize else "greater", step)

    def _counts(self, finished: bool) -> bool:
        """Whether a peer is compared with."""
        return True

    def _value(self, own: Curve) -> float:
        """What of a trial's curve is compared: its best value so far, unless a policy says otherwise."""
        return max(own)

    @abstractmethod
    def _threshold(self, own: Curve, peers: Sequence[Curve]) -> float | None:
        """What the value must reach; all curves are of one length, and greater is better."""

    @abstractmethod
    def _frozen_threshold(self, peers: Sequence[Curve]) -> float | None:
        """The threshold for a trial that has no curve yet."""


class PeriodicPolicy(Policy):
    """Applied at every multiple of `evaluation_interval` that is `delay_evaluation` or later, as in Azure."""

    evaluation_interval: int = Field(default=1, ge=1)
    delay_evaluation: int = Field(default=0, ge=0)

    @property
    def first_interval(self) -> int:
        """The smallest multiple of the interval that is no earlier than the delay."""
        return max(1, -(-self.delay_evaluation // self.evaluation_interval)) * self.evaluation_interval

    def due(self, interval: int) -> bool:
        """Whether the policy is applied after that many reports."""
        return interval >= self.first_interval and interval % self.evaluation_interval == 0


class Bandit(PeriodicPolicy):
    """Stop a trial whose best value so far is worse than the best of all by more than the slack.

    Maximising, the threshold is best / (1 + slack_factor) or best - slack_amount; the best is that of all trials at the
    same interval. Azure says nothing of minimising: the mirror is best * (1 + slack_factor) or best + slack_amount.
    Where the best is on the other side of zero, the two forms of the factor change places, so that a threshold is never
    better than the best itself; a best of exactly 0 leaves no slack (give slack_amount for metrics about 0).
    """

    type: Literal["bandit"] = "bandit"
    slack_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    slack_amount: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_slack(self) -> Self:
        if (self.slack_factor is None) == (self.slack_amount is None):
            raise PydanticCustomError("slack", "bandit needs slack_factor or slack_amount, one of them", {})
        return self

    def _threshold(self, own: Curve, peers: Sequence[Curve]) -> float:
        return self._frozen_threshold([own, *peers])

    def _frozen_threshold(self, peers: Sequence[Curve]) -> float:
        best = max(max(curve) for curve in peers)
        if self.slack_factor is None:
            return best - (self.slack_amount or 0.0)
        return best / (1 + self.slack_factor) if best > 0 else best * (1 + self.slack_factor)


class MedianStopping(PeriodicPolicy):
    """Stop a trial whose best value so far is worse than the median of the other trials' running averages.

    A running average is the mean of reports 1..N. The trial itself does not count ("every previous training job" in
    SageMaker; Azure's "all trials" leaves it open): its average is never better than its best, so counting it would
    only blunt the rule while there are few trials, and a rule fixed before the trial starts could not count it.
    """

    type: Literal["median_stopping"] = "median_stopping"

    def _threshold(self, own: Curve, peers: Sequence[Curve]) -> float:
        return self._frozen_threshold(peers)

    def _frozen_threshold(self, peers: Sequence[Curve]) -> float:
        return statistics.median(_mean(curve) for curve in peers)


class TruncationSelection(PeriodicPolicy):
    """Stop a trial whose value at N is among the lowest `truncation_percentage` per cent of the values at N.

    Of n trials that have reported N times, the trial itself among them, floor(percentage * n / 100) are the lowest. It
    is the values at N that are compared, not the best so far. `exclude_finished_jobs` compares running trials alone.

    The rule that Katib can carry compares the best so far with that percentile of the bests of ended trials; with
    `exclude_finished_jobs` there is none, since Katib shows a rule's maker ended trials alone.
    """

    type: Literal["truncation_selection"] = "truncation_selection"
    truncation_percentage: int = Field(ge=1, le=99)
    exclude_finished_jobs: bool = False

    def _counts(self, finished: bool) -> bool:
        return not (finished and self.exclude_finished_jobs)

    def _value(self, own: Curve) -> float:
        return own[-1]

    def _threshold(self, own: Curve, peers: Sequence[Curve]) -> float | None:
        return self._cut([curve[-1] for curve in [own, *peers]])

    def _frozen_threshold(self, peers: Sequence[Curve]) -> float | None:
        return self._cut([max(curve) for curve in peers])

    def _cut(self, values: list[float]) -> float | None:
        """The lowest value that is kept; None when nobody is to go."""
        lowest = self.truncation_percentage * len(values) // 100
        return sorted(values)[lowest] if lowest else None


class Asha(Policy):
    """Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020).

    Rungs are the intervals minimum_interval * reduction_factor ** k. A trial at a rung goes on when its best so far is
    among the top n // reduction_factor of the n trials that have reached it, itself among them. While n is less than
    the factor, nobody is stopped there. This is the variant that decides once, when a trial reaches the rung: trials do
    not wait for each other, and none that was stopped comes back.
    """

    type: Literal["asha"] = "asha"
    reduction_factor: int = Field(default=3, ge=2)
    minimum_interval: int = Field(default=3, ge=1)

    @property
    def first_interval(self) -> int:
        """The first rung."""
        return self.minimum_interval

    def due(self, interval: int) -> bool:
        """Whether that interval is a rung."""
        rung = self.minimum_interval
        while rung < interval:
            rung *= self.reduction_factor
        return rung == interval

    def _threshold(self, own: Curve, peers: Sequence[Curve]) -> float | None:
        return self._cut([own, *peers], len(peers) + 1)

    def _frozen_threshold(self, peers: Sequence[Curve]) -> float | None:
        return self._cut(peers, len(peers) + 1)

    def _cut(self, curves: Sequence[Curve], reached: int) -> float | None:
        """The best so far that one has to reach to be among the top of `reached` trials."""
        top = reached // self.reduction_factor
        return sorted((max(curve) for curve in curves), reverse=True)[top - 1] if top else None


AnyPolicy = Annotated[Bandit | MedianStopping | TruncationSelection | Asha, Field(discriminator="type")]
"""Any of the policies, told apart by `type`."""


class _Given(Section):
    """Gives errors the name under which people write a policy."""

    early_termination: AnyPolicy


def parse_policy(value: Mapping[str, Any] | str) -> AnyPolicy:
    """Read a policy as the job file writes it under `early_termination`.

    Args:
        value: a mapping, or its JSON text.

    Raises:
        JobError: not JSON, an unknown policy or setting, or a value out of range.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise JobError(
                f"not JSON: {error}",
                where="early_termination",
                hint='Write a policy such as {"type": "bandit", "slack_factor": 0.2}.',
            ) from None
    given = {"early_termination": dict(value) if isinstance(value, Mapping) else value}
    try:
        return _Given.model_validate(given).early_termination
    except ValidationError as error:
        raise problem(error, given, lambda keys: None) from None


def _first(curve: Curve, length: int, maximize: bool) -> list[float]:
    """The first values, signed so that greater is better."""
    return [_signed(value, maximize) for value in curve[:length]]


def _signed(value: float, maximize: bool) -> float:
    return value if maximize else -value


def _mean(curve: Curve) -> float:
    """The mean, held between the least and the greatest: of equal values rounding would make another one."""
    return min(max(statistics.fmean(curve), min(curve)), max(curve))
