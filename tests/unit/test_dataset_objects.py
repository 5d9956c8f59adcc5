"""From rows to the objects that metrics compare: nothing of what an annotation file had in pixels is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from kubesight.dataset import Box, ClassificationRow, DetectionRow, ImageDetails, Instance, Rle, SegmentationRow
from kubesight.dataset.detections import Detections, full_mask
from kubesight.dataset.objects import box_pixels, found_objects, instance_mask, instance_rle, join_found, true_objects
from kubesight.dataset.outlines import encode_mask, mask_rings
from kubesight.errors import DatasetError

DETAILS = ImageDetails(width=40, height=20)


def boxes_row(*boxes: Box, url: str = "/a.png", details: ImageDetails | None = DETAILS) -> DetectionRow:
    return DetectionRow(image_url=url, image_details=details, label=list(boxes))


def outlines_row(*instances: Instance) -> SegmentationRow:
    return SegmentationRow(image_url="/a.png", image_details=DETAILS, label=list(instances))


def fractions(ring: list[float], width: int = 40, height: int = 20) -> list[float]:
    return (np.reshape(ring, (-1, 2)) / (width, height)).ravel().tolist()


def reference(rings: list[list[float]], width: int = 40, height: int = 20) -> np.ndarray:
    """Each ring filled by COCO's own tools, from the pixels that a file would hold."""
    return coco_mask.decode(coco_mask.frPyObjects(rings, height, width))


def test_boxes_are_in_pixels_with_their_flags() -> None:
    truth = true_objects(
        [
            boxes_row(Box("dog", 0.1, 0.2, 0.3, 0.6), Box("cat", 0, 0, 1, 1, isCrowd=1, area=12.5)),
            boxes_row(),
            boxes_row(Box("cat", 0.5, 0.5, 0.75, 1.0, difficult=1), details=ImageDetails(width=100, height=10)),
        ],
        ["cat", "dog"],
    )
    assert truth.sizes.tolist() == [[40, 20], [40, 20], [100, 10]]
    assert truth.image.tolist() == [0, 0, 2]
    assert truth.label.tolist() == [1, 0, 0]
    assert truth.box.tolist() == [[4, 4, 12, 12], [0, 0, 40, 20], [50, 5, 75, 10]]
    assert truth.area.tolist() == [64, 12.5, 125]  # 8 * 8, as told, 25 * 5
    assert truth.crowd.tolist() == [False, True, False]
    assert truth.difficult.tolist() == [False, False, True]
    assert truth.masks is None


def test_no_rows_and_no_objects_are_no_trouble() -> None:
    assert true_objects([], ["cat"]).sizes.shape == (0, 2)
    truth = true_objects([boxes_row()], ["cat"])
    assert (truth.box.shape, truth.area.shape, truth.sizes.tolist()) == ((0, 4), (0,), [[40, 20]])
    assert true_objects([outlines_row()], ["cat"]).masks == []


def test_a_size_that_no_row_tells_is_the_picture_s(tmp_path) -> None:
    Image.new("RGB", (30, 60)).save(tmp_path / "a.png")
    row = boxes_row(Box("cat", 0, 0, 0.5, 0.5), url=str(tmp_path / "a.png"), details=None)
    truth = true_objects([row], ["cat"])
    assert truth.sizes.tolist() == [[30, 60]]
    assert truth.box.tolist() == [[0, 0, 15, 30]]
    with pytest.raises(DatasetError, match=r"s3://x/a\.png: the picture's size is not known.*image_details"):
        true_objects([boxes_row(url="s3://x/a.png", details=None)], ["cat"])


def test_what_cannot_be_used_is_named() -> None:
    with pytest.raises(DatasetError, match=r"/a\.png: the class 'emu' is none"):
        true_objects([boxes_row(Box("emu", 0, 0, 1, 1))], ["cat"])
    with pytest.raises(DatasetError, match=r"/b\.png: the row has no boxes and no outlines"):
        true_objects([ClassificationRow(image_url="/b.png", label="cat")], ["cat"])
    broken = Instance("cat", rle=Rle((20, 40), [3, 4]))
    with pytest.raises(DatasetError, match="runs add up to 7"):
        true_objects([outlines_row(broken)], ["cat"])


@given(
    st.integers(1, 5000), st.integers(1, 5000),
    st.lists(st.decimals(0, 5000, places=4).map(float), min_size=4, max_size=4),
)  # fmt: skip
def test_pixels_come_back_exactly_from_fractions(width: int, height: int, corners: list[float]) -> None:
    scaled = [value / side for value, side in zip(corners, (width, height, width, height), strict=True)]
    assert box_pixels(scaled, width, height).tolist() == corners


@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.integers(0, 3))
def test_a_ring_is_filled_as_coco_s_own_tools_fill_it(seed: int, points: int, decimals: int) -> None:
    """From fractions, not one pixel differs from those of the coordinates that a file holds."""
    generator = np.random.default_rng(seed)
    ring = np.round(generator.uniform(0, 1, (points, 2)) * (40, 20), decimals).ravel().tolist()
    mask = instance_mask(Instance("cat", [fractions(ring)]), 20, 40)
    np.testing.assert_array_equal(mask, reference([ring])[:, :, 0])


def test_rings_combine_by_xor() -> None:
    outer, hole, beside = [2, 2, 18, 2, 18, 18, 2, 18], [6, 6, 10, 6, 10, 10, 6, 10], [30, 4, 36, 4, 36, 8, 30, 8]
    instance = Instance("cat", [fractions(ring) for ring in (outer, hole, beside)])
    mask = instance_mask(instance, 20, 40)
    assert mask.sum() == 16 * 16 - 4 * 4 + 6 * 4
    np.testing.assert_array_equal(mask, np.bitwise_xor.reduce(reference([outer, hole, beside]), axis=2))
    truth = true_objects([outlines_row(instance)], ["cat"])
    assert truth.area.tolist() == [264]
    assert truth.box.tolist() == [[2, 2, 36, 18]]


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_are_kept_exactly(compressed: bool) -> None:
    mask = np.random.default_rng(0).random((20, 40)) < 0.4
    rle = encode_mask(mask)
    if compressed:
        code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        rle = Rle((20, 40), code["counts"].decode())
    rings = [fractions([float(value) for value in ring]) for ring in mask_rings(mask)]
    truth = true_objects([outlines_row(Instance("cat", rings, rle=rle))], ["cat"])
    assert truth.masks is not None
    assert truth.masks[0] == coco_mask.encode(np.asfortranarray(mask, np.uint8))
    assert truth.area.tolist() == [mask.sum()]
    ys, xs = np.nonzero(mask)
    assert truth.box.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


def test_run_lengths_of_another_scale_are_resized() -> None:
    small = np.zeros((10, 20), bool)
    small[2:5, 3:9] = True
    instance = Instance("cat", rle=encode_mask(small))
    np.testing.assert_array_equal(instance_mask(instance, 20, 40), np.kron(small, np.ones((2, 2), int)))
    back = Instance("cat", rle=encode_mask(np.kron(small, np.ones((2, 2), bool))))
    np.testing.assert_array_equal(instance_mask(back, 10, 20), small)


def test_more_masks_than_pycocotools_counts_at_once() -> None:
    ring = fractions([1, 1, 5, 1, 5, 5, 1, 5])
    truth = true_objects([outlines_row(*[Instance("cat", [ring])] * 300)], ["cat"])
    assert truth.area.tolist() == [16] * 300


def detections(generator: np.random.Generator, n: int) -> Detections:
    low = generator.uniform(0, 0.5, (n, 2))
    boxes = np.concatenate([low, low + generator.uniform(0.1, 0.5, (n, 2))], axis=1).astype(np.float32)
    scores = np.sort(generator.random(n).astype(np.float32))[::-1]
    return Detections(boxes, generator.integers(0, 3, n), scores, generator.random((n, 28, 28)).astype(np.float32))


def test_detections_are_in_pixels_of_their_pictures() -> None:
    generator = np.random.default_rng(1)
    given = [detections(generator, 3), Detections.empty(masks=True), detections(generator, 2)]
    sizes = np.array([[40, 20], [9, 9], [100, 50]])
    found = found_objects(given, sizes, 0.5)
    assert found.image.tolist() == [0, 0, 0, 2, 2]
    assert found.label.tolist() == [*given[0].labels, *given[2].labels]
    assert found.score.tolist() == [*given[0].scores.tolist(), *given[2].scores.tolist()]
    np.testing.assert_allclose(found.box[3:], given[2].boxes * [100, 50, 100, 50], atol=1e-5)
    assert found.masks is not None
    expected = full_mask(given[2].masks[1], given[2].pixel_boxes(50, 100)[1], 50, 100, 0.5)
    np.testing.assert_array_equal(coco_mask.decode(found.masks[4]), expected)
    assert found_objects(given, sizes, None).masks is None


def test_picture_by_picture_or_all_at_once_is_the_same() -> None:
    generator = np.random.default_rng(2)
    given = [detections(generator, n) for n in (2, 0, 4)]
    sizes = np.array([[40, 20], [40, 20], [64, 64]])
    whole = found_objects(given, sizes, 0.5)
    parts = [found_objects([one], sizes[k : k + 1], 0.5) for k, one in enumerate(given)]
    joined = join_found(parts, masks=True)
    for name in ("image", "label", "box", "score"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert joined.masks == whole.masks
    assert join_found([], masks=True).masks == []
    assert len(join_found([], masks=False)) == 0


def test_an_instance_rle_is_what_its_mask_is() -> None:
    instance = Instance("cat", [fractions([3, 3, 20, 4, 9, 17])])
    np.testing.assert_array_equal(coco_mask.decode(instance_rle(instance, 20, 40)), instance_mask(instance, 20, 40))
