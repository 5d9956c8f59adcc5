"""Early stopping as an Experiment writes it: settings there and back, and Katib's own median."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.errors import JobError
from kubesight.sweep.policies import Asha, Bandit, MedianStopping, TruncationSelection
from kubesight.tune.katib.policies import KatibMedian, is_live, policy_of, settings_of


def test_settings_survive_the_way_to_katib_and_back():
    for policy in (
        Bandit(slack_amount=0.05, evaluation_interval=2),
        Bandit(slack_factor=1e-7),
        MedianStopping(delay_evaluation=5),
        TruncationSelection(truncation_percentage=20),
        Asha(minimum_interval=4),
    ):
        name, settings = settings_of(policy)
        assert all(isinstance(value, str) for value in settings.values())
        assert policy_of(name, settings) == policy
    name, settings = settings_of(TruncationSelection(truncation_percentage=20, exclude_finished_jobs=True), live=True)
    assert is_live(settings)
    assert policy_of(name, settings).exclude_finished_jobs


@given(st.floats(1e-12, 1e6), st.integers(1, 1000), st.integers(0, 1000))
def test_any_bandit_survives(slack, interval, delay):
    policy = Bandit(slack_factor=slack, evaluation_interval=interval, delay_evaluation=delay)
    assert policy_of(*settings_of(policy)) == policy


def test_katibs_median_needs_enough_trials_and_averages_the_first_reports():
    rule = KatibMedian(min_trials_required=2, start_step=2)
    assert rule.frozen_rule({"a": [1.0, 3.0]}, maximize=True) is None
    found = rule.frozen_rule({"a": [1.0, 3.0, 100.0], "b": [4.0]}, maximize=True)
    assert (found.value, found.comparison, found.start_step) == (3.0, "less", 2)  # (2 + 4) / 2
    with pytest.raises(JobError, match="unknown key"):
        policy_of("medianstop", {"live": "true"})
