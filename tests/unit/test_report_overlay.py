"""Shapes over a picture: where their lines go, which tags find room, and what the key says."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from kubesight.report.overlay import FONT, Layer, Shape, overlay, scenes, switches
from kubesight.report.style import CSS, LAYERS

KINDS = (Layer("right", (0, 255, 0)), Layer("missed", (255, 128, 0), "?", dashed=True, note="nobody's <find>"))


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def lines(svg: ET.Element) -> list[ET.Element]:
    """The coloured lines, without the dark edges under them."""
    return [path for path in svg.iter("path") if "o" not in path.attrib["class"].split()]


def test_boxes_lie_where_their_fractions_say():
    svg = parse(overlay("data:image/jpeg;base64,AA", (640, 480), [Shape(0, (0.1, 0.2, 0.5, 0.8))], KINDS))
    assert svg.attrib["viewBox"] == "0 0 1000 750"
    (path,) = lines(svg)
    assert path.attrib["d"] == "M100 150H500V600H100z"
    assert svg.find("image").attrib["href"] == "data:image/jpeg;base64,AA"


def test_outlines_close_and_hold_every_corner():
    triangle = np.array([[0.1, 0.1], [0.5, 0.1], [0.3, 0.5]])
    hole = np.array([[0.3, 0.2], [0.3, 0.2], [0.3001, 0.2]])  # less than a unit: nothing to see
    svg = parse(overlay(None, (200, 100), [Shape(0, (0.1, 0.1, 0.5, 0.5), [triangle, hole])], KINDS))
    assert lines(svg)[0].attrib["d"] == "M100 50l400 0-200 200z"
    assert svg.find("image") is None


def test_an_outline_of_less_than_a_unit_is_drawn_as_its_box():
    dot = np.full((4, 2), 0.5)
    svg = parse(overlay(None, (10, 10), [Shape(0, (0.4, 0.4, 0.6, 0.6), [dot])], KINDS))
    assert lines(svg)[0].attrib["d"] == "M400 400H600V600H400z"


def test_small_shapes_lie_over_large_ones_and_every_line_has_a_dark_edge():
    small, large = Shape(0, (0.4, 0.4, 0.5, 0.5), tip="small"), Shape(1, (0, 0, 1, 1), tip="large & <wide>")
    svg = parse(overlay(None, (10, 10), [small, large], KINDS))
    assert [path.findtext("title") for path in lines(svg)] == ["large & <wide>", "small"]
    assert [path.attrib["class"] for path in lines(svg)] == ["k1 dash", "k0"]
    edges = [path for path in svg.iter("path") if "o" in path.attrib["class"].split()]
    assert {path.attrib["d"] for path in edges} == {path.attrib["d"] for path in lines(svg)}


def test_tags_never_cover_one_another_and_stay_in_the_picture():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.9, (400, 2))
    shapes = [Shape(0, (x, y, x + 0.08, y + 0.08), tags=(f"cell {k}", f"{k}")) for k, (x, y) in enumerate(corners)]
    svg = parse(overlay(None, (800, 600), shapes, KINDS))
    tags = [(float(t.attrib["x"]), float(t.attrib["y"]), t.text) for t in svg.iter("text")]
    assert 40 < len(tags) < 400
    for x, y, text in tags:
        assert x >= 0
        assert FONT - 2 <= y + 5 <= 750
        assert x + 7 * len(text) * FONT / 12 <= 1002
    for k, (x, y, text) in enumerate(tags):
        for other_x, other_y, other in tags[k + 1 :]:
            apart = abs(y - other_y) >= FONT or x >= other_x + 12 * len(other) or other_x >= x + 12 * len(text)
            assert apart, (text, other)


def test_a_tag_without_room_gives_way_to_a_shorter_one():
    wall = [Shape(0, (0, 0, 1, 1), tags=("x" * 60,)), Shape(0, (0, 0.2, 1, 1), tags=("a very long name .93", ".93"))]
    narrow = parse(overlay(None, (200, 1000), wall, KINDS))
    assert [tag.text for tag in narrow.iter("text")] == [".93"]


def test_the_key_names_and_counts_the_layers_that_occur():
    key = switches(KINDS, {1: 1200})
    root = parse(key.replace(" checked>", "/>"))
    assert len(root.findall("label")) == 1
    assert root.find("label").attrib["title"] == "nobody's <find>"
    assert "".join(root.itertext()) == "? missed (1,200)"
    assert root.find("label/input").attrib["class"] == "w1"
    assert "dashed" in root.find("label/i").attrib["style"]


def test_the_style_sheet_colours_and_hides_each_layer():
    for k in range(LAYERS):
        assert f"path.k{k}{{stroke:var(--k{k})}}" in CSS
        assert re.search(rf"section:has\(\.w{k}:not\(:checked\)\) svg\.over \.k{k}\{{display:none\}}", CSS)
    with pytest.raises(ValueError, match="11 layers"):
        overlay(None, (1, 1), [], [KINDS[0]] * 11)


def test_scenes_keep_their_captions():
    grid = scenes([(overlay(None, (9, 9), [], KINDS), "one &amp; only")])
    assert grid.count("<figure>") == 1
    assert "one &amp; only" in grid
    assert 'type="checkbox"' in grid
