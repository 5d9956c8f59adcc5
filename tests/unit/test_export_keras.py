"""The exported Keras classifier answers as the trained one, and needs no TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

from kubesight.dataset.dataset import DatasetWriter
from kubesight.dataset.rows import ClassificationRow, Task
from kubesight.errors import ModelError
from kubesight.export import graph
from kubesight.export.keras_classification import KerasClassifierExport
from kubesight.export.onnx import describe, export
from kubesight.modelcard import KERAS_FILE, ModelCard, StretchPreprocessing
from kubesight.models.keras.network import (
    build_network,
    features_of,
    float32_twin,
    load_network,
    save_network,
    scaling_of,
)
from kubesight.models.keras.pictures import to_pixels
from kubesight.models.names import find_model
from kubesight.serving.networks import to_probabilities
from kubesight.serving.predictor import load_predictor

NAME = "keras/mobilenet-v2-035-96"
CLASSES = ["cat", "dog", "emu"]
SIZE = 48


def tiny_network(outputs: int) -> keras.Model:
    """Of the shape of all networks here, with next to nothing for a backbone."""
    images = keras.Input((SIZE, SIZE, 3), name="images")
    backbone = keras.Sequential(
        [keras.layers.Conv2D(8, 5, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()], name="backbone"
    )
    features = keras.layers.Dropout(0.2, name="dropout")(backbone(keras.layers.Rescaling(1 / 127.5, -1)(images)))
    return keras.Model(images, keras.layers.Dense(outputs, name="classification")(features))


def named_network(name: str, outputs: int, size: int) -> keras.Model:
    """As a training in mixed precision leaves it."""
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build_network(find_model(name), outputs=outputs, size=size)
    finally:
        keras.config.set_dtype_policy(earlier)
    return float32_twin(network)


def spread_answers(network: keras.Model, size: int) -> None:
    """Give random weights a last layer with which answers differ from picture to picture."""
    coarse = np.random.default_rng(1).integers(0, 256, (8, 6, 6, 3)).repeat(size // 6 + 1, 1).repeat(size // 6 + 1, 2)
    features = features_of(network)(coarse[:, :size, :size].astype(np.float32)).numpy()
    dense = network.get_layer("classification")
    kernel = dense.get_weights()[0]
    kernel = kernel / (features @ kernel).std(axis=0)
    dense.set_weights([kernel, -(features @ kernel).mean(axis=0)])


def make_model(
    folder: Path, *, task: Task = Task.CLASSIFICATION, binary: bool = False, name: str = "", size: int = SIZE
) -> Path:
    """A model folder as a training leaves it; without a name, of a tiny network."""
    keras.utils.set_random_seed(5)
    classes = CLASSES[:2] if binary else CLASSES
    outputs = 1 if binary else len(classes)
    network = named_network(name, outputs, size) if name else tiny_network(outputs)
    spread_answers(network, size)
    card = ModelCard(
        task=task, model_name=name or NAME, framework="tensorflow", classes=classes,
        preprocessing=StretchPreprocessing(size=size, scaling=scaling_of(find_model(name or NAME))),
        hyperparameters={"binary_mode": binary},
    )  # fmt: skip
    folder.mkdir()
    save_network(network, folder / KERAS_FILE)
    card.save(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for index in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((90, 60 + index), Image.Resampling.BICUBIC).save(root / f"{index}.png")
    return [str(root / f"{index}.png") for index in range(12)]


@pytest.fixture(scope="module")
def data(pictures: list[str]) -> Path:
    folder = Path(pictures[0]).parent / "set"
    with DatasetWriter(folder, Task.CLASSIFICATION) as writer:
        for index, url in enumerate(pictures):
            writer.write(ClassificationRow(image_url=url, label=CLASSES[index % 3]))
    return folder


KINDS = {
    "single": {"name": NAME},
    "binary": {"binary": True},
    "multilabel": {"task": Task.MULTILABEL},
}


@pytest.fixture(scope="module", params=KINDS)
def exported(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = make_model(tmp_path_factory.mktemp("models") / request.param, **KINDS[request.param])
    return folder, export(folder, data=data, samples=10)


def test_the_file_answers_as_the_network(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, record = exported
    assert record["samples"] == 10
    assert record["agreement"] == 1.0
    assert record["max_abs_difference"] <= 1e-4
    assert 0 < record["max_abs_difference_of_logits"] < 1e-3
    assert ModelCard.load(folder).onnx == record
    assert "on 10 pictures its probabilities differ by" in describe(record)
    assert sorted(each.name for each in folder.iterdir()) == ["labels.json", KERAS_FILE, "model.onnx", "modelcard.json"]
    card, network = ModelCard.load(folder), load_network(folder / KERAS_FILE)
    batch = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    probabilities, logits = session.run(["probabilities", "logits"], {"images": batch})
    truth = network(batch.astype(np.float32), training=False).numpy().astype(np.float64)
    if card.binary:
        second = 1 / (1 + np.exp(-truth))
        expected = np.hstack([1 - second, second])
        np.testing.assert_allclose(logits[:, 1:] - logits[:, :1], truth, atol=1e-4)
    elif card.task is Task.MULTILABEL:
        expected = 1 / (1 + np.exp(-truth))
    else:
        expected = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert probabilities.shape == logits.shape == (3, len(card.classes))


def test_the_file_says_what_it_is(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, record = exported
    file = onnx.load(folder / "model.onnx", load_external_data=False)
    assert [entry.version for entry in file.opset_import if not entry.domain] == [record["opset"]] == [17]
    sizes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    count = len(ModelCard.load(folder).classes)
    assert sizes == {"images": ["n", SIZE, SIZE, 3], "probabilities": ["n", count], "logits": ["n", count]}
    assert file.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    # Also what was trained in bfloat16 is float32 here.
    types = {each.data_type for each in file.graph.initializer}
    assert not {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE} & types
    facts = {each.key: each.value for each in file.metadata_props}
    assert json.loads(facts["classes"]) == ModelCard.load(folder).classes
    assert json.loads(facts["preprocessing"]) == {"size": SIZE, "interpolation": "bilinear", "scaling": "tf"}
    assert facts["model_name"] == NAME


def test_serving_the_file_is_asking_the_network(exported: tuple[Path, dict[str, Any]], pictures: list[str]) -> None:
    """From files: TensorFlow's operations before the network, and numpy's before the exported one."""
    folder, _ = exported
    card, network = ModelCard.load(folder), load_network(folder / KERAS_FILE)
    pixels = tf.stack([to_pixels(tf.constant(Path(url).read_bytes()), card.stretch) for url in pictures])
    logits = network(tf.cast(pixels, tf.float32), training=False).numpy()
    if card.binary:
        logits = np.hstack([np.zeros_like(logits), logits])
    served = list(load_predictor(folder, device="cpu", backend="onnx").predict(pictures))
    # Pixels may be off by one level of 255 where they are resized by another library.
    probabilities = np.array([answer.probabilities for answer in served])
    np.testing.assert_allclose(probabilities, to_probabilities(logits, card.task), atol=0.02)
    assert np.ptp(probabilities, axis=0).max() > 0.1, "pictures do matter"


def test_the_file_is_served_without_tensorflow(exported: tuple[Path, dict[str, Any]], pictures: list[str]) -> None:
    folder, _ = exported
    program = (
        "import json, sys\n"
        "sys.modules.update(dict.fromkeys(('tensorflow', 'keras', 'torch')))  # as if they were not installed\n"
        "from kubesight.serving.predictor import load_predictor\n"
        "answers = load_predictor(sys.argv[1], backend='onnx', device='cpu').predict(sys.argv[2:])\n"
        "print(json.dumps([answer.to_dict() for answer in answers]))\n"
    )
    command = [sys.executable, "-c", program, str(folder), *pictures[:3]]
    answers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    here = load_predictor(folder, device="cpu", backend="onnx").predict(pictures[:3])
    assert [answer["predicted"] for answer in answers] == [answer.predicted for answer in here]


@keras.saving.register_keras_serializable("tests")
class Bessel(keras.layers.Layer):
    """An operation that ONNX lacks."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.math.bessel_i0e(inputs)


def small(layer: keras.layers.Layer) -> KerasClassifierExport:
    images = keras.Input((8, 8, 3))
    network = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(layer(images))))
    preprocessing = StretchPreprocessing(size=8)
    card = ModelCard(
        task=Task.CLASSIFICATION, model_name="keras/Odd", framework="tensorflow", classes=CLASSES,
        preprocessing=preprocessing,
    )  # fmt: skip
    return KerasClassifierExport(network, card, [], 2)


def test_what_a_layer_keeps_beside_its_weights_is_inside(tmp_path: Path) -> None:
    """The mean and the deviation of a Normalization, such as EfficientNet's, are constants and no inputs."""
    scaling = keras.layers.Normalization()
    scaling.adapt(np.random.default_rng(0).normal(100, 30, (20, 8, 8, 3)).astype(np.float32))
    assert small(scaling).run(tmp_path, "nothing")["agreement"] == 1.0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [value.name for value in session.get_inputs()] == ["images"]


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(6, 3, groups=3, padding="same", activation="gelu"),  # the exact one, of erfc
        keras.layers.DepthwiseConv2D(3, padding="same", activation="silu"),
    ],
    ids=["grouped-gelu", "depthwise-silu"],
)
def test_layers_that_onnx_words_in_another_way(layer: keras.layers.Layer, tmp_path: Path) -> None:
    """ConvNeXt's and EfficientNet's."""
    keras.utils.set_random_seed(0)
    export = small(layer)
    scaled = keras.layers.Rescaling(1 / 99)
    export.network = keras.Sequential([keras.Input((8, 8, 3)), scaled, *export.network.layers[1:]])
    record = export.run(tmp_path, "nothing")
    assert record["agreement"] == 1.0
    assert record["max_abs_difference_of_logits"] < 1e-5


def test_a_network_that_onnx_has_no_words_for(
    tmp_path: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    message = (
        r"keras/Odd: tf2onnx [\d.]+ cannot export this network: ONNX has no BesselI0e\. Serve .* tensorflow backend"
    )
    with caplog.at_level("INFO"), pytest.raises(ModelError, match=message):
        small(Bessel()).run(tmp_path, "nothing")
    assert not list(tmp_path.iterdir())
    assert not caplog.records, "what tf2onnx says goes nowhere"
    out, err = capfd.readouterr()
    assert not out
    assert "tf2onnx" not in err


def test_a_network_whose_conversion_fails(tmp_path: Path) -> None:
    export = small(keras.layers.Identity())
    other = keras.Sequential([keras.Input((9, 9, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    export.network = other  # of pictures of another size
    with pytest.raises(ModelError, match=r"keras/Odd: tf2onnx [\d.]+ cannot export this network: \S+"):
        export.run(tmp_path, "nothing")


def test_a_network_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = small(keras.layers.Identity())
    assert export.weight_bytes() == (8 * 8 * 3 * 3 + 3) * 4
    monkeypatch.setattr(graph, "_FILE_LIMIT", export.weight_bytes())
    with pytest.raises(ModelError, match="keras/Odd: its weights are over the 2 GB that one ONNX file may hold"):
        export.run(tmp_path, "nothing")


def test_a_file_that_disagrees_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = small(keras.layers.Rescaling(1 / 255))
    convert = KerasClassifierExport.convert

    def convert_another(self: KerasClassifierExport, file: Path) -> None:
        convert(self, file)
        dense = self.network.layers[-1]
        kernel, bias = dense.get_weights()
        dense.set_weights([kernel, bias + np.float32([0.01, 0, 0])])

    monkeypatch.setattr(KerasClassifierExport, "convert", convert_another)
    with pytest.raises(ModelError, match=r"probabilities differ by 0\.00\d+ .*it was not written"):
        export.run(tmp_path, "nothing")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("EfficientNetB0", 64), ("EfficientNetV2B0", 64), ("MobileNetV3Small", 64), ("ConvNeXtTiny", 64),  # built in
        ("MobileNet", 64), ("ResNet50V2", 64), ("InceptionV3", 80), ("NASNetMobile", 224), ("Xception", 80),  # tf
        ("ResNet50", 64), ("VGG16", 64),  # caffe
        ("DenseNet121", 64),  # torch
    ],
)  # fmt: skip
def test_every_family_and_way_of_scaling(name: str, size: int, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", name=f"keras/{name}", size=size)
    record = export(folder, samples=4)
    assert record["max_abs_difference"] <= 1e-4
    assert record["agreement"] == 1.0
