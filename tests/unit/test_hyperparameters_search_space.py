"""The expressions of a search space: both of Azure's forms, their ends, and what is refused."""

import contextlib
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError
from kubesight.hyperparameters import rows_for
from kubesight.hyperparameters.search_space import (
    Choice,
    Distribution,
    LogNormal,
    LogUniform,
    Normal,
    RandInt,
    ReverseLogUniform,
    Uniform,
    in_base,
    parse,
    typed,
)

ROWS = {row.name: row for row in rows_for("resnet50", Task.CLASSIFICATION)}


@pytest.mark.parametrize(
    ("text", "mapping", "expected"),
    [
        ("uniform(0.001,0.01)", {"type": "uniform", "min_value": 0.001, "max_value": 0.01}, Uniform(0.001, 0.01)),
        ("uniform( 1e-3 , 1e-2 )", {"type": "uniform", "min_value": "1e-3", "max_value": 0.01}, Uniform(0.001, 0.01)),
        ("quniform(8, 64, 8)", {"type": "quniform", "min_value": 8, "max_value": 64, "q": 8}, Uniform(8, 64, 8)),
        ("loguniform(-6, -3)", {"type": "loguniform", "min_value": -6, "max_value": -3}, LogUniform(-6, -3)),
        ("qloguniform(0,3,1)", {"type": "qloguniform", "min_value": 0, "max_value": 3, "q": 1}, LogUniform(0, 3, 1)),
        ("normal(0.5, 0.1)", {"type": "normal", "mu": 0.5, "sigma": 0.1}, Normal(0.5, 0.1)),
        ("qnormal(10, 3, 1)", {"type": "qnormal", "mu": 10, "sigma": 3, "q": 1}, Normal(10, 3, 1)),
        ("lognormal(-3, 1)", {"type": "lognormal", "mu": -3, "sigma": 1}, LogNormal(-3, 1)),
        ("qlognormal(3, 1, 1)", {"type": "qlognormal", "mu": 3, "sigma": 1, "q": 1}, LogNormal(3, 1, 1)),
        ("randint(5)", {"type": "randint", "upper": 5}, RandInt(5)),
        (
            "reverseloguniform(0.9, 0.999)",
            {"type": "reverseloguniform", "min_value": 0.9, "max_value": 0.999},
            ReverseLogUniform(0.9, 0.999),
        ),
    ],
)
def test_both_forms_mean_the_same(text: str, mapping: dict[str, Any], expected: Distribution) -> None:
    assert parse(text) == expected
    assert parse(mapping) == expected


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("choice('sgd', \"adam\", adamw)", ("sgd", "adam", "adamw")),
        ("choice([sgd, adam])", ("sgd", "adam")),
        ("choice('3x2', (5, 3), 'a,b')", ("3x2", "(5, 3)", "a,b")),
        ("choice(15, 30)", ("15", "30")),
        ({"type": "choice", "values": [15, 30]}, (15, 30)),
        ({"type": "choice", "values": "choice(15, 30)"}, ("15", "30")),
        ("yolov5", ("yolov5",)),
        (0.1, (0.1,)),
        (None, (None,)),
    ],
)
def test_choices(expression: Any, values: tuple[Any, ...]) -> None:
    assert parse(expression) == Choice(values)


def test_choices_get_the_type_of_their_row() -> None:
    assert typed(parse("choice(15, '30', 20.0)"), ROWS["number_of_epochs"]) == Choice((15, 30, 20))
    assert typed(parse("choice(True, 0)"), ROWS["early_stopping"]) == Choice((True, False))
    assert typed(parse("choice(none, 2)"), ROWS["layers_to_freeze"]) == Choice((None, 2))


@pytest.mark.parametrize(
    ("distribution", "ends"),
    [
        (Uniform(0.1, 0.9), (0.1, 0.9)),
        (Uniform(0.9, 10.2, 4), (0, 12)),
        (LogUniform(math.log(0.01), math.log(0.1)), (0.01, 0.1)),
        (LogUniform(math.log(8), math.log(512), 1), (8, 512)),
        (RandInt(5), (0, 4)),
        (Normal(0.5, 0.1), (0.5,)),
        (Normal(9.6, 1, 5), (10,)),
        (LogNormal(0, 1), (1,)),
    ],
)
def test_endpoints(distribution: Distribution, ends: tuple[float, ...]) -> None:
    assert distribution.endpoints() == pytest.approx(ends)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("unifrom(0, 1)", "unknown distribution 'unifrom'. Did you mean uniform?"),
        ({"min_value": 0}, "unknown distribution ''"),
        ("uniform(1)", r"uniform(1) has 1 arguments, but needs min_value, max_value"),
        ("uniform(2, 1)", "uniform: the lower end 2 is above the upper end 1"),
        ("uniform(a, 1)", "min_value of uniform is 'a', but must be a number"),
        ("uniform(0, inf)", "max_value of uniform is 'inf', but must be a number"),
        ("quniform(0, 1, 0)", "quniform: q is 0, but must be > 0"),
        ("normal(0, 0)", "normal: sigma is 0, but must be > 0"),
        ("qnormal(0, 1, -1)", "qnormal: q is -1"),
        ("loguniform(-710, 0)", "loguniform: exp(-710) is 0; the ends of a logarithmic range are logarithms"),
        ("loguniform(0, 710)", "loguniform: exp(710) is too large a number"),
        ("lognormal(700, 4)", "lognormal: exp(700 +- 3 * 4) are 0 or too large"),
        ("randint(0)", "randint: upper is 0, but must be a whole number >= 1"),
        ("randint(2.5)", "randint: upper is 2.5"),
        ("reverseloguniform(0.5, 1)", "reverseloguniform: a reverse logarithmic range must lie in [0, 1)"),
        ("choice()", "choice: choice has no values"),
        ({"type": "choice", "values": []}, "choice: choice has no values"),
        ({"type": "choice", "values": 3}, "values of choice are 3, but must be a list"),
        ({"type": "uniform", "min": 0, "max_value": 1}, "uniform has min, max_value, but needs min_value, max_value"),
        ([1, 2], "[1, 2] is a list. Write {type: choice, values: [...]}"),
    ],
)
def test_wrong_expressions(expression: Any, message: str) -> None:
    with pytest.raises(HyperparameterError) as error:
        parse(expression)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "expression", "message"),
    [
        ("learning_rate", "uniform(0.5, 2)", "learning_rate is 2.0, but must be a number in [0, 1]"),
        ("learning_rate", "loguniform(0.001, 0.1)", "learning_rate is 1.0010005"),
        ("learning_rate", "loguniform(0, 1000)", "too large a number"),
        ("learning_rate", "normal(2, 0.1)", "learning_rate is 2.0"),
        ("learning_rate", "normal(0.1, 0.1)", "learning_rate: 16% of normal(0.1, 0.1) is not in [0, 1]"),
        ("learning_rate", "lognormal(-1, 1)", "learning_rate: 16% of lognormal(-1, 1) is not in [0, 1]"),
        ("training_batch_size", "qnormal(2, 3, 1)", "training_batch_size: 31% of normal(2, 3) is not >= 1"),
        ("training_batch_size", "qloguniform(0, 64, 1)", "training_batch_size: loguniform draws numbers up to 6.2"),
        ("learning_rate", "loguniform(-3, 0.1)", "What loguniform is given are logarithms: from 0.001 to 0.1 is"),
        ("momentum", "choice(0.9, 0.90)", "momentum: 0.9 stands twice in choice"),
        ("layers_to_freeze", "choice(none, 2, None)", "layers_to_freeze: None stands twice"),
        ("number_of_epochs", "uniform(1, 10)", "a whole number, which uniform does not draw"),
        ("number_of_epochs", "quniform(1, 10, 0.5)", "a whole number, which uniform does not draw"),
        ("number_of_epochs", "randint(10)", "number_of_epochs is 0"),
        ("number_of_epochs", "quniform(1, 10, 4)", "number_of_epochs is 0"),
        ("optimizer", "uniform(0, 1)", "optimizer cannot be drawn from uniform"),
        ("optimizer", "choice(sgd, lion)", "optimizer is 'lion'"),
    ],
)
def test_values_that_the_row_does_not_allow(name: str, expression: str, message: str) -> None:
    with pytest.raises(HyperparameterError) as error:
        typed(parse(expression), ROWS[name])
    assert message in str(error.value)


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_every_range_inside_is_accepted_in_both_forms(low: float, high: float) -> None:
    low, high = sorted((low, high))
    for expression in (f"uniform({low!r}, {high!r})", {"type": "uniform", "min_value": low, "max_value": high}):
        assert typed(parse(expression), ROWS["learning_rate"]) == Uniform(low, high)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    for expression in (text, f"choice({text})", f"uniform({text})"):
        with contextlib.suppress(HyperparameterError):
            assert isinstance(parse(expression), Distribution)


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        ("choice(1, 2, 3)", 3),
        ("randint(5)", 5),
        ("uniform(0.1, 0.1)", 1),
        ("uniform(0.1, 0.2)", math.inf),
        ("quniform(0, 1, 0.25)", 5),  # 0, 0.25, 0.5, 0.75, 1
        ("quniform(6, 14, 10)", 1),  # both ends round to 10
        ("loguniform(-3, -3)", 1),
        ("qloguniform(0, 2, 1)", 7),  # exp(2) = 7.39: 1 to 7
        ("reverseloguniform(0.9, 0.9)", 1),
        ("normal(0, 1)", math.inf),
        ("qlognormal(0, 1, 1)", math.inf),
    ],
)
def test_sizes(expression: str, size: float) -> None:
    assert parse(expression).size() == size


@given(
    mu=st.floats(-3, 3), sigma=st.floats(0.01, 3), low=st.none() | st.floats(-5, 5), high=st.none() | st.floats(-5, 5)
)
def test_the_share_outside_is_that_of_the_normal_distribution(
    mu: float, sigma: float, low: float | None, high: float | None
) -> None:
    bell = statistics.NormalDist(mu, sigma)
    below = 0.0 if low is None else bell.cdf(low)
    above = 0.0 if high is None else 1 - bell.cdf(high)
    assert Normal(mu, sigma).share_outside(low, high) == pytest.approx(below + above, abs=1e-12)
    positive = LogNormal(mu, sigma).share_outside(
        None if low is None else math.exp(low), None if high is None else math.exp(high)
    )
    assert positive == pytest.approx(below + above, abs=1e-9)
    assert LogNormal(mu, sigma).share_outside(0, None) == 0
    stepped = Normal(mu, sigma, 1.0).share_outside(low, high)
    assert stepped <= Normal(mu, sigma).share_outside(low, high)


def test_logarithms_to_another_base() -> None:
    assert in_base(LogUniform(-3, -1), 10).endpoints() == pytest.approx((0.001, 0.1))
    assert in_base(LogUniform(3, 6, 2), 2).endpoints() == (8, 64)
    assert in_base(LogNormal(-2, 1), 10).endpoints() == pytest.approx((0.01,))
    assert in_base(Uniform(-3, -1), 10) == Uniform(-3, -1)
