"""From two data sets and a model's name to a model folder."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import kubesight
from kubesight.dataset import Dataset
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, HyperparameterError, JobError, ModelError
from kubesight.hyperparameters import resolve
from kubesight.hyperparameters.table import find
from kubesight.metrics.names import PRIMARY_METRICS
from kubesight.modelcard import CARD_FILE, WEIGHTS_FILE, CropPreprocessing, FitPreprocessing, ModelCard
from kubesight.models.build import BuiltModel, build_model
from kubesight.models.detectors import build_detector
from kubesight.models.freeze import freeze, freeze_backbone, is_backbone_frozen
from kubesight.models.names import CLASSIFICATION_TASKS, ModelSpec, find_model
from kubesight.models.weights import load_weights, save_weights
from kubesight.storage.files import atomic_folder
from kubesight.sweep.curves import HISTORY_FILE
from kubesight.sweep.names import MODEL_FOLDER
from kubesight.sweep.policies import AnyPolicy, parse_policy
from kubesight.train.cache_counts import counted_caches
from kubesight.train.checkpoint import BEST_FILE, CHECKPOINT_FOLDER, Progress, difference
from kubesight.train.distributed import World, join_world, leave_world
from kubesight.train.early_termination import EarlyTermination, wait_for_sigterm
from kubesight.train.engine import Engine
from kubesight.train.launch import launch
from kubesight.train.memory import keep_freed_memory
from kubesight.train.metric_log import tell_again
from kubesight.train.stop import Interrupted, StopSignal
from kubesight.train.tasks.build import build_task

log = logging.getLogger("kubesight")


INFERENCE_SETTINGS = (
    "box_score_threshold", "nms_iou_threshold", "box_detections_per_image",
    "tile_grid_size", "tile_overlap_ratio", "tile_predictions_nms_threshold",
    "mask_pixel_score_threshold", "max_number_of_polygon_points", "export_as_image", "image_type",
)  # fmt: skip
"""Hyperparameters of detectors that are kept in the card's `inference`, where its users may change them."""

# Settings that change how fast training goes, not what comes out; a resumed run may differ in them.
_SPEED_ONLY = {"number_of_workers", "compile", "checkpoint_frequency", "validation_batch_size"}


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
        model_name: a name that `kubesight models` lists, or `timm/NAME`.
        hyperparameters: names and values, in any of the accepted spellings; what is missing has its default.
        weights: `default` (the library's download), `none`, a path or URL of a state dict, or a model folder.
        primary_metric: what chooses the best epoch and stops early; None is the task's own (accuracy, or iou).
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU when there is one.
        metrics_file: where metric lines go; None is standard output.
        processes: processes that train together; None is one a GPU (unless `distributed` is off). Under `torchrun`,
            which starts them itself, this is not asked.
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
    task = _agreed_task(spec, *sets)
    settings = _settings(model_name, task, hyperparameters or {})
    metric = _checked_metric(task, primary_metric)
    weights = settings["checkpoint_run_id"] or weights
    count = _processes(processes, device, settings)
    if count > 1:
        arguments = {
            **{"training_data": str(training_data), "validation_data": str(validation_data), "output": str(output)},
            **{"model_name": model_name, "hyperparameters": dict(hyperparameters or {}), "weights": weights},
            **{"primary_metric": metric, "device": device, "metrics_file": str(metrics_file) if metrics_file else None},
            **{"early_termination": policy and policy.model_dump(exclude_none=True), "stop_by": stop_by},
            "discard_checkpoints": discard_checkpoints,
        }
        launch(count, arguments)
        return ModelCard.load(Path(output) / MODEL_FOLDER) if _is_finished(Path(output)) else None
    ending = _Ending(policy, stop_by == "guard", discard_checkpoints)
    request = _Request(spec, task, sets, Path(output), settings, weights, metric, ending)
    return _join(request, device, Path(metrics_file) if metrics_file else None)


@dataclass(frozen=True)
class _Ending:
    """How a training may end, and what it leaves."""

    policy: AnyPolicy | None
    guarded: bool
    discards: bool


@dataclass(frozen=True)
class _Request:
    """What is to be trained, checked."""

    spec: ModelSpec
    task: Task
    sets: tuple[Dataset, Dataset]
    output: Path
    settings: dict[str, Any]
    weights: str
    primary_metric: str
    ending: _Ending


def _join(request: _Request, device: str | None, metrics_file: Path | None) -> ModelCard | None:
    """Train as one of the processes that train together; mostly as the only one."""
    world = join_world(device, distributed=bool(request.settings["distributed"]))
    try:
        with counted_caches(request.output if world.is_main else None):
            return _train(request, world, metrics_file)
    except Interrupted:
        log.warning("stopped on SIGTERM; the checkpoint is written, and the same command goes on from it")
        return None
    finally:
        leave_world()


def _train(request: _Request, world: World, metrics_file: Path | None) -> ModelCard | None:
    output, settings, ending = request.output, request.settings, request.ending
    module, card = _untrained(request)
    fingerprint = _fingerprint(card, world)
    if (finished := _finished(output, fingerprint, world)) is not None:
        if world.is_main:
            tell_again(output / HISTORY_FILE, metrics_file)
            _discard_checkpoints(output, ending)
        return finished
    _prepare(request, module, world.device)
    learner = build_task(module, card, request.sets, world=world, workers=_workers(settings))
    engine = Engine(
        learner, settings, world, output=output, fingerprint=fingerprint, metrics_file=metrics_file,
        termination=_termination(request),
    )  # fmt: skip
    # A model that is being shipped is shipped, whoever asks to stop: a trial that a policy ends is told to, then.
    with StopSignal() as stop:
        progress = engine.fit()
        if not world.is_main:
            return None
        load_weights(learner.module, output / CHECKPOINT_FOLDER / BEST_FILE)
        card = _ship(output, module, card, progress)
        _discard_checkpoints(output, ending)
        if progress.termination and ending.guarded:
            wait_for_sigterm(lambda: stop.asked or engine.stop.asked)
    return card


def _termination(request: _Request) -> EarlyTermination | None:
    policy, metric = request.ending.policy, request.primary_metric
    return None if policy is None else EarlyTermination(policy, request.output, metric)


def _untrained(request: _Request) -> tuple[nn.Module, ModelCard]:
    """The network as training starts from it, and its card without results."""
    spec, sets, settings = request.spec, request.sets, request.settings
    classes = _classes(request.task, *sets)
    torch.manual_seed(settings["random_seed"])
    built = _built(request, classes)
    card = ModelCard(
        task=request.task,
        model_name=spec.name,
        classes=classes,
        preprocessing=_preprocessing(request.task, built, settings),
        inference={name: settings[name] for name in INFERENCE_SETTINGS if name in settings},
        hyperparameters=settings,
        weights=built.weights,
        training={"primary_metric": request.primary_metric},
        data={name: _described(data) for name, data in zip(("training", "validation"), sets, strict=True)},
        versions=_versions(),
    )
    return built.module, card


def _built(request: _Request, classes: list[str]) -> BuiltModel:
    """The network with its starting weights."""
    if request.task in CLASSIFICATION_TASKS:
        size = request.settings["training_crop_size"]
        return build_model(request.spec, len(classes), weights=request.weights, image_size=size, classes=classes)
    return build_detector(request.spec, classes, weights=request.weights, settings=request.settings)


def _prepare(request: _Request, module: nn.Module, device: torch.device) -> None:
    """Freeze what is to stay, and bring the network to its device."""
    if device.type == "cpu":
        keep_freed_memory()
    _freeze(request.spec, module, request.settings)
    module.to(device)
    if request.settings["channels_last"]:
        module.to(memory_format=torch.channels_last)


def _processes(asked: int | None, device: str | None, settings: dict[str, Any]) -> int:
    """How many processes to start from here."""
    if "WORLD_SIZE" in os.environ or not settings["distributed"]:
        return 1
    return asked or (torch.cuda.device_count() if device in (None, "cuda") else 1) or 1


def _settings(model_name: str, task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved hyperparameters; those of the split come too late here."""
    for name in given:
        if find(name).step == "split":
            raise HyperparameterError(
                f"{name} has no effect on a training, which is given its parts",
                hint="Give it to `kubesight split`, or write validation_data_size at the top of the job file.",
            )
    return resolve(model_name, task, given)


def _checked_metric(task: Task, name: str | None) -> str:
    known = PRIMARY_METRICS[task]
    if name and name not in known:
        raise ModelError(
            f"{name!r} does not judge {task}", where="primary_metric", hint=f"Choose one of {', '.join(known)}."
        )
    return name or known[0]


def _agreed_task(spec: ModelSpec, training: Dataset, validation: Dataset) -> Task:
    if training.task != validation.task:
        raise DatasetError(
            f"training data are for {training.task}, validation data for {validation.task}", where=str(validation.path)
        )
    if training.task not in spec.tasks:
        fitting = ", ".join(sorted(spec.tasks))
        raise ModelError(
            f"{spec.name} does {fitting}; the data are for {training.task}",
            where="model_name",
            hint="`kubesight models` lists the names for each task.",
        )
    if spec.framework != "torch" or spec.library == "kubesight":
        raise ModelError(f"this version has no trainer for {spec.name}", where="model_name")
    return training.task


def _classes(task: Task, training: Dataset, validation: Dataset) -> list[str]:
    """The classes of both parts in alphabetical order."""
    for data in (training, validation):
        if not len(data):
            raise DatasetError("no pictures", where=str(data.path))
    known = {name for name, count in training.info.counts["per_class"].items() if count}
    if unseen := [name for name, count in validation.info.counts["per_class"].items() if count and name not in known]:
        log.warning("classes without a training picture, which cannot be learnt: %s", ", ".join(unseen))
    classes = sorted({*training.classes, *validation.classes})
    if task == Task.CLASSIFICATION and len(known) < 2:
        raise DatasetError(
            f"only one class has training pictures ({', '.join(known) or 'none'}); classification needs two",
            where=str(training.path),
        )
    return classes


def _preprocessing(task: Task, built: BuiltModel, settings: dict[str, Any]) -> CropPreprocessing | FitPreprocessing:
    mean, std = settings["image_mean"] or built.mean, settings["image_std"] or built.std
    if task in CLASSIFICATION_TASKS:
        return CropPreprocessing(
            resize_size=settings["validation_resize_size"],
            crop_size=settings["validation_crop_size"],
            mean=mean,
            std=std,
        )
    resizing: Any = built.module.transform  # an SSD has its own size, which no setting changes
    return FitPreprocessing(min_size=min(resizing.min_size), max_size=resizing.max_size, mean=mean, std=std)


def _freeze(spec: ModelSpec, module: nn.Module, settings: dict[str, Any]) -> None:
    """Freeze a classifier's layers; a detector's are frozen as it is built, by the weights that it starts from."""
    if "train_only_top_layer" not in settings:
        return
    if settings["train_only_top_layer"]:
        freeze_backbone(module)
    elif settings["layers_to_freeze"]:
        freeze(spec, module, settings["layers_to_freeze"])
    if is_backbone_frozen(module):
        log.info("the backbone is frozen: only the classifier is trained")


def _workers(settings: dict[str, Any]) -> int:
    """Loader processes: as asked for, else the documented number or the cores there are, whichever is less."""
    asked = settings["number_of_workers"]
    return min(8, len(os.sched_getaffinity(0))) if asked is None else asked


def _described(data: Dataset) -> dict[str, Any]:
    return {"path": str(data.path), "images": len(data), "content_hash": data.info.content_hash}


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
    return {"kubesight": kubesight.__version__, **packages}


def _fingerprint(card: ModelCard, world: World) -> dict[str, Any]:
    """What a resumed run must share with the one that it goes on from."""
    return {
        "model_name": card.model_name,
        "primary_metric": card.training["primary_metric"],
        "weights": card.weights.get("sha256") or card.weights.get("detail") or card.weights.get("source"),
        "training_data": card.data["training"]["content_hash"],
        "validation_data": card.data["validation"]["content_hash"],
        "processes": world.size,
        **{name: value for name, value in card.hyperparameters.items() if name not in _SPEED_ONLY},
    }


def _is_finished(output: Path) -> bool:
    return (output / MODEL_FOLDER / CARD_FILE).exists()


def _finished(output: Path, fingerprint: dict[str, Any], world: World) -> ModelCard | None:
    """The card of the model that an earlier run with the same settings finished."""
    if not _is_finished(output):
        return None
    card = ModelCard.load(output / MODEL_FOLDER)
    if differing := difference(_fingerprint(card, world), fingerprint):
        raise ModelError(
            f"the model here was trained with other settings ({differing})",
            where=str(output / MODEL_FOLDER),
            hint="Name another --output, or remove that folder to start over.",
        )
    log.info("already trained: %s", output / MODEL_FOLDER)
    return card


def _ship(output: Path, module: nn.Module, card: ModelCard, progress: Progress) -> ModelCard:
    """Write the model folder from the weights that had the best score; the card goes last."""
    how = {"best_epoch": progress.best_epoch, "epochs": progress.epoch, "stopped_early": progress.stopped_early}
    policy = {"early_termination": progress.termination} if progress.termination else {}
    card = card.model_copy(update={"metrics": progress.best_metrics, "training": {**card.training, **how, **policy}})
    with atomic_folder(output / MODEL_FOLDER, marker=CARD_FILE) as folder:
        save_weights(module, folder / WEIGHTS_FILE)
        card.save(folder)
    log.info("best epoch %s; model in %s", progress.best_epoch, output / MODEL_FOLDER)
    return card


def _discard_checkpoints(output: Path, ending: _Ending) -> None:
    if ending.discards:
        shutil.rmtree(output / CHECKPOINT_FOLDER, ignore_errors=True)
