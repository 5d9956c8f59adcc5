"""Small pictures inside a page, with boxes and outlines drawn on them."""

import base64
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

from kubesight.report.markup import Html, escape, join

Rgb = tuple[int, int, int]

# Bright enough to show on dark and on light pictures, and apart for colour-blind readers; Okabe and Ito's hues.
_BRIGHT: tuple[Rgb, ...] = (
    (255, 176, 0),
    (58, 178, 255),
    (255, 92, 138),
    (0, 196, 140),
    (190, 120, 255),
    (240, 228, 66),
    (255, 110, 40),
    (150, 230, 255),
)
_PALETTE = _BRIGHT + tuple((red * 11 // 20, green * 11 // 20, blue * 11 // 20) for red, green, blue in _BRIGHT)


def label_colours(labels: Iterable[str]) -> dict[str, Rgb]:
    """A drawing colour for each label, by its place in the given order; sixteen colours, then again."""
    return {label: _PALETTE[index % len(_PALETTE)] for index, label in enumerate(dict.fromkeys(labels))}


def chip(label: str, colour: Rgb, note: str = "") -> Html:
    """A label with its drawing colour, for a caption."""
    mark = f'<i style="background:rgb{colour}"></i>'
    return Html(f'<span class="chip">{mark}{escape(label)}{" " + escape(note) if note else ""}</span>')


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """The picture with its long side at most `size` pixels (uint8 RGB, HxWx3); smaller ones are unchanged."""
    height, width = image.shape[:2]
    if not image.size:
        raise ValueError(f"a picture without pixels: its shape is {image.shape}")
    scale = size / max(height, width)
    if scale >= 1:
        return image
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, new, interpolation=cv2.INTER_AREA))


def thumbnail(image: np.ndarray, size: int = 128, *, quality: int = 82) -> str:
    """A picture (uint8 RGB, HxWx3) as the data URI of a JPEG whose long side is at most `size` pixels."""
    pixels = cv2.cvtColor(shrink(np.ascontiguousarray(image), size), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def draw_boxes(
    image: np.ndarray,
    boxes: Iterable[tuple[float, float, float, float, str]],
    *,
    colours: Mapping[str, Rgb] | None = None,
    tags: bool = True,
) -> np.ndarray:
    """Draw boxes on a copy of the picture.

    Shrink the picture first (`shrink`), so that lines stay a pixel or two wide in the thumbnail.

    Args:
        image: uint8 RGB, HxWx3.
        boxes: (left, top, right, bottom, label); corners are fractions of width and height, as in the data set.
        colours: from `label_colours`; by default of the labels in the order met.
        tags: write each label at its box, where the box is wide enough and the label is ASCII.
    """
    boxes = list(boxes)
    colours = colours or label_colours(box[4] for box in boxes)
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    line = max(2, round(max(height, width) / 240))
    for left, top, right, bottom, label in boxes:
        upper = (round(left * (width - 1)), round(top * (height - 1)))
        lower = (round(right * (width - 1)), round(bottom * (height - 1)))
        colour = colours[label]
        cv2.rectangle(canvas, upper, lower, (0, 0, 0), line + 2, cv2.LINE_AA)
        cv2.rectangle(canvas, upper, lower, colour, line, cv2.LINE_AA)
        if tags:
            _tag(canvas, label, upper, lower[0] - upper[0], colour)
    return canvas


def draw_polygons(
    image: np.ndarray,
    polygons: Iterable[tuple[Sequence[Sequence[float]], str]],
    *,
    colours: Mapping[str, Rgb] | None = None,
) -> np.ndarray:
    """Fill and outline polygons on a copy of the picture.

    Args:
        image: uint8 RGB, HxWx3.
        polygons: (rings, label); a ring is a flat list of x, y as fractions; rings of one object combine by XOR.
            Rings of under three points or with half a point are left out.
        colours: from `label_colours`; by default of the labels in the order met.
    """
    height, width = image.shape[:2]
    scale = np.array([width, height], np.float64)
    shapes = []
    for rings, label in polygons:
        # Four fractional bits (shift=4): outlines of small objects keep their shape.
        whole = [np.reshape(ring, (-1, 2)) for ring in rings if len(ring) >= 6 and len(ring) % 2 == 0]
        points = [np.round((corners * scale - 0.5) * 16).astype(np.int32) for corners in whole]
        mask = np.zeros((height, width), np.uint8)
        if points:
            cv2.fillPoly(mask, points, 255, cv2.LINE_8, 4)
        shapes.append((mask, label))
    return draw_masks(image, shapes, colours=colours)


def draw_masks(
    image: np.ndarray,
    masks: Iterable[tuple[np.ndarray, str]],
    *,
    colours: Mapping[str, Rgb] | None = None,
) -> np.ndarray:
    """Tint and outline masks on a copy of the picture.

    Args:
        image: uint8 RGB, HxWx3.
        masks: (HxW array, label); what is not zero belongs to the object. Other sizes are scaled to the picture's.
        colours: from `label_colours`; by default of the labels in the order met.
    """
    masks = list(masks)
    colours = colours or label_colours(label for _, label in masks)
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    for mask, label in masks:
        inside = (np.asarray(mask) != 0).astype(np.uint8)
        if inside.shape != (height, width):
            share = cv2.resize(inside * np.uint8(255), (width, height), interpolation=cv2.INTER_AREA)
            inside = (np.asarray(share) > 127).astype(np.uint8)
        where = inside.astype(bool)
        colour = np.array(colours[label], np.float32)
        canvas[where] = (canvas[where] * 0.6 + colour * 0.4).astype(np.uint8)
        outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, colours[label], 1, cv2.LINE_8)
    return canvas


def pictures(items: Iterable[tuple[str, str]], *, width: int = 140) -> Html:
    """A grid of pictures at least `width` CSS pixels wide.

    Each is (data URI, caption); the caption is markup, so escape the names in it.
    """
    cells = (
        f'<figure><img src="{escape(uri)}" alt="" loading="lazy"><figcaption>{caption}</figcaption></figure>'
        for uri, caption in items
    )
    return Html(f'<div class="pictures" style="--w:{width}px">{join(cells)}</div>')


def fit_pictures(items: Iterable[tuple[str, str]], budget_bytes: int) -> list[tuple[str, str]]:
    """The pictures, in order, that fit together into `budget_bytes` of page; one that is too large is passed over."""
    kept = []
    for uri, caption in items:
        cost = len(uri) + len(caption.encode()) + 80
        if cost <= budget_bytes:
            kept.append((uri, caption))
            budget_bytes -= cost
    return kept


def _tag(canvas: np.ndarray, label: str, corner: tuple[int, int], room: int, colour: Rgb) -> None:
    # OpenCV's built-in font has only ASCII; captions name every label in full anyway.
    scale = 0.34
    (width, height), base = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    if not label.isascii() or width > max(room, 24) or width > canvas.shape[1]:
        return
    left = min(corner[0], canvas.shape[1] - width - 2)
    top = max(0, corner[1] - height - base - 1)
    cv2.rectangle(canvas, (left, top), (left + width + 2, top + height + base), colour, cv2.FILLED)
    place = (left + 1, top + height + 1)
    cv2.putText(canvas, label, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
