"""Sweeps that are refused before anything runs, with the line, and those that are not quite as written."""

from pathlib import Path
from typing import Any

import pytest

from kubesight.errors import HyperparameterError, JobError
from kubesight.hyperparameters.search_space import LogUniform
from kubesight.job import Job, load_job
from kubesight.job.plan import sweep_of
from kubesight.sweep.plan import Sweep

BASE = "task: image_classification\ntraining_data: data\n"  # what follows starts in line 3
HYPERBAND = (
    "sweep:\n  sampling_algorithm: {type: hyperband, max_resource: 9}\nsearch_space: {learning_rate: 'uniform(0, 1)'}\n"
)
NESTED = """\
search_space:
  learning_rate: loguniform(-7, -3)
  case:
    type: choice
    values: [{optimizer: sgd, momentum: "uniform(0.8, 0.99)"}, {optimizer: adamw, beta1: "uniform(0.8, 0.95)"}]
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def written(text: str, trials: int | None = 8) -> Job:
        limits = f"limits: {{max_trials: {trials}, max_concurrent_trials: 1}}\n" if trials else ""
        Path("job.yaml").write_text(BASE + text.rstrip() + "\n" + limits)
        return load_job("job.yaml")

    return written


@pytest.mark.parametrize(
    ("text", "trials", "line", "words"),
    [
        ("search_space: {optimizer: adam}", 8, 3, "nothing varies: every trial would be the same"),
        ("search_space: {optimizer: adam}", None, 3, "nothing varies"),
        ("sweep:\n  sampling_algorithm: grid\nsearch_space:\n  momentum: choice(0, 1)\n  batch_size: quniform(1, 9, 1)",
         8, 7,
         "grid sampling goes through lists, but training_batch_size has a range"),
        ("sweep:\n  sampling_algorithm: grid", 8, 4, "grid sampling goes through lists, and the automatic space has"),
        ("sweep:\n  sampling_algorithm: cmaes\nsearch_space: [{momentum: 'uniform(0, 1)'}, {seed: 'randint(9)'}]", 8, 4,
         "cmaes moves in one space, but there are 2 groups"),
        ("sweep:\n  sampling_algorithm: cmaes\nsearch_space: {momentum: 'uniform(0, 1)', batch_size: 'choice(8, 9)'}",
         8,
         4, "cmaes needs two settings or more with ranges, but there is momentum"),
        ("sweep:\n  sampling_algorithm: {type: tpe, multivariate: true}\nsearch_space:\n  momentum: normal(0.5, 0.1)",
         8, 6,
         "multivariate sampling knows no normal distributions, but momentum has one"),
        ("sweep:\n  sampling_algorithm: {type: tpe, multivariate: true}\n"
         "search_space:\n  batch_size: qloguniform(1, 3, 1)",
         8, 6, "Katib's multivariate sampling draws no whole numbers from a logarithmic or normal range, which trai"),
        ("sweep:\n  sampling_algorithm: {type: hyperband, max_resource: 9}\n"
         "search_space:\n  batch_size: qnormal(8, 2, 1)",
         20, 6, "Katib's hyperband sampling draws no whole numbers"),
        ("sweep:\n  sampling_algorithm:\n    type: tpe\n    n_startup_trials: 3", 8, 6, "Add `multivariate: true`"),
        ("sweep:\n  sampling_algorithm:\n    type: tpe\n    multivariate: true\n    gamma: 0.2", 8, 7, "univariate"),
        ("sweep:\n  sampling_algorithm:\n    type: random\n    sigma: 0.2", 8, 6, "sigma is for cmaes sampling alone"),
        (HYPERBAND, 20, 6, "hyperband with max_resource 9 and reduction_factor 3 starts 9 trials at a time"),
        (HYPERBAND + "training_parameters: {epochs: 18}", 20, 4, "max_resource is 9, but number_of_epochs is 18"),
        (HYPERBAND.replace("9}", "2}"), 20, 4, "2 epochs cannot be divided by 3"),
        (HYPERBAND.replace("9}", "9, min_resource: 2}"), 20, 4, "the shortest trials have 1 epochs"),
        (HYPERBAND.replace("{learning", "{epochs: 'choice(3, 9)', learning"), 20, 5, "hyperband itself sets it"),
        (HYPERBAND + "sweep2: {}", 20, 6, "unknown key 'sweep2'"),
        ("sweep:\n  sampling_algorithm: hyperband\n  early_termination: {type: asha}\nsearch_space: {seed: randint(9)}",
         20, 5, "hyperband ends trials itself, and asha would end others"),
        ("sweep:\n  sampling_algorithm: hyperband", 20, 4, "hyperband compares trials of one space, but there are 4"),
        ("kubesight:\n  sweep:\n    max_failed_trials: 9", 8, 5, "max_failed_trials 9 is more than max_trials 8"),
        ("kubesight:\n  sweep:\n    target_value: 95", 8, 5, "target_value is 95, but must be less than or equal to 1"),
        ("kubesight:\n  sweep:\n    trial_kind: Job\n  resources:\n    nodes: 2", 8, 5, "a Job has one pod"),
        ("kubesight:\n  sweep:\n    early_stopping: service\nsweep:\n  early_termination:\n"
         "    type: truncation_selection\n    truncation_percentage: 20\n    exclude_finished_jobs: true",
          8, 10, "exclude_finished_jobs leaves them out"),
        ("kubesight:\n  resources:\n    volumes: [{claim: a, path: data}]", 8, 5, "path"),
        ("sweep:\n  sampling_algorithm: {type: random, logbase: 1}", 8, 4, "greater than 1"),
    ],
)  # fmt: skip
def test_sweeps_that_cannot_be_run(load, text: str, trials: int | None, line: int, words: str) -> None:
    with pytest.raises((JobError, HyperparameterError)) as error:
        load(text, trials)
    assert str(error.value).startswith(f"job.yaml, line {line}: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("search_space:\n  - case: {type: choice, values: [{optimzer: sgd}, {}]}",
         4, "unknown hyperparameter 'optimzer'"),
        ("search_space:\n  case:\n    type: choice\n    values:\n      - {seed: 1}\n      - 3",
         8, "3 stands among nested"),
        ("search_space:\n  seed: 3\n  case:\n    type: choice\n    values:\n      - seed: 1",
         8, "seed is given twice in"),
        ("search_space:\n  seed: 3\n  case:\n    type: choice\n    values:\n      - random_seed: 1",
         8, "given twice, as"),
        ("search_space:\n  optimizer: {type: choice, values: [{momentum: 1}]}",
         4, "optimizer is a hyperparameter, and"),
        ("search_space:\n  case: choice(1, 2)", 4, "unknown hyperparameter 'case'"),
        ("search_space:\n  case: {type: choice, values: [1, 2]}", 4, "unknown hyperparameter 'case'"),
        ("search_space:\n  learning_rate: choice(0.1, 0.10)", 4, "learning_rate: 0.1 stands twice in choice"),
        ("search_space:\n  learning_rate: choice()", 4, "learning_rate: choice: choice has no values"),
        ("search_space:\n  learning_rate: uniform(1, 0)", 4, "the lower end 1 is above the upper end 0"),
        ("search_space:\n  learning_rate: loguniform(-800, -1)", 4, "exp(-800) is 0; the ends of a logarithmic range"),
        ("search_space:\n  learning_rate: loguniform(0.001, 0.1)", 4, "What loguniform is given are logarithms"),
        ("search_space:\n  batch_size: qloguniform(1, 64, 1)", 4, "draws numbers up to 6.23515e+27"),
        ("search_space:\n  weight_decay: lognormal(-5, 240)", 4, "exp(-5 +- 3 * 240) are 0 or too large"),
        ("search_space:\n  learning_rate: normal(0.01, 0.01)", 4, "16% of normal(0.01, 0.01) is not in [0, 1]"),
        ("search_space:\n  learning_rate: lognormal(0, 1)", 4, "50% of lognormal(0, 1) is not in [0, 1]"),
    ],
)  # fmt: skip
def test_spaces_that_cannot_be_drawn_from(load, text: str, line: int, words: str) -> None:
    with pytest.raises(HyperparameterError) as error:
        load(text)
    assert str(error.value).startswith(f"job.yaml, line {line}: ")
    assert words in str(error.value)


def test_too_many_branches(load) -> None:
    cases = "".join(f"  case{i}: {{type: choice, values: [{', '.join(['{}'] * 11)}]}}\n" for i in range(3))
    with pytest.raises(HyperparameterError, match=r"line 3: the nested choices have more than 1,000 branches"):
        load(f"search_space:\n{cases}")


RATE = "search_space: {learning_rate: 'loguniform(-7, -3)'}\n"


@pytest.mark.parametrize(
    ("text", "trials", "words"),
    [
        (f"{RATE}sweep: {{early_termination: {{type: median_stopping}}}}", 1, "one trial has none to be compared with"),
        (f"{RATE}sweep: {{early_termination: {{type: median_stopping, delay_evaluation: 15}}}}", 8,
         "first applied after 15 reports, and no trial goes on after 15"),
        (f"{RATE}training_parameters: {{evaluation_frequency: 4}}\n"
         "sweep: {early_termination: {type: bandit, evaluation_interval: 4, slack_factor: 1}}", 8,
         "first applied after 4 reports, and no trial goes on after 4"),
        (f"{RATE}sweep: {{early_termination: {{type: asha, minimum_interval: 30}}}}", 8, "applied after 30 reports"),
        (f"{RATE}sweep: {{sampling_algorithm: {{type: random, rule: sobol}}}}",
         8, "sobol draws logarithmic and normal"),
        ("sweep: {sampling_algorithm: {type: random, rule: sobol, seed: 3}}\nsearch_space: {momentum: 'uniform(0, 1)'}",
         8, "Katib's sobol has no seed"),
        ("sweep: {sampling_algorithm: {type: random, logbase: 10}}\nsearch_space: {seed: 'randint(99)'}",
         8, "logbase has no"),
        ("search_space: {seed: 'randint(5)'}", 8, "the space has 5 combinations, so that some of the 8 trials repeat"),
        ("search_space: [{seed: 'randint(5)'}, {seed: 'randint(6)'}, {seed: 'randint(99)'}]",
         2, "cannot try each of the 3"),
        ("search_space: {momentum: 'normal(0.9, 0.05)'}", 8, "0.023 of the draws of momentum are outside its range"),
        (f"{RATE}kubesight: {{sweep: {{early_stopping: guard}}}}", 8, "early_stopping has no effect here"),
        (f"{RATE}kubesight: {{sweep: {{no_improvement_trials: 8}}}}", 8, "no_improvement_trials has no effect here"),
    ],
)  # fmt: skip
def test_what_is_not_quite_as_written_is_said(load, text: str, trials: int, words: str) -> None:
    (notice,) = [each for each in load(text, trials).notices if "varies little" not in each]
    assert notice.startswith("job.yaml, line ")
    assert words in notice


def test_limits_that_meet(load) -> None:
    limits = "limits: {max_trials: 4, max_concurrent_trials: 4, timeout_minutes: 10, trial_timeout_minutes: 10}\n"
    notices = load(f"{RATE}sweep: {{sampling_algorithm: bayesian}}\n{limits}", None).notices
    assert [notice.split(": ", 1)[1] for notice in notices] == [
        "all trials start at once, so that bayesian sampling learns from none and is random.",
        "trial_timeout_minutes has no effect here: the sweep ends after 10 minutes.",
    ]


def test_bayesian_takes_any_distribution_and_nested_spaces(load) -> None:
    job = load(f"sweep: {{sampling_algorithm: bayesian}}\n{NESTED}")
    assert len(sweep_of(job).groups) == 2
    assert job.notices == []
    assert any(isinstance(values, LogUniform) for values in _all(sweep_of(job)))


def _all(sweep: Sweep) -> list[Any]:
    return [values for group in sweep.groups for values in group.parameters.values()]
