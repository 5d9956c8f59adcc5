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
    plural,
    shorten,
    shrink,
    thumbnail,
)
from kubesight.report.pictures import Rgb

_LABELLED_SIZE, _DRAWN_SIZE = 160, 320
_LABELLED_LIMIT, _DRAWN_LIMIT = 60, 24
_TRIES = 4  # so many times the limit are tried before the page goes without
_CAPTION_CLASSES = 6


def sample_pictures(statistics: Statistics) -> list[tuple[str, str]]:
    """(data URI, caption) of the samples, class by class; unreadable and remote pictures are passed over."""
    drawn = statistics.task in {Task.DETECTION, Task.SEGMENTATION}
    size, limit = (_DRAWN_SIZE, _DRAWN_LIMIT) if drawn else (_LABELLED_SIZE, _LABELLED_LIMIT)
    counts = statistics.per_class("annotations")
    # The most frequent classes take the brightest colours.
    colours = label_colours(sorted(counts, key=lambda name: -counts[name]))
    seen: set[str] = set()
    shown: list[tuple[int, str, str]] = []
    for order, part, row in _candidates(statistics, limit):
        if len(shown) == limit or len(seen) == _TRIES * limit:
            break
        if row.image_url in seen or local_path(row.image_url) is None:
            continue
        seen.add(row.image_url)
        try:
            image = shrink(read_image(row.image_url, min_size=size), size)
            picture = thumbnail(_draw(image, row, colours), size)
        except DatasetError:
            continue
        shown.append((order, picture, _caption(row, part, statistics, colours)))
    return [(picture, caption) for _, picture, caption in sorted(shown, key=lambda item: item[0])]


def _candidates(statistics: Statistics, limit: int) -> Iterator[tuple[int, str, Row]]:
    """(rank of the class, part, row): one of each class, then a second of each and so on.

    Where there are more classes than pictures to show, evenly spread ones come first.
    """
    names = [name for name in statistics.per_class() if name in statistics.samples]
    if BACKGROUND in statistics.samples:
        names.append(BACKGROUND)
    ranks = {name: rank for rank, name in enumerate(names)}
    if len(names) > limit:
        first = [names[i] for i in np.linspace(0, len(names) - 1, limit).round().astype(int)]
        names = list(dict.fromkeys(first + names))
    for turn in range(statistics.kept_per_class):
        for name in names:
            if turn < len(statistics.samples[name]):
                part, row = statistics.samples[name][turn]
                yield ranks[name], part, row


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
    rest = f" and {plural(len(counts) - len(shown), 'more class', 'more classes')}" if len(counts) > len(shown) else ""
    if isinstance(row, MultilabelRow):
        return f"{escape(', '.join(shorten(name, 40) for name, _ in shown))}{rest}{where}"
    chips = " ".join(chip(shorten(name, 40), colours[name], f"{count}" if count > 1 else "") for name, count in shown)
    return Html(f"{chips}{rest}{where}")
