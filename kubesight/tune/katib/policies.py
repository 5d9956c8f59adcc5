"""Early stopping as an Experiment writes it: an algorithm's name and settings, all of them text."""

import statistics
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from kubesight.errors import JobError
from kubesight.section import Section, problem
from kubesight.sweep.policies import (
    AnyPolicy,
    Asha,
    Bandit,
    Curve,
    MedianStopping,
    Rule,
    TruncationSelection,
)

LIVE_SETTING = "live"
"""When "true", the training decides and prints `es_stop=1`; the rule for Katib is to stop at that (`guard`)."""

POLICIES: dict[str, type[Bandit | MedianStopping | TruncationSelection | Asha]] = {
    "bandit": Bandit,
    "median": MedianStopping,
    "truncation": TruncationSelection,
    "asha": Asha,
}
"""The algorithms of our early stopping service, by Katib's name of each."""


class KatibMedian(Section):
    """Katib's own `medianstop`, which is neither a median nor asked more than once.

    A trial is stopped when its best value at report `start_step` is worse than the arithmetic mean, over the trials
    that have succeeded, of the means of their first `start_step` reports.
    """

    min_trials_required: int = Field(default=3, ge=1)
    start_step: int = Field(default=4, ge=1)

    def frozen_rule(self, history: Mapping[str, Curve], *, maximize: bool) -> Rule | None:
        """The rule for a trial about to be made.

        Args:
            history: curves of the trials that have succeeded; stopped ones never count in Katib.
            maximize: whether more is better.

        Returns:
            None while fewer than `min_trials_required` trials have succeeded.
        """
        averages = [statistics.fmean(curve[: self.start_step]) for curve in history.values() if curve]
        if len(averages) < self.min_trials_required:
            return None
        return Rule(statistics.fmean(averages), "less" if maximize else "greater", self.start_step)


def policy_of(algorithm: str, settings: Mapping[str, str]) -> AnyPolicy | KatibMedian:
    """The policy that `earlyStopping` names.

    Args:
        algorithm: bandit, median, truncation, asha; or Katib's medianstop.
        settings: names and values; of ours, those of the job file's policy and `live`.

    Raises:
        JobError: an unknown algorithm or setting, or a value out of range.
    """
    given = {name: value for name, value in settings.items() if name != LIVE_SETTING or algorithm == "medianstop"}
    kind: Any = KatibMedian if algorithm == "medianstop" else POLICIES.get(algorithm)
    if kind is None:
        raise JobError(
            f"unknown early stopping algorithm {algorithm!r}",
            where="earlyStopping.algorithmName",
            hint=f"There are {', '.join(POLICIES)}, and Katib's medianstop.",
        )
    try:
        policy = kind.model_validate_strings(given, strict=False)
    except ValidationError as error:
        raise problem(error, given, lambda keys: f"earlyStopping {algorithm}") from None
    live = algorithm in POLICIES and is_live(settings)
    if isinstance(policy, TruncationSelection) and policy.exclude_finished_jobs and not live:
        raise JobError(
            "exclude_finished_jobs leaves nothing to compare with: Katib shows a rule's maker ended trials alone",
            where=f"earlyStopping {algorithm}",
            hint="Leave it out, or let the training decide (live=true).",
        )
    return policy


def settings_of(policy: AnyPolicy, *, live: bool = False) -> tuple[str, dict[str, str]]:
    """A policy as an algorithm's name and settings; `policy_of` reads it back.

    Args:
        policy: any of ours.
        live: whether the training decides.
    """
    (name,) = (name for name, kind in POLICIES.items() if isinstance(policy, kind))
    values = policy.model_dump(exclude={"type"}, exclude_defaults=True)
    settings = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
    return name, settings | ({LIVE_SETTING: "true"} if live else {})


def is_live(settings: Mapping[str, str]) -> bool:
    """Whether the training decides.

    Raises:
        JobError: the setting is neither true nor false.
    """
    value = settings.get(LIVE_SETTING, "false").lower()
    if value not in ("true", "false"):
        raise JobError(f"live is {value!r}, but must be true or false", where="earlyStopping")
    return value == "true"
