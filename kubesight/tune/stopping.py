"""Early stopping on this machine: what an Experiment asks for, applied to its trials as they report.

A policy of ours (bandit, median, truncation, asha) judges every trial at every interval that is due, against all other
trials, running ones too. Katib's own `medianstop` keeps Katib's rule: fixed when a trial is made, looked at once. With
the setting `live` the trainings judge themselves and print `es_stop=1`; here as there they are then sent SIGTERM.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from kubesight.sweep.policies import Decision, Rule
from kubesight.tune.katib.policies import KatibMedian, is_live, policy_of
from kubesight.tune.records import Trial

if TYPE_CHECKING:
    from kubesight.tune.katib.objects import Experiment

MEDIANSTOP = "medianstop"


class EarlyStopping:
    """The judge of a sweep's trials.

    Attributes:
        is_guard: whether trials that print `es_stop=1` wait to be ended.
    """

    def __init__(self, experiment: "Experiment", ended: Sequence[Trial] = ()) -> None:
        """Know the trials that have ended already.

        Raises:
            JobError: an unknown algorithm, or a setting out of range.
        """
        algorithm, settings = experiment.early_stopping or ("", {})
        self.is_guard = is_live(settings)
        policy = policy_of(algorithm, settings) if algorithm else None
        self._policy = None if self.is_guard else policy
        self._maximize = experiment.maximize
        self._curves: dict[str, Sequence[float]] = {}
        self._finished: dict[str, Trial] = {}
        self._rules: dict[str, Rule] = {}
        for trial in ended:
            self.end(trial)

    def begin(self, trial: Trial) -> None:
        """A trial is about to run."""
        self._curves[trial.name] = trial.curve
        if isinstance(self._policy, KatibMedian):
            succeeded = {t.name: t.curve for t in self._finished.values() if t.condition == "Succeeded"}
            rule = self._policy.frozen_rule(succeeded, maximize=self._maximize)
            if rule is not None:
                self._rules[trial.name] = rule

    def end(self, trial: Trial) -> None:
        """A trial runs no more; its curve goes on counting."""
        self._curves[trial.name] = trial.curve
        self._finished[trial.name] = trial
        self._rules.pop(trial.name, None)

    def stops(self, trial: Trial) -> str | None:
        """Judge a trial after one more report, and keep the decision in its record.

        Returns:
            the policy that wants it ended, or None.
        """
        decision = self._decide(trial)
        if decision is None:
            return None
        trial.decisions.append(asdict(decision))
        return decision.policy if decision.stop else None

    def _decide(self, trial: Trial) -> Decision | None:
        if self._policy is None:
            return None
        if isinstance(self._policy, KatibMedian):
            return self._by_rule(trial)
        if not self._policy.due(len(trial.curve)):
            return None
        return self._policy.decide(trial.name, self._curves, maximize=self._maximize, finished=self._finished)

    def _by_rule(self, trial: Trial) -> Decision | None:
        """As Katib's collector does: the best so far, at one report and never again."""
        rule = self._rules.get(trial.name)
        if rule is None or len(trial.curve) != rule.start_step:
            return None
        best = max(trial.curve) if self._maximize else min(trial.curve)
        stop = best < rule.value if rule.comparison == "less" else best > rule.value
        peers = sum(t.condition == "Succeeded" for t in self._finished.values())
        return Decision(MEDIANSTOP, trial.name, len(trial.curve), best, rule.value, peers, stop)
