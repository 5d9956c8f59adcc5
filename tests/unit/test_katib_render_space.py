"""Distributions as Katib's parameters, and values as texts that flags read back."""

import json
import math
import shlex
import subprocess
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.dataset.rows import Task
from kubesight.errors import JobError
from kubesight.hyperparameters import parse_flags
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.search_space import (
    Choice,
    LogNormal,
    LogUniform,
    Normal,
    RandInt,
    ReverseLogUniform,
    Uniform,
)
from kubesight.hyperparameters.spec import Hyperparameter
from kubesight.hyperparameters.table import TABLE
from kubesight.models.names import find_model
from kubesight.tune.katib.space import setting_of
from kubesight.tune.katib.texts import check_substitutable, constant, number, text_of


def space(name: str, distribution: Any, **arguments: Any) -> tuple[str, dict[str, Any]]:
    parameter = setting_of(name, distribution, **arguments).parameter
    assert parameter is not None
    return parameter["parameterType"], parameter["feasibleSpace"]


@pytest.mark.parametrize(
    ("distribution", "kind", "feasible"),
    [
        (Uniform(0.001, 0.01), "double", {"min": "0.001", "max": "0.01"}),
        # quniform(0.1, 0.9, 0.2): 0.1 / 0.2 = 0.5 rounds to 0 (to even), 0.9 / 0.2 = 4.5 rounds to 4, which is 0.8.
        (Uniform(0.1, 0.9, 0.2), "double", {"min": "0.0", "max": "0.8", "step": "0.2"}),
        # 3 * 0.1 is 0.30000000000000004 in floats; the multiple that is meant is 0.3.
        (Uniform(0.1, 0.3, 0.1), "double", {"min": "0.1", "max": "0.3", "step": "0.1"}),
        (Uniform(10, 30, 5), "int", {"min": "10", "max": "30", "step": "5"}),
        # 12 and 33 are no multiples of 5: 2.4 rounds to 2, 6.6 to 7.
        (Uniform(12, 33, 5), "int", {"min": "10", "max": "35", "step": "5"}),
        (Choice(("sgd", "adam")), "categorical", {"list": ["sgd", "adam"]}),
        (Choice((True, False)), "categorical", {"list": ["true", "false"]}),
        (Choice((1e-05, 0.1)), "categorical", {"list": ["0.00001", "0.1"]}),
        (Choice(([0.5, 0.5, 0.5], [0.0, 0.0, 0.0])), "categorical", {"list": ["0.5,0.5,0.5", "0.0,0.0,0.0"]}),
        (Choice(("3x2", "2x1")), "categorical", {"list": ["3x2", "2x1"]}),
        (Choice((None, 2)), "categorical", {"list": ["none", "2"]}),
        (RandInt(3), "discrete", {"list": ["0", "1", "2"]}),
        (RandInt(101), "int", {"min": "0", "max": "100", "step": "1"}),
        # 1 - 0.999 in floats is 0.0010000000000000009.
        (ReverseLogUniform(0.9, 0.999), "double", {"min": "0.001", "max": "0.1", "distribution": "logUniform"}),
        # mu 0.5, sigma 0.1: 0.5 - 0.3 and 0.5 + 0.3; Katib's middle and sixth are 0.5 and 0.1 again.
        (Normal(0.5, 0.125), "double", {"min": "0.125", "max": "0.875", "distribution": "normal"}),
        (Normal(8, 2, 1), "double", {"min": "2", "max": "14", "step": "1", "distribution": "normal"}),
    ],
)
def test_distributions(distribution: Any, kind: str, feasible: dict[str, Any]) -> None:
    assert space("x", distribution) == (kind, feasible)


def test_randint_is_a_range_when_order_helps() -> None:
    assert space("x", RandInt(3), listed=False) == ("int", {"min": "0", "max": "2", "step": "1"})


def test_ends_of_logarithmic_ranges_are_logarithms() -> None:
    kind, feasible = space("x", LogUniform(-6.0, -3.0))
    assert (kind, feasible["distribution"]) == ("double", "logUniform")
    assert float(feasible["min"]) == pytest.approx(math.exp(-6), rel=1e-11)
    assert float(feasible["max"]) == pytest.approx(math.exp(-3), rel=1e-11)
    kind, feasible = space("x", LogUniform(0.0, 3.0, 2.0))
    assert feasible["step"] == "2.0"


@given(st.floats(-20, 5), st.floats(0.01, 3))
def test_katib_finds_the_lognormal_again(mu: float, sigma: float) -> None:
    """Katib's hyperopt service: mu is the middle of the logarithms of the ends, sigma a sixth of their distance."""
    kind, feasible = space("x", LogNormal(mu, sigma))
    low, high = math.log(float(feasible["min"])), math.log(float(feasible["max"]))
    assert (kind, feasible["distribution"]) == ("double", "logNormal")
    assert (low + high) / 2 == pytest.approx(mu, abs=1e-9)
    assert (high - low) / 6 == pytest.approx(sigma, rel=1e-9)


@pytest.mark.parametrize(
    ("distribution", "text"),
    [
        (Choice(("adam",)), "adam"),
        (Choice((1, 1)), "1"),
        (Uniform(0.3, 0.3), "0.3"),
        (Uniform(0.9, 1.1, 1), "1"),
        (LogUniform(0, 0), "1.0"),
        (LogUniform(1.9, 2.0, 7), "7"),
        (ReverseLogUniform(0.95, 0.95), "0.95"),
        (RandInt(1), "0"),
    ],
)
def test_one_value_is_a_constant(distribution: Any, text: str) -> None:
    setting = setting_of("x", distribution)
    assert setting.parameter is None
    assert float(setting.text) == float(text) if text != "adam" else setting.text == text


def test_labels_stand_before_names_and_reverse_ranges_say_what_they_hold() -> None:
    setting = setting_of("momentum", ReverseLogUniform(0.9, 0.99), label="seresnext")
    assert setting.parameter is not None
    assert setting.parameter["name"] == "seresnext_one_minus_momentum"
    assert setting.text == "1-${trialParameters.seresnext_one_minus_momentum}"


@pytest.mark.parametrize("text", ['say "x"', "back\\slash", "two\nlines", "it's", "$HOME", "tab\t"])
def test_values_that_katib_cannot_put_in(text: str) -> None:
    with pytest.raises(JobError, match="checkpoint_run_id"):
        setting_of("checkpoint_run_id", Choice((text, "plain")))
    setting_of("checkpoint_run_id", Choice((text,)))  # as a constant it is no trouble


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_nothing_and_have_no_exponent(value: float) -> None:
    text = number(value)
    assert float(text) == value
    assert set(text) <= set("-0123456789.")
    assert number(Decimal(str(value))) == text


def values_of(row: Hyperparameter) -> st.SearchStrategy[Any]:
    """Values that a row allows, of the type that it gives them."""
    low = row.range.low if row.range.low is not None else -1e6
    high = row.range.high if row.range.high is not None else 1e6
    numbers = st.floats(low, high, exclude_min=row.range.open_low, exclude_max=row.range.open_high)
    made: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(math.ceil(low), math.floor(high)),
        "float": numbers,
        "bool": st.booleans(),
        "choice": st.sampled_from(row.choices or ("x",)),
        "str": st.from_regex(r"[A-Za-z0-9/][A-Za-z0-9_./:@ -]{0,20}[A-Za-z0-9]", fullmatch=True),
        "json": st.dictionaries(st.sampled_from(row.choices or ("x",)), st.booleans()),
        "grid": st.tuples(st.integers(1, 9), st.integers(2, 9)).map(lambda pair: f"{pair[0]}x{pair[1]}"),
        "triple": st.lists(numbers, min_size=3, max_size=3),
    }
    kinds = made[row.kind]
    if row.kind == "str":
        kinds = kinds.filter(lambda text: text.lower() not in ("none", "null"))
    return st.none() | kinds if row.default is None else kinds


ROWS = [
    row.for_model(find_model(model), Task(task))
    for model, task in [
        ("resnet50", "image_classification"),
        ("fasterrcnn_resnet50_fpn", "image_object_detection"),
        ("maskrcnn_resnet50_fpn", "image_instance_segmentation"),
    ]
    for row in TABLE.values()
    if row.applies.holds(find_model(model), Task(task)) and row.step == "train" and row.name != "model_name"
]


@given(st.data())
@settings(max_examples=300)
def test_flags_read_texts_back_equal(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(ROWS))
    value = data.draw(values_of(row))
    flag = f"--{row.name.replace('_', '-')}={constant(text_of(value))}"
    # Kubernetes makes one dollar of two; then a shell splits.
    (word,) = shlex.split(flag.replace("$$", "$"))
    given_text = parse_flags([word])[row.name]
    assert coerce(row, given_text) == value


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=40))
@settings(max_examples=50, deadline=None)
def test_constants_reach_the_process_as_written(text: str) -> None:
    command = f"printf %s {constant(text)}".replace("$$", "$")
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout.decode() == text


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20))
@settings(max_examples=200)
def test_what_may_vary_survives_quotes_and_json(text: str) -> None:
    try:
        check_substitutable("x", text)
    except JobError:
        return
    assert shlex.split(f"'{text}'") == [text]
    assert json.loads(f'"{text}"') == text


def test_placeholders_of_katib_are_no_texts() -> None:
    with pytest.raises(JobError, match="placeholder"):
        constant("/data/${trialParameters.x}")
