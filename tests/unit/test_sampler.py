"""Draws lie in their space, have the declared distribution and step, and are the same again."""

import logging
import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kubesight.errors import JobError
from kubesight.tune.katib.experiment import Experiment, Parameter, read_experiment
from kubesight.tune.sampling.quantiles import quantile, share
from kubesight.tune.sampling.sampler import Sampler
from kubesight.tune.sampling.space import Observation

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ALL = ("random", "sobol", "grid", "tpe", "multivariate-tpe", "bayesianoptimization", "cmaes", "hyperband")
LEARNING = ("tpe", "multivariate-tpe", "cmaes")


def experiment(
    *parameters: Parameter, algorithm: str = "random", seed: int | None = None, **changes: Any
) -> Experiment:
    chosen = {} if seed is None else {"random_state": str(seed)}
    chosen |= changes.pop("settings", {})
    read = read_experiment(EXPERIMENTS / "random.yaml")
    return replace(read, parameters=parameters, algorithm=algorithm, settings=chosen, **changes)


def draws(parameter: Parameter, count: int, seed: int = 0) -> list[str]:
    sampler = Sampler(experiment(parameter, seed=seed))
    return [sampler.ask(number)[parameter.name] for number in range(count)]


numbers = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}"))


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    kind = draw(st.sampled_from(["double", "int", "discrete", "categorical"]))
    if kind == "categorical":
        return Parameter("x", kind, values=tuple(draw(st.lists(st.text(), min_size=1, max_size=5, unique=True))))
    if kind == "discrete":
        listed = draw(st.lists(numbers, min_size=1, max_size=5, unique=True))
        return Parameter("x", kind, values=tuple(repr(value) for value in listed))
    distribution = draw(st.sampled_from(["uniform", "logUniform", "normal", "logNormal"]))
    positive = distribution.startswith("log")
    if kind == "int":
        low = draw(st.integers(1 if positive else -1000, 1000))
        high = low + draw(st.integers(0, 1000))
        return Parameter("x", kind, float(low), float(high), float(draw(st.integers(1, 50))), (), distribution)
    ends = sorted(draw(st.tuples(numbers, numbers)))
    if positive:
        ends = sorted(max(abs(end), 1e-6) for end in ends)
    step = draw(st.none() | st.floats(1e-3, 10).map(lambda value: float(f"{value:.3g}")))
    return Parameter("x", kind, ends[0], ends[1], step, (), distribution)


@settings(deadline=None, max_examples=300)
@given(parameters(), st.floats(0, 1))
def test_every_value_lies_in_its_space_and_on_its_steps(parameter: Parameter, drawn: float) -> None:
    text = quantile(parameter, drawn)
    if parameter.values:
        assert text in parameter.values
        return
    value = float(text)
    assert parameter.low <= value <= parameter.high
    assert text == (str(int(value)) if parameter.kind == "int" else repr(value))
    if parameter.step:
        steps = (value - parameter.low) / parameter.step
        assert math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-6)


@settings(deadline=None, max_examples=300)
@given(parameters(), st.floats(0.001, 0.999))
def test_a_value_has_a_share_that_gives_it_again(parameter: Parameter, drawn: float) -> None:
    text = quantile(parameter, drawn)
    back = quantile(parameter, share(parameter, text))
    if parameter.values or parameter.step:
        assert back == text
    else:
        span = parameter.high - parameter.low
        assert math.isclose(float(back), float(text), rel_tol=1e-6, abs_tol=1e-6 * span)


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (Parameter("x", "double", 0.0, 1.0), "1.1"),
        (Parameter("x", "double", 0.0, 1.0), "much"),
        (Parameter("x", "double", 0.0, 1.0), "nan"),
        (Parameter("x", "double", 0.0, 1.0, 0.25), "0.3"),
        (Parameter("x", "int", 0.0, 9.0, 3.0), "4"),
        (Parameter("x", "categorical", values=("a", "b")), "c"),
    ],
)
def test_what_a_parameter_cannot_be_has_no_share(parameter: Parameter, text: str) -> None:
    assert share(parameter, text) is None


def truth(distribution: str, low: float, high: float) -> Any:
    """SciPy's distribution of what is declared: normal ones with a sixth of the range, cut three deviations out."""
    if distribution == "uniform":
        return stats.uniform(low, high - low)
    if distribution == "logUniform":
        return stats.loguniform(low, high)
    return stats.truncnorm(-3, 3, loc=(low + high) / 2, scale=(high - low) / 6)


@pytest.mark.parametrize("algorithm", ["random", "sobol"])
@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [("uniform", -2.0, 3.0), ("logUniform", 1e-5, 1e-1), ("normal", -1.0, 5.0), ("logNormal", 0.001, 1.0)],
)
def test_draws_have_the_declared_distribution(algorithm: str, distribution: str, low: float, high: float) -> None:
    sampler = Sampler(experiment(Parameter("x", "double", low, high, None, (), distribution), algorithm=algorithm))
    drawn = [float(sampler.ask(number)["x"]) for number in range(2048)]
    if distribution == "logNormal":
        drawn, distribution, low, high = [math.log(x) for x in drawn], "normal", math.log(low), math.log(high)
    test = stats.kstest(drawn, truth(distribution, low, high).cdf)
    # The seed is fixed: this cannot pass on one day and fail on another.
    assert test.pvalue > 0.05
    if algorithm == "sobol":  # far more even than chance, which would have a distance of about 0.02
        assert test.statistic < 0.002


def test_values_on_steps_are_equally_likely_at_the_ends_too() -> None:
    counted = Counter(draws(Parameter("x", "int", 2.0, 5.0, 1.0), 4000))
    assert set(counted) == {"2", "3", "4", "5"}
    assert stats.chisquare(list(counted.values())).pvalue > 0.05
    counted = Counter(draws(Parameter("x", "double", 0.1, 0.5, 0.2), 3000))
    assert set(counted) == {"0.1", "0.3", "0.5"}
    assert stats.chisquare(list(counted.values())).pvalue > 0.05


def test_values_on_steps_of_a_logarithm_get_the_weight_of_their_surroundings() -> None:
    # 1 stands for 0.5..1.5, 2 for 1.5..2.5, 3 for 2.5..3.5: logarithms of 3, 5/3 and 7/5 out of that of 7.
    counted = Counter(draws(Parameter("x", "int", 1.0, 3.0, 1.0, (), "logUniform"), 6000))
    expected = [6000 * math.log(ratio) / math.log(7) for ratio in (3, 5 / 3, 7 / 5)]
    assert stats.chisquare([counted[value] for value in "123"], expected).pvalue > 0.05


def test_a_step_counts_from_the_least_value_and_is_written_as_decimals_are() -> None:
    parameter = Parameter("x", "double", 0.01, 0.05, 0.01)
    assert sorted(set(draws(parameter, 100))) == ["0.01", "0.02", "0.03", "0.04", "0.05"]
    # 0.025 would be beyond the range: 0.01 and 0.02 remain.
    assert set(draws(replace(parameter, high=0.024), 50)) == {"0.01", "0.02"}


def test_lists_are_drawn_as_they_are_written() -> None:
    assert set(draws(Parameter("x", "discrete", values=("1e-3", "0.10", "5")), 60)) == {"1e-3", "0.10", "5"}


@pytest.mark.parametrize("algorithm", ALL)
def test_a_replay_draws_the_same(algorithm: str) -> None:
    wanted = read_experiment(EXPERIMENTS / f"{algorithm}.yaml")

    def run() -> list[dict[str, str] | None]:
        sampler, drawn, waiting = Sampler(wanted), [], []
        for number in range(6 if algorithm == "bayesianoptimization" else 14):
            values = sampler.ask(number)
            drawn.append(values)
            if values is None:
                break
            waiting.append(number)
            if number % 3 == 2:  # told late and in another order; the fifth failed
                for told in reversed(waiting):
                    sampler.tell(told, None if told == 5 else math.sin(told))
                waiting.clear()
        return drawn

    first = run()
    assert all(first)
    assert run() == first


@pytest.mark.parametrize("algorithm", ["random", "sobol", "grid"])
def test_independent_trials_depend_on_seed_and_number_alone(algorithm: str) -> None:
    wanted = read_experiment(EXPERIMENTS / f"{algorithm}.yaml")
    sampler = Sampler(wanted)
    first = {number: sampler.ask(number) for number in range(8)}
    sampler = Sampler(wanted)
    for number in (3, 4, 7):
        sampler.tell(number, 1.0)
        assert sampler.ask(number) == first[number]
    assert Sampler(wanted).ask(6) == first[6]


@pytest.mark.parametrize("algorithm", ["random", "tpe", "grid"])
def test_another_seed_draws_otherwise(algorithm: str) -> None:
    wanted = read_experiment(EXPERIMENTS / f"{algorithm}.yaml")
    drawn = []
    for seed in ("1", "2"):
        sampler = Sampler(replace(wanted, settings={"random_state": seed}))
        drawn.append([sampler.ask(number) for number in range(5)])
    assert drawn[0] != drawn[1]


def test_a_grid_has_every_combination_once() -> None:
    x, y = Parameter("x", "double", 0.1, 0.3, 0.1), Parameter("y", "int", 1.0, 5.0, 2.0)
    z = Parameter("z", "categorical", values=("b", "a"))
    expected = [{"x": x, "y": y, "z": z} for x, y, z in product(("0.1", "0.2", "0.3"), ("1", "3", "5"), ("b", "a"))]
    sampler = Sampler(experiment(x, y, z, algorithm="grid"))
    assert [sampler.ask(number) for number in range(18)] == expected
    assert sampler.ask(18) is None
    shuffled = Sampler(experiment(x, y, z, algorithm="grid", seed=3))
    drawn = [shuffled.ask(number) for number in range(18)]
    assert drawn != expected
    assert sorted(drawn, key=str) == sorted(expected, key=str)
    assert shuffled.ask(18) is None


def test_a_grid_may_be_far_larger_than_memory() -> None:
    many = [Parameter(f"x{index}", "int", 0.0, 999.0, 1.0) for index in range(8)]
    for seed in (None, 1):
        sampler = Sampler(experiment(*many, algorithm="grid", seed=seed))
        assert sampler.ask(0) != sampler.ask(1)


GROUP = Parameter("group", "categorical", values=("0", "1"))
BRANCHES = (
    Parameter("a_rate", "double", 0.0, 1.0),
    GROUP,
    Parameter("b_rate", "double", 10.0, 20.0),
    Parameter("b_size", "discrete", values=("16", "32")),
)
CONDITIONS = {"a_rate": ("0",), "b_rate": ("1",), "b_size": ("1",)}


@pytest.mark.parametrize("algorithm", ["random", "sobol", "tpe", "multivariate-tpe", "bayesianoptimization"])
def test_what_does_not_count_is_a_constant(algorithm: str) -> None:
    sampler = Sampler(experiment(*BRANCHES, algorithm=algorithm, conditions=CONDITIONS))
    rates: dict[str, set[str]] = {"0": set(), "1": set()}
    for number in range(16):
        drawn = sampler.ask(number)
        assert list(drawn) == ["a_rate", "group", "b_rate", "b_size"]
        rates[drawn["group"]].add(drawn["a_rate"])
        if drawn["group"] == "0":
            assert (drawn["b_rate"], drawn["b_size"]) == ("15.0", "32")
        sampler.tell(number, float(drawn["b_rate"]))
    assert rates["1"] == {"0.5"}
    assert len(rates["0"]) > 1


def test_a_grid_tries_each_branchs_combinations_once() -> None:
    a, b = Parameter("a", "int", 1.0, 3.0, 1.0), Parameter("b", "categorical", values=("x", "y"))
    conditions = {"a": ("0",), "b": ("1",)}
    sampler = Sampler(experiment(a, b, GROUP, algorithm="grid", conditions=conditions))
    drawn = [sampler.ask(number) for number in range(6)]
    assert [(each["group"], each["a"], each["b"]) for each in drawn[:5]] == [
        ("0", "1", "y"),
        ("0", "2", "y"),
        ("0", "3", "y"),
        ("1", "2", "x"),
        ("1", "2", "y"),
    ]
    assert drawn[5] is None


def distance(values: dict[str, str]) -> float:
    """A bowl with its bottom at x = 0.003 on a scale of logarithms, y = 7 and z = b."""
    return (math.log10(float(values["x"])) + 2.5) ** 2 + (float(values["y"]) - 7) ** 2 / 9 + (values["z"] != "b")


BOWL = (
    Parameter("x", "double", 1e-5, 1.0, None, (), "logUniform"),
    Parameter("y", "int", 0.0, 20.0, 1.0),
    Parameter("z", "categorical", values=("a", "b", "c")),
)


def best(algorithm: str, seed: int, trials: int, maximize: bool = False, **changes: Any) -> float:
    wanted = experiment(*BOWL, algorithm=algorithm, seed=seed, maximize=maximize, **changes)
    sampler, found = Sampler(wanted), []
    for number in range(trials):
        value = distance(sampler.ask(number))
        sampler.tell(number, -value if maximize else value)
        found.append(value)
    return min(found)


@pytest.mark.parametrize(
    ("algorithm", "maximize"), [("tpe", False), ("tpe", True), ("multivariate-tpe", False), ("cmaes", False)]
)
def test_models_learn(algorithm: str, maximize: bool) -> None:
    """The mean of the best of 60 trials over three fixed seeds is less than half that of random draws."""
    chance = np.mean([best("random", seed, 60) for seed in range(3)])
    assert np.mean([best(algorithm, seed, 60, maximize) for seed in range(3)]) < chance / 2


def test_gaussian_processes_learn() -> None:
    settings = {"n_initial_points": "6"}
    assert best("bayesianoptimization", 0, 12, settings=settings) < best("random", 0, 12) / 4


def test_settings_reach_the_model() -> None:
    wanted = read_experiment(EXPERIMENTS / "tpe.yaml")
    drawn = []
    for chosen in ({}, {"gamma": "0.9"}, {"prior_weight": "5"}, {"n_EI_candidates": "2"}):
        sampler = Sampler(replace(wanted, settings={"random_state": "1", **chosen}))
        drawn.append([])
        for number in range(20):
            drawn[-1].append(values := sampler.ask(number))
            sampler.tell(number, float(values["lr"]))
    assert all(each[:10] == drawn[0][:10] for each in drawn)
    assert all(each != drawn[0] for each in drawn[1:])


def test_random_trials_come_first_as_many_as_are_asked_for() -> None:
    """With no startup trials the model draws from the second one on; with a thousand it never does."""
    wanted = read_experiment(EXPERIMENTS / "multivariate-tpe.yaml")
    drawn = []
    for startup in ("0", "10", "1000"):
        sampler = Sampler(replace(wanted, settings={"random_state": "1", "n_startup_trials": startup}))
        drawn.append([])
        for number in range(30):
            drawn[-1].append(values := sampler.ask(number))
            sampler.tell(number, float(values["lr"]))
    none, ten, all_of_them = drawn
    assert none[:10] != ten[:10]
    assert ten[:10] == all_of_them[:10]
    assert ten[10:] != all_of_them[10:]


def test_models_learn_from_earlier_sweeps() -> None:
    """A hundred earlier trials stand for the random beginning: the first new trials are near the bottom already."""
    sampler = Sampler(experiment(*BOWL, seed=9))
    earlier = [Observation(values := sampler.ask(number), distance(values)) for number in range(100)]
    for algorithm in LEARNING:
        sampler = Sampler(experiment(*BOWL, algorithm=algorithm), history=earlier)
        cold = Sampler(experiment(*BOWL, algorithm=algorithm))
        warm_mean = np.mean([distance(sampler.ask(number)) for number in range(8)])
        assert warm_mean < np.mean([distance(cold.ask(number)) for number in range(8)]) / 2


def test_earlier_trials_outside_the_space_are_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    good = {"x": "0.01", "y": "3", "z": "a", "not_here_any_more": "1"}
    history = [Observation({**good, **change}, 1.0) for change in ({}, {"x": "2"}, {"y": "2.5"}, {"z": "d"})]
    history += [Observation({"x": "0.01", "y": "3"}, 1.0), Observation(good, math.nan)]
    for algorithm in ("tpe", "cmaes"):
        caplog.clear()
        Sampler(experiment(*BOWL, algorithm=algorithm), history=history).ask(0)
        assert "5 of 6 earlier trials do not lie in this sweep's space" in caplog.text


def test_only_what_counted_then_is_asked_of_earlier_trials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    wanted = experiment(*BRANCHES, algorithm="tpe", conditions=CONDITIONS)
    Sampler(wanted, history=[Observation({"group": "0", "a_rate": "0.5"}, 1.0)]).ask(0)
    assert not caplog.text
    Sampler(wanted, history=[Observation({"group": "1", "a_rate": "0.5"}, 1.0)]).ask(0)
    assert "1 of 1 earlier trials" in caplog.text


@pytest.mark.parametrize("algorithm", ["tpe", "multivariate-tpe", "cmaes", "random", "hyperband"])
def test_failed_trials_teach_nothing_and_stop_nothing(algorithm: str) -> None:
    wanted = read_experiment(EXPERIMENTS / f"{algorithm}.yaml")
    sampler = Sampler(wanted)
    for number, failure in enumerate([None, math.nan, math.inf, 0.5, 0.4] * 3):
        assert sampler.ask(number) is not None
        sampler.tell(number, failure)


@pytest.mark.parametrize("algorithm", ["pbt", "enas", "darts", "annealing"])
def test_algorithms_that_this_machine_does_not_have(algorithm: str) -> None:
    with pytest.raises(JobError, match=f"the algorithm {algorithm} is not here"):
        Sampler(experiment(*BOWL, algorithm=algorithm))


def test_what_counts_on_katib_alone_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    Sampler(read_experiment(EXPERIMENTS / "bayesianoptimization.yaml"))
    assert "The settings acq_func, acq_optimizer, base_estimator of bayesianoptimization" in caplog.text
    cmaes = read_experiment(EXPERIMENTS / "cmaes.yaml")
    Sampler(replace(cmaes, settings={"restart_strategy": "ipop"}))
    assert "restart_strategy of cmaes" in caplog.text


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    for algorithm in LEARNING:
        sampler = Sampler(read_experiment(EXPERIMENTS / f"{algorithm}.yaml"))
        for number in range(12):
            sampler.ask(number)
            sampler.tell(number, 1.0 / (number + 1))
    assert capfd.readouterr() == ("", "")
