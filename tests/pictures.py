"""Small data sets of real pictures: the handwritten digits that ship inside scikit-learn."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from kubesight.dataset import ClassificationRow, Dataset, DatasetWriter, MultilabelRow, Task


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
