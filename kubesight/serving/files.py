"""Answers as picture files: masks, and the picture with what was found drawn on it."""

from collections import Counter
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from kubesight.dataset.images import read_image
from kubesight.errors import StorageError
from kubesight.report.pictures import draw_boxes, draw_polygons, label_colours, shrink
from kubesight.serving.detector import FoundObjects

LONG_SIDE = (960, 1600)
"""Least and greatest long side of a drawn picture in pixels, so that the tags can be read."""

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 100]


class FileNames:
    """Names for the files that belong to pictures: the picture's own, numbered where several have the same."""

    def __init__(self) -> None:
        """No name is taken yet."""
        self._taken: Counter[str] = Counter()

    def stem(self, url: str) -> str:
        """The picture's file name without its ending; `a`, then `a-2`, `a-3`."""
        stem = PurePosixPath(url).stem or "picture"
        number = self._taken[stem] + 1
        while self._taken[f"{stem}-{number}"]:
            number += 1
        self._taken[stem] = number
        if number == 1:
            return stem
        self._taken[f"{stem}-{number}"] += 1
        return f"{stem}-{number}"


def write_masks(answer: FoundObjects, folder: Path, stem: str) -> list[str]:
    """Write each object's mask as a picture of the whole picture's size, white on black.

    Args:
        answer: of a model that makes masks; its `image_type` is the format.
        folder: where to write; it is made.
        stem: how the files' names begin; the object's number follows.

    Returns:
        The files, in the objects' order.

    Raises:
        StorageError: a file cannot be written.
    """
    ending = answer.settings["image_type"]
    files = []
    for index in range(len(answer.found)):
        region, (x, y) = answer.region(index)
        mask = np.zeros((answer.height, answer.width), np.uint8)
        mask[y : y + region.shape[0], x : x + region.shape[1]] = region * np.uint8(255)
        file = folder / f"{stem}.{index}.{ending}"
        _write(mask, file)
        files.append(str(file))
    return files


def write_drawing(answer: FoundObjects, folder: Path, stem: str) -> Path:
    """Write the picture with boxes, outlines, labels and scores drawn on it, as a JPEG.

    Args:
        answer: what was found.
        folder: where to write; it is made.
        stem: the file's name without its ending.

    Raises:
        DatasetError: the picture cannot be read.
        StorageError: the file cannot be written.
    """
    low, high = LONG_SIDE
    canvas = shrink(read_image(answer.url, min_size=low), high)
    if max(canvas.shape[:2]) < low:
        scale = low / max(canvas.shape[:2])
        canvas = np.asarray(cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))
    by_class = label_colours(answer.classes)
    tags = [f"{label} {score:.2f}" for label, score in zip(answer.labels, answer.found.scores, strict=True)]
    colours = {tag: by_class[label] for tag, label in zip(tags, answer.labels, strict=True)}
    # The surest objects are drawn last, over the others; outlines one by one, since each takes a mask of the picture.
    boxes = [(*corners, tag) for corners, tag in zip(answer.found.boxes.tolist(), tags, strict=True)][::-1]
    if answer.found.masks is not None:
        for index in reversed(range(len(tags))):
            canvas = draw_polygons(canvas, [(answer.polygon(index), tags[index])], colours=colours)
    canvas = draw_boxes(canvas, boxes, colours=colours)
    file = folder / f"{stem}.jpg"
    _write(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR), file)
    return file


def _write(pixels: np.ndarray, file: Path) -> None:
    done, data = cv2.imencode(file.suffix, pixels, _JPEG if file.suffix == ".jpg" else [])
    if not done:
        raise StorageError(
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels cannot be encoded", where=str(file)
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.tobytes())
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(file)) from error
