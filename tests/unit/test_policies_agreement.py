"""Properties that hold for all curves: what a rule fixed beforehand stops, against what is decided live."""

from hypothesis import assume, given
from hypothesis import strategies as st

from kubesight.sweep.policies import AnyPolicy, Asha, Bandit, MedianStopping, Rule, TruncationSelection

VALUES = st.floats(-100, 100, allow_subnormal=False) | st.sampled_from([0.0, 0.5, 0.7, 1.0])
CURVES = st.lists(VALUES, min_size=1, max_size=12)
PEERS = st.dictionaries(st.sampled_from("abcdefgh"), CURVES, max_size=8)
TIMING = {"evaluation_interval": st.integers(1, 4), "delay_evaluation": st.integers(0, 6)}
BANDITS = st.builds(Bandit, slack_factor=st.floats(0.01, 2), **TIMING) | st.builds(
    Bandit, slack_amount=st.floats(0.01, 50), **TIMING
)
MEDIANS = st.builds(MedianStopping, **TIMING)
ASHAS = st.builds(Asha, reduction_factor=st.integers(2, 4), minimum_interval=st.integers(1, 5))
TRUNCATIONS = st.builds(
    TruncationSelection, truncation_percentage=st.integers(1, 99), exclude_finished_jobs=st.booleans(), **TIMING
)
POLICIES = BANDITS | MEDIANS | ASHAS | TRUNCATIONS


def killed(rule: Rule | None, curve: list[float], *, maximize: bool) -> int | None:
    """The report at which Katib's collector ends a trial: it compares the best so far at one report alone."""
    if rule is None or len(curve) < rule.start_step:
        return None
    best = (max if maximize else min)(curve[: rule.start_step])
    worse = best < rule.value if rule.comparison == "less" else best > rule.value
    return rule.start_step if worse else None


def ended(policy: AnyPolicy, peers: dict[str, list[float]], curve: list[float], *, maximize: bool) -> int | None:
    """The report at which a trial that asks after each of its reports ends itself."""
    for interval in range(1, len(curve) + 1):
        curves = {**peers, "new": curve[:interval]}
        if policy.due(interval) and policy.decide("new", curves, maximize=maximize).stop:
            return interval
    return None


@given(BANDITS, PEERS, PEERS, CURVES, st.booleans())
def test_a_frozen_bandit_stops_some_of_what_the_live_one_stops_and_no_other(
    policy: Bandit, history: dict[str, list[float]], running: dict[str, list[float]], new: list[float], maximize: bool
) -> None:
    rule = policy.frozen_rule(history, maximize=maximize)
    peers = {f"old {name}": curve for name, curve in history.items()} | running
    frozen, live = killed(rule, new, maximize=maximize), ended(policy, peers, new, maximize=maximize)
    if frozen is not None:
        assert live is not None
        assert live <= frozen


@given(BANDITS | MEDIANS | ASHAS, PEERS, CURVES, st.booleans())
def test_both_agree_at_the_first_interval_when_all_peers_ended_before(
    policy: AnyPolicy, history: dict[str, list[float]], new: list[float], maximize: bool
) -> None:
    step = policy.first_interval
    assume(len(new) >= step)
    rule = policy.frozen_rule(history, maximize=maximize)
    decision = policy.decide("new", {**history, "new": new[:step]}, maximize=maximize)
    assert decision.stop == (killed(rule, new, maximize=maximize) is not None)


@given(POLICIES, PEERS, CURVES)
def test_minimising_is_the_mirror_of_maximising(
    policy: AnyPolicy, peers: dict[str, list[float]], new: list[float]
) -> None:
    curves = {**peers, "new": new}
    mirror = {name: [-value for value in curve] for name, curve in curves.items()}
    for finished in (set(), set(peers)):
        up = policy.decide("new", curves, maximize=True, finished=finished)
        down = policy.decide("new", mirror, maximize=False, finished=finished)
        assert (up.stop, up.peers, up.value) == (down.stop, down.peers, -down.value)
        assert up.threshold == (None if down.threshold is None else -down.threshold)


@given(POLICIES, PEERS, CURVES, CURVES)
def test_younger_peers_and_later_reports_change_nothing(
    policy: AnyPolicy, peers: dict[str, list[float]], new: list[float], more: list[float]
) -> None:
    as_old = {name: curve[: len(new)] for name, curve in peers.items() if len(curve) >= len(new)}
    longer = {name: curve + more if len(curve) >= len(new) else curve for name, curve in peers.items()}
    decisions = [policy.decide("new", {**each, "new": new}, maximize=True) for each in (peers, as_old, longer)]
    assert decisions[0] == decisions[1] == decisions[2]


@given(POLICIES, PEERS, CURVES)
def test_the_best_of_all_is_never_stopped(policy: AnyPolicy, peers: dict[str, list[float]], new: list[float]) -> None:
    top = max([value for curve in peers.values() for value in curve] + new)
    assert not policy.decide("new", {**peers, "new": [*new[:-1], top]}, maximize=True).stop


@given(POLICIES, CURVES, st.integers(1, 6))
def test_trials_that_are_all_alike_all_go_on(policy: AnyPolicy, curve: list[float], count: int) -> None:
    curves = {str(number): curve for number in range(count)}
    assert not any(policy.decide(name, curves, maximize=True).stop for name in curves)


@given(st.integers(1, 99), st.lists(VALUES, min_size=2, max_size=20, unique=True))
def test_truncation_ends_exactly_its_share_of_trials_that_differ(percentage: int, values: list[float]) -> None:
    policy = TruncationSelection(truncation_percentage=percentage)
    curves = {str(number): [value] for number, value in enumerate(values)}
    stopped = {name for name in curves if policy.decide(name, curves, maximize=True).stop}
    lowest = sorted(curves, key=lambda name: curves[name])[: percentage * len(values) // 100]
    assert stopped == set(lowest)


@given(st.integers(2, 5), st.lists(VALUES, min_size=2, max_size=20, unique=True))
def test_asha_keeps_exactly_the_top_of_trials_that_differ(factor: int, values: list[float]) -> None:
    policy = Asha(reduction_factor=factor, minimum_interval=1)
    curves = {str(number): [value] for number, value in enumerate(values)}
    kept = {name for name in curves if not policy.decide(name, curves, maximize=False).stop}
    best = sorted(curves, key=lambda name: curves[name])
    assert kept == set(best if len(values) < factor else best[: len(values) // factor])
