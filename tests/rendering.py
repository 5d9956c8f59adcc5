"""Sweeps for tests, and what becomes of them as Experiments."""

import shlex
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.hyperparameters.search_space import (
    Choice,
    ReverseLogUniform,
    Uniform,
)
from kubesight.job.sections import Resources
from kubesight.sweep.limits import Limits
from kubesight.sweep.plan import Group, Sweep, SweepAdditions
from kubesight.sweep.sampling import Sampling
from kubesight.tune.katib.render import experiment_of

PLACES = {"training_data": "/data/train", "validation_data": "/data/validation", "output": "/data/sweeps/one"}


def a_sweep(**changes: Any) -> Sweep:
    values: dict[str, Any] = {
        "name": None,
        "task": Task.CLASSIFICATION,
        "metric": "accuracy",
        "maximize": True,
        "goal": None,
        "fixed": {"model_name": "resnet50"},
        "groups": (Group("resnet50", {}, {"learning_rate": Uniform(0.001, 0.01)}),),
        "sampling": Sampling(seed=7),
        "policy": None,
        "limits": Limits(max_trials=20, max_concurrent_trials=2),
        "additions": SweepAdditions(),
    }
    return Sweep(**(values | changes))


TWO_GROUPS = (
    Group("seresnext", {"model_name": "seresnext"}, {"momentum": ReverseLogUniform(0.5, 0.99)}),
    Group("vitb16r224", {"model_name": "vitb16r224"}, {"number_of_epochs": Choice((15, 30))}),
)


def rendered(sweep: Sweep, resources: Resources | None = None, **changes: Any) -> dict[str, Any]:
    return experiment_of(sweep, resources=resources or Resources(), **(PLACES | changes))


def command_of(document: dict[str, Any]) -> str:
    (container,) = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["sh", "-c"]
    return container["command"][2]


def words_of(document: dict[str, Any]) -> list[str]:
    return shlex.split(command_of(document).replace("$$", "$"))
