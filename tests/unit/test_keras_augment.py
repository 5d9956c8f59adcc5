"""Augmentation of Keras classifiers: each setting does what its name says, and nothing else."""

import math

import numpy as np
import pytest
from scipy import ndimage, stats

from kubesight.errors import HyperparameterError
from kubesight.train.keras.augment import Augmentation, warp

SIZE = 9
MANY = range(2000)


def views(augmentation: Augmentation, picture: np.ndarray, count: int) -> np.ndarray:
    """Views of one picture, by its place in the table: [count, size, size, 3]."""
    transforms = augmentation.transforms(0, range(count), len(picture))
    return warp(np.repeat(picture[None], count, axis=0), transforms).numpy()


def noise(size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (size, size, 3), dtype=np.uint8)


def smooth(size: int = 33) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    return (np.stack([np.sin(5 * x + y), np.cos(4 * y), x * y], axis=-1) * 100 + 120).astype(np.float32)


@pytest.mark.parametrize(
    ("flip", "kinds"),
    [
        ("None", ["same"]),
        ("horizontal", ["same", "left-right"]),
        ("vertical", ["same", "upside-down"]),
        ("horizontal_and_vertical", ["same", "left-right", "upside-down", "both"]),
    ],
)
def test_flips_mirror_what_they_name_each_equally_often_and_to_the_byte(flip, kinds):
    picture = noise()
    known = {
        "same": picture,
        "left-right": picture[:, ::-1],
        "upside-down": picture[::-1],
        "both": picture[::-1, ::-1],
    }
    seen = dict.fromkeys(known, 0)
    for view in views(Augmentation(flip, 0.0, 0.0, seed=1), picture, 2000):
        (name,) = [name for name, expected in known.items() if np.array_equal(view, expected)]
        seen[name] += 1
    assert [name for name, times in seen.items() if times] == kinds
    # Five standard deviations of a binomial count: one run in millions fails by chance, and the seed is fixed.
    share = 1 / len(kinds)
    assert all(abs(seen[name] - 2000 * share) <= 5 * math.sqrt(2000 * share * (1 - share)) for name in kinds)


def test_rotation_draws_angles_evenly_within_its_part_of_a_full_turn_and_changes_no_scale():
    transforms = Augmentation("None", 0.2, 0.0, seed=3).transforms(0, MANY, SIZE)
    a0, a1, _, b0, b1 = transforms[:, :5].T
    angles = np.arctan2(b0, a0)
    assert np.abs(angles).max() <= 0.2 * 2 * math.pi + 1e-6
    assert stats.kstest(angles, stats.uniform(-0.4 * math.pi, 0.8 * math.pi).cdf).pvalue > 0.01
    # A rotation's matrix is orthogonal, with determinant 1.
    np.testing.assert_allclose(a0**2 + a1**2, 1, atol=1e-6)
    np.testing.assert_allclose(a0 * b1 - a1 * b0, 1, atol=1e-6)


def test_a_full_turn_reaches_every_angle():
    transforms = Augmentation("None", 1.0, 0.0, seed=3).transforms(0, MANY, SIZE)
    angles = np.arctan2(transforms[:, 3], transforms[:, 0])
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 0.01


def test_rotated_views_are_those_of_scipy():
    picture, augmentation = smooth(), Augmentation("None", 0.3, 0.0, seed=5)
    transforms = augmentation.transforms(0, range(6), len(picture))
    for view, transform in zip(views(augmentation, picture, 6), transforms, strict=True):
        degrees = math.degrees(math.atan2(transform[3], transform[0]))
        expected = ndimage.rotate(picture, degrees, reshape=False, order=1, mode="reflect")
        np.testing.assert_allclose(view, expected, atol=0.05)


def test_a_quarter_turn_moves_whole_pixels():
    picture = noise(4)
    # The view's (x, y) shows the picture's (3 - y, x): what was at the right edge comes to the top.
    quarter = np.array([[0, -1, 3, 1, 0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(warp(picture[None], quarter)[0], np.rot90(picture))


def test_zoom_draws_scales_evenly_and_neither_turns_nor_stretches():
    transforms = Augmentation("None", 0.0, 0.3, seed=3).transforms(0, MANY, SIZE)
    a0, a1, _, b0, b1 = transforms[:, :5].T
    assert not a1.any()
    assert not b0.any()
    np.testing.assert_array_equal(a0, b1)
    assert stats.kstest(a0, stats.uniform(0.7, 0.6).cdf).pvalue > 0.01
    assert 0.7 <= a0.min() <= a0.max() <= 1.3


def test_a_zoomed_ramp_has_the_scales_slope_about_the_unmoved_centre():
    size = 33
    y, x = np.mgrid[:size, :size].astype(np.float32)
    picture = np.stack([x, y, np.full_like(x, 50)], axis=-1)
    augmentation = Augmentation("None", 0.0, 0.5, seed=2)
    scales = augmentation.transforms(0, range(8), size)[:, 0]
    assert scales.min() < 0.8 < 1.2 < scales.max()
    for view, scale in zip(views(augmentation, picture, 8), scales, strict=True):
        inner = slice(10, 23)  # 16 + 1.5 x 6 = 25: not beyond the edge at any scale
        np.testing.assert_allclose(view[inner, inner, 0], 16 + scale * (x[inner, inner] - 16), atol=1e-3)
        np.testing.assert_allclose(view[inner, inner, 1], 16 + scale * (y[inner, inner] - 16), atol=1e-3)
        np.testing.assert_array_equal(view[..., 2], 50)


def test_outside_a_picture_goes_on_as_its_mirror_image():
    row = np.array([0, 10, 20, 30], np.uint8)
    picture = np.broadcast_to(row[None, :, None], (4, 4, 3))
    # At twice the width the view's pixels 0..3 lie at 1.5 + 2 (x - 1.5) = -1.5, 0.5, 2.5, 4.5. Mirrored at its edges
    # the row is ... 10 0 | 0 10 20 30 | 30 20 ...: half way between its pixels are 5, 5, 25, 25.
    double = np.array([[2, 0, -1.5, 0, 2, -1.5, 0, 0]], np.float32)
    np.testing.assert_array_equal(warp(picture[None], double)[0, :, :, 0], np.tile([5.0, 5, 25, 25], (4, 1)))


def test_all_together_is_what_scipy_makes_of_the_same_steps():
    picture, augmentation = smooth(), Augmentation("horizontal_and_vertical", 0.15, 0.25, seed=11)
    transforms = augmentation.transforms(4, range(8), len(picture)).astype(float)
    pictures = np.repeat(picture[None], 8, axis=0)
    mirrored = set()
    for view, (a0, _, _, b0, b1, *_) in zip(warp(pictures, transforms).numpy(), transforms, strict=True):
        scale = math.hypot(a0, b0)
        # To undo a mirror image's sign: within a quarter of a turn either way the cosine is positive.
        flip_x, flip_y = np.sign(a0), np.sign(b1)
        angle = math.atan2(b0 * flip_x, a0 * flip_x)
        mirrored.add((flip_x, flip_y))
        assert 0.75 <= scale <= 1.25
        assert abs(angle) <= 0.15 * 2 * math.pi + 1e-6
        flipped = picture[:: int(flip_y), :: int(flip_x)]
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # of (y, x)
        if flip_x * flip_y < 0:
            turn = turn.T  # mirroring first turns the other way round
        matrix, centre = scale * turn, np.full(2, 16.0)
        expected = np.stack(
            [
                ndimage.affine_transform(
                    flipped[..., channel], matrix, centre - matrix @ centre, order=1, mode="reflect"
                )
                for channel in range(3)
            ],
            axis=-1,
        )
        np.testing.assert_allclose(view, expected, atol=0.05)
    assert len(mirrored) > 2


def test_a_setting_does_not_change_what_another_one_draws():
    turned = Augmentation("None", 0.2, 0.0, seed=3).transforms(1, range(20), SIZE)
    both = Augmentation("None", 0.2, 0.4, seed=3).transforms(1, range(20), SIZE)
    np.testing.assert_allclose(np.arctan2(both[:, 3], both[:, 0]), np.arctan2(turned[:, 3], turned[:, 0]), atol=1e-6)
    zoomed = Augmentation("None", 0.0, 0.4, seed=3).transforms(1, range(20), SIZE)
    np.testing.assert_allclose(np.hypot(both[:, 0], both[:, 3]), zoomed[:, 0], atol=1e-6)


def test_negative_settings_are_as_positive_ones():
    plus = Augmentation("vertical", 0.2, 0.4, seed=3).transforms(1, range(20), SIZE)
    minus = Augmentation("vertical", -0.2, -0.4, seed=3).transforms(1, range(20), SIZE)
    np.testing.assert_array_equal(plus, minus)


def test_a_view_depends_on_seed_epoch_and_picture_not_on_its_batch():
    augmentation = Augmentation("horizontal", 0.2, 0.1, seed=3)
    together = augmentation.transforms(1, [4, 9, 2], SIZE)
    np.testing.assert_array_equal(augmentation.transforms(1, [9], SIZE)[0], together[1])
    alone = warp(noise()[None], together[1:2]).numpy()[0]
    np.testing.assert_array_equal(warp(np.stack([noise()] * 3), together).numpy()[1], alone)
    assert not np.array_equal(augmentation.transforms(2, [9], SIZE)[0], together[1])
    assert not np.array_equal(Augmentation("horizontal", 0.2, 0.1, seed=4).transforms(1, [9], SIZE)[0], together[1])
    assert not np.array_equal(together[0], together[1])


def test_without_any_setting_pixels_stay_as_they_are():
    view = views(Augmentation("None", 0.0, 0.0, seed=0), noise(), 3)
    assert view.dtype == np.float32
    np.testing.assert_array_equal(view, np.stack([noise()] * 3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("diagonal", 0.1, 0.1), "diagonal"), (("None", 1.5, 0.1), "rotation"), (("None", 0.1, float("nan")), "zoom")],
)
def test_what_is_no_setting_is_refused(arguments, said):
    with pytest.raises(HyperparameterError, match=said):
        Augmentation(*arguments, seed=0)
