"""COCO to a data set, beside a bare `orjson.loads` of the file and `orjson.dumps` of the result.

The generated file has the counts and shape of COCO's training part: 118,000 images and 860,000 annotations in no order
by image, each with box, area, ids, iscrowd and a polygon. Pictures do not exist, so sizes are trusted. Every
measurement is a fresh process, which prints its time and how far its memory rose over what the imports took.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

IMAGES, ANNOTATIONS, SHAPES = 118_000, 860_000, 5_000
TIME_LIMIT, MEMORY_LIMIT = 3.0, 3.0


def write_coco(path: Path, images: int, annotations: int) -> None:
    """Write a COCO file whose polygons are drawn from a pool of shapes inside 400 x 300 pixels."""
    rng = np.random.default_rng(0)
    shapes = []
    for points in rng.integers(4, 42, SHAPES):
        angles = np.sort(rng.uniform(0, 2 * np.pi, points))
        ring = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(10, 70)
        ring = np.round(ring + rng.uniform((80, 80), (320, 220)), 2)
        (x0, y0), (x1, y1) = ring.min(0), ring.max(0)
        box = np.round([x0, y0, x1 - x0, y1 - y0], 2).tolist()
        outline = {"segmentation": [ring.ravel().tolist()], "area": round(box[2] * box[3] * 0.7, 4), "iscrowd": 0}
        shapes.append(orjson.dumps({**outline, "bbox": box})[:-1])
    sizes = rng.integers((400, 300), (641, 641), (images, 2)).tolist()
    owners = rng.integers(1, images + 1, annotations).tolist()
    chosen = rng.integers(0, SHAPES, annotations).tolist()
    classes = rng.integers(1, 81, annotations).tolist()
    with open(path, "wb", buffering=1 << 20) as stream:
        stream.write(b'{"info":{"description":"generated"},"images":[')
        for number, (width, height) in enumerate(sizes, start=1):
            name = b'{"license":1,"file_name":"%012d.jpg","height":%d,"width":%d,"id":%d}'
            stream.write(b"," * (number > 1) + name % (number, height, width, number))
        stream.write(b'],"annotations":[')
        for number, (owner, shape, label) in enumerate(zip(owners, chosen, classes, strict=True), start=1):
            ids = b',"image_id":%d,"category_id":%d,"id":%d}' % (owner, label, number)
            stream.write(b"," * (number > 1) + shapes[shape] + ids)
        categories = [{"supercategory": "thing", "id": k, "name": f"class {k}"} for k in range(1, 81)]
        stream.write(b'],"categories":' + orjson.dumps(categories) + b"}")


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_parse(source: Path) -> tuple[float, int]:
    """Seconds for `orjson.loads`, and the memory it needs."""
    base = peak()
    data = source.read_bytes()
    start = time.perf_counter()
    content = orjson.loads(data)
    seconds = time.perf_counter() - start
    assert len(content["annotations"]) == ANNOTATIONS
    return seconds, peak() - base


def measure_dump(rows_file: Path) -> tuple[float, int]:
    """Seconds for `orjson.dumps` of every row of a written data set, and the memory it needs."""
    base = peak()
    with open(rows_file, "rb") as stream:
        rows = [orjson.loads(line) for line in stream]
    start = time.perf_counter()
    for row in rows:
        orjson.dumps(row)
    return time.perf_counter() - start, peak() - base


def measure_convert(source: Path, output: Path, task: str) -> tuple[float, int]:
    """Seconds for the conversion, and the memory it needs."""
    from kubesight.convert import convert
    from kubesight.dataset.rows import Task

    base = peak()
    start = time.perf_counter()
    dataset = convert(str(source), output, task=Task(task), options={"trust_sizes": "true"})
    seconds = time.perf_counter() - start
    assert dataset.info.counts["annotations"] == ANNOTATIONS, dataset.info.counts["annotations"]
    return seconds, peak() - base


def run(*arguments: str) -> tuple[float, int]:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--measure", *arguments]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, memory = text.split()
    return float(seconds), int(memory)


def main() -> None:
    """Print one line a task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, *rest = arguments.measure
        measure = {"parse": measure_parse, "dump": measure_dump, "convert": measure_convert}[kind]
        print(*measure(*(Path(item) if "/" in item else item for item in rest)))  # type: ignore[operator]
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "instances.json")
        write_coco(source, IMAGES, ANNOTATIONS)
        size = source.stat().st_size
        parse, parse_memory = run("parse", str(source))
        print(
            f"convert: COCO file {size / 1e6:.0f} MB; orjson.loads {parse:.2f} s, {parse_memory / size:.2f} x the file"
        )
        for task in ("image_object_detection", "image_instance_segmentation"):
            output = Path(folder, task)
            seconds, memory = run("convert", str(source), str(output), task)
            dump, _ = run("dump", str(output / "annotations.jsonl"))
            ratio, share = seconds / (parse + dump), memory / size
            print(
                f"convert: {task} {seconds:.2f} s = {ratio:.2f} x (loads {parse:.2f} + dumps {dump:.2f}), "
                f"limit {TIME_LIMIT:g}; memory {share:.2f} x the file, limit {MEMORY_LIMIT:g}"
            )


if __name__ == "__main__":
    main()
