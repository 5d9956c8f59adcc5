"""The expressions of a search space: both of Azure's forms, their ends, and what is refused."""

import contextlib
import math
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
