"""The pictures with the most errors, drawn with what is labelled and what was found."""

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from kubesight.dataset.images import read_image
from kubesight.errors import KubesightError
from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_verdicts import HIDDEN, IGNORED, LABELLED, LAYERS, LEFT_OUT, MISSED, RIGHT, Verdicts
from kubesight.metrics.objects import Mask
from kubesight.metrics.overlap import box_iou
from kubesight.report.overlay import Shape, overlay, scenes, switches
from kubesight.report.page import Html, chip, escape, join, plural, shorten, thumbnail

PICTURES = 24
"""How many pictures are drawn at most."""

SHOWN_AT_ONCE = 6
"""So many are open; the others are folded away."""

PICTURE_BYTES = 1_900_000
"""What all drawings may add to the page."""

SHAPES = 600
"""Of a picture with more shapes than this, right ones are left out first."""

_NAMED_SHAPES = 20  # up to so many right ones in a picture have tags with their class
_CROWD = 200  # with more shapes in a picture, lines are thin, and the right ones have no words
_SIZES = ((720, 80), (640, 75), (560, 65), (480, 60), (400, 55), (320, 50), (240, 40))
_NAME, _FILE = 18, 44


def gallery(answers: ObjectAnswers, verdicts: Verdicts, budget_bytes: int = PICTURE_BYTES) -> Html:
    """The key with its switches, and the drawings, most errors first.

    A picture that cannot be opened here is drawn as shapes on an empty ground, and a line says so.

    Args:
        answers: what was judged.
        verdicts: what became of each detection and each labelled object.
        budget_bytes: how much markup the drawings may take together; later pictures are left out when it is used up.
    """
    worst = verdicts.worst_pictures(PICTURES)
    items, unread, counts = [], [], Counter[int]()
    for place, index in enumerate(worst):
        allowed = budget_bytes // (len(worst) - place)
        shapes = picture_shapes(answers, verdicts, index)
        data, error = _picture(answers, index, allowed - 200 * len(shapes))
        if error:
            unread.append(error)
        kinds = Counter(shape.layer for shape in shapes)
        name = _file_name(answers.urls[index])
        drawing = overlay(data, _size(answers, index), _within(shapes), LAYERS, label=name, thin=len(shapes) > _CROWD)
        caption = _caption(answers.urls[index], kinds, len(shapes), unread=bool(error))
        cost = len(drawing.encode()) + len(caption.encode())
        if cost <= budget_bytes:
            budget_bytes -= cost
            items.append((drawing, caption))
            counts += kinds
    if not items:
        return Html()
    more = items[SHOWN_AT_ONCE:]
    folded = f"<details><summary>{plural(len(more), 'more picture')}</summary>{scenes(more)}</details>" if more else ""
    gap = ""
    if unread:
        what = f"{plural(len(unread), 'picture')} could not be opened and {'is' if len(unread) == 1 else 'are'}"
        gap = f'<p class="note">{what} drawn on an empty ground: {escape(shorten(unread[0], 240))}</p>'
    return join([gap, switches(LAYERS, counts), scenes(items[:SHOWN_AT_ONCE]), folded])


def picture_shapes(answers: ObjectAnswers, verdicts: Verdicts, index: int) -> list[Shape]:
    """All that is labelled and was found in one picture: errors first, then what is right, then the labels."""
    shapes = _found_shapes(answers, verdicts, index) + _true_shapes(answers, verdicts, index)
    order = {RIGHT: 1, LABELLED: 2, LEFT_OUT: 3, IGNORED: 4}
    return sorted(shapes, key=lambda shape: order.get(shape.layer, 0))


def _found_shapes(answers: ObjectAnswers, verdicts: Verdicts, index: int) -> list[Shape]:
    """The detections of one picture, the surest first."""
    found, (width, height) = answers.found, _size(answers, index)
    here = np.flatnonzero((found.image == index) & (verdicts.found != HIDDEN))
    # Where there is room, or doubt, tags name the class.
    crowded = (verdicts.found[here] == RIGHT).sum() > _NAMED_SHAPES
    shapes = []
    for row in here[np.argsort(-found.score[here], kind="stable")].tolist():
        layer, score = int(verdicts.found[row]), float(found.score[row])
        name = answers.classes[found.label[row]]
        named = len(answers.classes) > 1 and not (layer == RIGHT and crowded)
        shapes.append(
            Shape(
                layer,
                _fractions(found.box[row], width, height),
                _rings(found.masks, row, width, height) if answers.masks else [],
                _tags(LAYERS[layer].sign, name if named else "", f"{score:.2f}".lstrip("0")),
                f"found {name}, score {score:.3f}: {LAYERS[layer].name}{_against(answers, row, verdicts.target[row])}",
            )
        )
    return shapes


def _true_shapes(answers: ObjectAnswers, verdicts: Verdicts, index: int) -> list[Shape]:
    truth, (width, height) = answers.truth, _size(answers, index)
    shapes = []
    for row in np.flatnonzero(truth.image == index).tolist():
        layer, name = int(verdicts.labelled[row]), answers.classes[truth.label[row]]
        tagged = name if len(answers.classes) > 1 else ""
        shapes.append(
            Shape(
                layer,
                _fractions(truth.box[row], width, height),
                _rings(truth.masks, row, width, height) if answers.masks else [],
                _tags(LAYERS[layer].sign, tagged, "") if layer == MISSED else (),
                f"labelled {name}" + (f": {LAYERS[layer].name}" if layer != LABELLED else ""),
            )
        )
    return shapes


def outline(rle: Mask, tolerance: float) -> list[NDArray[np.float64]]:
    """The closed outlines of a mask, [points, 2] in pixels, each within about `tolerance` pixels of the mask's edge."""
    x, y, width, height = (int(value) for value in coco_mask.toBbox(rle))
    if not width or not height:
        return []
    region = coco_mask.decode(rle)[y : y + height, x : x + width]
    found, _ = cv2.findContours(np.ascontiguousarray(region), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    kept = (cv2.approxPolyDP(each, tolerance, closed=True).reshape(-1, 2) for each in found)
    # A contour goes through the centres of the outermost pixels.
    return [ring + np.array([x + 0.5, y + 0.5]) for ring in kept]


def _rings(masks: Sequence[Mask] | None, row: int, width: int, height: int) -> list[NDArray[np.float64]]:
    assert masks is not None
    return [ring / (width, height) for ring in outline(masks[row], max(width, height) / 1400)]


def _within(shapes: list[Shape]) -> list[Shape]:
    """At most `SHAPES`; in a crowd, what is right and what was labelled goes without words."""
    if len(shapes) <= _CROWD:
        return shapes
    plain = {RIGHT, LABELLED}
    return [Shape(shape.layer, shape.box, shape.rings) if shape.layer in plain else shape for shape in shapes[:SHAPES]]


def _against(answers: ObjectAnswers, row: int, target: int) -> str:
    """The labelled object that a detection speaks of."""
    if target < 0:
        return ""
    truth, found = answers.truth, answers.found
    if answers.masks:
        assert truth.masks is not None
        assert found.masks is not None
        iou = float(coco_mask.iou([found.masks[row]], [truth.masks[target]], [0])[0, 0])
    else:
        iou = float(box_iou(truth.box[[target]], found.box[[row]])[0])
    return f" (labelled {answers.classes[truth.label[target]]}, IoU {iou:.2f})"


def _tags(sign: str, name: str, score: str) -> tuple[str, ...]:
    """From the whole to the shortest: sign, class and score; sign and score; the sign alone."""
    pieces = [(sign, shorten(name, _NAME), score), (sign, score), (sign,)]
    texts = (" ".join(piece for piece in each if piece) for each in pieces)
    return tuple(dict.fromkeys(text for text in texts if text))


def _fractions(box: NDArray[np.float64], width: int, height: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = np.clip(box / (width, height, width, height), 0, 1).tolist()
    return left, top, right, bottom


def _size(answers: ObjectAnswers, index: int) -> tuple[int, int]:
    width, height = answers.truth.sizes[index].tolist()
    return width, height


def _picture(answers: ObjectAnswers, index: int, allowed: int) -> tuple[str | None, str]:
    """The picture as a data URI of at most `allowed` characters, or why it cannot be shown."""
    width, height = _size(answers, index)
    short = min(width, height) / max(width, height)
    try:
        image = read_image(answers.urls[index], min_size=round(_SIZES[0][0] * short))
    except KubesightError as error:
        return None, str(error)
    size, quality = _SIZES[0]
    uri = thumbnail(image, size, quality=quality)
    for smaller, quality in _SIZES[1:]:
        if len(uri) <= allowed:
            break
        # Bytes go with the area: sizes that cannot do are not tried.
        if len(uri) * (smaller / size) ** 2 <= allowed or smaller == _SIZES[-1][0]:
            size, uri = smaller, thumbnail(image, smaller, quality=quality)
    return uri, ""


def _file_name(url: str) -> str:
    return shorten(url.rstrip("/").rsplit("/", 1)[-1], _FILE)


def _caption(url: str, kinds: Counter[int], shapes: int, *, unread: bool) -> Html:
    labelled = kinds[LABELLED] + kinds[MISSED]
    parts = [
        Html(f'<code title="{escape(url)}">{escape(_file_name(url))}</code> '),
        Html(f'<span class="chip">· {labelled:,} labelled:</span> '),
        join(
            chip(f"{kinds[kind]:,} {layer.name}", layer.colour)
            for kind, layer in enumerate(LAYERS)
            if kinds[kind] and kind not in (LABELLED, IGNORED, LEFT_OUT)
        ),
    ]
    if unread:
        parts.append(Html("· the picture could not be opened"))
    if shapes > SHAPES:
        parts.append(Html(f"· {shapes - SHAPES:,} of {shapes:,} shapes are not drawn"))
    return join(parts)
