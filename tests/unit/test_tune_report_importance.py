"""What settings explain, where the truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.tune.report.importance import LEAST_TRIALS, importance


def by_name(found):
    return {each.setting: each for each in found}


def test_a_case_worked_by_hand():
    # Means 2 (x) and 6 (y), of all 4. SS_total = 4*9 + 4*1 = 40, SS_between = 8*4 = 32, SS_within = 8.
    # MS_within = 8 / (8 - 2); share = (32 - 1 * 8/6) / 40 = 0.766667. The other setting's means are 4 and 4.
    found = by_name(importance({"a": list("xxxxyyyy"), "b": list("pqpqpqpq")}, [1, 1, 3, 3, 5, 5, 7, 7]))
    assert found["a"].share == pytest.approx(92 / 120)
    assert found["b"].share == 0.0
    assert found["b"].chance == 1.0
    # Of the 70 ways to deal eight results into two fours, 2 give means as far apart: 1 1 3 3 on either side.
    assert found["a"].chance == pytest.approx(2 / 70, abs=0.025)
    assert found["a"].trials == 8


def test_one_setting_that_explains_everything():
    random = np.random.default_rng(0)
    rate, noise = 10 ** random.uniform(-4, -1, 300), random.uniform(0, 1, 300)
    kinds = [str(kind) for kind in random.choice(["sgd", "adam"], 300)]
    values = (-((np.log10(rate) + 2.5) ** 2)).tolist()
    found = importance({"noise": noise.tolist(), "rate": rate.tolist(), "kind": kinds}, values)
    assert found[0].setting == "rate"
    assert found[0].share > 0.9
    assert found[0].chance < 0.01
    assert all(each.share < 0.03 for each in found[1:])


def test_shares_of_a_sum_are_those_of_its_terms():
    # Of independent uniform a and b, 3a + b has variances 9/12 and 1/12: 0.9 and 0.1 of the whole.
    random = np.random.default_rng(1)
    a, b, c = random.uniform(0, 1, (3, 1000))
    found = by_name(importance({"a": a.tolist(), "b": b.tolist(), "c": c.tolist()}, (3 * a + b).tolist()))
    assert found["a"].share == pytest.approx(0.9, abs=0.03)
    assert found["b"].share == pytest.approx(0.1, abs=0.03)
    assert found["c"].share < 0.02


def test_it_agrees_with_the_forest_of_optuna():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    random = np.random.default_rng(2)
    rate, depth = random.uniform(0, 1, (2, 150))
    kinds = random.choice(["a", "b", "c"], 150)
    values = 2 * rate + depth + np.array([{"a": 0.0, "b": 0.3, "c": 0.9}[kind] for kind in kinds])
    study = optuna.create_study()
    space = {
        "rate": optuna.distributions.FloatDistribution(0, 1),
        "depth": optuna.distributions.FloatDistribution(0, 1),
        "kind": optuna.distributions.CategoricalDistribution(["a", "b", "c"]),
    }
    for row in zip(rate.tolist(), depth.tolist(), kinds.tolist(), values.tolist(), strict=True):
        drawn = dict(zip(space, row, strict=False))
        study.add_trial(optuna.trial.create_trial(params=drawn, distributions=space, value=row[3]))
    theirs = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), normalize=False
    )
    columns = {"rate": rate.tolist(), "depth": depth.tolist(), "kind": kinds.tolist()}
    ours = by_name(importance(columns, values.tolist()))
    whole = sum(theirs.values())
    for name, share in theirs.items():
        assert ours[name].share == pytest.approx(share / whole, abs=0.12)


def test_settings_that_matter_only_together_are_named():
    random = np.random.default_rng(3)
    optimizer = random.choice(["sgd", "adam"], 200)
    rate = random.choice(["low", "high"], 200)
    values = ((optimizer == "sgd") == (rate == "high")).astype(float) + random.normal(0, 0.05, 200)
    columns = {"optimizer": optimizer.tolist(), "rate": rate.tolist(), "other": random.uniform(0, 1, 200).tolist()}
    found = by_name(importance(columns, values.tolist()))
    assert found["optimizer"].partner == "rate"
    assert found["rate"].partner == "optimizer"
    assert found["rate"].joint > 0.95
    assert found["rate"].share < 0.1
    assert found["other"].partner is None


def test_a_setting_of_some_trials_explains_a_share_of_all_differences():
    # 8 trials of group 0 differ by the setting alone (0 or 2), 8 of group 1 do not have it and are all 1.
    values = [0, 0, 0, 0, 2, 2, 2, 2] + [1] * 8
    found = by_name(importance({"only": [*"aaaabbbb", *[None] * 8], "group": [*"0" * 8, *"1" * 8]}, values))
    assert found["only"].share == pytest.approx(1.0)
    assert found["only"].trials == 8
    assert found["group"].share == 0.0


def test_a_result_that_diverged_does_not_hide_the_rest():
    values = [0.5, 0.52, 0.54, 0.56, 0.8, 0.82, 0.84, 1e9]
    found = by_name(importance({"a": list("xxxxyyyy"), "b": list("pqpqpqpq")}, values))
    assert found["a"].share > 0.3
    assert found["b"].share < found["a"].share


def test_too_few_equal_or_missing_results_say_nothing():
    few = list(range(LEAST_TRIALS - 1))
    assert importance({"a": [str(n) for n in few]}, few) == []
    assert importance({"a": list(range(20))}, [0.5] * 20) == []
    assert importance({"a": list(range(20))}, [None] * 20) == []
    assert importance({}, list(range(20))) == []
    # A setting that never differs is left out.
    assert importance({"a": ["same"] * 20}, list(range(20))) == []


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.one_of(st.none(), st.sampled_from("abc"))), max_size=40))
def test_shares_are_shares_whatever_the_results(rows):
    found = importance({"kind": [kind for _, kind in rows], "order": list(range(len(rows)))}, [v for v, _ in rows])
    for each in found:
        assert 0 <= each.share <= 1 + 1e-9
        assert 0 < each.chance <= 1


def test_noise_looks_important_by_chance_only_as_often_as_it_says():
    random = np.random.default_rng(4)
    unlikely = 0
    for _ in range(200):
        columns = {"kind": random.choice(list("abc"), 24).tolist()}
        unlikely += any(each.chance < 0.05 for each in importance(columns, random.normal(size=24).tolist()))
    assert 2 <= unlikely <= 22  # about 10 of 200
