"""What of a Keras network learns: depth of fine-tuning, and frozen batch normalization."""

import numpy as np
import pytest

from kubesight.models.names import find_model

freezing = pytest.importorskip("kubesight.models.keras.freeze", reason="needs the extra kubesight[tensorflow]")
keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")

from kubesight.models.keras.network import build_network, features_of  # noqa: E402

BLOCKS = ["conv1", *(f"conv_pw_{number}" for number in range(1, 14))]  # of MobileNet V1: stem and 13 blocks


@pytest.fixture(scope="module")
def model() -> "keras.Model":
    return build_network(find_model("keras/mobilenet-v1-025-128"), outputs=3, size=32)


def values(model: "keras.Model") -> dict[str, np.ndarray]:
    return {each.path: np.copy(keras.ops.convert_to_numpy(each)) for each in model.weights}


def changed_by_a_step(model: "keras.Model") -> set[str]:
    """The weights that one step of training moves, in the way that the engine takes it."""
    before = values(model)
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    with tensorflow.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(images, training=True) - 1.0))
    gradients = tape.gradient(loss, model.trainable_variables)
    keras.optimizers.SGD(10.0).apply(gradients, model.trainable_variables)
    return {path for path, value in values(model).items() if not np.array_equal(value, before[path])}


def test_nothing_frozen_trains_everything(model: "keras.Model") -> None:
    assert freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=None) == []
    assert not freezing.is_backbone_frozen(model)
    assert len(model.trainable_variables) == 27 + 2 * 27 + 2  # kernels, batch norms' scales and shifts, the head
    moved = changed_by_a_step(model)
    assert sum(path.endswith("moving_mean") for path in moved) == 27
    assert {"conv1/kernel", "classification/kernel"} <= {"/".join(path.split("/")[-2:]) for path in moved}


def test_only_the_head(model: "keras.Model") -> None:
    assert freezing.freeze(model, train_only_top_layer=True, layers_to_freeze=2) == ["backbone"]
    assert freezing.is_backbone_frozen(model)
    assert [each.path for each in model.trainable_variables] == ["classification/kernel", "classification/bias"]
    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    before = keras.ops.convert_to_numpy(features_of(model)(images, training=True))
    assert changed_by_a_step(model) == {"classification/kernel", "classification/bias"}
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(features_of(model)(images, training=False)), before)


@pytest.mark.parametrize("depth", [1, 5])
def test_the_first_blocks(model: "keras.Model", depth: int) -> None:
    assert freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=depth) == BLOCKS[:depth]
    assert not freezing.is_backbone_frozen(model)
    frozen = {layer.name for name in BLOCKS[:depth] for layer in freezing.freeze_groups(model)[name]}
    moved = changed_by_a_step(model)
    assert not {path for path in moved if set(path.split("/")) & frozen}  # running means and variances included
    assert any(f"conv_pw_{depth}_bn" in path and "moving_mean" in path for path in moved)  # the first that learns
    assert len(model.trainable_variables) == 83 - 3 - 6 * (depth - 1)


def test_more_blocks_than_there_are(model: "keras.Model", caplog: pytest.LogCaptureFixture) -> None:
    assert freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=14) == BLOCKS
    assert caplog.messages == []
    assert freezing.is_backbone_frozen(model)
    assert freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=99) == BLOCKS
    assert "layers_to_freeze is 99 and MobileNet has 14 groups" in caplog.text
    assert len(model.trainable_variables) == 2
    freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=0)  # and all of it learns again
    assert len(model.trainable_variables) == 83
