"""What is to be trained, and what every framework's trainer makes of it: classes, fingerprint, finished card."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubesight
from kubesight.dataset import Dataset
from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, ModelError
from kubesight.modelcard import CARD_FILE, ModelCard
from kubesight.models.names import ModelSpec
from kubesight.sweep.names import MODEL_FOLDER
from kubesight.sweep.policies import AnyPolicy
from kubesight.train.early_termination import EarlyTermination
from kubesight.train.progress import CHECKPOINT_FOLDER, Progress, difference

log = logging.getLogger("kubesight")

# Settings that change how fast training goes, not what comes out; a resumed run may differ in them.
_SPEED_ONLY = {"number_of_workers", "compile", "checkpoint_frequency", "validation_batch_size"}


@dataclass(frozen=True)
class Ending:
    """How a training may end, and what it leaves.

    `policy` is that of the sweep that it is a trial of; `guarded` says that it then waits for SIGTERM, `discards`
    that a finished training keeps no checkpoints.
    """

    policy: AnyPolicy | None
    guarded: bool
    discards: bool


@dataclass(frozen=True)
class Request:
    """What is to be trained, checked.

    `settings` are the resolved hyperparameters and `given` those that the caller wrote; `sets` are the training and
    the validation part.
    """

    spec: ModelSpec
    task: Task
    sets: tuple[Dataset, Dataset]
    output: Path
    settings: dict[str, Any]
    weights: str
    primary_metric: str
    ending: Ending
    given: Mapping[str, Any] = field(default_factory=dict)


def classes_of(request: Request) -> list[str]:
    """The classes of both parts in alphabetical order.

    Raises:
        DatasetError: a part has no pictures, or only one class has any to train on.
    """
    training, validation = request.sets
    for data in request.sets:
        if not len(data):
            raise DatasetError("no pictures", where=str(data.path))
    known = {name for name, count in training.info.counts["per_class"].items() if count}
    if unseen := [name for name, count in validation.info.counts["per_class"].items() if count and name not in known]:
        log.warning("classes without a training picture, which cannot be learnt: %s", ", ".join(unseen))
    if request.task == Task.CLASSIFICATION and len(known) < 2:
        raise DatasetError(
            f"only one class has training pictures ({', '.join(known) or 'none'}); classification needs two",
            where=str(training.path),
        )
    return sorted({*training.classes, *validation.classes})


def described(data: Dataset) -> dict[str, Any]:
    """A part of the data, as the model card names it."""
    return {"path": str(data.path), "images": len(data), "content_hash": data.info.content_hash}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of kubesight and of the given packages, as the model card names them."""
    return {"kubesight": kubesight.__version__, **{name: version(name) for name in packages}}


def termination_of(request: Request) -> EarlyTermination | None:
    """Who asks the sweep's policy, when there is one."""
    policy = request.ending.policy
    return None if policy is None else EarlyTermination(policy, request.output, request.primary_metric)


def fingerprint(card: ModelCard, processes: int) -> dict[str, Any]:
    """What a resumed run must share with the one that it goes on from.

    Args:
        card: of the model that is trained.
        processes: how many train together.
    """
    return {
        "model_name": card.model_name,
        "primary_metric": card.training["primary_metric"],
        "weights": card.weights.get("sha256") or card.weights.get("detail") or card.weights.get("source"),
        "training_data": card.data["training"]["content_hash"],
        "validation_data": card.data["validation"]["content_hash"],
        "processes": processes,
        **{name: value for name, value in card.hyperparameters.items() if name not in _SPEED_ONLY},
    }


def is_finished(output: Path) -> bool:
    """Whether a training has left its model here."""
    return (output / MODEL_FOLDER / CARD_FILE).exists()


def finished_card(output: Path, now: dict[str, Any]) -> ModelCard | None:
    """The card of the model that an earlier run with the same settings finished.

    Args:
        output: the training's folder.
        now: the fingerprint of this run.

    Raises:
        ModelError: it was trained with other settings.
    """
    if not is_finished(output):
        return None
    card = ModelCard.load(output / MODEL_FOLDER)
    if differing := difference(fingerprint(card, now["processes"]), now):
        raise ModelError(
            f"the model here was trained with other settings ({differing})",
            where=str(output / MODEL_FOLDER),
            hint="Name another --output, or remove that folder to start over.",
        )
    log.info("already trained: %s", output / MODEL_FOLDER)
    return card


def shipped_card(card: ModelCard, progress: Progress) -> ModelCard:
    """The card with the best epoch's metrics, and how training went."""
    how = {"best_epoch": progress.best_epoch, "epochs": progress.epoch, "stopped_early": progress.stopped_early}
    policy = {"early_termination": progress.termination} if progress.termination else {}
    return card.model_copy(update={"metrics": progress.best_metrics, "training": {**card.training, **how, **policy}})


def discard_checkpoints(request: Request) -> None:
    """Remove what a finished training could go on from, when the caller wants none of it."""
    if request.ending.discards:
        shutil.rmtree(request.output / CHECKPOINT_FOLDER, ignore_errors=True)
