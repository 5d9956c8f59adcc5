"""Objects and detections for tests of metrics: written out by hand, or drawn by hypothesis."""

import numpy as np
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from kubesight.metrics.objects import FoundObjects, TrueObjects

CLASSES = ["a", "b", "c"]
SIZE = 120


def truths(*rows, pictures=None, masks=None):
    """Objects from rows of (picture, class, box) or (picture, class, box, {area, crowd, difficult})."""
    extras = [row[3] if len(row) > 3 else {} for row in rows]
    box = np.array([row[2] for row in rows], float).reshape(-1, 4)
    own = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    count = pictures or max((row[0] for row in rows), default=0) + 1
    return TrueObjects(
        sizes=np.full((count, 2), SIZE),
        image=np.array([row[0] for row in rows], np.int64),
        label=np.array([row[1] for row in rows], np.int64),
        box=box,
        area=np.array([extra.get("area", area) for extra, area in zip(extras, own, strict=True)], float),
        crowd=np.array([extra.get("crowd", False) for extra in extras], bool),
        difficult=np.array([extra.get("difficult", False) for extra in extras], bool),
        masks=masks,
    )


def founds(*rows, masks=None):
    """Detections from rows of (picture, class, box, score)."""
    return FoundObjects(
        image=np.array([row[0] for row in rows], np.int64),
        label=np.array([row[1] for row in rows], np.int64),
        box=np.array([row[2] for row in rows], float).reshape(-1, 4),
        score=np.array([row[3] for row in rows], float),
        masks=masks,
    )


def rle(pixels):
    """A boolean picture in compressed run lengths."""
    return coco_mask.encode(np.asfortranarray(pixels, np.uint8))


def rectangle(x0, y0, x1, y1, size=SIZE):
    """A mask of a rectangle."""
    pixels = np.zeros((size, size), bool)
    pixels[y0:y1, x0:x1] = True
    return rle(pixels)


@st.composite
def scenes(draw, *, masks=False, most_objects=12, most_detections=30):
    """Up to 4 pictures of 3 classes; half of the detections lie near an object, scores have ties, areas lie at limits.

    Some pictures and classes have no object, some objects are crowds or difficult, some have no area.
    """
    side = SIZE // 3 if masks else SIZE
    position = st.integers(0, side) if masks else st.integers(0, 2 * side).map(lambda value: value / 2)
    corners = st.tuples(position, position, position, position)
    picture, label = st.integers(0, 3), st.integers(0, 2)
    areas = st.sampled_from([None, None, 0.0, 1023.9999, 1024.0, 1024.0001, 9216.0, 9216.0001, 1e10, 2e10])
    flag = st.sampled_from([False, False, False, True])
    objects = draw(st.lists(st.tuples(picture, label, corners, areas, flag, flag), max_size=most_objects))
    shift = st.integers(-3, 3)
    near = st.tuples(st.integers(0, 10**6), st.tuples(shift, shift, shift, shift), st.booleans())
    anywhere = st.tuples(picture, label, corners)
    score = st.one_of(st.integers(0, 4).map(lambda value: value / 4), st.floats(0, 1))
    drawn = draw(st.lists(st.tuples(st.one_of(near, anywhere), score), max_size=most_detections))
    true_rows = [
        (image, k, _upright(box), {"crowd": crowd, "difficult": hard} | ({} if area is None else {"area": area}))
        for image, k, box, area, crowd, hard in objects
    ]
    found_rows = []
    for place, value in drawn:
        if isinstance(place[1], int):
            found_rows.append((place[0], place[1], _upright(place[2]), value))
        elif true_rows:
            image, k, box, _ = true_rows[place[0] % len(true_rows)]
            moved = np.clip(np.add(box, place[1]), 0, side).tolist()
            found_rows.append((image, (k + place[2]) % 3 if place[2] else k, _upright(moved), value))
    if not masks:
        return truths(*true_rows, pictures=4), founds(*found_rows)
    seed = draw(st.integers(0, 2**32 - 1))
    return (
        truths(*true_rows, pictures=4, masks=_ragged([row[2] for row in true_rows], seed)),
        founds(*found_rows, masks=_ragged([row[2] for row in found_rows], seed + 1)),
    )


def _upright(box):
    x0, y0, x1, y1 = box
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _ragged(boxes, seed):
    """Masks that fill some of each box."""
    generator = np.random.default_rng(seed)
    masks = []
    for x0, y0, x1, y1 in np.array(boxes, int).reshape(-1, 4).tolist():
        pixels = np.zeros((SIZE, SIZE), bool)
        pixels[y0:y1, x0:x1] = generator.random((y1 - y0, x1 - x0)) < generator.choice([0.5, 0.9, 1.0])
        masks.append(rle(pixels))
    return masks
