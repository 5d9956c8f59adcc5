"""The automatic space: what a sweep varies when the job file names no `search_space` (Azure's AutoMode).

Data with reasons, to be read and argued with. `VERSION` counts changes of it. How it is used:

- What `training_parameters` fixes is fixed. A fixed `model_name` leaves that model alone; a model that is not listed
  gets the ranges of `RATES` around its default.
- A model is added for every `TRIALS_PER_MODEL` trials, in the order of `MODELS`: few trials on many models would tell
  nothing about any of them.
- Models that refuse what is fixed are left out.
- A setting varies from so many trials on as its entry says (`trials`), and only where it applies and has an effect.
- Batch and picture sizes beyond the defaults are left alone, but for detectors' usual two: a trial that runs out of
  memory is lost.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.resolve import resolve, rows_for, settle
from kubesight.hyperparameters.search_space import Choice, Distribution, LogUniform

VERSION = 1
"""Counts changes of the data below."""

TRIALS_PER_MODEL = 5
"""A sweep of 10 to 20 trials, which Azure recommends, tries two to four models."""


@dataclass(frozen=True)
class Candidate:
    """A model with the optimiser that its range of learning rates is for.

    Attributes:
        model_name: as in the job file.
        optimizer: sgd, adam or adamw.
        learning_rate: least and greatest, drawn logarithmically.
        reason: where the range comes from.
    """

    model_name: str
    optimizer: str
    learning_rate: tuple[float, float]
    reason: str


@dataclass(frozen=True)
class Varied:
    """A setting that varies beside the model and its learning rate.

    Attributes:
        setting: its canonical name.
        values: what it is drawn from.
        tasks: where it varies.
        trials: it varies in sweeps of so many trials and more.
        reason: why it is worth trials.
    """

    setting: str
    values: Distribution
    tasks: frozenset[Task]
    trials: int
    reason: str


MODELS: dict[Task, tuple[Candidate, ...]] = {
    Task.CLASSIFICATION: (
        Candidate("seresnext", "sgd", (1e-3, 3e-2), "Azure publishes 0.001 to 0.01 for it, and 0.01 as the default"),
        Candidate("vits16r224", "sgd", (1e-3, 3e-2), "Azure publishes 0.001 to 0.01, and 0.0125 as the default"),
        Candidate("resnet50", "sgd", (1e-3, 3e-2), "Azure publishes 0.001 to 0.01, and 0.01 as the default"),
        Candidate("vitb16r224", "sgd", (1e-3, 3e-2), "as vits16r224; last of the four, since it costs the most"),
    ),
    Task.MULTILABEL: (
        Candidate("seresnext", "sgd", (5e-3, 1e-1), "Azure publishes 0.005 to 0.05, and 0.035 as the default"),
        Candidate("vits16r224", "sgd", (5e-3, 5e-2), "as vitb16r224, with a quarter of its cost"),
        Candidate("vitb16r224", "sgd", (5e-3, 5e-2), "Azure publishes 0.005 to 0.05, and 0.025 as the default"),
        Candidate("resnet50", "sgd", (5e-3, 1e-1), "as seresnext, whose default it has"),
    ),
    Task.DETECTION: (
        Candidate(
            "fasterrcnn_resnet50_fpn", "sgd", (1e-3, 1e-2),
            "torchvision trains it with 0.02 for batches of 16, which is 0.0025 for 2; Azure's default is 0.005",
        ),
        Candidate(
            "retinanet_resnet50_fpn", "sgd", (3e-4, 5e-3),
            "torchvision trains it with 0.01 for batches of 16, which is 0.00125 for 2; its focal loss diverges early",
        ),
        Candidate(
            "fasterrcnn_resnet50_fpn", "adamw", (5e-5, 5e-4),
            "Azure publishes 0.0001 to 0.001 for all optimisers together; torchvision's recipes with adamw take 0.0001",
        ),
        Candidate(
            "torchvision/fcos_resnet50_fpn", "sgd", (3e-4, 5e-3),
            "torchvision trains it with 0.01 for batches of 16, as retinanet",
        ),
    ),
    Task.SEGMENTATION: (
        Candidate(
            "maskrcnn_resnet50_fpn", "sgd", (1e-3, 1e-2),
            "torchvision trains it with 0.02 for batches of 16, which is 0.0025 for 2; Azure's default is 0.005",
        ),
        Candidate(
            "maskrcnn_resnet50_fpn", "adamw", (5e-5, 5e-4),
            "Azure publishes 0.0001 to 0.001 for all optimisers together; torchvision's recipes with adamw take 0.0001",
        ),
    ),
}  # fmt: skip
"""What is tried, the best guess first. All but fcos are names of Azure's own."""

RATES: dict[str, tuple[float, float]] = {"sgd": (0.1, 3.0), "adam": (1 / 300, 0.1), "adamw": (1 / 300, 0.1)}
"""For other models and optimisers: the range, as multiples of the model's default, which is for sgd.

About 30 times from end to end, like the ranges above; adaptive optimisers want some 30 times less than sgd.
"""

KERAS_RATES = dict.fromkeys(("adam", "adamw", "rmsprop"), (0.1, 3.0))
"""The same for keras/* models, whose default is adam's. SageMaker's own range, 1e-6 to 0.5, wastes most trials."""

_ALL, _BOXES = frozenset(Task), frozenset({Task.DETECTION, Task.SEGMENTATION})
_PICTURES = frozenset({Task.CLASSIFICATION, Task.MULTILABEL})

SETTINGS: tuple[Varied, ...] = (
    Varied("number_of_epochs", Choice((15, 30)), _ALL, 5, "Azure publishes these two for classification"),
    Varied("layers_to_freeze", Choice((0, 2)), _PICTURES, 10, "Azure publishes these two; small sets gain from 2"),
    Varied("min_size", Choice((600, 800)), _BOXES, 10, "Azure publishes these two; small objects want 800"),
    Varied(
        "weight_decay", LogUniform(math.log(1e-5), math.log(1e-3)), _ALL, 20,
        "around the default 0.0001, which is torchvision's; timm's recipes go from 1e-5 to 1e-3 with sgd",
    ),
    Varied("label_smoothing", Choice((0.0, 0.1)), frozenset({Task.CLASSIFICATION}), 20, "0.1 is usual in timm"),
)  # fmt: skip
"""In order of worth: the first ones vary in small sweeps too."""


def automatic_space(task: Task, given: Mapping[str, Any], max_trials: int) -> list[dict[str, Distribution]]:
    """The space of a sweep whose job names none.

    Args:
        task: what is trained for.
        given: what the job fixes, by canonical name, typed; `model_name` too when it does.
        max_trials: how many trials there may be.

    Returns:
        One flat space for each candidate, by canonical name, with `model_name`. Settings with one value are constants
        of theirs. A space in which nothing but these stands has all else fixed by the job.

    Raises:
        HyperparameterError: no model takes what the job fixes.
    """
    candidates = _candidates(task, given)
    number = max(1, min(len(candidates), max_trials // TRIALS_PER_MODEL))
    return [_space(task, candidate, given, max_trials) for candidate in candidates[:number]]


def _candidates(task: Task, given: Mapping[str, Any]) -> list[Candidate]:
    """Those of the data, or one made for the model and optimiser that the job fixes."""
    listed = [candidate for candidate in MODELS[task] if _fits(task, candidate, given)]
    if listed:
        return listed
    named = [given["model_name"]] if "model_name" in given else [each.model_name for each in MODELS[task]]
    model = next((name for name in named if _is_taken(task, name, given, {})), named[0])
    settings = resolve(model, task, given)
    optimizer = settings["optimizer"]
    rates = KERAS_RATES if "epsilon" in settings else RATES
    default = _default_rate(model, task)
    least, greatest = rates.get(optimizer, (1.0, 30.0))
    span = (default * least, min(1.0, default * greatest))
    return [Candidate(model, optimizer, span, "the model's default, widened as its optimiser allows")]


def _default_rate(model: str, task: Task) -> float:
    return float(next(row.default for row in rows_for(model, task) if row.name == "learning_rate"))


def _fits(task: Task, candidate: Candidate, given: Mapping[str, Any]) -> bool:
    """Whether the job leaves model and optimiser open or fixes the same, and the model takes all else that it fixes."""
    own = {"model_name": candidate.model_name, "optimizer": candidate.optimizer}
    if any(given.get(name, value) != value for name, value in own.items()):
        return False
    return _is_taken(task, candidate.model_name, {**own, **given}, {})


def _space(task: Task, candidate: Candidate, given: Mapping[str, Any], max_trials: int) -> dict[str, Distribution]:
    fixed = {name: value for name, value in given.items() if name != "model_name"}
    space: dict[str, Distribution] = {"model_name": Choice((candidate.model_name,))}
    wanted: list[tuple[str, Distribution]] = [
        ("optimizer", Choice((candidate.optimizer,))),
        ("learning_rate", LogUniform(*map(math.log, candidate.learning_rate))),
        *((each.setting, each.values) for each in SETTINGS if task in each.tasks and max_trials >= each.trials),
    ]
    for setting, values in wanted:
        if setting not in given and _is_taken(task, candidate.model_name, fixed, {**space, setting: values}):
            space[setting] = values
    return space


def _is_taken(task: Task, model: str, fixed: Mapping[str, Any], space: Mapping[str, Distribution]) -> bool:
    """Whether the model has all these settings, and each of them an effect."""
    try:
        settle(model, task, fixed, space)
    except HyperparameterError:
        return False
    return True
