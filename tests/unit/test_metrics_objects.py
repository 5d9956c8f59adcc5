"""The objects that metrics compare, and their overlaps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as coco_mask
from scenes import CLASSES, SIZE, founds, rectangle, rle, scenes, truths

from kubesight.errors import DatasetError, ModelError
from kubesight.metrics import overlap
from kubesight.metrics.objects import check_labels, check_masks
from kubesight.metrics.overlap import best_of_each, box_iou, overlaps

BOX = (0, 0, 10, 10)


def test_arrays_that_do_not_fit_together_are_refused():
    truth, found = truths((0, 0, BOX)), founds((0, 0, BOX, 0.5))
    with pytest.raises(ValueError, match="do not fit together"):
        replace(truth, label=np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="do not fit together"):
        replace(found, box=np.zeros((1, 5)))
    with pytest.raises(ValueError, match="2 masks for 1 objects"):
        replace(found, masks=[rectangle(*BOX)] * 2)
    with pytest.raises(ValueError, match="indices from 1 to 1 where 0 to 0"):
        replace(truth, image=np.ones(1, np.int64))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(ModelError, match=r"box or score of 1 of 2 .*training diverged"):
        founds((0, 0, BOX, bad), (0, 0, BOX, 0.5))
    with pytest.raises(ModelError, match="1 of 1"):
        founds((0, 0, (0, 0, bad, 1), 0.5))
    with pytest.raises(DatasetError, match="not a finite number"):
        truths((0, 0, BOX, {"area": bad}))


def test_classes_and_pictures_that_are_none_are_refused():
    truth, found = truths((0, 0, BOX)), founds((0, 0, BOX, 0.5))
    check_labels(truth, found, CLASSES)
    for other in (replace(found, label=np.array([3])), replace(found, image=np.array([1]))):
        with pytest.raises(ValueError, match="indices from"):
            check_labels(truth, other, CLASSES)
    with pytest.raises(ValueError, match="indices from"):
        check_labels(replace(truth, label=np.array([-1])), found, CLASSES)


def test_masks_must_be_there_and_as_large_as_their_picture():
    truth, found = truths((0, 0, BOX), masks=[rectangle(*BOX)]), founds((0, 0, BOX, 0.5), masks=[rectangle(*BOX)])
    check_masks(truth, found)
    with pytest.raises(ValueError, match="boxes only"):
        check_masks(replace(truth, masks=None), found)
    with pytest.raises(ValueError, match="boxes only"):
        overlaps(truth, replace(found, masks=None), masks=True)
    small = [rectangle(*BOX, size=50)]
    with pytest.raises(ModelError, match="a mask of 50 x 50 pixels on a picture of 120 x 120"):
        check_masks(truth, replace(found, masks=small))
    with pytest.raises(DatasetError, match="picture 0: a mask of 50 x 50"):
        check_masks(replace(truth, masks=small), found)
    turned = [rle(np.zeros((SIZE, SIZE + 1)))]
    with pytest.raises(ModelError, match="a mask of 121 x 120"):
        check_masks(truth, replace(found, masks=turned))


def test_selecting_keeps_masks_beside_their_objects():
    found = founds((0, 0, BOX, 0.1), (0, 1, BOX, 0.2), (1, 2, BOX, 0.3), masks=[{"k": 0}, {"k": 1}, {"k": 2}])
    for keep in (np.array([2, 0]), np.array([True, False, True])):
        chosen = found.select(keep)
        assert [mask["k"] for mask in chosen.masks] == chosen.label.tolist()
        assert len(chosen) == 2
    truth = truths((0, 0, BOX), (3, 1, BOX))
    assert truth.select(np.array([1])).sizes.shape == (4, 2)
    assert truth.select(np.array([1])).image.tolist() == [3]


def test_ranking_goes_by_score_then_picture_then_order_given():
    found = founds((1, 0, BOX, 0.5), (0, 0, BOX, 0.5), (1, 0, BOX, 0.9), (0, 0, BOX, 0.5), (0, 0, BOX, -1))
    assert found.ranking().tolist() == [2, 1, 3, 0, 4]


def test_box_overlap_by_hand():
    # Two 10 x 10 boxes shifted by 5: 5 x 10 shared of 150. With inclusive pixels 11 x 11 = 121 each, 6 x 11 = 66
    # shared of 242 - 66 = 176.
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10]])
    assert box_iou(a, b)[0] == 50 / 150
    assert box_iou(a, b, inclusive_pixels=True)[0] == 66 / 176
    touching, point = np.array([[10.0, 0, 20, 10]]), np.array([[3.0, 3, 3, 3]])
    assert box_iou(a, touching)[0] == 0
    assert box_iou(a, touching, inclusive_pixels=True)[0] == 11 / (121 + 121 - 11)
    assert box_iou(point, point)[0] == 0
    assert box_iou(point, point, inclusive_pixels=True)[0] == 1


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_box_overlaps_are_all_those_of_pycocotools(scene):
    truth, found = scene
    for same_class in (True, False):
        pairs = overlaps(truth, found, same_class=same_class)
        listed = dict(zip(zip(pairs.true.tolist(), pairs.found.tolist(), strict=True), pairs.iou, strict=True))
        for t in range(len(truth)):
            for f in range(len(found)):
                comparable = truth.image[t] == found.image[f]
                comparable &= not same_class or truth.label[t] == found.label[f]
                sides = [np.concatenate([box[:2], box[2:] - box[:2]])[None] for box in (found.box[f], truth.box[t])]
                iou = coco_mask.iou(*sides, [0])[0, 0] if comparable else 0
                # pycocotools gives 0 / 0 for two boxes without area.
                assert listed.get((t, f), 0) == pytest.approx(np.nan_to_num(iou), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(scenes(masks=True))
def test_mask_overlaps_are_those_of_counted_pixels(scene):
    truth, found = scene
    pairs = overlaps(truth, found, masks=True, same_class=False)
    listed = dict(zip(zip(pairs.true.tolist(), pairs.found.tolist(), strict=True), pairs.iou, strict=True))
    for t in range(len(truth)):
        for f in range(len(found)):
            a, b = coco_mask.decode(truth.masks[t]), coco_mask.decode(found.masks[f])
            shared, union = (a & b).sum(), (a | b).sum()
            expected = shared / union if shared and truth.image[t] == found.image[f] else 0
            assert listed.get((t, f), 0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("masks", [False, True])
def test_portions_give_the_same_pairs_in_the_same_order(masks, monkeypatch):
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 60, (40, 2))
    boxes = np.concatenate([corners, corners + generator.integers(1, 50, (40, 2))], axis=1).tolist()
    places = generator.integers(0, 3, (40, 2)).tolist()
    drawn = [rectangle(*box) for box in boxes]
    truth = truths(*((*place, box) for place, box in zip(places[:15], boxes, strict=False)), masks=drawn[:15])
    found = founds(*((*place, box, 0.5) for place, box in zip(places[15:], boxes[15:], strict=True)), masks=drawn[15:])
    whole = overlaps(truth, found, masks=masks, same_class=False)
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 4)
    parts = overlaps(truth, found, masks=masks, same_class=False)
    assert len(whole.iou) > 20
    assert (np.lexsort((whole.true, whole.found)) == np.arange(len(whole.iou))).all()
    for name in ("true", "found", "iou"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_the_best_overlap_is_the_first_of_equals():
    truth = truths((0, 0, (50, 50, 60, 60)), (0, 0, BOX), (0, 0, BOX))
    best = best_of_each(overlaps(truth, founds((0, 0, BOX, 0.5), (0, 0, (0, 0, 10, 5), 0.5))))
    assert best.true.tolist() == [1, 1]
    assert best.iou.tolist() == [1.0, 0.5]
