"""A sweep as a whole, checked and typed: what every way of running one starts from."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from kubesight.dataset.rows import Task
from kubesight.hyperparameters.search_space import Choice, Distribution
from kubesight.section import Section
from kubesight.sweep.limits import Limits
from kubesight.sweep.policies import AnyPolicy
from kubesight.sweep.sampling import Sampling


class SweepAdditions(Section):
    """What stands under `kubesight.sweep:`, beyond Azure's `limits` and `sweep`.

    Attributes:
        target_value: the sweep ends when a trial's primary metric reaches it.
        no_improvement_trials: it ends when so many trials in a row have not improved on the best.
        convergence: it ends when improvement has become insignificant (1 % or less, as in SageMaker).
        max_failed_trials: it fails when so many trials have.
        early_stopping: who ends trials early: `training`, each training by itself; `guard`, the same, and Katib marks
            them EarlyStopped; `service`, Katib's early stopping service.
        trial_kind: what a trial is on a cluster; `auto`: a Job, and on several nodes a PyTorchJob.
    """

    target_value: float | None = Field(default=None, gt=0, le=1)
    no_improvement_trials: int | None = Field(default=None, ge=1, le=1000)
    convergence: bool = False
    max_failed_trials: int | None = Field(default=None, ge=1, le=1000)
    early_stopping: Literal["training", "guard", "service"] = "training"
    trial_kind: Literal["auto", "Job", "PyTorchJob", "TrainJob"] = "auto"


@dataclass(frozen=True)
class Group:
    """One part of a conditional space: the settings that vary together when it is chosen.

    Every group has the same chance of being chosen, however many models or values it has.

    Attributes:
        label: its own within the sweep: its model's name where no other group has it, else what sets it apart (its
            optimiser), else `group0`, `group1`, ...; of letters a-z, digits, `-` and `_`.
        fixed: settings of all its trials, by canonical name, typed. Empty in a sweep's only group, whose settings
            stand in `Sweep.fixed`.
        parameters: settings that vary, by canonical name; two values at least each. `model_name` is in one of the two.
    """

    label: str
    fixed: dict[str, Any]
    parameters: dict[str, Distribution]

    @property
    def combinations(self) -> float:
        """How many different trials there are; infinity as soon as one setting has a range without steps."""
        return math.prod(distribution.size() for distribution in self.parameters.values())


@dataclass(frozen=True)
class Sweep:
    """A sweep, wherever it runs.

    Attributes:
        name: the job's, or None.
        task: what is trained for.
        metric: the primary metric.
        maximize: whether it is better when greater.
        goal: the value of it that ends the sweep.
        fixed: settings of all trials, by canonical name, typed, without defaults; with `model_name` when there is one
            group with one model.
        groups: the space; one at least.
        sampling: how trials are drawn; for hyperband with `max_resource` and `reduction_factor` filled in.
        policy: when they are ended early.
        limits: how many there are; for grid never more trials than combinations.
        additions: what Azure has no equal for.
        space_version: the version of the automatic space that the groups come from; None for the user's own.
    """

    name: str | None
    task: Task
    metric: str
    maximize: bool
    goal: float | None
    fixed: dict[str, Any]
    groups: tuple[Group, ...]
    sampling: Sampling
    policy: AnyPolicy | None
    limits: Limits
    additions: SweepAdditions
    space_version: int | None = None

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that a trial may train."""
        found: list[str] = []
        for settings in (self.fixed, *(each for group in self.groups for each in (group.fixed, group.parameters))):
            named = settings.get("model_name")
            found += map(str, named.values if isinstance(named, Choice) else [named] if named else [])
        return tuple(dict.fromkeys(found))
