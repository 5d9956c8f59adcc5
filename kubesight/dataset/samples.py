"""A few pictures of each class with their labels drawn, for the validation page."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from kubesight.dataset.images import read_image
from kubesight.dataset.rle import rle_mask
from kubesight.dataset.rows import ClassificationRow, DetectionRow, MultilabelRow, Row, SegmentationRow, Task
from kubesight.dataset.statistics import BACKGROUND, Statistics
from kubesight.dataset.urls import local_path
from kubesight.errors import DatasetError
from kubesight.report.page import (
    Html,
    chip,
    draw_boxes,
    draw_masks,
    draw_polygons,
    escape,
    label_colours,
    shorten,
    shrink,
    thumbnail,
)
from kubesight.report.pictures import Rgb

_LABELLED_SIZE, _DRAWN_SIZE = 160, 320
_LABELLED_LIMIT, _DRAWN_LIMIT = 60, 24
_CAPTION_CLASSES = 6


def sample_pictures(statistics: Statistics) -> Iterator[tuple[str, str]]:
    """(data URI, caption) of the samples, class by class; unreadable and remote pictures are passed over."""
    drawn = statistics.task in {Task.DETECTION, Task.SEGMENTATION}
    size = _DRAWN_SIZE if drawn else _LABELLED_SIZE
    colours = label_colours(statistics.per_class())
    for part, row in _choose(statistics, _DRAWN_LIMIT if drawn else _LABELLED_LIMIT):
        if local_path(row.image_url) is None:
            continue
        try:
            image = shrink(read_image(row.image_url, min_size=size), size)
            yield thumbnail(_draw(image, row, colours), size), _caption(row, part, statistics, colours)
        except DatasetError:
            continue


def _choose(statistics: Statistics, limit: int) -> list[tuple[str, Row]]:
    """One of each class, then a second of each and so on; sorted by class. Of too many classes, evenly spread ones."""
    names = [name for name in statistics.per_class() if name in statistics.samples]
    if len(names) > limit:
        names = [names[i] for i in np.linspace(0, len(names) - 1, limit).round().astype(int)]
    if BACKGROUND in statistics.samples:
        names.append(BACKGROUND)
    chosen: dict[str, tuple[int, str, Row]] = {}
    for turn in range(statistics.kept_per_class):
        for order, name in enumerate(names):
            kept = statistics.samples[name]
            if turn < len(kept) and len(chosen) < limit:
                part, row = kept[turn]
                chosen.setdefault(row.image_url, (order, part, row))
    return [(part, row) for _, part, row in sorted(chosen.values(), key=lambda item: item[0])]


def _draw(image: np.ndarray, row: Row, colours: dict[str, Rgb]) -> np.ndarray:
    if isinstance(row, DetectionRow):
        corners = [(box.topX, box.topY, box.bottomX, box.bottomY, box.label) for box in row.label]
        return draw_boxes(image, corners, colours=colours, tags=len(set(colours.values())) < len(colours))
    if isinstance(row, SegmentationRow):
        rings = [(item.polygon, item.label) for item in row.label if item.rle is None]
        masks = [(rle_mask(item.rle), item.label) for item in row.label if item.rle is not None]
        return draw_masks(draw_polygons(image, rings, colours=colours), masks, colours=colours)
    return image


def _caption(row: Row, part: str, statistics: Statistics, colours: dict[str, Rgb]) -> str:
    where = f" · {escape(part)}" if len(statistics.parts) > 1 else ""
    if isinstance(row, ClassificationRow):
        return f"{escape(shorten(row.label, 40))}{where}"
    counts = Counter(row.class_names())
    if not counts:
        return f"no labels{where}"
    shown = counts.most_common(_CAPTION_CLASSES)
    rest = f" and {len(counts) - len(shown)} more classes" if len(counts) > len(shown) else ""
    if isinstance(row, MultilabelRow):
        return f"{escape(', '.join(shorten(name, 40) for name, _ in shown))}{rest}{where}"
    chips = " ".join(chip(shorten(name, 40), colours[name], f"{count}" if count > 1 else "") for name, count in shown)
    return Html(f"{chips}{rest}{where}")
