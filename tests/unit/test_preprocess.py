"""Views against torchvision's operations and by their stated properties."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as TF

from kubesight.dataset import preprocess
from kubesight.dataset.images import read_image
from kubesight.dataset.preprocess import decode_size_for_training, evaluation_view, random_crop, training_view
from kubesight.modelcard import CropPreprocessing


def picture(seed: int = 0, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def torchvision(function: object, image: np.ndarray, factor: float) -> np.ndarray:
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    return function(tensor, factor).permute(1, 2, 0).numpy()  # type: ignore[operator]


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.0, 1.4])
@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation"])
def test_colour_changes_are_torchvisions(name: str, factor: float) -> None:
    ours = getattr(preprocess, name)(picture(), factor).astype(int)
    truth = torchvision(getattr(TF, name), picture(), factor).astype(int)
    assert abs(ours - truth).max() <= 2


@pytest.mark.parametrize("turns", [-0.4, -0.1, 0.0, 0.25, 0.4])
@pytest.mark.parametrize("spread", [1, 40, 255])
def test_hue_turns_as_torchvision_does(turns: float, spread: int) -> None:
    image = np.random.default_rng(0).integers(128 - spread // 2, 129 + spread // 2, (40, 60, 3)).astype(np.uint8)
    ours = preprocess.adjust_hue(image, turns).astype(int)
    truth = torchvision(TF.adjust_hue, image, turns).astype(int)
    assert abs(ours - truth).mean() < 0.2
    assert abs(ours - truth).max() <= 1


def test_jitter_draws_every_change_over_its_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {}
    order: set[tuple[str, ...]] = set()
    calls: list[str] = []

    def record(name: str) -> object:
        def change(image: np.ndarray, factor: float, out: np.ndarray) -> np.ndarray:
            assert out is image
            drawn.setdefault(name, []).append(factor)
            calls.append(name)
            return image

        return change

    names = ("brightness", "contrast", "saturation", "hue")
    for name in names:
        monkeypatch.setattr(preprocess, f"adjust_{name}", record(name))
    for seed in range(800):
        calls.clear()
        training_view(picture(), 8, np.random.default_rng(seed))
        if calls:
            assert sorted(calls) == sorted(names)
            order.add(tuple(calls))
    assert len(order) == 24
    for name in names:
        centre = 0.0 if name == "hue" else 1.0
        assert 330 < len(drawn[name]) < 470
        assert -0.4 <= min(drawn[name]) - centre < -0.38
        assert 0.38 < max(drawn[name]) - centre <= 0.4


def test_the_evaluation_view_is_the_centre_of_the_resized_picture() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 90:110] = 255
    view = evaluation_view(image, CropPreprocessing(resize_size=50, crop_size=40))
    assert view.shape == (40, 40, 3)
    assert (view[15:25, 15:25] == 255).all()
    assert view.sum() == 255 * 3 * 100


def test_shrinking_averages_instead_of_picking() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    view = evaluation_view(stripes, CropPreprocessing(resize_size=32, crop_size=32))
    assert abs(view.astype(int) - 128).max() <= 1


@pytest.mark.parametrize("factor", [0.5, 1.2, 1.6, 3.1, 4.0, 9.3])
def test_training_views_shrink_nearly_as_averages_over_areas(real_data: Path, factor: float) -> None:
    photo = read_image(str(next((real_data / "facade_coco").rglob("*.jpg"))))
    size = 96
    side = round(size * factor)
    image = np.ascontiguousarray(photo[-side:, -side:])
    view = training_view(image, size, np.random.default_rng(0), jitter=False, flip=False, min_scale=1.0)
    truth = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    plain = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    if factor <= 1.3:
        np.testing.assert_array_equal(view, plain)
    else:
        error = abs(view.astype(int) - truth).mean()
        assert error < min(4, abs(plain.astype(int) - truth).mean() / 1.8)


def test_only_the_middle_of_a_very_long_picture_is_resized() -> None:
    image = np.zeros((2, 200_000, 3), np.uint8)
    image[:, 99_998:100_002] = 255
    view = evaluation_view(image, CropPreprocessing(resize_size=256, crop_size=224))
    assert view.shape == (224, 224, 3)
    assert view.min() == 255
    tall = evaluation_view(image.swapaxes(0, 1), CropPreprocessing(resize_size=16, crop_size=64))
    assert tall.shape == (64, 64, 3)
    assert (tall[:, :24] == 0).all()
    assert (tall[[0, -1]] == 0).all()
    assert (tall[22:42, 28:36] == 255).all()


def test_evaluation_views_agree_with_torchvisions(real_data: Path) -> None:
    for path in sorted((real_data / "grocery10" / "val").rglob("*.jpg"))[::9]:
        image = read_image(str(path))
        view = evaluation_view(image, CropPreprocessing(resize_size=256, crop_size=224)).astype(int)
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        truth = TF.center_crop(TF.resize(tensor, [256], antialias=True), [224]).permute(1, 2, 0).numpy()
        assert abs(view - truth).mean() < 1.5


def test_decode_size_leaves_enough_for_a_quarter_of_the_picture() -> None:
    size = decode_size_for_training(224)
    assert math.sqrt(0.25) * size == 224


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.integers(1, 64))
def test_evaluation_views_have_the_crop_size_whatever_comes(height: int, width: int, resize: int, crop: int) -> None:
    view = evaluation_view(picture(0, height, width), CropPreprocessing(resize_size=resize, crop_size=crop))
    assert view.shape == (crop, crop, 3)
    assert view.dtype == np.uint8
    assert view.flags.c_contiguous


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_random_crops_stay_inside_and_keep_area_and_ratio(height: int, width: int, seed: int, min_scale: float) -> None:
    top, left, crop_height, crop_width = random_crop(height, width, np.random.default_rng(seed), min_scale)
    assert top >= 0
    assert left >= 0
    assert crop_height >= 1
    assert crop_width >= 1
    assert top + crop_height <= height
    assert left + crop_width <= width
    if min(height, width) > 50 and 0.75 < width / height < 4 / 3:
        assert crop_height * crop_width >= 0.9 * min_scale * height * width
        assert 0.7 < crop_width / crop_height < 1.4


def test_training_views_depend_on_the_generator_alone() -> None:
    views = [training_view(picture(), 32, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert views[0].shape == (32, 32, 3)
    np.testing.assert_array_equal(views[0], views[1])
    assert (views[0] != views[2]).any()


def test_each_switch_does_what_it_says() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = (200, 60, 40)

    def views(**switches: bool) -> list[np.ndarray]:
        return [training_view(image, 32, np.random.default_rng(seed), min_scale=1.0, **switches) for seed in range(60)]

    plain = views(jitter=False, flip=False)
    assert all((view == image).all() for view in plain)
    mirrored = [bool((view == image[:, ::-1]).all()) for view in views(jitter=False, flip=True)]
    assert 15 < sum(mirrored) < 45
    changed = [not (view == image).all() for view in views(jitter=True, flip=False)]
    assert 15 < sum(changed) < 45


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"])
def test_colours_may_change_in_place(name: str) -> None:
    change = getattr(preprocess, name)
    image = picture()
    apart = change(image, 0.37)
    np.testing.assert_array_equal(image, picture())
    assert (apart != image).any()
    change(image, 0.37, out=image)
    np.testing.assert_array_equal(image, apart)


def test_threads_do_not_disturb_each_other() -> None:
    images = [picture(seed, 64, 64) for seed in range(8)] * 20
    alone = [preprocess.adjust_hue(image, 0.2) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: preprocess.adjust_hue(image, 0.2), images))
    np.testing.assert_array_equal(together, alone)
