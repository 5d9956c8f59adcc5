"""Keras networks from pixels to logits, against keras.applications' own networks and preprocessing."""

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kubesight.errors import ModelError
from kubesight.models.names import find_model

network = pytest.importorskip("kubesight.models.keras.network", reason="needs the extra kubesight[tensorflow]")
keras = pytest.importorskip("keras")

SMALL = find_model("keras/mobilenet-v1-025-128")
WIDTH = 256  # of its features
SIZE = 32


def pixels(size: int = SIZE, count: int = 2) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def outcome(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.fixture(scope="module")
def small() -> "keras.Model":
    return network.build_network(SMALL, outputs=3, size=SIZE, regularizers_l2=0.01)


@pytest.fixture
def bfloat16() -> Iterator[None]:
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("keras/MobileNetV2", "mobilenet_v2", "tf"),
        ("keras/VGG16", "vgg16", "caffe"),
        ("keras/MobileNetV3Small", "mobilenet_v3", "built_in"),
    ],
)
def test_pixels_are_scaled_once_and_as_keras_does(name: str, module: str, kind: str) -> None:
    spec = find_model(name)
    assert network.scaling_of(spec) == kind
    model = network.build_network(spec, outputs=2, size=SIZE)
    prepared = importlib.import_module(f"keras.applications.{module}").preprocess_input(pixels().astype("float32"))
    expected = outcome(model.get_layer("backbone"), prepared)
    assert expected.std() > 0
    np.testing.assert_allclose(outcome(network.features_of(model), pixels()), expected, rtol=2e-4, atol=1e-5)


def test_pixels_of_the_fourth_kind() -> None:
    """That of the DenseNets, which take long to build: a slow test builds them."""
    assert network.scaling_of(find_model("keras/DenseNet201")) == "torch"
    images = keras.Input((SIZE, SIZE, 3))
    scaled = outcome(keras.Model(images, network._scaled(images, "torch")), pixels())
    expected = keras.applications.densenet.preprocess_input(pixels().astype("float32"))
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6)


def test_the_shape_of_a_network(small: "keras.Model") -> None:
    assert small.input_shape == (None, SIZE, SIZE, 3)
    assert small.input.dtype == "float32"
    assert small.output_shape == (None, 3)
    assert outcome(small, pixels()).dtype == np.float32
    np.testing.assert_array_equal(outcome(small, pixels()), outcome(small, pixels().astype("float32")))
    assert [layer.name for layer in small.layers][-3:] == ["backbone", "dropout", "classification"]
    backbone = small.get_layer("backbone")
    assert backbone.get_layer("conv_pw_13").filters == WIDTH == 1024 * 0.25  # the width that the name asks for
    kernel = keras.ops.convert_to_numpy(small.get_layer("classification").kernel)
    assert float(sum(small.losses)) == pytest.approx(0.01 * (kernel**2).sum(), rel=1e-5)
    plain = network.build_network(SMALL, outputs=1, size=64)
    assert (plain.output_shape, plain.input_shape, plain.losses) == ((None, 1), (None, 64, 64, 3), [])


def test_dropout_is_of_the_features_and_only_in_training() -> None:
    model = network.build_network(SMALL, outputs=2, size=SIZE, dropout_rate=1.0)
    zeroed = keras.ops.convert_to_numpy(network.head_of(model)(np.ones((1, WIDTH), "float32"), training=True))
    np.testing.assert_array_equal(zeroed, 0)  # the bias, which begins at 0, is all that is left
    assert np.abs(outcome(network.head_of(model), np.ones((1, WIDTH), "float32"))).min() > 0


def test_both_parts_share_their_weights_with_the_whole(small: "keras.Model") -> None:
    model = keras.models.clone_model(small)
    features, head = network.features_of(model), network.head_of(model)
    assert features.output_shape == head.input_shape == (None, WIDTH)
    np.testing.assert_array_equal(outcome(head, outcome(features, pixels())), outcome(model, pixels()))
    dense = model.get_layer("classification")
    assert {id(weight) for weight in head.trainable_variables} == {id(dense.kernel), id(dense.bias)}
    dense.bias.assign([1.0, 2.0, 3.0])
    assert outcome(head, np.zeros((1, WIDTH), "float32")).tolist() == [[1.0, 2.0, 3.0]]
    again = network.features_of(model)  # the head was called a second time since: still the first call's features
    np.testing.assert_array_equal(outcome(again, pixels()), outcome(features, pixels()))
    assert len(head.losses) == len(model.losses) == 1


def test_a_new_head_sits_on_the_same_backbone(small: "keras.Model") -> None:
    network.head_of(small)
    model = network.with_new_head(small, outputs=5, dropout_rate=0.5, regularizers_l2=0.0)
    assert model.output_shape == (None, 5)
    assert model.get_layer("dropout").rate == 0.5
    assert model.losses == []
    assert model.get_layer("backbone") is small.get_layer("backbone")
    np.testing.assert_array_equal(
        outcome(network.features_of(model), pixels()), outcome(network.features_of(small), pixels())
    )
    assert small.output_shape == (None, 3)
    assert outcome(small, pixels()).shape == (2, 3)


def test_a_float32_twin_of_a_mixed_network(bfloat16: None) -> None:
    mixed = network.build_network(find_model("keras/mobilenet-v1-025-128"), outputs=3, size=SIZE)
    keras.config.set_dtype_policy("float32")
    plain = network.build_network(find_model("keras/mobilenet-v1-025-128"), outputs=3, size=SIZE)
    assert mixed.get_layer("classification").compute_dtype == "float32"
    assert mixed.get_layer("backbone").layers[1].compute_dtype == "bfloat16"
    plain.set_weights(mixed.get_weights())
    twin = network.float32_twin(mixed)
    assert {layer.compute_dtype for layer in twin._flatten_layers()} == {"float32"}
    np.testing.assert_array_equal(outcome(twin, pixels()), outcome(plain, pixels()))
    assert np.abs(outcome(mixed, pixels()) - outcome(plain, pixels())).max() > 0
    twin.get_layer("classification").bias.assign([9.0, 9.0, 9.0])
    assert keras.ops.convert_to_numpy(mixed.get_layer("classification").bias).tolist() == [0, 0, 0]


def test_a_float32_twin_keeps_nothing_in_half_precision(bfloat16: None) -> None:
    mixed = network.build_network(find_model("keras/ConvNeXtTiny"), outputs=2, size=SIZE)  # it has models inside
    assert "'dtype': 'bfloat16'" in str(mixed.get_config())
    assert "float16" not in str(network.float32_twin(mixed).get_config())


LOAD = """
import sys
sys.modules["kubesight"] = None  # an import of it fails
import numpy as np, keras
for file in sys.argv[1:]:
    model = keras.models.load_model(file)
    images = np.load(file + ".pixels.npy")
    np.save(file + ".outcome.npy", keras.ops.convert_to_numpy(model(images, training=False)))
"""


def test_a_saved_network_is_the_same_here_and_in_plain_keras(small: "keras.Model", tmp_path: Path) -> None:
    caffe = network.build_network(find_model("keras/VGG16"), outputs=2, size=SIZE)  # its scaling is an operation too
    files = []
    for model, name in ((small, "small.keras"), (caffe, "caffe.keras")):
        file = tmp_path / "folder" / name
        network.save_network(model, file)
        loaded = network.load_network(file)
        np.testing.assert_array_equal(outcome(loaded, pixels()), outcome(model, pixels()))
        np.testing.assert_array_equal(
            outcome(network.features_of(loaded), pixels()), outcome(network.features_of(model), pixels())
        )
        np.testing.assert_array_equal(outcome(network.float32_twin(loaded), pixels()), outcome(model, pixels()))
        np.save(f"{file}.pixels.npy", pixels())
        files.append(file)
    assert sorted(each.name for each in (tmp_path / "folder").iterdir() if each.suffix != ".npy") == [
        "caffe.keras", "small.keras",
    ]  # fmt: skip
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", LOAD, *map(str, files)], check=True, env=environment, cwd=tmp_path)
    for file, model in zip(files, (small, caffe), strict=True):
        np.testing.assert_array_equal(np.load(f"{file}.outcome.npy"), outcome(model, pixels()))


@pytest.mark.parametrize(
    ("name", "minimum"), [("keras/MobileNetV2", 32), ("keras/InceptionV3", 75), ("keras/Xception", 71)]
)
def test_pictures_below_the_minimum_are_refused(name: str, minimum: int) -> None:
    with pytest.raises(ModelError, match=f"at least {minimum} by {minimum} pixels, not {minimum - 1}"):
        network.build_network(find_model(name), outputs=2, size=minimum - 1)
    with pytest.raises(ValueError, match="Input size must be at least"):  # Keras has the same minimum
        getattr(keras.applications, name.removeprefix("keras/"))(
            include_top=False, weights=None, input_shape=(minimum - 1, minimum - 1, 3)
        )


def test_weights_of_a_file(small: "keras.Model", tmp_path: Path) -> None:
    backbone = small.get_layer("backbone")
    for file in (tmp_path / "a_no_top.h5", tmp_path / "b.weights.h5", tmp_path / "c.keras"):
        (backbone.save_weights if file.name.endswith(".weights.h5") else backbone.save)(file)
        model = network.build_network(SMALL, outputs=4, size=SIZE, weights=file)
        np.testing.assert_array_equal(
            outcome(network.features_of(model), pixels()), outcome(network.features_of(small), pixels())
        )


def test_weights_that_cannot_be_had_are_named(
    small: "keras.Model", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(weights: str | Path) -> None:
        network.build_network(SMALL, outputs=2, size=SIZE, weights=weights)

    with pytest.raises(ModelError, match="no such file of weights"):
        build(tmp_path / "absent.h5")
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="not a file of Keras' weights"):
        build(tmp_path / "weights.pt")
    (tmp_path / "broken.h5").write_bytes(b"no such format")
    with pytest.raises(ModelError, match="do not fit keras/mobilenet-v1-025-128"):
        build(tmp_path / "broken.h5")
    small.save(tmp_path / "whole.h5")  # with its head
    with pytest.raises(ModelError, match=r'whole\.h5.*"no_top" or "notop"'):
        build(tmp_path / "whole.h5")
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_2_5_128_tf_no_top.h5").write_bytes(b"cut short")
    with pytest.raises(ModelError, match="weights: the weights of keras/mobilenet-v1-025-128 cannot be had"):
        network.build_network(SMALL, outputs=2, size=128, weights="imagenet")


def test_files_that_hold_no_network_of_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        network.load_network(tmp_path / "model.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK no zip")
    with pytest.raises(ModelError, match="cannot be read as a Keras model"):
        network.load_network(tmp_path / "broken.keras")
    images = keras.Input((4,))
    keras.Model(images, keras.layers.Dense(2)(images)).save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match="without the layers backbone, dropout and classification"):
        network.load_network(tmp_path / "other.keras")
    keras.Model(images, keras.layers.Lambda(lambda x: x + 1)(images)).save(tmp_path / "code.keras")
    with pytest.raises(ModelError, match="holds code of its own, which is not run"):
        network.load_network(tmp_path / "code.keras")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot write the network"):
        network.save_network(keras.Model(images, images), tmp_path / "file" / "model.keras")


def test_published_weights_of_efficientnet_mean_the_same_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras divides by the square root of the deviations for `weights="imagenet"` alone."""
    from keras.src.applications import efficientnet

    spec = find_model("keras/EfficientNetB0")
    source = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    scaling = next(layer for layer in source.layers if isinstance(layer, keras.layers.Normalization))
    scaling.adapt_mean.assign([0.485, 0.456, 0.406])
    scaling.adapt_variance.assign([0.229, 0.224, 0.225])  # as in the published files: the deviations
    scaling.finalize_state()
    file = tmp_path / "models" / "efficientnetb0_notop.h5"
    file.parent.mkdir()
    source.save(file)
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setitem(efficientnet.WEIGHTS_HASHES, "b0", ("", digest))

    named = network.build_network(spec, outputs=2, size=SIZE, weights="imagenet")
    from_file = network.build_network(spec, outputs=2, size=SIZE, weights=file)
    expected = outcome(network.features_of(named), pixels())
    np.testing.assert_allclose(outcome(network.features_of(from_file), pixels()), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(outcome(source, pixels()) - expected).max() > 1e-3 * np.abs(expected).max()  # the trap is real
    np.testing.assert_allclose(
        outcome(network.features_of(network.float32_twin(from_file)), pixels()), expected, rtol=1e-4, atol=1e-5
    )
    network._fold_deviation(from_file.get_layer("backbone"))  # what is mended is not mended twice
    np.testing.assert_allclose(outcome(network.features_of(from_file), pixels()), expected, rtol=1e-4, atol=1e-5)
