"""The task that a model card asks for."""

import logging
from typing import Any

from torch import nn

from kubesight.dataset import Dataset, Task
from kubesight.dataset.objects import true_objects
from kubesight.dataset.tiling import Grid
from kubesight.errors import HyperparameterError
from kubesight.modelcard import ModelCard
from kubesight.models.freeze import is_backbone_frozen
from kubesight.models.head import head as classifier
from kubesight.models.head import head_stands_alone
from kubesight.models.names import CLASSIFICATION_TASKS
from kubesight.train.augment import ObjectAugmentation
from kubesight.train.data import Augmentation, PictureLoader, Views
from kubesight.train.distributed import World
from kubesight.train.features import cached_features
from kubesight.train.objects import ObjectViews, check_trainable, read_objects
from kubesight.train.table import PictureTable, read_table
from kubesight.train.tasks.base import TrainingTask
from kubesight.train.tasks.classification import ClassificationHead, ClassificationTask, FeatureTask
from kubesight.train.tasks.detection import DetectionTask

log = logging.getLogger("kubesight")


def build_task(
    module: nn.Module, card: ModelCard, sets: tuple[Dataset, Dataset], *, world: World, workers: int
) -> TrainingTask:
    """Detection, classification on pictures, or classification on cached features when only the head learns.

    Args:
        module: the network, on its device.
        card: task, classes, preprocessing and hyperparameters.
        sets: the training and validation data.
        world: this process's place.
        workers: loader processes.
    """
    if card.task not in CLASSIFICATION_TASKS:
        return _detection_task(module, card, sets, world, workers)
    return _classification_task(module, card, sets, world, workers)


def _detection_task(
    module: nn.Module, card: ModelCard, sets: tuple[Dataset, Dataset], world: World, workers: int
) -> DetectionTask:
    settings, masks = card.hyperparameters, card.task is Task.SEGMENTATION
    tables = tuple(read_objects(data, card.classes) for data in sets)
    check_trainable(tables[0], str(sets[0].path))
    grid = Grid.of(card.inference)
    switched = (settings["advanced_settings"] or {}).get("apply_automl_train_augmentations", True)
    augmentation = ObjectAugmentation(
        seed=settings["random_seed"],
        horizontal_flip=switched and settings["horizontal_flip"],
        crop_expand=switched and settings["random_crop_expand"],
        fill=card.fit.mean,
    )
    size = None if grid else card.fit.min_size
    also_training = settings["log_training_metrics"] == "Enable"
    plain = [ObjectViews(table, min_size=size, masks=masks) for table in tables]
    return DetectionTask(
        module,
        card,
        views=(
            ObjectViews(
                tables[0], min_size=size, masks=masks, augmentation=augmentation, grid=grid,
                min_visible_share=settings["tile_min_visible_share"],
            ),
            [plain[1], plain[0]] if also_training else [plain[1]],
        ),
        truth=(
            true_objects(sets[1].rows(), card.classes),
            true_objects(sets[0].rows(), card.classes) if also_training else None,
        ),
        workers=workers,
        device=world.device,
    )  # fmt: skip


def _classification_task(
    module: nn.Module, card: ModelCard, sets: tuple[Dataset, Dataset], world: World, workers: int
) -> TrainingTask:
    settings = card.hyperparameters
    tables = read_table(sets[0], card.classes), read_table(sets[1], card.classes)
    head = ClassificationHead(
        card.task, card.training["primary_metric"], card.classes, tables[0].labels, settings, world.device
    )
    augmentation = Augmentation(
        crop_size=settings["training_crop_size"],
        seed=settings["random_seed"],
        color_jitter=settings["color_jitter"],
        horizontal_flip=settings["horizontal_flip"],
        min_scale=settings["random_resized_crop_min_scale"],
        randaugment_magnitude=settings["randaugment_magnitude"],
    )
    if is_backbone_frozen(module) and head_stands_alone(module, card.crop.crop_size):
        return _feature_task(module, card, tables, head, augmentation, world, workers)
    cuda = world.device.type == "cuda"
    return ClassificationTask(
        module,
        head,
        tables=tables,
        loaders=(
            PictureLoader(Views(tables[0], card.crop, augmentation), workers=workers, pin_memory=cuda),
            PictureLoader(Views(tables[1], card.crop, None), workers=workers, pin_memory=cuda),
        ),
        preprocessing=card.crop,
        channels_last=settings["channels_last"],
        device=world.device,
    )


def _feature_task(
    module: nn.Module,
    card: ModelCard,
    tables: tuple[PictureTable, PictureTable],
    head: ClassificationHead,
    augmentation: Augmentation,
    world: World,
    workers: int,
) -> FeatureTask:
    settings = card.hyperparameters
    views = settings["feature_views"]
    _check_augmentation(settings)
    if views == 1:
        log.info("frozen backbone: features are computed once, without augmentation")
    else:
        log.info("frozen backbone: features of %d augmented views of each training picture are computed once", views)
    parts = [
        cached_features(
            module,
            card.model_name,
            table,
            card.crop,
            how,
            views=count,
            device=world.device,
            workers=workers,
            batch_size=settings["validation_batch_size"],
            channels_last=settings["channels_last"],
        )
        for table, how, count in ((tables[0], augmentation if views > 1 else None, views), (tables[1], None, 1))
    ]
    return FeatureTask(
        classifier(module),
        head,
        tables=tables,
        features=(parts[0], parts[1]),
        device=world.device,
    )


def _check_augmentation(settings: dict[str, Any]) -> None:
    """Refuse what cached features would leave without effect."""
    for name in ("mixup_alpha", "cutmix_alpha"):
        if settings[name]:
            raise HyperparameterError(
                "pictures cannot be blended once their features are cached", where=name, hint="Set it to 0."
            )
    if settings["feature_views"] == 1 and settings["randaugment_magnitude"]:
        raise HyperparameterError(
            "there is no augmentation while one plain view of each picture is cached",
            where="randaugment_magnitude",
            hint="Set feature_views to the number of augmented views to cache.",
        )
