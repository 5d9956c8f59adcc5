"""Augmented views: what they may do to objects, and that they are always the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from kubesight.train.augment import ASPECTS, LEAST_AREA, BoxSafeCrop, ObjectAugmentation, Sample, drop_degenerate

FILL = (0.485, 0.456, 0.406)
SEEDS = st.integers(0, 2**32 - 1)


def scene(seed: int, *, width: int | None = None, height: int | None = None, count: int | None = None) -> Sample:
    """Rectangles of one colour each, so that the image itself says where each object is; none covers another."""
    generator = np.random.default_rng(seed)
    width, height = width or int(generator.integers(40, 120)), height or int(generator.integers(40, 120))
    count = int(generator.integers(0, 6)) if count is None else count
    image = np.full((3, height, width), 200, np.uint8)
    masks, boxes = np.zeros((count, height, width), np.uint8), np.zeros((count, 4), np.float32)
    edges = np.linspace(0, width, count + 1).astype(int)
    for k in range(count):
        x0, x1 = np.sort(generator.choice(np.arange(edges[k], edges[k + 1] + 1), 2, replace=False))
        y0, y1 = np.sort(generator.choice(height + 1, 2, replace=False))
        image[:, y0:y1, x0:x1] = k + 1
        masks[k, y0:y1, x0:x1] = 1
        boxes[k] = x0, y0, x1, y1
    labels = torch.from_numpy(generator.integers(1, 5, count))
    return torch.from_numpy(image), torch.from_numpy(boxes), labels, torch.from_numpy(masks)


def wrapped(image: torch.Tensor, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
    canvas = (image.shape[1], image.shape[2])
    return {
        "image": tv_tensors.Image(image),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas),
    }


def around(mask: torch.Tensor) -> list[float]:
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return [columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1]


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.integers(0, 1000), st.booleans(), st.booleans())
def test_image_boxes_and_masks_agree_in_every_view_and_every_object_stays_whole(
    seed: int, epoch: int, flip: bool, crop_expand: bool
) -> None:
    before = scene(seed)
    image, boxes, labels, masks = ObjectAugmentation(seed, flip, crop_expand, FILL).apply(*before, epoch, 3)
    assert masks is not None
    assert before[3] is not None
    assert torch.equal(labels, before[2])
    assert masks.shape == (len(boxes), *image.shape[1:])
    assert image.dtype == torch.uint8
    assert masks.dtype == torch.uint8
    assert type(image) is type(boxes) is type(masks) is torch.Tensor
    for number, (box, mask) in enumerate(zip(boxes, masks, strict=True)):
        assert around(mask) == box.tolist()
        assert torch.equal(image[0] == number + 1, mask.bool())
        assert mask.sum() == before[3][number].sum()


def test_each_step_happens_as_often_as_the_policy_says() -> None:
    before = scene(5, width=60, height=50, count=2)
    before[1][:], before[3][:] = torch.tensor([[20.0, 20, 25, 25], [30, 20, 35, 25]]), 0
    augmentation = ObjectAugmentation(0, True, True, FILL)
    flipped = cropped = expanded = 0
    for index in range(1000):
        image, boxes, _, _ = augmentation.apply(*before[:3], None, 0, index)
        flipped += bool(boxes[0, 0] > boxes[1, 0])
        cropped += image.shape[1] * image.shape[2] < 50 * 60
        expanded += image.shape[1] * image.shape[2] > 50 * 60
    # Shares of 1/2, 1/4 and 1/4: five standard deviations are 0.08 and 0.07. A crop or an expansion of less than a
    # pixel counts as neither.
    assert flipped / 1000 == pytest.approx(0.5, abs=0.08)
    assert cropped / 1000 == pytest.approx(0.25, abs=0.07)
    assert expanded / 1000 == pytest.approx(0.25, abs=0.07)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_a_crop_keeps_every_box_whole_and_most_of_the_picture(seed: int) -> None:
    image, boxes, _, _ = scene(seed)
    height, width = image.shape[1:]
    sample = wrapped(image, boxes)
    torch.manual_seed(seed)
    view = BoxSafeCrop()(sample)
    down, across = view["image"].shape[1:]
    assert torch.equal(view["boxes"][:, 2:] - view["boxes"][:, :2], boxes[:, 2:] - boxes[:, :2])
    assert (view["boxes"] >= 0).all()
    assert (view["boxes"][:, 2::4] <= across).all()
    assert (view["boxes"][:, 3::4] <= down).all()
    assert down * across >= LEAST_AREA * height * width
    if (down, across) != (height, width):
        assert ASPECTS[0] <= across / down <= ASPECTS[1]


def test_crops_differ_and_reach_every_side() -> None:
    image, boxes, _, _ = scene(0, width=100, height=80, count=1)
    boxes = torch.tensor([[40.0, 30.0, 60.0, 50.0]])
    sample = wrapped(image, boxes)
    torch.manual_seed(0)
    views = [BoxSafeCrop()(sample) for _ in range(200)]
    assert len({tuple(view["image"].shape) for view in views}) > 100
    lefts, tops = zip(*(view["boxes"][0, :2].tolist() for view in views), strict=True)
    assert min(lefts) < 20 < 38 < max(lefts) <= 40
    assert min(tops) < 12 < 28 < max(tops) <= 30


def test_a_picture_too_long_for_any_crop_is_left_as_it_is() -> None:
    # 60 % of 500 x 100 pixels with a height of 100 at most is 300 wide: more than twice the height.
    image, boxes, _, _ = scene(0, width=500, height=100, count=0)
    sample = wrapped(image, boxes)
    assert BoxSafeCrop()(sample)["image"].shape == (3, 100, 500)


def test_the_canvas_has_the_mean_colour_and_up_to_twice_the_sides() -> None:
    before = scene(1, width=40, height=30, count=1)
    augmentation = ObjectAugmentation(0, False, True, FILL)
    views = [augmentation.apply(*before, 0, index) for index in range(200)]
    larger = [view for view in views if view[0].shape[1] > 31]
    ratios = [view[0].shape[2] / 40 for view in larger]
    assert len(larger) > 30
    assert max(ratios) <= 2
    assert max(ratios) > 1.8
    for image, boxes, _, masks in larger:
        assert masks is not None
        assert image.shape[1] / 30 == pytest.approx(image.shape[2] / 40, abs=0.04)
        colour = torch.tensor([round(255 * value) for value in FILL], dtype=torch.uint8)[:, None, None]
        canvas = (image == colour).all(0)
        assert canvas.sum() == image.shape[1] * image.shape[2] - 40 * 30
        assert not (canvas & masks[0].bool()).any()
        assert (boxes >= 0).all()


def test_switched_off_the_view_is_the_picture() -> None:
    before = scene(2)
    for index in range(20):
        after = ObjectAugmentation(0, False, False, FILL).apply(*before, 0, index)
        for one, other in zip(before, after, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one, other)


def test_a_view_depends_on_seed_epoch_and_sample_alone_and_leaves_the_random_state() -> None:
    before = scene(3, count=1)

    def view(seed: int, epoch: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return ObjectAugmentation(seed, True, True, FILL).apply(*before, epoch, index)[:2]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [view(7, 2, index) for index in range(30)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = [view(7, 2, index) for index in reversed(range(30))][::-1]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    for others in ([view(8, 2, index) for index in range(30)], [view(7, 3, index) for index in range(30)]):
        assert any(
            one[0].shape != other[0].shape or not torch.equal(one[0], other[0])
            for one, other in zip(first, others, strict=True)
        )


def test_objects_without_a_box_or_without_a_pixel_are_left_out_together() -> None:
    boxes = torch.tensor([[0.0, 0, 5, 5], [5, 0, 5, 5], [4, 4, 3, 5], [1, 1, 2, 2]])
    labels, masks = torch.tensor([1, 2, 3, 4]), torch.ones((4, 6, 6), dtype=torch.uint8)
    masks[0] = 0
    kept = drop_degenerate(boxes, labels, None)
    assert kept[1].tolist() == [1, 4]
    assert kept[2] is None
    kept = drop_degenerate(boxes, labels, masks)
    assert kept[0].tolist() == [[1, 1, 2, 2]]
    assert kept[1].tolist() == [4]
    assert kept[2] is not None
    assert kept[2].shape == (1, 6, 6)
    none = drop_degenerate(boxes[:0], labels[:0], masks[:0])
    assert [len(part) for part in none if part is not None] == [0, 0, 0]
    view = ObjectAugmentation(0, True, True, FILL).apply(
        torch.zeros((3, 6, 6), dtype=torch.uint8), boxes, labels, masks, 0, 0
    )
    assert view[1].shape == (1, 4)
