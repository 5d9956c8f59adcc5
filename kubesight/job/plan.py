"""From a job to its sweep."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import Uniform
from kubesight.hyperparameters.table import TABLE
from kubesight.job.groups import groups_of
from kubesight.job.sweep_checks import check_sweep
from kubesight.job.yaml_lines import Keys
from kubesight.models.names import find_model
from kubesight.sweep import automatic
from kubesight.sweep.hyperband import Brackets
from kubesight.sweep.limits import Limits
from kubesight.sweep.plan import Group, Sweep
from kubesight.sweep.sampling import Sampling

if TYPE_CHECKING:
    from kubesight.job.job import Job

Place = Callable[[Keys], str | None]
_SAMPLING = ("sweep", "sampling_algorithm")


def sweep_of(job: "Job") -> Sweep:
    """The sweep that a job asks for, checked when the job was read.

    Raises:
        JobError: it asks for one training.
    """
    if not job.is_sweep:
        raise JobError(
            "the job asks for one training and not for a sweep",
            hint="Write a search_space, or set limits.max_trials for an automatic one.",
        )
    return planned(job, lambda keys: None)[0]


def planned(job: "Job", place: Place) -> tuple[Sweep, list[str]]:
    """The sweep of a job, with one sentence on each thing that is not quite as written.

    Args:
        job: one that sweeps, its hyperparameters read.
        place: the line of a key of its file.

    Raises:
        JobError: its parts contradict each other, or no sampler or cluster could run it.
    """
    fixed, groups = groups_of(job.task, job.given_hyperparameters, job.search_groups)
    sampling = job.sweep.sampling_algorithm
    if sampling.type == "hyperband":
        sampling, fixed, groups = _with_epochs(job, fixed, groups, place)
    sweep = Sweep(
        name=job.name,
        task=job.task,
        metric=job.primary_metric,
        maximize=True,  # as all metrics are that a job may name
        goal=job.kubesight.sweep.target_value,
        fixed=fixed,
        groups=groups,
        sampling=sampling,
        policy=job.sweep.early_termination,
        limits=_limits(job.limits, sampling, groups),
        additions=job.kubesight.sweep,
        space_version=None if job.search_space else automatic.VERSION,
    )
    return sweep, check_sweep(job, sweep, place)


def _limits(limits: Limits, sampling: Sampling, groups: tuple[Group, ...]) -> Limits:
    """For grid no more trials than combinations, each of which is tried once; Katib refuses more."""
    combinations = sum(group.combinations for group in groups)
    if sampling.type != "grid" or limits.max_trials <= combinations:
        return limits
    trials = int(combinations)
    return limits.model_copy(
        update={"max_trials": trials, "max_concurrent_trials": min(limits.max_concurrent_trials, trials)}
    )


def _with_epochs(
    job: "Job", fixed: dict, groups: tuple[Group, ...], place: Place
) -> tuple[Sampling, dict, tuple[Group, ...]]:
    """Let hyperband set the number of epochs: it becomes the parameter that Katib calls the resource."""
    sampling = job.sweep.sampling_algorithm
    if len(groups) > 1:
        raise JobError(
            f"hyperband compares trials of one space, but there are {len(groups)} groups",
            where=place(_SAMPLING),
            hint="Keep one entry of search_space without nested choices, or choose random or tpe sampling.",
        )
    (group,) = groups
    if "number_of_epochs" in group.parameters:
        raise JobError(
            "number_of_epochs varies, but hyperband itself sets it",
            where=next((each.places.get("number_of_epochs") for each in job.search_groups), None),
            hint="Remove it, and set max_resource beside the sampler's type.",
        )
    epochs = fixed.get("number_of_epochs")
    if sampling.max_resource and epochs not in (None, sampling.max_resource):
        raise JobError(
            f"max_resource is {sampling.max_resource}, but number_of_epochs is {epochs}",
            where=place((*_SAMPLING, "max_resource")),
            hint="Keep one of them: both are the epochs of the longest trials.",
        )
    longest = sampling.max_resource or epochs or _default_epochs(job, place)
    brackets = Brackets.checked(longest, sampling, place(_SAMPLING))
    resource = Uniform(brackets.shortest, longest, 1)
    fixed = {name: value for name, value in fixed.items() if name != "number_of_epochs"}
    filled = {"max_resource": longest, "min_resource": brackets.shortest, "reduction_factor": brackets.factor}
    varying = {**group.parameters, "number_of_epochs": resource}
    return sampling.model_copy(update=filled), fixed, (Group(group.label, group.fixed, varying),)


def _default_epochs(job: "Job", place: Place) -> int:
    row = TABLE["number_of_epochs"]
    defaults = {row.for_model(find_model(name), job.task).default for name in job.model_names}
    if len(defaults) > 1:
        raise JobError(
            f"the models have different default numbers of epochs ({', '.join(map(str, sorted(defaults)))})",
            where=place(_SAMPLING),
            hint="Set max_resource beside the sampler's type: the epochs of hyperband's longest trials.",
        )
    return int(defaults.pop())
