"""Loading pictures, one core: ours against Pillow and against a plain torchvision loader, in one run."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import decode_size_for_training, evaluation_view, training_view
from kubesight.modelcard import CropPreprocessing
from kubesight.models.inputs import normalise

BATCH, CROP, ROUNDS = 32, 224, 5
PREPROCESSING = CropPreprocessing()


def plain_loader(folder: Path) -> Iterator[torch.Tensor]:
    """Normalised training batches as most code makes them."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(CROP),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.4)], p=0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
        ]
    )
    for images, _ in DataLoader(ImageFolder(str(folder), transform), BATCH, shuffle=False):
        yield images


def our_loader(paths: list[str]) -> Iterator[torch.Tensor]:
    """Normalised training batches: bytes to the device, normalised there."""
    rng = np.random.default_rng(0)
    size = decode_size_for_training(CROP)
    for start in range(0, len(paths), BATCH):
        views = [training_view(read_image(path, min_size=size), CROP, rng) for path in paths[start : start + BATCH]]
        yield normalise(torch.from_numpy(np.stack(views)), PREPROCESSING.mean, PREPROCESSING.std)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(label: str, count: int, ours: Callable[[], object], theirs: Callable[[], object], name: str) -> float:
    """Time both in turns, print pictures a second of the best round of each, and return how many times ours is."""
    rounds = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    mine, other = min(first for first, _ in rounds), min(second for _, second in rounds)
    print(f"{label}: {count / mine:.0f} pictures/s, {name} {count / other:.0f}: {other / mine:.2f} times")
    return other / mine


def pillow_read(path: str) -> np.ndarray:
    """Decode in full with Pillow."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def pillow_view(path: str) -> np.ndarray:
    """The evaluation view with Pillow."""
    with Image.open(path) as picture:
        return np.asarray(v2.functional.center_crop(v2.functional.resize(picture.convert("RGB"), [256]), [CROP]))


def bench(label: str, folder: Path) -> float:
    """Decoding, evaluation views and training batches of a folder per class; returns the loader's ratio."""
    paths = [path for path, _ in ImageFolder(str(folder)).samples]
    count = len(paths)
    compare(f"{label}, decode", count, lambda: [*map(read_image, paths)], lambda: [*map(pillow_read, paths)], "Pillow")

    def views() -> list[np.ndarray]:
        size = PREPROCESSING.resize_size
        return [evaluation_view(read_image(path, min_size=size), PREPROCESSING) for path in paths]

    compare(f"{label}, evaluation view", count, views, lambda: [*map(pillow_view, paths)], "Pillow")
    return compare(
        f"{label}, training loader",
        count,
        lambda: [batch.shape for batch in our_loader(paths)],
        lambda: [batch.shape for batch in plain_loader(folder)],
        "ImageFolder",
    )


def make_photos(folder: Path, count: int = 12) -> None:
    """JPEGs of 4000 x 3000 pixels, 1.5 MB each: smooth shapes with the grain of a sensor."""
    (folder / "photo").mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((4000, 3000))
        grain = rng.integers(-8, 9, (3000, 4000, 3), dtype=np.int16)
        pixels = np.clip(np.asarray(shapes) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photo" / f"{number}.jpg", quality=85)


def main() -> None:
    """Print the ratios; the goals are 2 on small photos and 4 on large ones."""
    torch.set_num_threads(1)
    data = Path(os.environ.get("KUBESIGHT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "grocery10"
    if data.is_dir():
        bench("grocery10", data / "train")
    else:
        print(f"no photos at {data}: set KUBESIGHT_DATA")
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder))
        bench("12 megapixels", Path(folder))


if __name__ == "__main__":
    main()
