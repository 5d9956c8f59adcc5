"""From job files to sweeps: groups, constants, labels, limits, and what is said or refused on the way."""

import math
from pathlib import Path

import pytest

from kubesight.dataset import Task
from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import Choice, LogNormal, Uniform
from kubesight.job import Job, load_job
from kubesight.job.plan import sweep_of
from kubesight.sweep.hyperband import Brackets, factor_for
from kubesight.sweep.plan import Group, Sweep

BASE = "task: image_classification\ntraining_data: data\n"  # what follows starts in line 3


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def written(text: str, trials: int | None = 8) -> Job:
        limits = f"limits: {{max_trials: {trials}, max_concurrent_trials: 1}}\n" if trials else ""
        Path("job.yaml").write_text(BASE + text.rstrip() + "\n" + limits)
        return load_job("job.yaml")

    return written


@pytest.fixture
def plan(load):
    def planned(text: str, trials: int | None = 8) -> Sweep:
        return sweep_of(load(text, trials))

    return planned


def test_one_group_with_one_model_has_all_that_is_fixed_in_the_sweep(plan) -> None:
    sweep = plan(
        "name: mine\ntraining_parameters: {model_name: resnet18, batch_size: 8}\n"
        "search_space:\n  learning_rate: uniform(0.01, 0.1)\n  weight_decay: uniform(0.001, 0.001)\n"
        "  optimizer: adamw\n  grad_accumulation_step: choice(2)\n"
    )
    assert sweep.name == "mine"
    assert (sweep.task, sweep.metric, sweep.maximize, sweep.goal) == (Task.CLASSIFICATION, "accuracy", True, None)
    assert sweep.fixed == {
        "model_name": "resnet18", "training_batch_size": 8, "weight_decay": 0.001, "optimizer": "adamw",
        "gradient_accumulation_step": 2,
    }  # fmt: skip
    assert sweep.groups == (Group("resnet18", {}, {"learning_rate": Uniform(0.01, 0.1)}),)
    assert sweep.space_version is None


def test_the_default_model_is_named(plan) -> None:
    assert plan("search_space: {learning_rate: 'uniform(0, 1)'}").fixed == {"model_name": "seresnext"}


def test_a_list_of_spaces_becomes_groups_with_labels(plan) -> None:
    sweep = plan(
        "training_parameters: {batch_size: 8}\nsearch_space:\n"
        "  - {model_name: timm/EfficientNet.B0, learning_rate: 'uniform(0, 1)', weight_decay: 0.5}\n"
        "  - {model_name: 'choice(resnet18, resnet34)', learning_rate: 'uniform(0, 1)'}\n"
        "  - {model_name: seresnext, momentum: 'uniform(0, 1)'}\n"
        "  - {model_name: seresnext, optimizer: adam, beta1: 'uniform(0, 1)'}\n"
    )
    assert [group.label for group in sweep.groups] == ["timm_efficientnet_b0", "group1", "group2", "group3"]
    assert sweep.fixed == {"training_batch_size": 8}
    assert sweep.groups[0].fixed == {"model_name": "timm/EfficientNet.B0", "weight_decay": 0.5}
    assert sweep.groups[1].fixed == {}
    assert sweep.groups[1].parameters["model_name"] == Choice(("resnet18", "resnet34"))
    assert sweep.groups[3].fixed == {"model_name": "seresnext", "optimizer": "adam"}
    assert set(sweep.groups[3].parameters) == {"beta1"}


NESTED = """\
search_space:
  learning_rate: uniform(0, 1)
  case:
    type: choice
    values:
      - {optimizer: sgd, momentum: "uniform(0.8, 0.99)"}
      - {optimizer: adamw, beta1: "uniform(0.8, 0.95)"}
      - {}
  schedule:
    type: choice
    values:
      - learning_rate_scheduler: step
        more: {type: choice, values: [{step_lr_gamma: 0.1}, {step_lr_gamma: 0.5, step_lr_step_size: "choice(2, 3)"}]}
      - {learning_rate_scheduler: warmup_cosine}
"""


def test_nested_choices_become_every_combination(plan) -> None:
    sweep = plan(NESTED, trials=40)
    # 3 optimisers times (2 ways of steps and 1 cosine).
    assert len(sweep.groups) == 9
    first, second, third = sweep.groups[:3]
    assert first.fixed == {
        "model_name": "seresnext", "optimizer": "sgd", "learning_rate_scheduler": "step", "step_lr_gamma": 0.1,
    }  # fmt: skip
    assert first.parameters == {"learning_rate": Uniform(0, 1), "momentum": Uniform(0.8, 0.99)}
    assert set(second.parameters) == {"learning_rate", "momentum", "step_lr_step_size"}
    assert third.fixed == {
        "model_name": "seresnext", "optimizer": "sgd", "learning_rate_scheduler": "warmup_cosine",
    }  # fmt: skip
    assert sweep.groups[8].fixed == {"model_name": "seresnext", "learning_rate_scheduler": "warmup_cosine"}
    assert len({group.label for group in sweep.groups}) == 9


def test_settings_stand_only_where_they_have_an_effect(plan, load) -> None:
    text = (
        "training_parameters: {nesterov: false, weight_decay: 0.01}\nsearch_space:\n"
        "  learning_rate: uniform(0, 1)\n  optimizer: choice(sgd, adam, adamw)\n"
        "  momentum: uniform(0.8, 0.99)\n  beta1: choice(0.8, 0.9)\n"
    )
    sweep = plan(text)
    assert sweep.fixed == {"weight_decay": 0.01}
    assert [group.fixed for group in sweep.groups] == [
        {"model_name": "seresnext", "nesterov": False, "optimizer": "sgd"},
        {"model_name": "seresnext", "optimizer": "adam"},
        {"model_name": "seresnext", "optimizer": "adamw"},
    ]
    assert [set(group.parameters) for group in sweep.groups] == [
        {"learning_rate", "momentum"}, {"learning_rate", "beta1"}, {"learning_rate", "beta1"},
    ]  # fmt: skip
    assert load(text).notices == [
        "job.yaml, line 4: the space becomes 3 groups of equal chance, in which settings stand only where they have "
        "an effect."
    ]


def test_a_setting_that_needs_a_fixed_one_stays_when_another_decides(plan) -> None:
    sweep = plan(
        "training_parameters: {lr_scheduler: step}\nsearch_space:\n"
        "  optimizer: choice(sgd, adamw)\n  momentum: uniform(0.8, 0.99)\n  step_lr_gamma: choice(0.1, 0.5)\n"
    )
    assert [set(group.parameters) for group in sweep.groups] == [{"momentum", "step_lr_gamma"}, {"step_lr_gamma"}]
    assert sweep.fixed == {"learning_rate_scheduler": "step"}


def test_two_switches_decide_after_each_other(plan) -> None:
    sweep = plan(
        "search_space:\n  optimizer: choice(sgd, adamw)\n  momentum: uniform(0.8, 0.99)\n"
        "  train_only_top_layer: choice(true, false)\n  mixup_alpha: choice(0.1, 0.2)\n"
    )
    found = {
        (group.fixed["optimizer"], group.fixed["train_only_top_layer"]): set(group.parameters) for group in sweep.groups
    }
    assert found == {
        ("sgd", True): {"momentum"},
        ("sgd", False): {"momentum", "mixup_alpha"},
        ("adamw", True): set(),
        ("adamw", False): {"mixup_alpha"},
    }


def test_logarithms_to_another_base(plan) -> None:
    sweep = plan(
        "sweep: {sampling_algorithm: {type: random, logbase: 10}}\n"
        "search_space: {learning_rate: 'loguniform(-3, -1)', weight_decay: 'lognormal(-3, 0.1)'}"
    )
    rate, decay = sweep.groups[0].parameters.values()
    assert rate.endpoints() == pytest.approx((0.001, 0.1))
    assert isinstance(decay, LogNormal)
    assert (decay.mu, decay.sigma) == pytest.approx((-3 * math.log(10), 0.1 * math.log(10)))


def test_additions_and_resources(load) -> None:
    job = load(
        "search_space: {learning_rate: 'uniform(0, 1)'}\n"
        "kubesight:\n"
        "  sweep: {target_value: 0.95, no_improvement_trials: 3, convergence: true, max_failed_trials: 2,"
        " early_stopping: guard, trial_kind: TrainJob}\n"
        "  resources: {nodes: 2, priority_class: low, queue: team, service_account: tuner, image_pull_secrets: [a],"
        " secret: s3, volumes: [{claim: data, path: /data}]}\n"
        "sweep: {early_termination: {type: median_stopping}}\n"
    )
    sweep = sweep_of(job)
    assert (sweep.goal, sweep.additions.trial_kind, sweep.additions.no_improvement_trials) == (0.95, "TrainJob", 3)
    resources = job.kubesight.resources
    assert (resources.nodes, resources.queue, resources.image_pull_secrets) == (2, "team", ("a",))
    assert (resources.volumes[0].claim, resources.volumes[0].path) == ("data", "/data")
    assert job.notices == []


def test_no_sweep(load) -> None:
    with pytest.raises(JobError, match="one training and not for a sweep"):
        sweep_of(load("", None))
    notices = load("kubesight: {sweep: {target_value: 0.9}, resources: {nodes: 2}}", None).notices
    assert [notice.split(" has no effect")[0] for notice in notices] == [
        "job.yaml, line 3: kubesight.sweep", "job.yaml, line 3: kubesight.resources.nodes",
    ]  # fmt: skip


def test_a_grid_has_no_more_trials_than_combinations(load) -> None:
    text = (
        "sweep: {sampling_algorithm: grid}\n"
        "search_space: {optimizer: 'choice(sgd, adam)', batch_size: 'choice(8, 16, 32)'}"
    )
    job = load(text, 10)
    limits = sweep_of(job).limits
    assert (limits.max_trials, limits.max_concurrent_trials) == (6, 1)
    assert job.limits.max_trials == 10
    assert job.notices == ["job.yaml, line 5: the grid has 6 combinations, so that there are 6 trials and not 10."]
    assert load(text, 6).notices == []
    assert load(text, 4).notices == ["job.yaml, line 5: the grid has 6 combinations, of which the first 4 are tried."]


HYPERBAND = (
    "sweep:\n  sampling_algorithm: {type: hyperband, max_resource: 9}\nsearch_space: {learning_rate: 'uniform(0, 1)'}\n"
)


def test_hyperband_sets_the_epochs(plan, load) -> None:
    limits = "limits: {max_trials: 20, max_concurrent_trials: 9}\n"
    sweep = plan(HYPERBAND + limits, None)
    assert sweep.groups[0].parameters == {"learning_rate": Uniform(0, 1), "number_of_epochs": Uniform(1, 9, 1)}
    assert sweep.fixed == {"model_name": "seresnext"}
    sampling = sweep.sampling
    assert (sampling.max_resource, sampling.min_resource, sampling.reduction_factor) == (9, 1, 3)
    longest = "training_parameters: {epochs: 18}\n"
    inferred = plan(HYPERBAND.replace(", max_resource: 9", "") + longest + limits, None)
    assert inferred.groups[0].parameters["number_of_epochs"] == Uniform(2, 18, 1)
    assert "number_of_epochs" not in inferred.fixed
    defaults = load(HYPERBAND.replace(", max_resource: 9", "") + limits, None)
    assert sweep_of(defaults).sampling.max_resource == 15
    assert defaults.notices == [
        "job.yaml, line 4: hyperband's first trials grow from 1 to 9 epochs and not to 15; "
        "a max_resource of 9 or 18 fits."
    ]


@pytest.mark.parametrize(
    ("longest", "factor", "expected"),
    # rounds = floor(log longest / log factor); 243 = 3^5, but log 243 / log 3 rounds to less than 5, as in Katib.
    [(9, 3, (2, 1, 9)), (15, 3, (2, 1, 9)), (81, 3, (4, 1, 81)), (243, 3, (4, 3, 81)), (10, 4, (1, 2, 4))],
)
def test_brackets(longest: int, factor: int, expected: tuple[int, int, int]) -> None:
    brackets = Brackets.of(longest, factor)
    assert (brackets.rounds, brackets.shortest, brackets.parallel) == expected


def test_the_factor_for_a_shortest_trial() -> None:
    assert factor_for(10, 2) == 4
    assert factor_for(9, 1) == 3
    assert factor_for(100, 60) is None
