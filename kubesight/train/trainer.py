"""From two data sets and a model's name to a model folder, whatever framework trains it."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kubesight.dataset import Dataset
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, HyperparameterError, JobError, KubesightError, ModelError
from kubesight.hyperparameters import resolve
from kubesight.hyperparameters.table import find
from kubesight.metrics.names import PRIMARY_METRICS
from kubesight.modelcard import ModelCard
from kubesight.models.names import ModelSpec, find_model
from kubesight.sweep.policies import parse_policy
from kubesight.train.request import Ending, Request

_TRAINERS = {"torch": "kubesight.train.torch_training", "tensorflow": "kubesight.train.keras.training"}
"""Where each framework's `train_here` is; imported when it is needed, since an image has one of the two."""


def train(
    training_data: Path | str,
    validation_data: Path | str,
    output: Path | str,
    *,
    model_name: str,
    hyperparameters: Mapping[str, Any] | None = None,
    weights: str = "default",
    primary_metric: str | None = None,
    device: str | None = None,
    metrics_file: Path | str | None = None,
    processes: int | None = None,
    early_termination: Mapping[str, Any] | str | None = None,
    stop_by: Literal["exit", "guard"] = "exit",
    discard_checkpoints: bool = False,
) -> ModelCard | None:
    """Train a model. Called again with the same arguments after any interruption, it goes on where it was.

    Args:
        training_data: a data set folder.
        validation_data: a data set folder; the primary metric on it chooses the epoch that is shipped.
        output: gets `model/` (the model folder), `metrics.jsonl` and `checkpoints/`.
        model_name: a name that `kubesight models` lists, `timm/NAME` or `keras/NAME`; it says what framework trains.
        hyperparameters: names and values, in any of the accepted spellings; what is missing has its default.
        weights: `default` (the library's download), `none`, a path or URL of a weights file, or a model folder.
        primary_metric: what chooses the best epoch and stops early; None is what the hyperparameter `eval_metric`
            names, else the task's own (accuracy, or iou).
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU when there is one.
        metrics_file: where metric lines go; None is standard output.
        processes: how many train together, each on a GPU of its own; None is one a GPU (unless `distributed` is off).
            TensorFlow does so within one process. Under `torchrun`, which starts them itself, this is not asked.
        early_termination: the policy of the sweep that this training is a trial of, as the job file writes it, or its
            JSON; see `kubesight.train.early_termination`. A training that it stops prints `es_stop=1` with its last
            evaluation and ships its best weights, as any other.
        stop_by: `exit` ends a stopped training by itself; `guard` first waits for SIGTERM, up to a minute, so that
            Katib, told to watch for `es_stop`, counts it as stopped early.
        discard_checkpoints: keep only the model, the histories and nothing to go on from, once it is finished.

    Returns:
        the card of the finished model (None from a process that is not the main one), or None after SIGTERM, when a
        checkpoint was written and training is not finished.

    Raises:
        HyperparameterError: before any data is read.
        JobError: the policy cannot be read.
        DatasetError: the data do not fit each other or the model, or a picture cannot be read.
        ModelError: the model or its weights cannot be had, or training diverges.
        StorageError: the disk is full; the last checkpoint stays good.
    """
    spec = find_model(model_name)
    policy = parse_policy(early_termination) if early_termination is not None else None
    if stop_by == "guard" and policy is None:
        raise JobError("stop_by guard has no effect without a policy", hint="Give early_termination too.")
    sets = Dataset(training_data), Dataset(validation_data)
    task = _agreed_task(*sets)
    _check_task(spec, task)
    given = hyperparameters or {}
    settings = _settings(model_name, task, given)
    request = Request(
        spec, task, sets, Path(output), settings,
        weights=settings.get("checkpoint_run_id") or weights,
        primary_metric=_primary_metric(task, primary_metric, settings, given),
        ending=Ending(policy, stop_by == "guard", discard_checkpoints),
        given=given,
    )  # fmt: skip
    trainer = importlib.import_module(_TRAINERS[spec.framework])
    card: ModelCard | None = trainer.train_here(
        request, device=device, metrics_file=Path(metrics_file) if metrics_file else None, processes=processes
    )
    return card


def check_request(
    model_name: str,
    hyperparameters: Mapping[str, Any],
    *,
    task: Task | None = None,
    primary_metric: str | None = None,
) -> ModelSpec:
    """Refuse what `train` would refuse whatever the data.

    Args:
        model_name: as `train` takes it, like the others.
        hyperparameters: names and values.
        task: None when the data will say it; then one of the model's tasks must do.
        primary_metric: None is the task's own.

    Returns:
        the architecture, which says what framework trains it.

    Raises:
        ModelError: there is no such model, or it is not for the task.
        HyperparameterError: a name or value cannot be.
    """
    spec = find_model(model_name)
    refusals: list[KubesightError] = []
    tasks = [task] if task else sorted(spec.tasks)
    for one in tasks:
        try:
            _check_task(spec, one)
            _primary_metric(one, primary_metric, _settings(model_name, one, hyperparameters), hyperparameters)
        except KubesightError as error:
            refusals.append(error)
    if len(refusals) == len(tasks):
        raise refusals[0]
    return spec


def _settings(model_name: str, task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved hyperparameters; those of the split come too late here."""
    for name in given:
        if find(name).step == "split":
            raise HyperparameterError(
                f"{name} has no effect on a training, which is given its parts",
                hint="Give it to `kubesight split`, or write validation_data_size at the top of the job file.",
            )
    return resolve(model_name, task, given)


def _primary_metric(task: Task, name: str | None, settings: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What judges an epoch: `primary_metric`, or `eval_metric` where that is written, else the task's own."""
    known = PRIMARY_METRICS[task]
    if any(find(written).name == "eval_metric" for written in given):
        asked: str = settings["eval_metric"]
        if name not in (None, asked):
            raise HyperparameterError(
                f"eval_metric is {asked} and primary_metric {name}; both say which epoch is best",
                where="eval_metric",
                hint="Give one of them.",
            )
        return asked
    if name and name not in known:
        raise ModelError(
            f"{name!r} does not judge {task}", where="primary_metric", hint=f"Choose one of {', '.join(known)}."
        )
    return name or known[0]


def _agreed_task(training: Dataset, validation: Dataset) -> Task:
    if training.task != validation.task:
        raise DatasetError(
            f"training data are for {training.task}, validation data for {validation.task}", where=str(validation.path)
        )
    return training.task


def _check_task(spec: ModelSpec, task: Task) -> None:
    if task not in spec.tasks:
        fitting = ", ".join(sorted(spec.tasks))
        raise ModelError(
            f"{spec.name} does {fitting}; the data are for {task}",
            where="model_name",
            hint="`kubesight models` lists the names for each task.",
        )
    if spec.library == "kubesight":
        raise ModelError(f"this version has no trainer for {spec.name}", where="model_name")
