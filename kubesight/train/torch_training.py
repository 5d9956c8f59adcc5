"""Training by torch: from a checked request to a model folder, in one process or several."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kubesight.dataset.rows import Task
from kubesight.modelcard import CARD_FILE, WEIGHTS_FILE, CropPreprocessing, FitPreprocessing, ModelCard
from kubesight.models.build import BuiltModel, build_model
from kubesight.models.detectors import build_detector
from kubesight.models.freeze import freeze, freeze_backbone, is_backbone_frozen
from kubesight.models.names import CLASSIFICATION_TASKS, ModelSpec
from kubesight.models.weights import load_weights, save_weights
from kubesight.storage.files import atomic_folder
from kubesight.sweep.curves import HISTORY_FILE
from kubesight.sweep.names import MODEL_FOLDER
from kubesight.train.cache_counts import counted_caches
from kubesight.train.distributed import World, join_world, leave_world
from kubesight.train.early_termination import wait_for_sigterm
from kubesight.train.engine import Engine
from kubesight.train.launch import launch
from kubesight.train.memory import keep_freed_memory
from kubesight.train.metric_log import tell_again
from kubesight.train.progress import BEST_FILE, CHECKPOINT_FOLDER, Progress
from kubesight.train.request import (
    Request,
    classes_of,
    described,
    discard_checkpoints,
    fingerprint,
    finished_card,
    is_finished,
    shipped_card,
    termination_of,
    versions,
)
from kubesight.train.stop import Interrupted, StopSignal
from kubesight.train.tasks.build import build_task

log = logging.getLogger("kubesight")

INFERENCE_SETTINGS = (
    "box_score_threshold", "nms_iou_threshold", "box_detections_per_image",
    "tile_grid_size", "tile_overlap_ratio", "tile_predictions_nms_threshold",
    "mask_pixel_score_threshold", "max_number_of_polygon_points", "export_as_image", "image_type",
)  # fmt: skip
"""Hyperparameters of detectors that are kept in the card's `inference`, where its users may change them."""


def train_here(
    request: Request, *, device: str | None, metrics_file: Path | None, processes: int | None
) -> ModelCard | None:
    """Train what was asked for on this machine.

    Args:
        request: what is to be trained.
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU when there is one.
        metrics_file: where metric lines go; None is standard output.
        processes: processes that train together; None is one a GPU. Under `torchrun` this is not asked.

    Returns:
        the finished model's card; None after SIGTERM, and from a process that is not the main one.

    Raises:
        DatasetError: a picture cannot be read, or the data cannot be trained on.
        ModelError: the model or its weights cannot be had, or training diverges.
        StorageError: the disk is full; the last checkpoint stays good.
    """
    count = _processes(processes, device, request.settings)
    if count > 1:
        launch(count, _arguments(request, device, metrics_file))
        return ModelCard.load(request.output / MODEL_FOLDER) if is_finished(request.output) else None
    return _join(request, device, metrics_file)


def _processes(asked: int | None, device: str | None, settings: dict[str, Any]) -> int:
    """How many processes to start from here."""
    if "WORLD_SIZE" in os.environ or not settings["distributed"]:
        return 1
    return asked or (torch.cuda.device_count() if device in (None, "cuda") else 1) or 1


def _arguments(request: Request, device: str | None, metrics_file: Path | None) -> dict[str, Any]:
    """What each of several processes calls `train` with, as plain JSON values."""
    training, validation = (str(data.path) for data in request.sets)
    ending = request.ending
    return {
        **{"training_data": training, "validation_data": validation, "output": str(request.output)},
        **{"model_name": request.spec.name, "hyperparameters": dict(request.given), "weights": request.weights},
        **{"primary_metric": request.primary_metric, "device": device},
        "metrics_file": str(metrics_file) if metrics_file else None,
        "early_termination": ending.policy and ending.policy.model_dump(exclude_none=True),
        **{"stop_by": "guard" if ending.guarded else "exit", "discard_checkpoints": ending.discards},
    }


def _join(request: Request, device: str | None, metrics_file: Path | None) -> ModelCard | None:
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


def _train(request: Request, world: World, metrics_file: Path | None) -> ModelCard | None:
    output, settings, ending = request.output, request.settings, request.ending
    module, card = _untrained(request)
    now = fingerprint(card, world.size)
    if (finished := finished_card(output, now)) is not None:
        if world.is_main:
            tell_again(output / HISTORY_FILE, metrics_file)
            discard_checkpoints(request)
        return finished
    _prepare(request, module, world.device)
    learner = build_task(module, card, request.sets, world=world, workers=_workers(settings))
    engine = Engine(
        learner, settings, world, output=output, fingerprint=now, metrics_file=metrics_file,
        termination=termination_of(request),
    )  # fmt: skip
    # A model that is being shipped is shipped, whoever asks to stop: a trial that a policy ends is told to, then.
    with StopSignal() as stop:
        progress = engine.fit()
        if not world.is_main:
            return None
        load_weights(learner.module, output / CHECKPOINT_FOLDER / BEST_FILE)
        card = _ship(output, module, card, progress)
        discard_checkpoints(request)
        if progress.termination and ending.guarded:
            wait_for_sigterm(lambda: stop.asked or engine.stop.asked)
    return card


def _untrained(request: Request) -> tuple[nn.Module, ModelCard]:
    """The network as training starts from it, and its card without results."""
    spec, sets, settings = request.spec, request.sets, request.settings
    classes = classes_of(request)
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
        data={name: described(data) for name, data in zip(("training", "validation"), sets, strict=True)},
        versions=versions(("torch", "torchvision", "timm", "numpy")),
    )
    return built.module, card


def _built(request: Request, classes: list[str]) -> BuiltModel:
    """The network with its starting weights."""
    if request.task in CLASSIFICATION_TASKS:
        size = request.settings["training_crop_size"]
        return build_model(request.spec, len(classes), weights=request.weights, image_size=size, classes=classes)
    return build_detector(request.spec, classes, weights=request.weights, settings=request.settings)


def _prepare(request: Request, module: nn.Module, device: torch.device) -> None:
    """Freeze what is to stay, and bring the network to its device."""
    if device.type == "cpu":
        keep_freed_memory()
    _freeze(request.spec, module, request.settings)
    module.to(device)
    if request.settings["channels_last"]:
        module.to(memory_format=torch.channels_last)


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


def _ship(output: Path, module: nn.Module, card: ModelCard, progress: Progress) -> ModelCard:
    """Write the model folder from the weights that had the best score; the card goes last."""
    card = shipped_card(card, progress)
    with atomic_folder(output / MODEL_FOLDER, marker=CARD_FILE) as folder:
        save_weights(module, folder / WEIGHTS_FILE)
        card.save(folder)
    log.info("best epoch %s; model in %s", progress.best_epoch, output / MODEL_FOLDER)
    return card
