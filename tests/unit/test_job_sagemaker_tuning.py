"""SageMaker's automatic model tuning as sweeps: strategies, completion criteria, limits of time, autotune."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from kubesight.errors import HyperparameterError, JobError
from kubesight.hyperparameters.search_space import Choice, LogUniform, ReverseLogUniform, Uniform
from kubesight.job import load_job, load_sagemaker
from kubesight.job.plan import sweep_of

SDK: dict[str, Any] = {
    "model_id": "keras/VGG16",
    "hyperparameters": {"epochs": "18"},
    "training": "s3://bucket/flowers/",
    "hyperparameter_ranges": {"learning_rate": {"MinValue": 0.001, "MaxValue": 0.01}},
    "max_jobs": 20,
}
API: dict[str, Any] = {
    "model_id": "keras/VGG16",
    "HyperParameterTuningJobConfig": {
        "Strategy": "Random",
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": 20,
            "MaxParallelTrainingJobs": "9",
            "MaxRuntimeInSeconds": 3601,
        },
        "TuningJobCompletionCriteria": {
            "TargetObjectiveMetricValue": 0.95,
            "BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 10},
            "ConvergenceDetected": {"CompleteOnConvergence": "Enabled"},
        },
        "ParameterRanges": {
            "ContinuousParameterRanges": [
                {"Name": "momentum", "MinValue": "0.5", "MaxValue": "0.999", "ScalingType": "ReverseLogarithmic"}
            ],
        },
    },
    "TrainingJobDefinition": {
        "StaticHyperParameters": {"optimizer": "sgd"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "InputDataConfig": [
            {"ChannelName": "training", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/flowers/"}}}
        ],
    },
}


def test_the_requests_criteria_and_limits() -> None:
    sweep = sweep_of(load_sagemaker(API))
    assert sweep.groups[0].parameters == {"momentum": ReverseLogUniform(0.5, 0.999)}
    assert sweep.fixed["optimizer"] == "sgd"
    limits = sweep.limits
    assert (limits.max_trials, limits.max_concurrent_trials) == (20, 9)
    assert (limits.timeout_minutes, limits.trial_timeout_minutes) == (61, 10)  # minutes that have begun count
    additions = sweep.additions
    assert (sweep.goal, additions.no_improvement_trials, additions.convergence) == (0.95, 10, True)
    assert sweep.sampling.type == "random"
    assert load_sagemaker(API).notices == []


def test_the_sdks_criteria() -> None:
    criteria = {
        "max_number_of_training_jobs_not_improving": 5,
        "complete_on_convergence": False,
        "target_objective_metric_value": "0.9",
    }
    sweep = sweep_of(
        load_sagemaker({**SDK, "completion_criteria_config": criteria, "max_run": 61, "max_runtime_in_seconds": 1})
    )
    assert (sweep.goal, sweep.additions.no_improvement_trials, sweep.additions.convergence) == (0.9, 5, False)
    assert (sweep.limits.trial_timeout_minutes, sweep.limits.timeout_minutes) == (2, 1)
    assert sweep.sampling.type == "bayesian"


@pytest.mark.parametrize(
    ("most", "least", "shortest", "factor"),
    # With a factor of 3: 18 / 9 = 2. Shortest trials of other lengths need other factors: 18 / 16 = 1 with 2, and
    # 20 / 5 = 4 with 5.
    [(18, 2, 2, 3), (18, None, 2, 3), (18, 1, 1, 2), (20, 4, 4, 5)],
)
def test_hyperband(most: int, least: int | None, shortest: int, factor: int) -> None:
    config: dict[str, Any] = {"max_resource": most} | ({"min_resource": least} if least else {})
    value = {
        **SDK,
        "hyperparameters": {},
        "strategy": "Hyperband",
        "strategy_config": {"hyperband_strategy_config": config},
    }
    sweep = sweep_of(load_sagemaker({**value, "max_parallel_jobs": 20}))
    sampling = sweep.sampling
    assert (sampling.max_resource, sampling.min_resource, sampling.reduction_factor) == (most, shortest, factor)
    assert sweep.groups[0].parameters["number_of_epochs"] == Uniform(shortest, most, 1)
    assert "number_of_epochs" not in sweep.fixed


def test_hyperband_of_a_request_infers_the_epochs() -> None:
    request = copy.deepcopy(API)
    config = request["HyperParameterTuningJobConfig"]
    config |= {"Strategy": "Hyperband", "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1}}}
    request["TrainingJobDefinition"]["StaticHyperParameters"]["epochs"] = "9"
    job = load_sagemaker(request)
    assert sweep_of(job).sampling.max_resource == 9
    assert job.notices == ["MinResource 1 is not kept: hyperband's shortest trials follow from MaxResource."]
    config["TrainingJobEarlyStoppingType"] = "Auto"
    with pytest.raises(JobError, match="hyperband ends trials itself"):
        load_sagemaker(request)


def test_grid_without_a_number_of_jobs_tries_every_combination() -> None:
    value = {
        **SDK,
        "strategy": "Grid",
        "hyperparameter_ranges": {"optimizer": ["sgd", "adam"], "batch_size": [8, 16, 32]},
    }
    del value["max_jobs"]
    sweep = sweep_of(load_sagemaker(value))
    assert sweep.limits.max_trials == 6


@pytest.mark.parametrize("switch", [{"autotune": True}, {"Autotune": {"Mode": "Enabled"}}])
def test_autotune_is_the_automatic_space(switch: dict[str, Any]) -> None:
    value = {**SDK, **switch, "hyperparameters_to_keep_static": ["epochs"]}
    del value["hyperparameter_ranges"]
    sweep = sweep_of(load_sagemaker(value))
    assert sweep.space_version is not None
    assert sweep.fixed["number_of_epochs"] == 18
    assert "learning_rate" in sweep.groups[0].parameters
    with pytest.raises(JobError, match="autotune chooses the ranges, but there are some"):
        load_sagemaker({**SDK, **switch})


# SageMaker's page on tuning: every parameter that it recommends, with its range; `Auto` scaling unless it is written.
TABLE = {
    "batch_size": {"MinValue": 8, "MaxValue": 512, "ScalingType": "Logarithmic"},
    "beta_1": {"MinValue": 1e-6, "MaxValue": 0.999},
    "beta_2": {"MinValue": 1e-6, "MaxValue": 0.999},
    "eps": {"MinValue": 1e-8, "MaxValue": 1.0},
    "learning_rate": {"MinValue": 1e-6, "MaxValue": 0.5},
    "momentum": {"MinValue": 0.0, "MaxValue": 0.999},
    "optimizer": ["sgd", "adam", "rmsprop", "nesterov", "adagrad", "adadelta"],
    "regularizers_l2": {"MinValue": 0.0, "MaxValue": 0.999},
    "train_only_on_top_layer": {"MinValue": "True", "MaxValue": "False"},
}
OWN = {
    "sgd": {"momentum"}, "nesterov": {"momentum"}, "adam": {"beta1", "beta2", "epsilon"},
    "rmsprop": {"momentum", "epsilon"}, "adagrad": {"epsilon"}, "adadelta": {"epsilon"},
}  # fmt: skip


def test_the_whole_table_becomes_a_group_for_each_optimiser_with_its_own_settings() -> None:
    sweep = sweep_of(load_sagemaker({**SDK, "hyperparameter_ranges": TABLE}))
    common = {"training_batch_size", "learning_rate", "regularizers_l2", "train_only_top_layer"}
    found = {group.fixed["optimizer"]: set(group.parameters) - common for group in sweep.groups}
    assert found == OWN
    assert [group.label for group in sweep.groups] == TABLE["optimizer"]
    assert all(common <= group.parameters.keys() for group in sweep.groups)
    adam = next(group for group in sweep.groups if group.fixed["optimizer"] == "adam").parameters
    assert adam == {
        "training_batch_size": LogUniform(math.log(8), math.log(512), 1),
        "beta1": ReverseLogUniform(1e-6, 0.999),
        "beta2": ReverseLogUniform(1e-6, 0.999),
        "epsilon": LogUniform(math.log(1e-8), 0.0),
        "learning_rate": LogUniform(math.log(1e-6), math.log(0.5)),
        "regularizers_l2": Uniform(0.0, 0.999),
        "train_only_top_layer": Choice((True, False)),
    }
    sgd = next(group for group in sweep.groups if group.fixed["optimizer"] == "sgd").parameters
    assert sgd["momentum"] == ReverseLogUniform(0.0, 0.999)


def test_a_static_setting_stays_with_the_optimisers_that_use_it() -> None:
    ranges = {"optimizer": ["sgd", "adam"], "learning_rate": TABLE["learning_rate"]}
    sweep = sweep_of(load_sagemaker({**SDK, "hyperparameters": {"momentum": "0.5"}, "hyperparameter_ranges": ranges}))
    assert [group.fixed | {"model_name": ""} for group in sweep.groups] == [
        {"model_name": "", "momentum": 0.5, "optimizer": "sgd"},
        {"model_name": "", "optimizer": "adam"},
    ]


def test_limits_of_time_mean_nothing_for_one_training() -> None:
    value = {key: SDK[key] for key in ("model_id", "hyperparameters", "training")}
    notices = load_sagemaker({**value, "max_run": 60}).notices
    assert notices == ["max_run has no effect here: one training has no limit of time."]


def test_warm_start_is_the_commands() -> None:
    assert load_sagemaker({**SDK, "WarmStartConfig": {}}).notices == [
        "WarmStartConfig has no effect here: `kubesight tune --warm-start` names earlier sweeps."
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_jobs": 0}, "max_jobs is 0, but must be an integer >= 1"),
        ({"max_parallel_jobs": "many"}, "max_parallel_jobs is 'many'"),
        ({"completion_criteria_config": {"target": 1}}, "unknown key 'target'. There are complete_on_convergence,"),
        ({"completion_criteria_config": {"complete_on_convergence": "yes"}}, "must be Enabled or Disabled"),
        ({"completion_criteria_config": {"target_objective_metric_value": "high"}}, "the target is 'high'"),
        ({"completion_criteria_config": {"target_objective_metric_value": 95}}, "target_value is 95"),
        ({"strategy_config": {"hyperband": {}}}, "unknown key 'hyperband'. There are hyperband_strategy_config"),
        ({"strategy": "Hyperband"}, "hyperband with max_resource 18 and reduction_factor 3 starts 9 trials at a time"),
        ({"HyperParameterTuningJobConfig": {"Startegy": "Random"}}, "unknown key 'Startegy'"),
        ({"HyperParameterTuningJobConfig": {"ResourceLimits": {"MaxJobs": 3}}}, "unknown key 'MaxJobs'"),
        (
            {"hyperparameter_ranges": {"learning_rate": {"MinValue": 0, "MaxValue": 1, "ScalingType": "Logarithmic"}}},
            "learning_rate from 0 to 1 cannot be scaled as Logarithmic. Logarithmic needs ends above 0",
        ),
        (
            {"hyperparameter_ranges": {"learning_rate": {"MinValue": 0.5, "MaxValue": 0.1}}},
            "the lower end 0.5 is above the upper end 0.1",
        ),
        ({"hyperparameter_ranges": {"learning_rate": []}}, "choice has no values"),
    ],
)  # fmt: skip
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((JobError, HyperparameterError)) as error:
        load_sagemaker({**SDK, **changes})
    assert message in str(error.value)


def test_mistakes_of_a_file_have_their_line(tmp_path: Path) -> None:
    request = copy.deepcopy(API)
    request["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxParallelTrainingJobs"] = 30
    path = tmp_path / "job.json"
    path.write_text(json.dumps(request, indent=1))
    line = 1 + path.read_text()[: path.read_text().index('"MaxParallelTrainingJobs"')].count("\n")
    with pytest.raises(JobError, match=rf"job\.json, line {line}: .* 30 is more than max_trials 20"):
        load_job(path)
