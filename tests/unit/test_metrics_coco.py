"""COCO's numbers: equal to pycocotools on any input, by either engine, and the rules one by one."""

import contextlib
import io
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import CLASSES, SIZE, founds, rectangle, rle, scenes, truths

from kubesight.metrics import coco
from kubesight.metrics.coco import SUMMARY, CocoResult, coco_metrics, hotcoco_tables, pycocotools_tables

BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def oracle(truth, found, masks):
    """The twelve numbers and the precision table of pycocotools, by way of a COCO file and a list of results."""
    labelled = COCO()
    labelled.dataset = {
        "images": [{"id": k + 1, "width": SIZE, "height": SIZE} for k in range(len(truth.sizes))],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [
            {
                "id": k + 1,
                "image_id": int(truth.image[k]) + 1,
                "category_id": int(truth.label[k]) + 1,
                "bbox": _xywh(truth.box[k]),
                "area": float(truth.area[k]),
                "iscrowd": int(truth.crowd[k]),
                **({"segmentation": truth.masks[k]} if masks else {}),
            }
            for k in range(len(truth))
        ],
    }
    results = [
        {
            "image_id": int(found.image[k]) + 1,
            "category_id": int(found.label[k]) + 1,
            "score": float(found.score[k]),
            **({"segmentation": found.masks[k]} if masks else {"bbox": _xywh(found.box[k])}),
        }
        for k in range(len(found))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        labelled.createIndex()
        if results:
            detected = labelled.loadRes(results)
        else:
            detected = COCO()
            detected.dataset = {**labelled.dataset, "annotations": []}
            detected.createIndex()
        evaluation = COCOeval(labelled, detected, "segm" if masks else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(SUMMARY, evaluation.stats.tolist(), strict=True)), evaluation.eval["precision"]


def _xywh(box):
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def check(truth, found, masks):
    """Compare with the oracle; the result."""
    result = coco_metrics(truth, found, CLASSES, masks=masks)
    stats, precision = oracle(truth, found, masks)
    assert result.summary == {name: pytest.approx(value, abs=1e-9) for name, value in stats.items() if value >= 0}
    for table, overlaps in ((result.per_class, slice(None)), (result.per_class_50, slice(1))):
        of_classes = {name: precision[overlaps, :, k, 0, 2] for k, name in enumerate(CLASSES)}
        known = {name: values[values >= 0].mean() for name, values in of_classes.items() if (values >= 0).any()}
        assert table == {name: pytest.approx(value, abs=1e-9) for name, value in known.items()}
    values = [*result.summary.values(), *result.per_class.values(), *result.per_class_50.values()]
    assert all(type(value) is float for value in values)
    return result.summary


def boxes(truth, found):
    return check(truth, found, False)


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_boxes_equal_pycocotools(scene):
    boxes(*scene)


@settings(max_examples=60, deadline=None)
@given(scenes(masks=True))
def test_masks_equal_pycocotools(scene):
    check(*scene, True)


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_the_fallback_equals_the_oracle_too(scene):
    truth, found = scene
    tables = pycocotools_tables(truth, found, len(CLASSES), False)
    assert np.array_equal(tables.precision, oracle(truth, found, False)[1])


def crowded(seed, masks):
    """A picture with up to 300 detections of a class, scores with many ties, and odd boxes."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-5, 60, (330, 4)).round(int(generator.integers(0, 3)))
    drawn = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    drawn[60:160] = drawn[np.arange(100) % 30] + generator.integers(-1, 2, (100, 4))
    drawn = np.maximum(drawn, 0) if masks else drawn
    rows = [(int(generator.integers(2)), int(generator.integers(2)), box) for box in drawn.tolist()]
    crowd = generator.random(30) < 0.2
    scores = generator.integers(0, 30, 300) / 30
    pixels = [rle(_inside(box)) for box in drawn] if masks else None
    truth = truths(*((*row, {"crowd": bool(c)}) for row, c in zip(rows[:30], crowd, strict=True)), pictures=3)
    found = founds(*((*rows[k % 30][:2], rows[k + 30][2], score) for k, score in enumerate(scores.tolist())))
    if pixels:
        return replace(truth, masks=pixels[:30]), replace(found, masks=pixels[30:])
    return truth, found


def _inside(box):
    x0, y0, x1, y1 = np.round(box).astype(int)
    pixels = np.zeros((SIZE, SIZE), bool)
    pixels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return pixels


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_crowded_pictures_equal_pycocotools(seed, masks):
    summary = check(*crowded(seed, masks), masks)
    assert summary["AP"] > 0.01


def test_the_first_object_may_be_found():
    # pycocotools takes an object numbered 0 for one that was not found: 1 object, found exactly, would have AP 0.
    assert boxes(truths((0, 0, BOX)), founds((0, 0, BOX, 0.9)))["AP"] == pytest.approx(1.0)


def test_the_second_best_object_is_taken_in_its_place():
    # The case for which VOC's rule gives 0.5: the second detection takes the second object, by 70 / 130.
    truth = truths((0, 0, BOX), (0, 0, (2, 0, 12, 10)))
    assert boxes(truth, founds((0, 0, BOX, 0.9), (0, 0, (-1, 0, 9, 10), 0.8)))["AP50"] == pytest.approx(1.0)


def test_equal_scores_keep_their_order():
    truth = truths((0, 0, BOX))
    right, wrong = (0, 0, BOX, 0.5), (0, 0, FAR, 0.5)
    assert boxes(truth, founds(right, wrong))["AP50"] == pytest.approx(1.0)
    assert boxes(truth, founds(wrong, right))["AP50"] == pytest.approx(0.5)


def test_the_order_in_which_pictures_were_handed_in_does_not_matter():
    truth = truths((0, 0, BOX), (1, 0, BOX))
    right, wrong = (0, 0, BOX, 0.5), (1, 0, FAR, 0.5)
    assert boxes(truth, founds(right, wrong)) == boxes(truth, founds(wrong, right))


def test_an_overlap_equal_to_a_threshold_is_enough():
    summary = boxes(truths((0, 0, BOX)), founds((0, 0, (0, 0, 10, 5), 0.9)))
    assert summary["AP50"] == pytest.approx(1.0)
    assert summary["AP"] == pytest.approx(0.1)


def test_the_hundred_and_first_detection_of_a_picture_and_class_is_dropped():
    truth = truths((0, 0, BOX), (0, 1, BOX))
    late = founds(*((0, 0, FAR, 0.9) for _ in range(100)), (0, 0, BOX, 0.1), (0, 1, BOX, 0.1))
    summary = boxes(truth, late)
    assert summary["AR100"] == 0.5
    assert coco_metrics(truth, late, CLASSES, masks=False).per_class == {"a": 0.0, "b": pytest.approx(1.0)}


@pytest.mark.parametrize(
    ("area", "sizes"),
    [(1023.99, "s"), (1024, "sm"), (1024.01, "m"), (9216, "ml"), (9216.01, "l"), (0, "s"), (1e10, "l"), (2e10, "")],
)
def test_limits_of_area_are_included_and_the_stated_area_counts(area, sizes):
    summary = boxes(truths((0, 0, BOX, {"area": area})), founds((0, 0, BOX, 0.9)))
    assert {name[2:] for name in summary if name[2:] in ("s", "m", "l")} == set(sizes)


def test_an_object_without_area_counts_as_missed():
    truth = truths((0, 0, BOX), (0, 0, (5, 5, 5, 5)))
    assert boxes(truth, founds((0, 0, BOX, 0.9), (0, 0, (5, 5, 5, 5), 0.8)))["AR100"] == 0.5


def test_detections_inside_a_crowd_are_not_false():
    truth = truths((0, 0, (40, 40, 90, 90), {"crowd": True}), (0, 0, BOX))
    found = founds((0, 0, FAR, 0.9), (0, 0, (60, 60, 70, 70), 0.85), (0, 0, BOX, 0.8))
    assert boxes(truth, found)["AP"] == pytest.approx(1.0)


def test_what_nothing_defines_is_left_out():
    nothing = CocoResult({}, {}, {})
    detection = founds((0, 0, BOX, 0.9))
    assert boxes(truths((0, 0, BOX, {"crowd": True})), detection) == {}
    for found in (founds(), detection):
        for truth in (truths(pictures=2), truths((0, 0, BOX, {"crowd": True})), truths((0, 0, BOX, {"area": 1e11}))):
            assert coco_metrics(truth, found, CLASSES, masks=False) == nothing
    assert coco_metrics(truths(), founds(), [], masks=False) == nothing
    assert coco_metrics(truths(masks=[]), founds(masks=[]), CLASSES, masks=True) == nothing


def test_no_detections_at_all_is_nought():
    expected = {name: 0.0 for name in SUMMARY if name[2:] not in ("m", "l")}
    assert boxes(truths((0, 0, BOX)), founds()) == expected
    assert check(truths((0, 0, BOX), masks=[rectangle(*BOX)]), founds(masks=[]), True) == expected


def test_classes_without_objects_or_without_detections():
    result = coco_metrics(
        truths((0, 0, BOX), (0, 1, FAR)), founds((0, 0, BOX, 0.9), (0, 2, FAR, 0.8)), CLASSES, masks=False
    )
    assert result.per_class == {"a": pytest.approx(1.0), "b": 0.0}
    assert result.summary["AP"] == pytest.approx(0.5)


def test_difficult_is_not_known_to_coco():
    truth = truths((0, 0, BOX, {"difficult": True}))
    assert boxes(truth, founds((0, 0, BOX, 0.9)))["AP"] == pytest.approx(1.0)


def test_a_mask_s_area_decides_the_size_of_a_detection():
    # A cross of 2 x 60 and 60 x 2 pixels in a box of 3600: a false detection of it is small, and none of the medium
    # ones; the medium object's average precision stays 1.
    cross = np.zeros((SIZE, SIZE), bool)
    cross[29:31, 0:60] = cross[0:60, 29:31] = True
    truth = truths((0, 0, (60, 60, 100, 100)), masks=[rectangle(60, 60, 100, 100)])
    found = founds(
        (0, 0, (0, 0, 60, 60), 0.9),
        (0, 0, (60, 60, 100, 100), 0.8),
        masks=[rle(cross), rectangle(60, 60, 100, 100)],
    )
    summary = check(truth, found, True)
    assert summary["AP"] == pytest.approx(0.5)
    assert summary["APm"] == pytest.approx(1.0)


@pytest.fixture
def fresh_engine():
    """Choose the engine anew, before the test and after it."""
    coco._engine.cache_clear()
    yield
    coco._engine.cache_clear()


@pytest.mark.usefixtures("fresh_engine")
def test_the_fast_engine_is_taken_without_a_word(caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        assert coco._engine() is hotcoco_tables
        coco_metrics(*crowded(0, True), CLASSES, masks=True)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("fresh_engine")
def test_without_the_fast_engine_pycocotools_does_it_and_says_so(caplog, capfd, monkeypatch):
    expected = coco_metrics(*crowded(1, False), CLASSES, masks=False)
    coco._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert coco_metrics(*crowded(1, False), CLASSES, masks=False) == expected
    assert coco._engine() is pycocotools_tables
    assert caplog.text.count("computed by pycocotools, slowly, because hotcoco cannot be used") == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("fresh_engine")
@pytest.mark.parametrize("table", ["precision", "recall"])
@pytest.mark.parametrize("gap", [2e-9, float("nan")])
def test_an_engine_that_disagrees_is_not_taken(caplog, monkeypatch, table, gap):
    def wrong(*arguments):
        tables = hotcoco_tables(*arguments)
        shifted = getattr(tables, table).copy()
        shifted.flat[0] += gap
        return replace(tables, **{table: shifted})

    monkeypatch.setattr(coco, "hotcoco_tables", wrong)
    expected = pycocotools_tables
    assert coco._engine() is expected
    assert f"its {table} differs from that of pycocotools" in caplog.text


def test_the_example_that_gates_the_engine_has_all_the_hard_cases():
    truth, found = coco._example()
    assert truth.crowd.any()
    assert len(np.unique(found.score)) < len(found) / 2
    assert set(found.label.tolist()) - set(truth.label.tolist()) == {2}
    assert len(truth.sizes) > len(np.unique(truth.image))
    assert {0.0, 1024.0, 9216.0} & set(truth.area.tolist())
    result = coco_metrics(truth, found, CLASSES, masks=True)
    assert set(result.summary) == set(SUMMARY)
    assert all(0 < value < 1 for value in result.summary.values())
