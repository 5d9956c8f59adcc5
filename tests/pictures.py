"""Small data sets of real pictures: the handwritten digits that ship inside scikit-learn."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from kubesight.dataset import ClassificationRow, Dataset, DatasetWriter, MultilabelRow, Task
from kubesight.dataset.outlines import encode_mask, mask_rings
from kubesight.dataset.rows import ROW_TYPES, Box, ImageDetails, Instance


def digit(index: int, size: int = 32) -> np.ndarray:
    """One digit as [size, size, 3] uint8."""
    picture = (load_digits().images[index] * (255 / 16)).astype(np.uint8)
    return np.array(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC).convert("RGB"))


def digits_dataset(folder: Path, start: int, count: int, *, classes: int = 10) -> Dataset:
    """A multi-class data set of `count` digits below `classes`, from the `start`-th on, in `folder`."""
    labels = load_digits().target
    wanted = np.flatnonzero(labels < classes)[start : start + count]
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    with DatasetWriter(folder / "data", Task.CLASSIFICATION, source={"root": str(pictures)}) as writer:
        for index in wanted:
            path = pictures / f"{index}.png"
            Image.fromarray(digit(int(index))).save(path)
            writer.write(ClassificationRow(image_url=str(path), label=str(labels[index])))
    return Dataset(folder / "data")


def digit_scenes_dataset(folder: Path, start: int, count: int) -> Dataset:
    """A multilabel data set: each picture holds two digits side by side, labelled with the digits that are there."""
    labels = load_digits().target
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    with DatasetWriter(folder / "data", Task.MULTILABEL, source={"root": str(pictures)}) as writer:
        for number in range(start, start + count):
            pair = (2 * number % 1797, (2 * number + 1) % 1797)
            path = pictures / f"{number}.png"
            Image.fromarray(np.hstack([digit(index) for index in pair])).save(path)
            present = sorted({str(labels[index]) for index in pair})
            writer.write(MultilabelRow(image_url=str(path), label=present))
    return Dataset(folder / "data")


def digit_objects_dataset(folder: Path, start: int, count: int, task: Task, *, background: int = 0) -> Dataset:
    """Digits 0 to 2 in three sizes on a noisy ground of 96 x 96, with their boxes or outlines, exact to the pixel.

    The last `background` pictures hold none.
    """
    labels = load_digits().target
    wanted = np.flatnonzero(labels < 3)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    with DatasetWriter(folder / "data", task, source={"root": str(pictures)}) as writer:
        for number in range(start, start + count):
            rng = np.random.default_rng(number)
            canvas = rng.integers(0, 50, (96, 96), dtype=np.uint8)
            objects = []
            for place in [] if number >= start + count - background else range(int(rng.integers(1, 4))):
                index, size = int(rng.choice(wanted)), int(rng.choice((20, 28, 36)))
                x, y = place * 32 + int(rng.integers(0, 32 - min(size, 31))), int(rng.integers(0, 96 - size))
                size = min(size, 96 - x)
                ink = digit(index, size)[..., 0]
                canvas[y : y + size, x : x + size] = np.maximum(canvas[y : y + size, x : x + size], ink)
                mask = np.zeros((96, 96), bool)
                mask[y : y + size, x : x + size] = ink > 60
                objects.append(_digit_object(task, str(labels[index]), mask))
            path = pictures / f"{number}.png"
            Image.fromarray(np.repeat(canvas[..., None], 3, axis=2)).save(path)
            details = ImageDetails(format="png", width=96, height=96)
            writer.write(ROW_TYPES[task](image_url=str(path), image_details=details, label=objects))  # type: ignore[arg-type]
    return Dataset(folder / "data")


def _digit_object(task: Task, label: str, mask: np.ndarray) -> Box | Instance:
    if task is Task.SEGMENTATION:
        return Instance(label, [[value / 96 for value in ring] for ring in mask_rings(mask)], encode_mask(mask))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return Box(label, *(float(edge) / 96 for edge in edges))
