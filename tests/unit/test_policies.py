"""Early termination by hand: each policy's rule on small tables, with the arithmetic written out."""

import json
from typing import Any

import pytest

from kubesight.errors import JobError
from kubesight.sweep.policies import (
    AnyPolicy,
    Asha,
    Bandit,
    Decision,
    MedianStopping,
    Rule,
    TruncationSelection,
    parse_policy,
)

# Accuracy of five trials; "new" is judged at its second report.
CURVES = {
    "a": [0.50, 0.60, 0.80],
    "b": [0.40, 0.55, 0.70],
    "c": [0.30, 0.20],
    "young": [0.90],
    "new": [0.45, 0.35],
}


def mirrored(curves: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [-value for value in curve] for name, curve in curves.items()}


def judged(policy: AnyPolicy, curves: dict[str, list[float]] = CURVES, **options: Any) -> Decision:
    """The decision on "new", which must be the mirror of that on the mirrored curves when those are minimised."""
    decision = policy.decide("new", curves, maximize=True, **options)
    other = policy.decide("new", mirrored(curves), maximize=False, **options)
    assert (decision.value, decision.threshold, decision.stop, decision.peers) == (
        -other.value, None if other.threshold is None else -other.threshold, other.stop, other.peers
    )  # fmt: skip
    return decision


@pytest.mark.parametrize(
    ("policy", "due"),
    [
        (MedianStopping(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        (MedianStopping(evaluation_interval=2, delay_evaluation=6), [6, 8, 10, 12]),
        (MedianStopping(evaluation_interval=3, delay_evaluation=4), [6, 9, 12]),
        (MedianStopping(delay_evaluation=11), [11, 12]),
        (Asha(), [3, 9]),
        (Asha(reduction_factor=2, minimum_interval=1), [1, 2, 4, 8]),
        (Asha(reduction_factor=4, minimum_interval=5), [5]),
    ],
)
def test_a_policy_is_due_at_multiples_of_its_interval_or_at_its_rungs(policy: AnyPolicy, due: list[int]) -> None:
    assert [interval for interval in range(1, 13) if policy.due(interval)] == due
    assert policy.first_interval == due[0]
    assert not policy.due(0)


def test_bandit_by_factor_as_documented() -> None:
    # Azure's example: best 0.8, slack_factor 0.2: stopped below 0.8 / 1.2 = 0.6667.
    curves = {"best": [0.8], "new": [0.66]}
    decision = judged(Bandit(slack_factor=0.2), curves)
    assert decision == Decision("bandit", "new", 1, 0.66, pytest.approx(0.8 / 1.2), 1, True)
    assert not judged(Bandit(slack_factor=0.2), {"best": [0.8], "new": [0.67]}).stop
    assert str(decision) == "bandit at interval 1: 0.66, threshold 0.666667, 1 peers: stop"


def test_bandit_compares_the_best_so_far_at_the_same_interval() -> None:
    # Best within two reports: a 0.60, b 0.55, c 0.30, new 0.45. "young" has not come as far, and 0.80 came later.
    # By amount 0.14: 0.60 - 0.14 = 0.46 > 0.45, so it stops; by 0.16: 0.44, it goes on.
    assert judged(Bandit(slack_amount=0.14)) == Decision("bandit", "new", 2, 0.45, pytest.approx(0.46), 3, True)
    assert not judged(Bandit(slack_amount=0.16)).stop
    # A tie survives: 1.0 - 0.5 = 0.5 exactly.
    assert not judged(Bandit(slack_amount=0.5), {"a": [1.0], "new": [0.5]}).stop
    # The trial itself is the best: its own slack keeps it.
    assert judged(Bandit(slack_factor=0.1), {"a": [0.2], "new": [0.9]}).threshold == pytest.approx(0.9 / 1.1)


def test_bandit_by_factor_minimising_and_below_zero() -> None:
    # A loss: best 0.5, factor 0.2: stopped above 0.5 * 1.2 = 0.6.
    policy = Bandit(slack_factor=0.2)
    decision = policy.decide("new", {"a": [0.7, 0.5], "new": [0.9, 0.61]}, maximize=False)
    assert (decision.value, decision.threshold, decision.stop) == (0.61, pytest.approx(0.6), True)
    assert not policy.decide("new", {"a": [0.5], "new": [0.59]}, maximize=False).stop
    # Log-likelihoods: best -2: -2 * 1.2 = -2.4 is the worse side; dividing would give -1.67, better than the best.
    assert judged(policy, {"a": [-2.0], "new": [-2.3]}).threshold == pytest.approx(-2.4)
    assert not judged(policy, {"a": [-2.0], "new": [-2.3]}).stop
    assert judged(policy, {"a": [-2.0], "new": [-2.5]}).stop
    # A best of 0 leaves no slack to a factor, but does to an amount.
    assert judged(policy, {"a": [0.0], "new": [-0.01]}).stop
    assert not judged(policy, {"a": [0.0], "new": [0.0]}).stop
    assert not judged(Bandit(slack_amount=0.1), {"a": [0.0], "new": [-0.01]}).stop


def test_median_stopping_takes_the_median_of_running_averages() -> None:
    # Averages of two reports: a 0.55, b 0.475, c 0.25; their median 0.475 > best of new 0.45: it stops.
    assert judged(MedianStopping()) == Decision("median_stopping", "new", 2, 0.45, pytest.approx(0.475), 3, True)
    # Without b there are two: (0.55 + 0.25) / 2 = 0.40 < 0.45.
    fewer = {name: curve for name, curve in CURVES.items() if name != "b"}
    assert judged(MedianStopping(), fewer) == Decision("median_stopping", "new", 2, 0.45, pytest.approx(0.40), 2, False)
    # The mean of 1, 2 and 9 is 4, which is what Katib's own rule would take; the median is 2.
    assert judged(MedianStopping(), {"a": [1.0], "b": [2.0], "c": [9.0], "new": [3.0]}).threshold == 2
    # Three times 0.1 sums to more than 0.3 in floating point; a trial that ties with such a peer survives.
    assert not judged(MedianStopping(), {"a": [0.1, 0.1, 0.1], "new": [0.1, 0.1, 0.1]}).stop


def test_truncation_stops_the_lowest_share_at_the_interval() -> None:
    # Values at 2: c 0.20, new 0.35, b 0.55, a 0.60: four trials. 50 %: floor(2.0) = 2 lowest go: c and new.
    decision = judged(TruncationSelection(truncation_percentage=50))
    assert decision == Decision("truncation_selection", "new", 2, 0.35, 0.55, 3, True)
    # 49 %: floor(1.96) = 1: only c would go. 24 %: floor(0.96) = 0: nobody, so there is no threshold.
    assert judged(TruncationSelection(truncation_percentage=49)).threshold == 0.35
    assert judged(TruncationSelection(truncation_percentage=24)).threshold is None
    # Its best so far, 0.45, would not save it: the values at 2 alone are compared.
    assert judged(TruncationSelection(truncation_percentage=50), {**CURVES, "new": [0.99, 0.35]}).stop
    # Ties survive: two trials share the place that two are to leave at.
    tied = {"a": [0.6], "b": [0.5], "c": [0.5], "new": [0.5]}
    assert not judged(TruncationSelection(truncation_percentage=50), tied).stop


def test_truncation_may_leave_finished_trials_out() -> None:
    # Without a and b: c 0.20, new 0.35; 50 % of two is c.
    policy = TruncationSelection(truncation_percentage=50, exclude_finished_jobs=True)
    assert judged(policy, finished={"a", "b"}) == Decision("truncation_selection", "new", 2, 0.35, 0.35, 1, False)
    assert judged(policy).stop
    keep = TruncationSelection(truncation_percentage=50)
    assert judged(keep, finished={"a", "b"}).stop
    assert judged(policy, finished={"a", "b", "c"}).threshold is None


def test_asha_keeps_the_top_of_those_at_the_rung() -> None:
    rung = {"a": [0.1, 0.9], "b": [0.8], "c": [0.7], "d": [0.6], "e": [0.5]}
    policy = Asha(reduction_factor=3, minimum_interval=2)
    # Bests of two reports; with "new" there are n = 2 (a, new): fewer than 3, so nobody is stopped.
    assert judged(policy, {**rung, "new": [0.0, 0.1]}) == Decision("asha", "new", 2, 0.1, None, 1, False)
    two = {name: [0.0, *curve[-1:]] for name, curve in rung.items()}
    # n = 6: the top 6 // 3 = 2 are 0.9 and 0.8.
    assert judged(policy, {**two, "new": [0.75, 0.2]}) == Decision("asha", "new", 2, 0.75, 0.8, 5, True)
    assert not judged(policy, {**two, "new": [0.8, 0.2]}).stop
    assert judged(policy, {**two, "new": [0.85, 0.2]}) == Decision("asha", "new", 2, 0.85, 0.85, 5, False)
    # n = 5: the top 5 // 3 = 1.
    del two["e"]
    assert judged(policy, {**two, "new": [0.85, 0.2]}) == Decision("asha", "new", 2, 0.85, 0.9, 4, True)


@pytest.mark.parametrize(
    "policy",
    [
        Bandit(slack_factor=0.01),
        MedianStopping(),
        TruncationSelection(truncation_percentage=99),
        Asha(reduction_factor=2, minimum_interval=2),
    ],
)
def test_without_peers_as_old_nothing_stops(policy: AnyPolicy) -> None:
    curves = {"new": [0.2, 0.1], "young": [0.9]}
    assert judged(policy, curves) == Decision(policy.type, "new", 2, judged(policy, curves).value, None, 0, False)
    assert policy.frozen_rule({"young": []}, maximize=True) is None
    with pytest.raises(ValueError, match="new has reported nothing"):
        policy.decide("new", {"new": []}, maximize=True)


HISTORY = {"a": [0.50, 0.60, 0.80], "b": [0.40, 0.55, 0.70], "c": [0.30, 0.20], "short": [0.99]}


@pytest.mark.parametrize(
    ("policy", "value"),
    [
        # k = 2; bests a 0.60, b 0.55, c 0.30; averages 0.55, 0.475, 0.25.
        (Bandit(slack_factor=0.2, evaluation_interval=2), 0.60 / 1.2),
        (Bandit(slack_amount=0.2, evaluation_interval=2, delay_evaluation=1), 0.40),
        (MedianStopping(delay_evaluation=2), 0.475),
        (TruncationSelection(truncation_percentage=40, delay_evaluation=2), 0.55),  # floor(1.2) = 1 goes: c
        (TruncationSelection(truncation_percentage=33, delay_evaluation=2), None),  # floor(0.99) = 0
        (TruncationSelection(truncation_percentage=99, delay_evaluation=2), 0.60),  # floor(2.97) = 2
        (TruncationSelection(truncation_percentage=99, delay_evaluation=2, exclude_finished_jobs=True), None),
        (Asha(reduction_factor=2, minimum_interval=2), 0.55),  # the fourth trial: the top 4 // 2 = 2
        (Asha(reduction_factor=3, minimum_interval=2), 0.60),  # 4 // 3 = 1
        (Asha(reduction_factor=5, minimum_interval=2), None),
    ],
)
def test_a_frozen_rule_holds_the_first_threshold(policy: AnyPolicy, value: float | None) -> None:
    expected = None if value is None else Rule(pytest.approx(value), "less", 2)  # type: ignore[arg-type]
    assert policy.frozen_rule(HISTORY, maximize=True) == expected
    mirror = policy.frozen_rule(mirrored(HISTORY), maximize=False)
    assert mirror == (None if value is None else Rule(pytest.approx(-value), "greater", 2))  # type: ignore[arg-type]


def test_a_frozen_bandit_of_a_loss() -> None:
    rule = Bandit(slack_factor=0.5, delay_evaluation=2).frozen_rule({"a": [3.0, 2.0], "b": [2.5, 4.0]}, maximize=False)
    assert rule == Rule(3.0, "greater", 2)


def test_the_step_of_a_rule_is_the_first_multiple_at_the_delay_or_later() -> None:
    history = {"a": [float(value) for value in range(20)]}
    steps = [
        MedianStopping(evaluation_interval=interval, delay_evaluation=delay).frozen_rule(history, maximize=True)
        for interval, delay in [(1, 0), (2, 0), (2, 6), (4, 6), (5, 5), (3, 1)]
    ]
    assert [rule and rule.start_step for rule in steps] == [1, 2, 6, 8, 5, 3]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "bandit", "slack_factor": 0.2, "evaluation_interval": 2, "delay_evaluation": 6},
        {"type": "bandit", "slack_amount": 1},
        {"type": "median_stopping"},
        {"type": "truncation_selection", "truncation_percentage": 20, "exclude_finished_jobs": True},
        {"type": "asha", "reduction_factor": 4},
    ],
)
def test_a_policy_is_read_as_mapping_and_as_json_and_written_again(given: dict[str, Any]) -> None:
    policy = parse_policy(given)
    assert policy == parse_policy(json.dumps(given)) == parse_policy(policy.model_dump(exclude_none=True))
    assert given.items() <= policy.model_dump().items()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("{", "not JSON"),
        ("3", "must be a mapping"),
        ({}, "early_termination.type is missing"),
        ({"type": "bandits"}, "is 'bandits', but must be one of 'bandit', 'median_stopping'"),
        ({"type": "bandit"}, "slack_factor or slack_amount, one of them"),
        ({"type": "bandit", "slack_factor": 0.1, "slack_amount": 0.1}, "slack_factor or slack_amount, one of them"),
        ({"type": "bandit", "slack_factor": 0}, "slack_factor is 0, but must be greater than 0"),
        ('{"type": "bandit", "slack_amount": NaN}', "slack_amount is nan, but must be a finite number"),
        ({"type": "median_stopping", "evaluation_interval": 0}, "evaluation_interval is 0"),
        ({"type": "median_stopping", "delay": 5}, "unknown key 'delay' in early_termination"),
        ({"type": "truncation_selection", "truncation_percentage": 100}, "truncation_percentage is 100"),
        ({"type": "asha", "reduction_factor": 1}, "reduction_factor is 1"),
        ({"type": "asha", "minimum_interval": 0}, "minimum_interval is 0"),
        ({"type": "asha", "evaluation_interval": 2}, "unknown key 'evaluation_interval'"),
    ],
)
def test_what_is_no_policy_is_refused(given: Any, says: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_policy(given)
    assert says in str(caught.value)
