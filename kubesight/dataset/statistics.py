"""Counts and distributions of a data set, gathered row by row without keeping the rows."""

import math
import random
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kubesight.dataset.rle import rle_box
from kubesight.dataset.rows import Box, ClassificationRow, DetectionRow, Instance, Row, SegmentationRow, Task

SAMPLES = 24
SAMPLES_PER_CLASS = 4
"""Samples kept of each class, or more where classes are few: `SAMPLES` over their number."""

BACKGROUND = ""
"""The name under which samples of pictures without any label are kept; no class has it."""

_SEED = 0
_NO_SIZE = 0


@dataclass
class PartCounts:
    """What one part (train, validation, test) holds."""

    images: int = 0
    annotations: int = 0
    background: int = 0
    annotations_per_class: Counter[str] = field(default_factory=Counter)
    images_per_class: Counter[str] = field(default_factory=Counter)


class Statistics:
    """Counters, compact arrays and a few sample rows.

    Args:
        task: what the rows are for.
        classes: the known classes in index order; those that rows add are appended.
    """

    def __init__(self, task: Task, classes: Sequence[str]) -> None:
        """Start with nothing counted."""
        self.task = task
        self.classes = list(classes)
        self.parts: dict[str, PartCounts] = {}
        self.formats: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.widths, self.heights = array("I"), array("I")
        self.objects_per_picture = array("I")
        self.box_shares, self.box_pixels, self.box_thinnest = array("f"), array("f"), array("f")
        self.repeated_objects = 0
        self.samples: dict[str, list[tuple[str, Row]]] = {}
        self._seen: Counter[str] = Counter()
        self.kept_per_class = max(SAMPLES_PER_CLASS, -(-SAMPLES // max(1, len(self.classes))))
        self._random = random.Random(_SEED)

    def add_part(self, name: str) -> None:
        """Make a part known, so that one without pictures is shown too."""
        self.parts.setdefault(name, PartCounts())

    def add(self, part: str, row: Row) -> None:
        """Count one row of a part."""
        names = row.class_names()
        counts = self.parts.setdefault(part, PartCounts())
        counts.images += 1
        counts.annotations += len(names)
        counts.background += not names
        counts.annotations_per_class.update(names)
        present = dict.fromkeys(names)
        counts.images_per_class.update(present.keys())
        self._count_picture(row)
        if not isinstance(row, ClassificationRow):
            self.objects_per_picture.append(len(names))
        if isinstance(row, DetectionRow | SegmentationRow):
            self._count_objects(row)
        for name in present or (BACKGROUND,):
            self._offer(name, part, row)

    @property
    def images(self) -> int:
        """Pictures of all parts."""
        return sum(part.images for part in self.parts.values())

    @property
    def annotations(self) -> int:
        """Labels, boxes or outlines of all parts."""
        return sum(part.annotations for part in self.parts.values())

    @property
    def background(self) -> int:
        """Pictures without any label, of all parts."""
        return sum(part.background for part in self.parts.values())

    def per_class(self, what: str = "images", part: str | None = None) -> dict[str, int]:
        """`images` or `annotations` of each class, in one part or in all together."""
        chosen = self.parts.values() if part is None else [self.parts[part]]
        total: Counter[str] = Counter()
        for counts in chosen:
            total.update(counts.images_per_class if what == "images" else counts.annotations_per_class)
        names = self.classes + sorted(set(total) - set(self.classes))
        return {name: total[name] for name in names}

    def sizes(self) -> np.ndarray:
        """Width and height in pixels of the pictures whose size is known, [n, 2]."""
        pairs = np.stack([np.asarray(self.widths), np.asarray(self.heights)], axis=1)
        return pairs[(pairs != _NO_SIZE).all(axis=1)]

    def to_dict(self) -> dict[str, Any]:
        """What `report.json` keeps."""
        sizes = self.sizes()
        value: dict[str, Any] = {
            "task": self.task.value,
            "images": self.images,
            "annotations": self.annotations,
            "background_images": self.background,
            "parts": {
                name: {"images": part.images, "annotations": part.annotations, "background_images": part.background}
                for name, part in self.parts.items()
            },
            "per_class": {
                name: {
                    "images": {part: counts.images_per_class[name] for part, counts in self.parts.items()},
                    "annotations": {part: counts.annotations_per_class[name] for part, counts in self.parts.items()},
                }
                for name in self.per_class()
            },
            "formats": dict(self.formats.most_common()),
            "picture_width": _distribution(sizes[:, 0]),
            "picture_height": _distribution(sizes[:, 1]),
            "picture_aspect_ratio": _distribution(sizes[:, 0] / np.maximum(sizes[:, 1], 1)),
            "pictures_of_unknown_size": self.images - len(sizes),
            "picture_sizes": len(np.unique(sizes, axis=0)),
        }
        if self.objects_per_picture:
            value["annotations_per_picture"] = _distribution(np.asarray(self.objects_per_picture))
        if self.task in {Task.DETECTION, Task.SEGMENTATION}:
            value["box_sqrt_area_share"] = _distribution(np.asarray(self.box_shares))
            value["box_sqrt_area_pixels"] = _distribution(np.asarray(self.box_pixels))
            value["boxes_thinner_than_1_percent"] = self.thin_boxes()
            value["repeated_objects"] = self.repeated_objects
            value["marks"] = dict(self.marks.most_common())
        return value

    def thin_boxes(self, limit: float = 0.01) -> int:
        """Boxes whose shorter side is under `limit` of the picture's side along it."""
        return int((np.asarray(self.box_thinnest) < limit).sum())

    def _count_picture(self, row: Row) -> None:
        details = row.image_details
        self.formats[(details.format if details else None) or "unknown"] += 1
        self.widths.append((details.width if details else None) or _NO_SIZE)
        self.heights.append((details.height if details else None) or _NO_SIZE)

    def _count_objects(self, row: DetectionRow | SegmentationRow) -> None:
        width, height = self.widths[-1], self.heights[-1]
        seen = set()
        for item in row.label:
            for mark in ("isCrowd", "difficult", "truncated", "occluded"):
                if getattr(item, mark):
                    self.marks[mark] += 1
            left, top, right, bottom = bounding_box(item)
            if isinstance(item, Instance):
                self.marks["rle"] += item.rle is not None
                self.marks["several_rings"] += len(item.polygon) > 1
            key = (item.label, left, top, right, bottom)
            self.repeated_objects += key in seen
            seen.add(key)
            share = math.sqrt(max(0.0, (right - left) * (bottom - top)))
            self.box_shares.append(share)
            self.box_thinnest.append(min(right - left, bottom - top))
            self.box_pixels.append(share * math.sqrt(width * height) if width and height else math.nan)

    def _offer(self, name: str, part: str, row: Row) -> None:
        """Reservoir sampling (Vitter's algorithm R): each picture of a class is equally likely to be kept."""
        self._seen[name] += 1
        kept = self.samples.setdefault(name, [])
        if len(kept) < self.kept_per_class:
            kept.append((part, row))
        elif (place := self._random.randrange(self._seen[name])) < self.kept_per_class:
            kept[place] = (part, row)


def bounding_box(item: Box | Instance) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an object, as fractions of width and height."""
    if isinstance(item, Box):
        return item.topX, item.topY, item.bottomX, item.bottomY
    rings = [ring for ring in item.polygon if len(ring) >= 2]
    if rings:
        return (
            min(min(ring[0::2]) for ring in rings),
            min(min(ring[1::2]) for ring in rings),
            max(max(ring[0::2]) for ring in rings),
            max(max(ring[1::2]) for ring in rings),
        )
    return (0.0, 0.0, 0.0, 0.0) if item.rle is None else rle_box(item.rle)


def _distribution(values: np.ndarray) -> dict[str, Any]:
    """Quantiles and a histogram of 20 equal ranges; empty without finite values."""
    values = values[np.isfinite(values)]
    if not values.size:
        return {}
    counts, edges = np.histogram(values, 20)
    low, quarter, median, upper, high = (round(float(v), 6) for v in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
    return {
        "min": low,
        "quartile_1": quarter,
        "median": median,
        "quartile_3": upper,
        "max": high,
        "mean": round(float(values.mean()), 6),
        "histogram": {"edges": [round(float(e), 6) for e in edges], "counts": counts.tolist()},
    }
