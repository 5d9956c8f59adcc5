"""Running a detector over the pictures of a data set, and writing what was found so that it can be judged again."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from kubesight.dataset.objects import found_objects, join_found
from kubesight.evaluate.object_truth import ObjectTruth
from kubesight.metrics.objects import FoundObjects
from kubesight.modelcard import ModelCard
from kubesight.serving.detector import Detector
from kubesight.serving.predictor import load_predictor

SECONDS_BETWEEN_REMARKS = 10.0

_CORNERS = ("topX", "topY", "bottomX", "bottomY")

_log = logging.getLogger(__name__)


def run_detector(
    model: Path | str,
    card: ModelCard,
    truth: ObjectTruth,
    batch_size: int | None,
    overrides: Mapping[str, Any] | None = None,
) -> FoundObjects:
    """All that a detector finds in the pictures, whatever the score.

    Args:
        model: the model folder.
        card: its card.
        truth: the pictures; its classes hold those of the model.
        batch_size: pictures at a time; None for what the model was validated with.
        overrides: inference settings in place of the card's.

    Raises:
        DatasetError: a picture cannot be read.
        ModelError: there is no model.
    """
    batch_size = batch_size or card.hyperparameters.get("validation_batch_size") or 1
    predictor = load_predictor(model, batch_size=batch_size, overrides=overrides)
    assert isinstance(predictor, Detector)  # as the card's task says
    places = np.array([truth.classes.index(name) for name in predictor.classes], np.int64)
    threshold = predictor.settings["mask_pixel_score_threshold"] if truth.masks else None
    parts = []
    told = time.monotonic()
    # Masks become run lengths picture by picture: all their probabilities would not fit into memory.
    for row, found in enumerate(predictor.all_detections(truth.urls)):
        parts.append(found_objects([found], truth.objects.sizes[row : row + 1], threshold))
        if time.monotonic() - told > SECONDS_BETWEEN_REMARKS:
            told = time.monotonic()
            _log.info("evaluated %d of %d pictures", row + 1, len(truth.urls))
    joined = join_found(parts, masks=truth.masks)
    return FoundObjects(joined.image, places[joined.label], joined.box, joined.score, joined.masks)


def write_detections(stream: IO[bytes], truth: ObjectTruth, found: FoundObjects) -> None:
    """Write one line a picture, all detections in fractions of it, as `kubesight.evaluate.object_predictions` reads it.

    Nothing is rounded: the same numbers come out of it again.
    """
    sizes = np.tile(truth.objects.sizes, 2)[found.image].astype(np.float64)
    fractions = (found.box / np.where(sizes, sizes, 1)).tolist()
    rows: dict[int, list[int]] = defaultdict(list)
    for index, place in enumerate(found.image.tolist()):
        rows[place].append(index)
    for place, url in enumerate(truth.urls):
        boxes: list[dict[str, Any]] = []
        for index in rows.get(place, []):
            item: dict[str, Any] = {
                "box": dict(zip(_CORNERS, fractions[index], strict=True)),
                "label": truth.classes[found.label[index]],
                "score": float(found.score[index]),
            }
            if found.masks is not None:
                mask = found.masks[index]
                item["rle"] = {"size": mask["size"], "counts": mask["counts"].decode()}
            boxes.append(item)
        stream.write(orjson.dumps({"image_url": url, "boxes": boxes}, option=orjson.OPT_APPEND_NEWLINE))
