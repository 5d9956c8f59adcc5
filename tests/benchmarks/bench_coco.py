"""COCO's twelve numbers of 5,000 pictures, 80 classes, 36,000 objects and 500,000 detections, against pycocotools.

Each runs in a process of its own, so that its peak of memory is its own. Both start from what is in memory, arrays
here and dictionaries there: reading JSON, which pycocotools would need too, is not in its time. With `--fast` only
ours runs.
"""

import contextlib
import io
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from kubesight.metrics.coco import SUMMARY, coco_metrics
from kubesight.metrics.objects import FoundObjects, TrueObjects

PICTURES, CLASSES, OBJECTS, DETECTIONS = 5_000, 80, 36_000, 500_000
WIDTH, HEIGHT = 640, 480


def scene() -> tuple[TrueObjects, FoundObjects]:
    """Objects of all sizes, a hundredth of them crowds; detections jittered around them, the rest anywhere."""
    generator = np.random.default_rng(3)
    image = generator.integers(PICTURES, size=OBJECTS)
    label = np.minimum(generator.geometric(0.04, OBJECTS) - 1, CLASSES - 1)
    box = _boxes(generator, OBJECTS)
    area = np.prod(box[:, 2:] - box[:, :2], axis=1) * generator.uniform(0.4, 0.9, OBJECTS)
    size = np.tile([WIDTH, HEIGHT], (PICTURES, 1))
    crowd = generator.random(OBJECTS) < 0.01
    truth = TrueObjects(size, image, label, box, area, crowd, np.zeros(OBJECTS, bool))

    around = generator.integers(OBJECTS, size=DETECTIONS * 2 // 5)
    sides = np.tile(box[around, 2:] - box[around, :2], 2)
    hard = generator.exponential(0.12, OBJECTS)
    jitter = hard[around] + generator.exponential(0.1, len(around))
    moved = box[around] + sides * jitter[:, None] * generator.normal(0, 0.8, sides.shape)
    moved = np.concatenate([np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])], axis=1)
    certainty = np.exp(-4 * jitter) * generator.beta(4, 2, len(around))
    wrong = generator.random(len(around)) < 0.1
    noise = DETECTIONS - len(around)
    guessed = np.where(wrong, generator.integers(CLASSES, size=len(around)), label[around])
    found = FoundObjects(
        image=np.concatenate([image[around], generator.integers(PICTURES, size=noise)]),
        label=np.concatenate([guessed, generator.integers(CLASSES, size=noise)]),
        box=np.concatenate([moved, _boxes(generator, noise)]),
        score=np.concatenate([certainty, generator.beta(1, 12, noise)]).round(4),
    )
    return truth, found.select(generator.permutation(DETECTIONS))


def ours() -> tuple[float, float, list[float]]:
    """Seconds, megabytes above the input, and the twelve numbers."""
    truth, found = scene()
    before, start = _peak(), time.perf_counter()
    summary = coco_metrics(truth, found, [f"{k:02}" for k in range(CLASSES)], masks=False).summary
    return time.perf_counter() - start, _peak() - before, [summary[name] for name in SUMMARY]


def pycocotools() -> tuple[float, float, list[float]]:
    """The same by pycocotools alone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = scene()
    before = _peak()
    labelled = COCO()
    labelled.dataset = {
        "images": [{"id": k + 1, "width": WIDTH, "height": HEIGHT} for k in range(PICTURES)],
        "categories": [{"id": k + 1} for k in range(CLASSES)],
        "annotations": [
            {"id": k + 1, "image_id": image + 1, "category_id": label + 1, "bbox": box, "area": area, "iscrowd": crowd}
            for k, (image, label, box, area, crowd) in enumerate(
                zip(
                    truth.image.tolist(),
                    truth.label.tolist(),
                    _xywh(truth.box),
                    truth.area.tolist(),
                    truth.crowd.tolist(),
                    strict=True,
                )
            )
        ],
    }
    results = [
        {"image_id": image + 1, "category_id": label + 1, "bbox": box, "score": score}
        for image, label, box, score in zip(
            found.image.tolist(), found.label.tolist(), _xywh(found.box), found.score.tolist(), strict=True
        )
    ]
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        labelled.createIndex()
        evaluation = COCOeval(labelled, labelled.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return time.perf_counter() - start, _peak() - before, evaluation.stats.tolist()


def main() -> None:
    """Print both times, their ratio, the memory, and the largest difference of the twelve numbers."""
    seconds, megabytes, numbers = _alone(ours)
    print(f"kubesight:   {seconds:6.2f} s, {megabytes:5.0f} MB")
    print("  " + ", ".join(f"{name} {value:.4f}" for name, value in zip(SUMMARY, numbers, strict=True)))
    if "--fast" in sys.argv:
        return
    theirs, their_megabytes, their_numbers = _alone(pycocotools)
    print(f"pycocotools: {theirs:6.2f} s, {their_megabytes:5.0f} MB")
    difference = float(np.abs(np.subtract(numbers, their_numbers)).max())
    print(f"{theirs / seconds:.0f} times faster; largest difference of the twelve numbers {difference:.1e}")


def _alone(function: Callable[[], tuple[float, float, list[float]]]) -> tuple[float, float, list[float]]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function).result()


def _boxes(generator: np.random.Generator, n: int) -> np.ndarray:
    """Boxes inside the picture whose sides are spread evenly over the orders of magnitude."""
    sides = np.exp(generator.uniform(np.log(8), np.log(400), (n, 2)))
    first = generator.random((n, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([first, first + sides], axis=1)


def _xywh(box: np.ndarray) -> list[list[float]]:
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1).tolist()


def _peak() -> float:
    """The process's peak of memory so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
