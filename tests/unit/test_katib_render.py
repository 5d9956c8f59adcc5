"""Sweeps as Katib Experiments, one by one: names, flags, groups, algorithms, early stopping, counts."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from rendering import PLACES, TWO_GROUPS, a_sweep, command_of, rendered, words_of

from kubesight.dataset.rows import Task
from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import (
    Choice,
    LogUniform,
    RandInt,
    Uniform,
)
from kubesight.job import load_job
from kubesight.job.plan import sweep_of
from kubesight.job.sections import Resources
from kubesight.sweep.limits import Limits
from kubesight.sweep.plan import Group, SweepAdditions
from kubesight.sweep.policies import Bandit
from kubesight.sweep.sampling import Sampling
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.render import experiment_name, experiment_of


def test_names() -> None:
    assert experiment_name(a_sweep()) == "image-classification"
    assert experiment_name(a_sweep(name="My Sweep_2")) == "my-sweep-2"
    assert experiment_name(a_sweep(name="2026 Größe")) == "gr-e"
    assert experiment_name(a_sweep(name="---")) == "sweep"
    assert experiment_name(a_sweep(name="a" * 39 + "-b")) == "a" * 39


def test_one_group_has_plain_names_and_flags() -> None:
    document = rendered(a_sweep(fixed={"model_name": "resnet50", "weighted_loss": 2}), weights="/data/w e.pth")
    assert document["spec"]["parameters"] == [
        {"name": "learning_rate", "parameterType": "double", "feasibleSpace": {"min": "0.001", "max": "0.01"}}
    ]
    assert words_of(document) == [
        "kubesight",
        "train",
        "--training-data=/data/train",
        "--validation-data=/data/validation",
        "--output=/data/sweeps/one/${trialParameters.trial_name}",
        "--metrics-file=/var/log/katib/metrics.log",
        "--primary-metric=accuracy",
        "--weights=/data/w e.pth",
        "--model-name=resnet50",
        "--weighted-loss=2",
        "--learning-rate=${trialParameters.learning_rate}",
        "--discard-checkpoints",
    ]
    assert "kubesight/conditions" not in document["metadata"]["annotations"]


def test_logarithms_come_back_as_the_numbers_that_were_meant() -> None:
    groups = (Group("resnet50", {}, {"learning_rate": LogUniform(math.log(0.001), math.log(0.03))}),)
    (parameter,) = experiment_of(a_sweep(groups=groups), **PLACES, resources=Resources())["spec"]["parameters"]
    assert parameter["feasibleSpace"] == {"min": "0.001", "max": "0.03", "distribution": "logUniform"}


def test_the_version_of_an_automatic_space_is_written_down() -> None:
    made = [
        experiment_of(a_sweep(space_version=version), **PLACES, resources=Resources())["metadata"]["annotations"]
        for version in (None, 3)
    ]
    assert [each.get("kubesight/automatic-space") for each in made] == [None, "3"]


def test_several_groups_are_one_experiment_with_masked_parameters() -> None:
    document = rendered(a_sweep(fixed={}, groups=TWO_GROUPS))
    assert [(each["name"], each["feasibleSpace"].get("list")) for each in document["spec"]["parameters"]] == [
        ("group", ["0", "1"]),
        ("seresnext_one_minus_momentum", None),
        ("vitb16r224_number_of_epochs", ["15", "30"]),
    ]
    assert words_of(document)[7:] == [
        "--alternative=model_name=seresnext momentum=1-${trialParameters.seresnext_one_minus_momentum}",
        "--alternative=model_name=vitb16r224 number_of_epochs=${trialParameters.vitb16r224_number_of_epochs}",
        "--choose=${trialParameters.group}",
        "--discard-checkpoints",
    ]
    assert json.loads(document["metadata"]["annotations"]["kubesight/conditions"]) == {
        "seresnext_one_minus_momentum": ["0"],
        "vitb16r224_number_of_epochs": ["1"],
    }


def test_a_grid_over_several_groups_lists_its_combinations() -> None:
    groups = (
        Group(
            "a", {"model_name": "resnet50"}, {"learning_rate": Choice((0.001, 0.01)), "nesterov": Choice((True, False))}
        ),
        Group("b", {"model_name": "seresnext"}, {"learning_rate": Choice((0.5, 1e-05))}),
    )
    document = rendered(a_sweep(fixed={}, groups=groups, sampling=Sampling(type="grid")))
    (parameter,) = document["spec"]["parameters"]
    assert parameter["name"] == "combination"
    assert parameter["feasibleSpace"]["list"] == [
        "model_name=resnet50 learning_rate=0.001 nesterov=true",
        "model_name=resnet50 learning_rate=0.001 nesterov=false",
        "model_name=resnet50 learning_rate=0.01 nesterov=true",
        "model_name=resnet50 learning_rate=0.01 nesterov=false",
        "model_name=seresnext learning_rate=0.5",
        "model_name=seresnext learning_rate=0.00001",
    ]
    # Katib's grid refuses more trials than there are combinations.
    assert document["spec"]["maxTrialCount"] == 6
    assert "--alternative='${trialParameters.combination}'" in command_of(document)
    assert read_experiment(document).max_trials == 6


@pytest.mark.parametrize(
    ("groups", "sampling", "message"),
    [
        ((Group("a", {}, {"learning_rate": Uniform(0.1, 0.1)}),), "random", "nothing varies"),
        ((Group("a", {}, {"checkpoint_run_id": Choice(('x"y', "z"))}),), "random", "checkpoint_run_id cannot vary"),
        (
            (
                Group("a", {"model_name": "resnet50"}, {"checkpoint_run_id": Choice(("x y", "z"))}),
                Group("b", {"model_name": "seresnext"}, {"learning_rate": Uniform(0.1, 0.2)}),
            ),
            "random",
            "checkpoint_run_id cannot vary over 'x y'",
        ),
        (
            (
                Group("a", {"model_name": "resnet50"}, {"learning_rate": Uniform(0.1, 0.2)}),
                Group("b", {"model_name": "seresnext"}, {"learning_rate": Choice((0.1, 0.2))}),
            ),
            "grid",
            "learning_rate has a range",
        ),
        ((Group("a", {}, {"learning_rate": RandInt(3)}),), "grid", "learning_rate has a range"),
        (
            (
                Group("a", {"model_name": "resnet50"}, {"b_momentum": Uniform(0.1, 0.2)}),
                Group("a_b", {"model_name": "seresnext"}, {"momentum": Uniform(0.1, 0.2)}),
            ),
            "random",
            "become the parameter a_b_momentum",
        ),
        (
            tuple(
                Group(str(index), {}, {name: Choice(tuple(range(22))) for name in ("random_seed", "a", "b")})
                for index in range(2)
            ),
            "grid",
            "more than 10000 combinations",
        ),
    ],
)
def test_what_katib_cannot_say(groups: tuple[Group, ...], sampling: Any, message: str) -> None:
    with pytest.raises(JobError, match=message):
        rendered(a_sweep(fixed={"weight_decay": 0.1}, groups=groups, sampling=Sampling(type=sampling)))


def test_other_refusals() -> None:
    with pytest.raises(JobError, match="s3://bucket/sweep is none"):
        rendered(a_sweep(), output="s3://bucket/sweep")


@pytest.mark.parametrize(
    ("fixed", "varying", "refused"),
    [
        ({"validation_metric_type": "none"}, {}, True),
        ({}, {"validation_metric_type": Choice(("voc", "none"))}, True),
        ({"validation_metric_type": "coco"}, {"min_size": Choice((600, 800))}, False),
    ],
)
def test_trials_must_report_their_metric(fixed: dict[str, Any], varying: dict[str, Any], refused: bool) -> None:
    group = Group("a", {}, {"learning_rate": Uniform(0.1, 0.2), **varying})
    sweep = a_sweep(task=Task.DETECTION, metric="mean_average_precision", fixed=fixed, groups=(group,))
    if not refused:
        rendered(sweep)
        return
    with pytest.raises(JobError, match="report no mean_average_precision"):
        rendered(sweep)


@pytest.mark.parametrize(
    ("sampling", "name", "given_settings"),
    [
        (Sampling(), "random", {}),
        (Sampling(seed=3), "random", {"random_state": "3"}),
        (Sampling(rule="sobol", seed=3), "sobol", {}),
        (Sampling(type="grid", seed=3), "grid", {"random_state": "3"}),
        (Sampling(type="bayesian"), "tpe", {}),
        (
            Sampling(type="tpe", gamma=0.00001, prior_weight=2.0, n_ei_candidates=9),
            "tpe",
            {"gamma": "0.00001", "prior_weight": "2.0", "n_EI_candidates": "9"},
        ),
        (
            Sampling(type="tpe", multivariate=True, n_startup_trials=5, n_ei_candidates=9),
            "multivariate-tpe",
            {"n_startup_trials": "5", "n_ei_candidates": "9"},
        ),
        (
            Sampling(type="cmaes", sigma=0.3, restart_strategy="ipop"),
            "cmaes",
            {"sigma": "0.3", "restart_strategy": "ipop"},
        ),
        (
            Sampling(type="hyperband", max_resource=9, min_resource=1, reduction_factor=3, seed=1),
            "hyperband",
            {"r_l": "9", "resource_name": "number_of_epochs", "eta": "3"},
        ),
    ],
)
def test_algorithms(sampling: Sampling, name: str, given_settings: dict[str, str]) -> None:
    varying = {"learning_rate": Choice((0.1, 0.2)), "nesterov": Choice((True, False))}
    if name in ("cmaes", "hyperband"):
        varying = {"learning_rate": Uniform(0.1, 0.2), "number_of_epochs": Uniform(1, 9, 1)}  # type: ignore[dict-item]
    sweep = a_sweep(
        sampling=sampling,
        groups=(Group("a", {}, varying),),
        limits=Limits(max_trials=4 if name == "grid" else 30, max_concurrent_trials=1 if name == "grid" else 9),
    )
    document = rendered(sweep)
    algorithm = document["spec"]["algorithm"]
    assert algorithm["algorithmName"] == name
    assert {each["name"]: each["value"] for each in algorithm.get("algorithmSettings", [])} == given_settings
    read_experiment(document)


BANDIT = Bandit(slack_factor=0.2, evaluation_interval=2)


def test_early_stopping_by_the_training() -> None:
    document = rendered(a_sweep(policy=BANDIT))
    assert "earlyStopping" not in document["spec"]
    assert document["spec"]["trialTemplate"]["retain"] is False
    assert json.loads(words_of(document)[-1].removeprefix("--early-termination=")) == {
        "type": "bandit",
        "slack_factor": 0.2,
        "evaluation_interval": 2,
        "delay_evaluation": 0,
    }
    assert "es_stop" in document["spec"]["objective"]["additionalMetricNames"]


def test_early_stopping_by_the_guard() -> None:
    document = rendered(a_sweep(policy=BANDIT, additions=SweepAdditions(early_stopping="guard")))
    given_settings = document["spec"]["earlyStopping"]["algorithmSettings"]
    assert document["spec"]["earlyStopping"]["algorithmName"] == "bandit"
    assert {"name": "live", "value": "true"} in given_settings
    assert {"name": "slack_factor", "value": "0.2"} in given_settings
    assert document["spec"]["trialTemplate"]["retain"] is True
    assert words_of(document)[-1] == "--stop-by=guard"


def test_early_stopping_by_the_service() -> None:
    document = rendered(a_sweep(policy=BANDIT, additions=SweepAdditions(early_stopping="service")))
    assert "live" not in [each["name"] for each in document["spec"]["earlyStopping"]["algorithmSettings"]]
    assert document["spec"]["trialTemplate"]["retain"] is True
    assert "early-termination" not in command_of(document)
    assert "es_stop" not in document["spec"]["objective"]["additionalMetricNames"]


def test_counts_and_limits() -> None:
    additions = SweepAdditions(target_value=0.9, no_improvement_trials=5, convergence=True)
    document = rendered(a_sweep(goal=0.9, additions=additions, limits=Limits(max_trials=2, timeout_minutes=30)))
    spec = document["spec"]
    assert (spec["parallelTrialCount"], spec["maxTrialCount"], spec["maxFailedTrialCount"]) == (1, 2, 2)
    assert spec["objective"]["goal"] == 0.9
    assert json.loads(document["metadata"]["annotations"]["kubesight/limits"]) == {
        "timeout_seconds": 1800,
        "no_improvement_trials": 5,
        "convergence": True,
    }
    assert rendered(a_sweep())["spec"]["maxFailedTrialCount"] == 5
    assert rendered(a_sweep(additions=SweepAdditions(max_failed_trials=1)))["spec"]["maxFailedTrialCount"] == 1


def test_metrics_and_their_strategies() -> None:
    objective = rendered(a_sweep(metric="AUC_macro"))["spec"]["objective"]
    assert objective["additionalMetricNames"] == ["accuracy", "f1_score_macro", "validation_loss", "training_loss"]
    assert {each["name"]: each["value"] for each in objective["metricStrategies"]} == {
        "AUC_macro": "max",
        "accuracy": "max",
        "f1_score_macro": "max",
        "validation_loss": "min",
        "training_loss": "min",
    }
    boxes = a_sweep(task=Task.DETECTION, metric="mean_average_precision", fixed={"log_validation_loss": "Disable"})
    assert rendered(boxes)["spec"]["objective"]["additionalMetricNames"] == ["training_loss"]


def test_from_a_job_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        """
        task: image_classification
        name: Flowers
        training_data: /data/train
        validation_data: /data/validation
        limits: {max_trials: 10, max_concurrent_trials: 2}
        sweep: {sampling_algorithm: random, early_termination: {type: bandit, slack_factor: 0.2}}
        search_space:
          - model_name: {type: choice, values: [vitb16r224, vits16r224]}
            learning_rate: {type: uniform, min_value: 0.001, max_value: 0.01}
          - model_name: seresnext
            learning_rate: {type: loguniform, min_value: -7, max_value: -4}
        """
    )
    job = load_job(file)
    experiment = read_experiment(rendered(sweep_of(job), job.kubesight.resources))
    assert experiment.name == "flowers"
    assert [parameter.name for parameter in experiment.parameters] == [
        "group",
        "group0_model_name",
        "group0_learning_rate",
        "seresnext_learning_rate",
    ]
    assert experiment.conditions["seresnext_learning_rate"] == ("1",)
