"""What a sweep is checked for before anything is submitted: what no sampler, no policy or Katib could run.

Katib would find these mistakes after its pods are up, and SageMaker and Azure after the upload.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import Choice, LogNormal, LogUniform, Normal
from kubesight.hyperparameters.table import TABLE
from kubesight.job.space import SearchGroup
from kubesight.job.yaml_lines import Keys
from kubesight.models.names import find_model
from kubesight.sweep.hyperband import Brackets
from kubesight.sweep.plan import Group, Sweep
from kubesight.sweep.policies import TruncationSelection

if TYPE_CHECKING:
    from kubesight.job.job import Job

Place = Callable[[Keys], str | None]

_SAMPLING: Keys = ("sweep", "sampling_algorithm")
_POLICY: Keys = ("sweep", "early_termination")
_TRIALS: Keys = ("limits", "max_trials")
_TOGETHER: Keys = ("limits", "max_concurrent_trials")
_OURS: Keys = ("kubesight", "sweep")
_JUDGING = ("validation_metric_type", "validation_iou_threshold")


def check_sweep(job: "Job", sweep: Sweep, place: Place) -> list[str]:
    """Refuse what cannot be run.

    Args:
        job: as read.
        sweep: what became of it.
        place: the line of a key.

    Returns:
        One sentence on each thing that can be run, but not as one might think.

    Raises:
        JobError: with file and line.
    """
    _check_space(job, sweep, place)
    if sweep.sampling.type == "cmaes":
        _check_cmaes(sweep, place)
    if sweep.sampling.type == "hyperband":
        _check_hyperband(sweep, place)
    _check_additions(job, sweep, place)
    found = [*_on_space(job, sweep), *_on_sampling(sweep), *_on_policy(sweep), *_on_limits(job, sweep)]
    return [f"{where}: {text}" if (where := place(keys)) else text for keys, text in found]


def _check_space(job: "Job", sweep: Sweep, place: Place) -> None:
    if len(sweep.groups) == 1 and not sweep.groups[0].parameters:
        space: Keys = ("search_space",) if job.search_space else _TRIALS
        raise JobError(
            "nothing varies: every trial would be the same",
            where=place(space),
            hint="Give a setting of search_space two values or a range, or set max_trials to 1 and train once.",
        )
    if sweep.sampling.type == "grid" and not job.search_space:
        raise JobError(
            "grid sampling goes through lists, and the automatic space has ranges",
            where=place(_SAMPLING),
            hint="Write a search_space of choice(...), or choose random or bayesian sampling.",
        )
    for group in job.search_groups:
        for name, distribution in group.parameters.items():
            if sweep.sampling.type == "grid" and distribution.size() > 1 and not isinstance(distribution, Choice):
                raise JobError(
                    f"grid sampling goes through lists, but {name} has a range",
                    where=group.places.get(name),
                    hint="Write choice(...), or choose random or bayesian sampling.",
                )
            _check_steps(sweep, group, name)
            if sweep.sampling.multivariate and isinstance(distribution, Normal):
                raise JobError(
                    f"multivariate sampling knows no normal distributions, but {name} has one",
                    where=group.places.get(name),
                    hint="Use uniform(...) or loguniform(...), or remove multivariate.",
                )


def _check_steps(sweep: Sweep, group: SearchGroup, name: str) -> None:
    """Refuse whole numbers where Katib's sampler would forget their steps: trials with half a picture would fail."""
    sampler = "multivariate" if sweep.sampling.multivariate else sweep.sampling.type
    stepped = isinstance(group.parameters[name], LogUniform | Normal) and TABLE[name].kind == "int"
    if stepped and sampler in ("multivariate", "hyperband"):
        raise JobError(
            f"Katib's {sampler} sampling draws no whole numbers from a logarithmic or normal range, which {name} has",
            where=group.places.get(name),
            hint="Use quniform(..., 1), randint(...) or choice(...).",
        )


def _check_cmaes(sweep: Sweep, place: Place) -> None:
    if len(sweep.groups) > 1:
        raise JobError(
            f"cmaes moves in one space, but there are {len(sweep.groups)} groups",
            where=place(_SAMPLING),
            hint="Keep one entry of search_space without nested choices, or choose random or tpe sampling.",
        )
    numbers = [name for name, values in sweep.groups[0].parameters.items() if not isinstance(values, Choice)]
    if len(numbers) < 2:
        raise JobError(
            f"cmaes needs two settings or more with ranges, but there is {numbers[0] if numbers else 'none'}",
            where=place(_SAMPLING),
            hint="Give another setting a range, or choose random or tpe sampling.",
        )


def _check_hyperband(sweep: Sweep, place: Place) -> None:
    if sweep.policy is not None:
        raise JobError(
            f"hyperband ends trials itself, and {sweep.policy.type} would end others it waits for",
            where=place(_POLICY),
            hint="Remove early_termination, or choose random or tpe sampling.",
        )
    brackets = _brackets(sweep)
    if sweep.limits.max_concurrent_trials < brackets.parallel:
        raise JobError(
            f"max_concurrent_trials is {sweep.limits.max_concurrent_trials}, but hyperband with max_resource "
            f"{brackets.longest} and reduction_factor {brackets.factor} starts {brackets.parallel} trials at a time",
            where=place(_TOGETHER),
            hint="Raise it, or lower max_resource or raise reduction_factor.",
        )


def _brackets(sweep: Sweep) -> Brackets:
    return Brackets.of(sweep.sampling.max_resource or 1, sweep.sampling.reduction_factor or 2)


def _check_additions(job: "Job", sweep: Sweep, place: Place) -> None:
    additions, resources = sweep.additions, job.kubesight.resources
    if (additions.max_failed_trials or 0) > sweep.limits.max_trials:
        raise JobError(
            f"max_failed_trials {additions.max_failed_trials} is more than max_trials {sweep.limits.max_trials}",
            where=place((*_OURS, "max_failed_trials")),
            hint="Lower it.",
        )
    if additions.trial_kind == "Job" and resources.nodes > 1:
        raise JobError(
            f"a Job has one pod, but a trial is to have {resources.nodes} nodes",
            where=place((*_OURS, "trial_kind")),
            hint="Choose PyTorchJob, TrainJob or auto.",
        )
    spread = resources.nodes > 1 or additions.trial_kind not in ("auto", "Job")
    if spread and any(find_model(name).framework == "tensorflow" for name in sweep.model_names):
        raise JobError(
            "keras/* models train on the GPUs of one machine, so that a trial is a Job of one pod",
            where=place((*_OURS, "trial_kind")) or place(("kubesight", "resources", "nodes")),
            hint="Remove trial_kind, and set nodes to 1.",
        )
    excluding = isinstance(sweep.policy, TruncationSelection) and sweep.policy.exclude_finished_jobs
    if additions.early_stopping == "service" and excluding:
        raise JobError(
            "Katib's service knows finished trials alone, and exclude_finished_jobs leaves them out",
            where=place((*_POLICY, "exclude_finished_jobs")),
            hint="Remove it, or set kubesight.sweep.early_stopping to training.",
        )


Found = Iterator[tuple[Keys, str]]


def _on_space(job: "Job", sweep: Sweep) -> Found:
    combinations = sum(group.combinations for group in sweep.groups)
    asked, kept = job.limits.max_trials, sweep.limits.max_trials
    if len(sweep.groups) > len(job.search_groups):
        yield (
            ("search_space",),
            (
                f"the space becomes {len(sweep.groups)} groups of equal chance, in which settings stand only "
                "where they have an effect."
            ),
        )
    if len(sweep.groups) > kept:
        yield _TRIALS, f"{kept} trials cannot try each of the {len(sweep.groups)} groups of the space."
    if sweep.sampling.type == "grid":
        if asked > kept:
            yield _TRIALS, f"the grid has {kept} combinations, so that there are {kept} trials and not {asked}."
        elif combinations > kept:
            yield _TRIALS, f"the grid has {combinations:.0f} combinations, of which the first {kept} are tried."
    elif combinations < kept:
        yield (
            _TRIALS,
            (
                f"the space has {combinations:.0f} combinations, so that some of the {kept} trials repeat others; "
                "grid sampling tries each once."
            ),
        )
    judging = [name for name in _JUDGING if any(name in group.parameters for group in sweep.groups)]
    for name in judging:
        yield ("search_space",), f"{name} varies, so that trials are judged by different measures."
    for group in job.search_groups:
        for name, values in group.parameters.items():
            if isinstance(values, Normal) and (share := _most_outside(job, group.model_names, name, values)):
                yield (
                    ("search_space",),
                    (
                        f"{share:.2g} of the draws of {name} are outside its range: a run here draws again, but Katib "
                        "does not, and such a trial fails."
                    ),
                )


def _most_outside(job: "Job", models: tuple[str, ...], name: str, values: Normal) -> float:
    """The share of draws outside the range, where three spreads to both sides of the middle do not all fit."""
    ranges = [TABLE[name].for_model(find_model(model), job.task).range for model in models]
    share = max(values.share_outside(each.low, each.high) for each in ranges)
    return share if share > 0.00135 else 0.0


def _on_sampling(sweep: Sweep) -> Found:
    sampling, limits = sweep.sampling, sweep.limits
    kinds = [values for group in sweep.groups for values in group.parameters.values()]
    shaped = any(isinstance(values, LogUniform | Normal) for values in kinds)
    if shaped and (sampling.type in ("cmaes", "hyperband") or sampling.rule == "sobol"):
        name = "sobol" if sampling.rule else sampling.type
        yield _SAMPLING, f"Katib's {name} draws logarithmic and normal ranges evenly between their ends."
    if sampling.seed is not None and sampling.rule == "sobol":
        yield (*_SAMPLING, "seed"), "Katib's sobol has no seed: there every sweep starts with the same points."
    if sampling.seed is not None and sampling.type == "hyperband":
        yield (*_SAMPLING, "seed"), "Katib's hyperband has no seed: there every sweep is another one."
    if sampling.logbase is not None and not any(isinstance(values, LogUniform | LogNormal) for values in kinds):
        yield (*_SAMPLING, "logbase"), "logbase has no effect here: nothing has a logarithmic range."
    if sampling.type in ("bayesian", "tpe") and 1 < limits.max_trials == limits.max_concurrent_trials:
        yield _TOGETHER, f"all trials start at once, so that {sampling.type} sampling learns from none and is random."
    if sampling.type == "hyperband":
        brackets = _brackets(sweep)
        if (whole := brackets.shortest * brackets.factor**brackets.rounds) != brackets.longest:
            yield (
                _SAMPLING,
                (
                    f"hyperband's first trials grow from {brackets.shortest} to {whole} epochs and not to "
                    f"{brackets.longest}; a max_resource of {whole} or {whole + brackets.factor**brackets.rounds} fits."
                ),
            )


def _on_policy(sweep: Sweep) -> Found:
    policy = sweep.policy
    if policy is None:
        if sweep.additions.early_stopping != "training":
            yield (*_OURS, "early_stopping"), "early_stopping has no effect here: there is no early_termination."
        return
    if sweep.limits.max_trials == 1:
        yield _POLICY, "early_termination has no effect here: one trial has none to be compared with."
        return
    reports = max(_most_reports(sweep, group) for group in sweep.groups)
    if policy.first_interval >= reports:
        yield (
            _POLICY,
            (
                f"early_termination has no effect here: it is first applied after {policy.first_interval} reports, "
                f"and no trial goes on after {reports}."
            ),
        )


def _most_reports(sweep: Sweep, group: Group) -> int:
    """How often a training of the group reports its metric, at the most."""

    def values(name: str) -> tuple:
        if name in group.parameters:
            return group.parameters[name].endpoints()
        return (group.fixed.get(name, sweep.fixed.get(name)),)

    epochs = []
    for model in values("model_name"):
        spec = find_model(model)
        for given in values("number_of_epochs"):
            epochs.append(given or TABLE["number_of_epochs"].for_model(spec, sweep.task).default)
    often = min(frequency or 1 for frequency in values("evaluation_frequency"))
    return math.ceil(max(epochs) / max(often, 1))


def _on_limits(job: "Job", sweep: Sweep) -> Found:
    limits, additions = job.limits, sweep.additions
    if (limits.trial_timeout_minutes or 0) >= limits.timeout_minutes:
        yield (
            ("limits", "trial_timeout_minutes"),
            (f"trial_timeout_minutes has no effect here: the sweep ends after {limits.timeout_minutes} minutes."),
        )
    if (additions.no_improvement_trials or 0) >= sweep.limits.max_trials:
        yield (
            (*_OURS, "no_improvement_trials"),
            (f"no_improvement_trials has no effect here: there are {sweep.limits.max_trials} trials."),
        )
