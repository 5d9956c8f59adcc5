"""Pictures with small objects, looked at in overlapping tiles: how they are cut, and how the answers are put together.

The grid is that of Azure AutoML. With columns c, overlap o and a picture W pixels wide, a tile is W / (o + (1 - o) c)
wide and the next one starts (1 - o) times that further on, so that the last one ends at W; likewise down the picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kubesight.dataset.detections import Detections
from kubesight.errors import HyperparameterError

Tile = tuple[int, int, int, int]

MERGE_COVERED = 0.8
"""Share of a cut box that must lie inside a larger box for it to count as a piece of that object."""

MERGE_SCORE = 0.5
"""A box takes in the pieces of its object only with a score of at least so much of theirs."""

MERGE_BORDER = 0.02
"""A box that comes nearer to an inner edge of its tile than this share of the tile's side counts as cut there."""


@dataclass(frozen=True)
class Grid:
    """How a picture is cut into tiles.

    Attributes:
        columns: tiles across, at least 1; not 1 by 1.
        rows: tiles down, at least 1.
        overlap: the share of a tile that overlaps with the next one, along each side, in [0, 1).

    Raises:
        HyperparameterError: a value is out of range.
    """

    columns: int
    rows: int
    overlap: float

    def __post_init__(self) -> None:
        """Check the values."""
        if self.columns < 1 or self.rows < 1 or self.columns * self.rows == 1:
            raise HyperparameterError(
                f"a grid of {self.columns}x{self.rows} tiles", where="tile_grid_size", hint="Use 2x1 or more."
            )
        if not 0 <= self.overlap < 1:
            raise HyperparameterError(
                f"an overlap of {self.overlap}", where="tile_overlap_ratio", hint="Use a share from 0 to below 1."
            )

    @classmethod
    def of(cls, inference: Mapping[str, Any]) -> "Grid | None":
        """The grid that a model card's inference settings ask for: `tile_grid_size`, such as `3x2`, and the overlap."""
        size = inference.get("tile_grid_size")
        if not size:
            return None
        columns, rows = map(int, size.split("x"))
        return cls(columns, rows, inference["tile_overlap_ratio"])

    def tiles(self, width: int, height: int) -> list[Tile]:
        """The tiles of a picture, row by row: always columns times rows of them, none empty.

        Args:
            width: the picture's, in pixels, at least 1.
            height: the picture's, in pixels, at least 1.

        Returns:
            x0, y0, x1, y1 in whole pixels (rounded), the last ones exclusive. Together they cover the picture.
        """
        across = _spans(width, self.columns, self.overlap)
        down = _spans(height, self.rows, self.overlap)
        return [(x0, y0, x1, y1) for y0, y1 in down for x0, x1 in across]


def _spans(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    side = length / (overlap + (1 - overlap) * count)
    step = (1 - overlap) * side
    starts = [min(round(k * step), length - 1) for k in range(count)]
    ends = [max(min(round(k * step + side), length), start + 1) for k, start in enumerate(starts)]
    return list(zip(starts, ends, strict=True))


def visible_share(boxes: np.ndarray, tile: Tile | np.ndarray) -> np.ndarray:
    """The share of each box's area that is inside a tile, float64 [n] in [0, 1].

    Args:
        boxes: [n, 4], x0, y0, x1, y1 in pixels, with an area above 0.
        tile: x0, y0, x1, y1 in pixels: one tile, or [n, 4], one a box.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return _shared(boxes, np.asarray(tile, np.float64)) / _areas(boxes)


def merge(parts: Sequence[tuple[Detections, Tile | None]], width: int, height: int, nms_threshold: float) -> Detections:
    """Put together what was found in the whole picture and in its tiles. No box is moved, made or scored anew.

    First, pieces go. An object that is larger than the overlap is cut by a tile's edge, and its pieces overlap too
    little with the whole object for the suppression below to see that they are the same. A box is cut when it touches
    an inner edge of its tile (`MERGE_BORDER`); a cut box goes when `MERGE_COVERED` of its area lies inside a larger box
    of the same class from another view that stays, and that scores at least `MERGE_SCORE` of it. The score of the piece
    may be the higher one, as half a nucleus is as good a nucleus as any; but a very unsure box around everything takes
    nothing in. Two halves from two tiles both go where the whole picture, or another tile, shows the object whole;
    where none does, they stay, since no box was found that could take their place (but a piece that lies almost
    wholly inside a larger piece goes).

    A small object in front of a larger one of its class does not touch an inner edge, save by chance, and where it
    does, another tile or the whole picture shows it away from that edge: its box stays, whatever the scores are. That
    matters most where the whole picture's coarse view took a crowd of small objects for one large one.

    Then, as in Azure AutoML: per class, from the highest score down, a box goes when its overlap (IoU) with one that
    stays is above `nms_threshold` and that one is from another view. Boxes of one view are not compared, since the
    network did that.

    Args:
        parts: what was found in each view, in fractions of the view, and the tile in pixels; None is the whole picture.
        width: the picture's, in pixels.
        height: the picture's, in pixels.
        nms_threshold: in [0, 1].

    Returns:
        Fractions of the picture, by falling score; equal scores keep the order of `parts`.
    """
    if not parts:
        raise ValueError("there is nothing to merge")
    whole: Tile = (0, 0, width, height)
    tiles = np.array([tile or whole for _, tile in parts], np.float64)
    view = np.repeat(np.arange(len(parts)), [len(found) for found, _ in parts])
    together = _together([_in_picture(found, tile or whole, width, height) for found, tile in parts])
    order = np.argsort(-together.scores, kind="stable")
    together, view = together.select(order), view[order]
    boxes = together.boxes.astype(np.float64) * (width, height, width, height)
    cut = _is_cut(boxes, tiles[view], width, height)
    keep = np.zeros(len(together), bool)
    for label in np.unique(together.labels):
        ours = np.flatnonzero(together.labels == label)
        ours = ours[_without_pieces(boxes[ours], together.scores[ours], view[ours], cut[ours])]
        keep[ours[_suppress(boxes[ours], view[ours], nms_threshold)]] = True
    return together.select(keep)


def detect(
    network: Callable[[np.ndarray], Detections],
    picture: np.ndarray,
    grid: Grid | None,
    nms_threshold: float,
    limit: int,
) -> Detections:
    """What a network finds in a picture; with a grid, in the whole picture and in each of its tiles.

    Tiles of mere background are looked at too: what is wrongly found there counts.

    Args:
        network: gives the detections in a picture, uint8 [height, width, 3], by falling score.
        picture: uint8 [height, width, 3].
        grid: the tiles, or None.
        nms_threshold: see `merge`.
        limit: how many objects to keep at most, the highest scores first.

    Returns:
        Fractions of the picture, by falling score.
    """
    found = network(picture)
    if grid is not None:
        height, width = picture.shape[:2]
        tiles = grid.tiles(width, height)
        parts = [(network(np.ascontiguousarray(picture[y0:y1, x0:x1])), (x0, y0, x1, y1)) for x0, y0, x1, y1 in tiles]
        found = merge([(found, None), *parts], width, height, nms_threshold)
    return found.select(slice(limit))


def _in_picture(found: Detections, tile: Tile, width: int, height: int) -> Detections:
    """From fractions of a tile to fractions of the picture; masks are laid over their boxes and stay as they are."""
    x0, y0, x1, y1 = tile
    if (x0, y0, x1, y1) == (0, 0, width, height):
        return found
    boxes = found.boxes.astype(np.float64) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0) + (x0, y0, x0, y0)
    return Detections(
        (boxes / (width, height, width, height)).astype(np.float32), found.labels, found.scores, found.masks
    )


def _together(parts: Sequence[Detections]) -> Detections:
    masks = [part.masks for part in parts if part.masks is not None]
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate(masks) if masks else None,
    )


def _is_cut(boxes: np.ndarray, tiles: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which boxes [n, 4] touch an edge of their tiles [n, 4] that is not the picture's; all in pixels."""
    edges = np.array([0, 0, width, height], np.float64)
    reach = MERGE_BORDER * np.tile(tiles[:, 2:] - tiles[:, :2], 2)
    inwards = np.array([1, 1, -1, -1])
    return ((tiles != edges) & ((boxes - tiles) * inwards <= reach)).any(axis=1)


def _without_pieces(boxes: np.ndarray, scores: np.ndarray, view: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Which boxes of one class are not a piece of a larger one that stays, bool [n]."""
    areas = _areas(boxes)
    stays = np.ones(len(boxes), bool)
    # From the largest down, so that what may take a piece in has been decided on before.
    by_area = np.argsort(-areas, kind="stable")
    for place, piece in enumerate(by_area):
        if not cut[piece]:
            continue
        larger = by_area[:place]
        larger = larger[stays[larger] & (view[larger] != view[piece]) & (areas[larger] > areas[piece])]
        covered = _shared(boxes[larger], boxes[piece]) >= MERGE_COVERED * areas[piece]
        stays[piece] = not (covered & (scores[larger] >= MERGE_SCORE * scores[piece])).any()
    return stays


def _suppress(boxes: np.ndarray, view: np.ndarray, nms_threshold: float) -> np.ndarray:
    """Which boxes of one class, given by falling score, stay beside those of other views, bool [n]."""
    areas = _areas(boxes)
    stays = np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        if not stays[place]:
            continue
        later = np.arange(place + 1, len(boxes))
        later = later[stays[later] & (view[later] != view[place])]
        shared = _shared(boxes[later], boxes[place])
        # Written as a product, so that two empty boxes have no overlap rather than 0 / 0.
        stays[later[shared > nms_threshold * (areas[later] + areas[place] - shared)]] = False
    return stays


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _shared(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The area that each box [n, 4] shares with the other one, [4] or one each, [n]."""
    low, high = np.maximum(boxes[:, :2], other[..., :2]), np.minimum(boxes[:, 2:], other[..., 2:])
    return np.maximum(high - low, 0).prod(axis=1)
