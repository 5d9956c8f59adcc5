"""What a frozen backbone of torch makes of each picture."""

import hashlib
import inspect
import json
from typing import Any

import numpy as np
import torch
from torch import nn

from kubesight.dataset import images, pixels, preprocess
from kubesight.modelcard import CropPreprocessing
from kubesight.models.head import forward_features, has_prefix, head_prefixes
from kubesight.models.inputs import normalise
from kubesight.train.data import Augmentation, PictureBatch, PictureLoader, Views
from kubesight.train.feature_cache import kept_or_computed, table_digest
from kubesight.train.table import PictureTable


def cached_features(
    module: nn.Module,
    model_name: str,
    table: PictureTable,
    preprocessing: CropPreprocessing,
    augmentation: Augmentation | None,
    *,
    views: int,
    device: torch.device,
    workers: int,
    batch_size: int,
    channels_last: bool,
) -> np.ndarray:
    """The features of every picture, computed now or read from the cache.

    Args:
        module: the network, on `device`.
        model_name: what it is called; networks of one class and the same tensors may still compute differently.
        table: the pictures.
        preprocessing: sizes and normalisation.
        augmentation: how views are made; None for evaluation's view (then `views` is 1).
        views: views of each picture.
        device: where the network runs.
        workers: processes that load pictures.
        batch_size: pictures a step.
        channels_last: the memory layout of the input.

    Returns:
        float32 [pictures, views, width], read from disk as it is needed.
    """
    source = Views(table, preprocessing, augmentation, once=True)
    return kept_or_computed(
        _key(module, model_name, table, preprocessing, augmentation, views),
        (len(table), views),
        lambda: _compute(module, source, views, device, workers, batch_size, channels_last),
    )


def _compute(
    module: nn.Module,
    source: Views,
    views: int,
    device: torch.device,
    workers: int,
    batch_size: int,
    channels_last: bool,
) -> np.ndarray:
    """Put every picture through the backbone."""
    loader: PictureLoader[PictureBatch] = PictureLoader(source, workers=workers, pin_memory=device.type == "cuda")
    count, mean, std = len(source.table), source.preprocessing.mean, source.preprocessing.std
    batches = [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]
    module.eval()
    rounds = []
    with torch.inference_mode():
        for view in range(views):
            found = []
            for batch in loader.load(view, batches):
                pictures = batch.images.to(device, non_blocking=True)
                inputs = normalise(pictures, mean, std, channels_last=channels_last)
                found.append(forward_features(module, inputs).float().cpu().numpy())
            rounds.append(np.concatenate(found))
    return np.stack(rounds, axis=1)


def _key(
    module: nn.Module,
    model_name: str,
    table: PictureTable,
    preprocessing: CropPreprocessing,
    augmentation: Augmentation | None,
    views: int,
) -> str:
    """All that the features depend on: pictures, how they are read, backbone weights, preprocessing, views."""
    digest = hashlib.sha256()
    said: dict[str, Any] = {
        "torch": torch.__version__,
        "preprocessing": preprocessing.model_dump(),
        "augmentation": None if augmentation is None else vars(augmentation),
        "views": views,
        "network": model_name,
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    for code in (images, pixels, preprocess):
        digest.update(inspect.getsource(code).encode())
    heads = head_prefixes(module)
    for name, tensor in module.state_dict().items():
        if not has_prefix(name, heads):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    table_digest(digest, table)
    return digest.hexdigest()
