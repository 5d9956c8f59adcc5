"""From a job to its sweep."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import Distribution
from kubesight.job.job import Job
from kubesight.job.space import SearchGroup
from kubesight.sweep.plan import Group, Sweep


def sweep_of(job: Job) -> Sweep:
    """The sweep that a job asks for; the job has been checked when it was read.

    Raises:
        JobError: it asks for one training.
    """
    if not job.search_groups:
        raise JobError("the job asks for one training and not for a sweep", hint="Set limits.max_trials.")
    groups = _groups(job.search_groups)
    fixed = job.given_hyperparameters
    if len(groups) == 1:
        fixed |= groups[0].fixed
        groups = (Group(groups[0].label, {}, groups[0].parameters),)
    return Sweep(
        name=job.name,
        task=job.task,
        metric=job.primary_metric,
        maximize=True,
        goal=job.kubesight.sweep.target_value,
        fixed=fixed,
        groups=groups,
        sampling=job.sweep.sampling_algorithm,
        policy=job.sweep.early_termination,
        limits=job.limits,
        additions=job.kubesight.sweep,
    )


def _groups(found: Sequence[SearchGroup]) -> tuple[Group, ...]:
    groups = []
    for label, group in zip(_labels(found), found, strict=True):
        fixed: dict[str, Any] = {}
        varying: dict[str, Distribution] = {}
        for name, distribution in group.parameters.items():
            ends = set(map(repr, distribution.endpoints()))
            if len(ends) == 1 and not hasattr(distribution, "sigma"):
                fixed[name] = distribution.endpoints()[0]
            else:
                varying[name] = distribution
        if "model_name" not in varying:
            fixed = {"model_name": group.model_names[0], **fixed}
        groups.append(Group(label, fixed, varying))
    return tuple(groups)


def _labels(groups: Sequence[SearchGroup]) -> list[str]:
    names = [
        re.sub(r"[^a-z0-9_-]", "_", group.model_names[0].lower()) if len(group.model_names) == 1 else ""
        for group in groups
    ]
    count = Counter(names)
    return [name if name and count[name] == 1 else f"group{index}" for index, name in enumerate(names)]
