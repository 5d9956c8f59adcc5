"""Tiles against their formula, and what merging keeps against cases worked by hand."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kubesight.dataset.detections import Detections
from kubesight.dataset.tiling import Grid, Tile, detect, merge, visible_share
from kubesight.errors import HyperparameterError

GRIDS = st.builds(Grid, st.integers(1, 6), st.integers(2, 6), st.floats(0, 0.9, allow_nan=False, allow_subnormal=False))
SIDES = st.integers(1, 4000)


def found(boxes: list[tuple[float, ...]], scores: list[float], view: Tile, labels: list[int] | None = None):
    """Detections of a view from boxes in pixels of the picture."""
    x0, y0, x1, y1 = view
    pixels = np.array(boxes, np.float64).reshape(-1, 4) - (x0, y0, x0, y0)
    fractions = (pixels / (x1 - x0, y1 - y0, x1 - x0, y1 - y0)).astype(np.float32)
    order = np.argsort(-np.array(scores), kind="stable")
    result = Detections(fractions, np.array(labels or [0] * len(boxes), np.int64), np.array(scores, np.float32))
    return result.select(order)


def kept(result: Detections, width: int, height: int) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in box) for box in np.rint(result.boxes * (width, height, width, height))]


def test_tiles_follow_the_published_formula() -> None:
    # Across: 600 / (0.25 + 0.75 * 3) = 240, steps of 180. Down: 400 / (0.25 + 0.75 * 2) = 228.57, steps of 171.43.
    assert Grid(3, 2, 0.25).tiles(600, 400) == [
        (0, 0, 240, 229), (180, 0, 420, 229), (360, 0, 600, 229),
        (0, 171, 240, 400), (180, 171, 420, 400), (360, 171, 600, 400),
    ]  # fmt: skip
    assert Grid(2, 1, 0.0).tiles(10, 4) == [(0, 0, 5, 4), (5, 0, 10, 4)]


@settings(deadline=None)
@given(GRIDS, SIDES, SIDES)
def test_tiles_cover_the_picture_and_are_as_many_as_the_grid_says(grid: Grid, width: int, height: int) -> None:
    tiles = grid.tiles(width, height)
    assert len(tiles) == grid.columns * grid.rows
    assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in tiles)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        covered = np.zeros(length, bool)
        for tile in tiles:
            covered[tile[low] : tile[high]] = True
        assert covered.all()


@settings(deadline=None)
@given(GRIDS, st.integers(60, 4000))
def test_neighbouring_tiles_share_the_overlap(grid: Grid, length: int) -> None:
    columns = Grid(grid.rows, 1, grid.overlap).tiles(length, 1)
    side = length / (grid.overlap + (1 - grid.overlap) * grid.rows)
    assert columns[0][0] == 0
    assert columns[-1][2] == length
    for left, right in itertools.pairwise(columns):
        assert left[2] - left[0] == pytest.approx(side, abs=1)
        assert left[2] - right[0] == pytest.approx(grid.overlap * side, abs=1)


@settings(deadline=None)
@given(GRIDS, st.integers(60, 2000), st.integers(60, 2000), st.data())
def test_a_box_no_larger_than_the_overlap_is_whole_in_some_tile(grid: Grid, width: int, height: int, data) -> None:
    across = grid.overlap * width / (grid.overlap + (1 - grid.overlap) * grid.columns) - 1
    down = grid.overlap * height / (grid.overlap + (1 - grid.overlap) * grid.rows) - 1
    assume(across > 1 and down > 1)
    w, h = data.draw(st.floats(0.5, across)), data.draw(st.floats(0.5, down))
    x, y = data.draw(st.floats(0, width - w)), data.draw(st.floats(0, height - h))
    shares = [visible_share(np.array([[x, y, x + w, y + h]]), tile)[0] for tile in grid.tiles(width, height)]
    assert max(shares) == pytest.approx(1)


@settings(deadline=None)
@given(GRIDS, st.integers(60, 2000), st.integers(60, 2000), st.data())
def test_tiles_without_overlap_share_out_a_box(grid: Grid, width: int, height: int, data) -> None:
    x0, x1 = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    tiles = Grid(grid.columns, grid.rows, 0.0).tiles(width, height)
    assert sum(visible_share(np.array([[x0, y0, x1, y1]]), tile)[0] for tile in tiles) == pytest.approx(1)


def test_a_grid_of_one_tile_or_a_full_overlap_is_refused() -> None:
    for columns, rows in ((1, 1), (0, 2), (2, 0)):
        with pytest.raises(HyperparameterError, match=f"{columns}x{rows}"):
            Grid(columns, rows, 0.25)
    with pytest.raises(HyperparameterError, match=r"1\.0"):
        Grid(2, 2, 1.0)


def test_a_card_says_whether_there_is_a_grid() -> None:
    assert Grid.of({"tile_grid_size": "3x2", "tile_overlap_ratio": 0.1}) == Grid(3, 2, 0.1)
    assert Grid.of({"tile_grid_size": None}) is None
    assert Grid.of({}) is None


def test_the_visible_share_is_that_of_the_boxes_area() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 25], [20, 20, 30, 30], [9, 0, 11, 10]])
    # All; 5 x 5 of 10 x 20; none; half.
    assert visible_share(boxes, (0, 0, 10, 10)).tolist() == [1, 0.125, 0, 0.5]
    assert visible_share(np.zeros((0, 4)), (0, 0, 10, 10)).shape == (0,)


# A picture of 200 x 100 in two tiles that overlap by 40: 0 to 120 and 80 to 200.
WHOLE, LEFT, RIGHT = (0, 0, 200, 100), (0, 0, 120, 100), (80, 0, 200, 100)
LARGE = (40, 20, 170, 80)
LEFT_PIECE, RIGHT_PIECE = (40, 20, 120, 80), (80, 20, 170, 80)


def merged(whole, left, right, nms_threshold: float = 0.25) -> Detections:
    """Merge lists of (box, score) or (box, score, label) of the three views."""
    parts = []
    for objects, view in ((whole, WHOLE), (left, LEFT), (right, RIGHT)):
        boxes, scores = [one[0] for one in objects], [one[1] for one in objects]
        labels = [one[2] if len(one) > 2 else 0 for one in objects]
        order = np.argsort([-score for score in scores], kind="stable")
        detections = found([boxes[k] for k in order], [scores[k] for k in order], view, [labels[k] for k in order])
        parts.append((detections, None if view == WHOLE else view))
    return merge(parts, 200, 100, nms_threshold)


def test_both_pieces_of_an_object_larger_than_the_overlap_go_even_with_higher_scores() -> None:
    # Overlaps of the pieces with the whole: 80 / 130 = 0.62 and 90 / 130 = 0.69 of its area.
    result = merged([(LARGE, 0.7)], [(LEFT_PIECE, 0.9)], [(RIGHT_PIECE, 0.8)])
    assert kept(result, 200, 100) == [LARGE]
    assert result.scores.tolist() == pytest.approx([0.7])
    # Suppression by overlap alone would have kept the left piece, and lost the whole object to it.


def test_a_small_piece_goes_though_its_overlap_with_the_whole_is_low() -> None:
    # Of an object from 10 to 125 the right tile shows 45 of 115 pixels: an overlap of 0.39 with the whole.
    long, left, right = (10, 20, 125, 60), ((10, 20, 120, 60), 0.6), ((80, 20, 125, 60), 0.95)
    assert kept(merged([(long, 0.5)], [left], [right], nms_threshold=0.5), 200, 100) == [long]
    # Where no view shows it whole, the larger piece takes in the smaller one: 40 of its 45 pixels are inside.
    assert kept(merged([], [left], [right], nms_threshold=0.5), 200, 100) == [left[0]]


def test_pieces_that_no_view_shows_together_stay() -> None:
    # 40 of the right piece's 90 pixels lie in the left one, 40 of 80 the other way round; IoU 40 / 130 = 0.31.
    result = merged([], [(LEFT_PIECE, 0.9)], [(RIGHT_PIECE, 0.8)], nms_threshold=0.35)
    assert kept(result, 200, 100) == [LEFT_PIECE, RIGHT_PIECE]


def test_a_very_unsure_box_around_everything_takes_no_piece_in() -> None:
    result = merged([((0, 0, 200, 100), 0.05)], [(LEFT_PIECE, 0.9)], [])
    assert kept(result, 200, 100) == [LEFT_PIECE, (0, 0, 200, 100)]


def test_a_small_object_in_front_of_a_larger_one_stays() -> None:
    # The small one is whole in the left tile; the large one scores higher and was seen in another view.
    small = (50, 30, 60, 40)
    for score in (0.9, 0.3):
        result = merged([(LARGE, 0.6)], [(small, score)], [])
        assert sorted(kept(result, 200, 100)) == sorted([LARGE, small])


def test_a_small_object_in_front_of_a_larger_one_that_a_tile_cuts_stays_through_the_other_tile() -> None:
    # 112 to 124: the left tile ends at 120 and shows a piece, the right one shows it whole.
    small, piece = (112, 30, 124, 40), (112, 30, 120, 40)
    result = merged([(LARGE, 0.9)], [(piece, 0.8)], [(small, 0.7)])
    assert kept(result, 200, 100) == [LARGE, small]


def test_a_piece_at_the_pictures_own_edge_is_no_piece() -> None:
    # Cut by the picture, not by the tile: it stays beside the larger box around it, whose overlap is low.
    edge, larger = (0, 40, 10, 60), (0, 10, 100, 90)
    assert sorted(kept(merged([(larger, 0.9)], [(edge, 0.5)], []), 200, 100)) == sorted([larger, edge])


def test_pieces_of_another_class_stay() -> None:
    result = merged([(LARGE, 0.7, 1)], [(LEFT_PIECE, 0.9, 0)], [])
    assert kept(result, 200, 100) == [LEFT_PIECE, LARGE]
    assert result.labels.tolist() == [0, 1]


def test_boxes_of_one_view_are_not_compared() -> None:
    pair = [((10, 10, 50, 50), 0.9), ((12, 10, 52, 50), 0.8)]
    assert len(merged(pair, [], [])) == 2
    assert kept(merged(pair[:1], pair[1:], []), 200, 100) == [pair[0][0]]


def test_the_threshold_decides_between_boxes_of_different_views() -> None:
    # 10 x 10 boxes moved by 5: IoU 50 / 150 = 1/3.
    one, other = ((10, 10, 20, 20), 0.9), ((15, 10, 25, 20), 0.8)
    assert len(merged([one], [other], [], nms_threshold=0.3)) == 1
    assert len(merged([one], [other], [], nms_threshold=0.34)) == 2


def test_nothing_found_merges_to_nothing_and_masks_stay_with_their_boxes() -> None:
    empty = Detections.empty(masks=True)
    assert len(merge([(empty, None), (empty, LEFT)], 200, 100, 0.25)) == 0
    masks = np.arange(2, dtype=np.float32).reshape(2, 1, 1) * np.ones((2, 28, 28), np.float32)
    left = found([(10, 10, 20, 20), (50, 50, 60, 60)], [0.4, 0.3], LEFT)
    left = Detections(left.boxes, left.labels, left.scores, masks)
    right = found([(150, 10, 160, 20)], [0.35], RIGHT)
    right = Detections(right.boxes, right.labels, right.scores, masks[1:] + 1)
    result = merge([(empty, None), (left, LEFT), (right, RIGHT)], 200, 100, 0.25)
    assert kept(result, 200, 100) == [(10, 10, 20, 20), (150, 10, 160, 20), (50, 50, 60, 60)]
    assert result.masks is not None
    assert result.masks[:, 0, 0].tolist() == [0, 2, 1]
    with pytest.raises(ValueError, match="nothing"):
        merge([], 200, 100, 0.25)


def reference(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, view: np.ndarray, threshold: float) -> list:
    """The published suppression, box by box."""
    stays: list[int] = []
    for k in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        for other in stays:
            x0, y0 = np.maximum(boxes[k, :2], boxes[other, :2])
            x1, y1 = np.minimum(boxes[k, 2:], boxes[other, 2:])
            shared = max(0.0, x1 - x0) * max(0.0, y1 - y0)
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (boxes[k], boxes[other])]
            overlap = shared / (sum(areas) - shared)
            if labels[k] == labels[other] and view[k] != view[other] and overlap > threshold:
                break
        else:
            stays.append(k)
    return stays


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 9))
def test_without_cut_boxes_merging_is_the_published_suppression(seed: int, count: int, tenths: int) -> None:
    # An overlap is a ratio of whole numbers up to 2 * 13 * 13 = 338: a tenth, or at least 1 / 3380 from one. So this
    # threshold is 0.0001 from all of them, far more than what rounding to float32 moves.
    threshold = tenths / 10 + 0.0001
    generator = np.random.default_rng(seed)
    low = generator.integers(85, 100, (count, 1)) * np.ones(2)  # away from the edges of all tiles
    low[:, 1] = generator.integers(10, 60, count)
    boxes = np.hstack([low, low + generator.integers(2, 14, (count, 2))])
    scores = generator.permutation(count) / 100 + 0.01
    labels, view = generator.integers(0, 2, count), generator.integers(0, 3, count)
    order = np.argsort(-scores)
    boxes, scores, labels, view = boxes[order], scores[order], labels[order], view[order]
    parts = []
    for number, tile in enumerate((WHOLE, LEFT, RIGHT)):
        ours = view == number
        parts.append((found(list(boxes[ours]), list(scores[ours]), tile, list(labels[ours])), tile if number else None))
    result = merge(parts, 200, 100, threshold)
    expected = reference(boxes, scores, labels, view, threshold)
    assert result.scores.tolist() == pytest.approx([scores[k] for k in expected])
    assert kept(result, 200, 100) == [tuple(boxes[k].astype(int)) for k in expected]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), GRIDS, st.floats(0, 1))
def test_merging_never_makes_or_moves_a_box(seed: int, grid: Grid, threshold: float) -> None:
    generator = np.random.default_rng(seed)
    width, height = 300, 200
    parts: list[tuple[Detections, Tile | None]] = []
    given: set[tuple] = set()
    for tile in [None, *grid.tiles(width, height)]:
        count = int(generator.integers(0, 6))
        corners = np.sort(generator.random((count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
        scores = np.sort(generator.random(count).astype(np.float32))[::-1].copy()
        part = Detections(corners, generator.integers(0, 3, count), scores)
        parts.append((part, tile))
        x0, y0, x1, y1 = tile or (0, 0, width, height)
        in_picture = corners.astype(np.float64) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0) + (x0, y0, x0, y0)
        in_picture = in_picture / (width, height, width, height)
        rows = zip(in_picture.round(5).tolist(), part.labels.tolist(), scores.tolist(), strict=True)
        given |= {(*box, label, score) for box, label, score in rows}
    result = merge(parts, width, height, threshold)
    rows = zip(result.boxes.astype(np.float64).tolist(), result.labels, result.scores, strict=True)
    for box, label, score in rows:
        assert any(
            label == other[4] and score == other[5] and np.allclose(box, other[:4], atol=2e-5) for other in given
        )
    assert (np.diff(result.scores) <= 0).all()
    assert len(result) <= len(given)
    top = max((part.scores[0] for part, _ in parts if len(part)), default=None)
    assert top is None or len(result) > 0


def rectangles(least_share: float) -> Callable[[np.ndarray], Detections]:
    """A detector of white rectangles that overlooks those with less than a share of the view's area."""

    def network(picture: np.ndarray) -> Detections:
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        height, width = picture.shape[:2]
        places = ndimage.find_objects(ndimage.label(picture[:, :, 0] > 0)[0])
        boxes = [(x.start / width, y.start / height, x.stop / width, y.stop / height) for y, x in places]
        boxes = [box for box in boxes if (box[2] - box[0]) * (box[3] - box[1]) >= least_share]
        count = len(boxes)
        scores = np.linspace(0.9, 0.6, count, dtype=np.float32)
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.zeros(count, np.int64), scores)

    return network


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 4), st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_each_object_is_found_once_whatever_its_size(seed: int, columns: int, rows: int, overlap: float) -> None:
    generator = np.random.default_rng(seed)
    picture = np.zeros((240, 300, 3), np.uint8)
    truth = set()
    # One rectangle in each of a few cells, so that they never touch.
    for x, y in generator.permutation([(x, y) for x in range(3) for y in range(2)])[: generator.integers(0, 7)]:
        w, h = generator.integers(3, 98), generator.integers(3, 118)
        left, top = x * 100 + generator.integers(0, 99 - w), y * 120 + generator.integers(0, 119 - h)
        picture[top : top + h, left : left + w] = 255
        truth.add((left, top, left + w, top + h))
    result = detect(rectangles(0.0), picture, Grid(columns, rows, overlap), 0.25, 100)
    assert sorted(kept(result, 300, 240)) == sorted(truth)


def test_tiles_find_small_objects_that_the_whole_picture_does_not_show_and_background_is_looked_at() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[20:30, 20:30] = picture[95:105, 95:105] = picture[100:190, 10:90] = 255
    network, sizes = rectangles(0.005), []

    def counted(view: np.ndarray) -> Detections:
        sizes.append(view.shape[:2])
        return network(view)

    assert kept(detect(counted, picture, None, 0.25, 100), 200, 200) == [(10, 100, 90, 190)]
    assert sizes == [(200, 200)]
    # The tiles are 114 pixels wide and 86 apart: the square in the middle is whole in all four.
    result = detect(counted, picture, Grid(2, 2, 0.25), 0.25, 100)
    assert sorted(kept(result, 200, 200)) == [(10, 100, 90, 190), (20, 20, 30, 30), (95, 95, 105, 105)]
    assert sizes[1:] == [(200, 200), *[(114, 114)] * 4]
    assert len(detect(counted, picture, Grid(2, 2, 0.25), 0.25, 2)) == 2
    blank = detect(counted, np.zeros_like(picture), Grid(2, 2, 0.25), 0.25, 100)
    assert len(blank) == 0
    assert len(sizes) == 1 + 5 + 5 + 5
