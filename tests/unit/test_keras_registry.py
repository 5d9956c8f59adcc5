"""Every network of keras.applications that is offered: built, compared with Keras' own, frozen, saved and loaded."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from kubesight.errors import ModelError
from kubesight.models.keras.apps import APPS
from kubesight.models.names import find_model

network = pytest.importorskip("kubesight.models.keras.network", reason="needs the extra kubesight[tensorflow]")
freezing = pytest.importorskip("kubesight.models.keras.freeze")
keras = pytest.importorskip("keras")

MODULES = {  # the first that a name begins with
    "ConvNeXt": "convnext", "DenseNet": "densenet", "EfficientNetV2": "efficientnet_v2", "EfficientNet": "efficientnet",
    "InceptionResNetV2": "inception_resnet_v2", "InceptionV3": "inception_v3", "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3", "MobileNet": "mobilenet", "NASNet": "nasnet", "ResNet": "resnet", "VGG16": "vgg16",
    "VGG19": "vgg19", "Xception": "xception",
}  # fmt: skip
GROUPS = {  # how many groups of layers `layers_to_freeze` counts
    "ConvNeXt": 5, "DenseNet": 5, "EfficientNet": 9, "InceptionResNetV2": 4, "InceptionV3": 11, "MobileNetV2": 19,
    "MobileNetV3Large": 17, "MobileNetV3Small": 13, "MobileNet": 14, "NASNetLarge": 22, "NASNetMobile": 16,
    "ResNet": 5, "VGG": 5, "Xception": 14,
}  # fmt: skip


def first(table: dict, name: str) -> object:
    return next(value for key, value in table.items() if name.startswith(key))


def module_of(name: str) -> str:
    return "resnet_v2" if name.startswith("ResNet") and name.endswith("V2") else str(first(MODULES, name))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", APPS)
def test_a_network_of_the_registry(name: str, tmp_path: Path) -> None:
    keras.backend.clear_session()
    app, spec = APPS[name], find_model(f"keras/{name}")
    with pytest.raises(ModelError, match=f"at least {app.minimum} by {app.minimum}"):
        network.build_network(spec, outputs=3, size=app.minimum - 1)
    model = network.build_network(spec, outputs=3, size=app.minimum)
    backbone = model.get_layer("backbone")
    assert backbone.output_shape == (None, app.features)

    pixels = np.random.default_rng(3).integers(0, 256, (1, app.minimum, app.minimum, 3), dtype=np.uint8)
    prepared = importlib.import_module(f"keras.applications.{module_of(name)}").preprocess_input(
        pixels.astype("float32")
    )
    expected = keras.ops.convert_to_numpy(backbone(prepared, training=False))
    features = keras.ops.convert_to_numpy(network.features_of(model)(pixels, training=False))
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert (prepared == pixels).all() == (app.scaling == "built_in")

    groups = freezing.freeze_groups(model)
    assert len(groups) == (8 if name in {"EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2B2",
                                         "EfficientNetV2B3", "EfficientNetV2S"} else first(GROUPS, name))  # fmt: skip
    grouped = [layer.name for layers in groups.values() for layer in layers]
    assert sorted(grouped) == sorted(layer.name for layer in backbone.layers)
    assert all(any(layer.trainable_variables for layer in layers) for layers in groups.values())
    freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=len(groups))
    assert freezing.is_backbone_frozen(model)
    freezing.freeze(model, train_only_top_layer=False, layers_to_freeze=1)
    assert len(model.trainable_variables) > 2

    if model.count_params() < 100e6:  # the rest would write gigabytes
        network.save_network(model, tmp_path / "model.keras")
        logits = keras.ops.convert_to_numpy(model(pixels, training=False))
        for other in (network.load_network(tmp_path / "model.keras"), network.float32_twin(model)):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(other(pixels, training=False)), logits)
