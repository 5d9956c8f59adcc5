"""Boxes and polygons: the rules for what does not fit, and EXIF turns against Pillow's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from kubesight.convert.geometry import Frame, fit_box, fit_rings, ring_bounds

FRAME = Frame(100.0, 50.0)
numbers = st.floats(-300, 300, allow_nan=False)


def test_a_box_inside_is_divided_by_the_size() -> None:
    assert fit_box(10, 5, 60, 30, FRAME) == ((0.1, 0.1, 0.6, 0.6), None)


@pytest.mark.parametrize(
    ("box", "severity", "reason", "corners"),
    [
        ((60, 30, 10, 5), "repaired", "reversed_box", (0.1, 0.1, 0.6, 0.6)),
        ((10, 5, 10, 30), "dropped", "degenerate_box", None),
        ((10, 5, 60, 5), "dropped", "degenerate_box", None),
        ((10, 5, 10.5, 6.5), "dropped", "degenerate_box", None),
        ((-20, -10, 50, 25), "repaired", "box_clipped", (0, 0, 0.5, 0.5)),
        ((50, 25, 120, 51.5), "repaired", "box_clipped", (0.5, 0.5, 1, 1)),
        ((100, 10, 130, 20), "dropped", "box_outside", None),
        ((99.99, 10, 130, 20), "dropped", "box_outside", None),
        ((math.nan, 1, 2, 3), "dropped", "not_a_number", None),
        ((1, 1, math.inf, 3), "dropped", "not_a_number", None),
    ],
)
def test_boxes_that_do_not_fit(box: tuple, severity: str, reason: str, corners: tuple | None) -> None:
    fitted, problem = fit_box(*box, FRAME)
    assert problem is not None
    assert (problem.severity, problem.reason) == (severity, reason)
    assert fitted == corners


def test_one_pixel_over_the_edge_is_cut_without_a_word() -> None:
    assert fit_box(-1, 0, 50, 51, FRAME) == ((0, 0, 0.5, 1), None)


def test_a_box_of_exactly_one_pixel_stays_in_pixels_and_in_fractions() -> None:
    corners, problem = fit_box(33, 17, 34, 18, FRAME)
    assert problem is None
    assert corners is not None
    assert fit_box(*corners, Frame.fractions(100, 50)) == (corners, None)


@given(numbers, numbers, numbers, numbers)
def test_whatever_is_kept_is_a_box_inside_the_picture(x0: float, y0: float, x1: float, y1: float) -> None:
    fitted, problem = fit_box(x0, y0, x1, y1, FRAME)
    if fitted is None:
        assert problem is not None
        assert problem.severity == "dropped"
        return
    left, top, right, bottom = fitted
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    if problem is None:  # then at most a pixel was cut off
        for kept, given_, size in zip(fitted, (x0, y0, x1, y1), (100, 50, 100, 50), strict=True):
            assert abs(kept * size - given_) <= 1 + 1e-9


@given(st.lists(numbers, max_size=12))
def test_rings_are_kept_inside_or_dropped_with_a_reason(ring: list[float]) -> None:
    rings, problems = fit_rings([ring], FRAME)
    if not rings:
        assert problems[-1].severity == "dropped"
        return
    assert len(rings[0]) == len(ring)
    assert all(0 <= value <= 1 for value in rings[0])
    left, top, right, bottom = ring_bounds(rings)
    assert left < right
    assert top < bottom


@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        ([1, 1, 5, 5], "short_polygon"),
        ([], "short_polygon"),
        ([1, 1, 5, 5, 9, 1, 3], "odd_polygon"),
        ([1, 1, None, 5, 9, 1], "not_a_number"),
        ([1, 1, math.nan, 5, 9, 1], "not_a_number"),
        ([200, 1, 205, 5, 209, 1], "polygon_outside"),
        ([1, 1, 5, 5, 9, 9], "degenerate_polygon"),
        ([7, 3, 7, 3, 7, 3], "degenerate_polygon"),
    ],
)
def test_rings_that_cannot_be_used(ring: list, reason: str) -> None:
    assert fit_rings([ring], FRAME)[0] == []
    assert [(p.severity, p.reason) for p in fit_rings([ring], FRAME)[1]] == [("dropped", reason)]
    good = [10, 10, 60, 10, 60, 30]
    rings, problems = fit_rings([ring, good], FRAME)
    assert rings == [[0.1, 0.2, 0.6, 0.2, 0.6, 0.6]]
    assert [(p.severity, p.reason) for p in problems] == [("repaired", reason)]


def test_a_ring_over_the_edge_is_cut_to_it() -> None:
    rings, problems = fit_rings([[-20, 10, 50, 10, 50, 80]], FRAME)
    assert rings == [[0, 0.2, 0.5, 0.2, 0.5, 1]]
    assert [p.reason for p in problems] == ["polygon_clipped"]


def test_a_bow_tie_has_no_net_area_and_is_kept() -> None:
    rings, problems = fit_rings([[10, 10, 30, 30, 30, 10, 10, 30]], FRAME)
    assert len(rings) == 1
    assert problems == []


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_turns_agree_with_pillow(orientation: int) -> None:
    stored = Image.new("L", (100, 50))
    ImageDraw.Draw(stored).rectangle((10, 5, 29, 14), fill=255)
    exif = stored.getexif()
    exif[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(stored))
    ys, xs = np.nonzero(shown)
    expected = (xs.min() / 50, ys.min() / 100, (xs.max() + 1) / 50, (ys.max() + 1) / 100)
    frame = Frame(100.0, 50.0, orientation)
    box, problem = fit_box(10, 5, 30, 15, frame)
    assert problem is None
    assert box == pytest.approx(expected)
    rings, _ = fit_rings([[10, 5, 30, 5, 30, 15, 10, 15]], frame)
    assert ring_bounds(rings) == pytest.approx(expected)
