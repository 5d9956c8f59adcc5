"""Features of a frozen Keras backbone: computed once, the same as the network's own, and only where they still hold."""

import os
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from pictures import digits_dataset
from PIL import Image

from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras.network import BACKBONE, CLASSIFICATION, DROPOUT, features_of, head_of
from kubesight.train.feature_cache import lookups
from kubesight.train.keras import augment, features
from kubesight.train.keras.augment import Augmentation, warp
from kubesight.train.keras.features import cached_features
from kubesight.train.table import PictureTable, read_table

SIZE = 32
PREPROCESSING = StretchPreprocessing(size=SIZE)
AUGMENTATION = Augmentation("horizontal", 0.1, 0.2, seed=9)


@pytest.fixture
def table(tmp_path, monkeypatch) -> PictureTable:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    return read_table(digits_dataset(tmp_path, 0, 5, classes=3), ["0", "1", "2"])


@pytest.fixture
def tiny() -> keras.Model:
    """A network with the parts that those of keras.applications have here, which builds in no time."""
    keras.utils.set_random_seed(2)
    inside = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, strides=8)(inside))
    backbone = keras.Model(inside, keras.layers.BatchNormalization()(pooled), name=BACKBONE)
    images = keras.Input((SIZE, SIZE, 3), name="images")
    dropped = keras.layers.Dropout(0.5, name=DROPOUT)(backbone(keras.layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, keras.layers.Dense(3, name=CLASSIFICATION)(dropped))


def shown(table: PictureTable) -> np.ndarray:
    return np.stack([np.array(Image.open(table.url(index)).convert("RGB")) for index in range(len(table))])


def compute(model: keras.Model, table: PictureTable, **changed) -> np.ndarray:
    arguments = {
        "model_name": "tiny",
        "preprocessing": PREPROCESSING,
        "augmentation": None,
        "views": 1,
        "batch_size": 2,
        **changed,
    }
    return cached_features(model, table=table, **arguments)


def test_features_are_those_of_the_network_in_inference_and_its_head_makes_its_logits_of_them(table, tiny):
    found = compute(tiny, table)
    assert found.shape == (5, 1, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], features_of(tiny)(shown(table), training=False), atol=1e-5)
    logits = head_of(tiny)(found[:, 0], training=False)
    np.testing.assert_allclose(logits, tiny(shown(table), training=False), atol=1e-5)


def test_views_are_those_of_the_epochs_from_zero_on(table, tiny):
    found = compute(tiny, table, augmentation=AUGMENTATION, views=3)
    assert found.shape == (5, 3, 4)
    for view in range(3):
        pixels = warp(shown(table), AUGMENTATION.transforms(view, range(5), SIZE))
        expected = features_of(tiny)(pixels, training=False)
        np.testing.assert_allclose(found[:, view], expected, atol=1e-5)
    assert not np.allclose(found[:, 0], found[:, 1])


def test_what_was_computed_is_read_again_by_a_later_training_with_another_head(table, tiny, monkeypatch):
    first = compute(tiny, table)
    tiny.get_layer(CLASSIFICATION).kernel.assign(np.ones((4, 3)))
    monkeypatch.setattr(features, "_compute", None)  # nothing is computed
    before = dict(lookups)
    np.testing.assert_array_equal(compute(tiny, table, batch_size=5), first)
    assert lookups["hits"] == before.get("hits", 0) + 1


def test_whatever_features_depend_on_has_them_computed_again(table, tiny, monkeypatch):
    # Whether they are computed is what counts here, not how.
    monkeypatch.setattr(features, "_compute", lambda _, __, views, ___: np.zeros((5, views, 4), np.float32))
    plain = {"augmentation": AUGMENTATION, "views": 2}
    compute(tiny, table, **plain)
    computed = lookups["misses"]

    def is_new(**changed) -> bool:
        nonlocal computed
        compute(tiny, table, **{**plain, **changed})
        before, computed = computed, lookups["misses"]
        return computed > before

    assert not is_new()
    assert is_new(model_name="other")
    assert is_new(preprocessing=StretchPreprocessing(size=SIZE, interpolation="area"))
    assert is_new(preprocessing=StretchPreprocessing(size=SIZE, scaling="caffe"))
    assert is_new(augmentation=None, views=1)
    assert is_new(views=1)
    for name, value in {"flip": "vertical", "rotation": 0.2, "zoom": 0.3, "seed": 1}.items():
        assert is_new(augmentation=replace(AUGMENTATION, **{name: value}))
    assert not is_new()
    for weight in tiny.get_layer(BACKBONE).variables:  # those of batch normalisation too
        kept = weight.numpy()
        weight.assign(kept + 0.5)
        assert is_new()
        weight.assign(kept)
    os.utime(table.url(3), ns=(1, 1))
    assert is_new()
    monkeypatch.setattr(keras, "__version__", "4")
    assert is_new()
    source = features.inspect.getsource
    monkeypatch.setattr(features.inspect, "getsource", lambda code: source(code) + "#" * (code is augment))
    assert is_new()


def test_files_are_not_kept_in_memory_for_a_single_view(table, tiny, monkeypatch):
    kept = []
    made = features.Pictures
    monkeypatch.setattr(features, "Pictures", lambda *args, **named: kept.append(named["keep"]) or made(*args, **named))
    compute(tiny, table)
    compute(tiny, table, augmentation=AUGMENTATION, views=2)
    assert kept == [False, True]
    assert len(list((Path(os.environ["KUBESIGHT_CACHE"]) / "features").glob("*.npy"))) == 2
