"""What Keras networks start from: published weights without a network, files, URLs, earlier trainings."""

import socket
import urllib.request
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from file_server import Served, serving
from keras.src.applications import mobilenet_v3
from keras.src.backend import config
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from keras.src.utils.file_utils import hash_file

from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, HyperparameterError, ModelError
from kubesight.modelcard import KERAS_FILE, ModelCard, StretchPreprocessing
from kubesight.models.files import fetch
from kubesight.models.keras.mirror import mirror
from kubesight.models.keras.network import BACKBONE, CLASSIFICATION, DROPOUT, build_network, save_network
from kubesight.models.keras.official import OFFICIAL, official_file
from kubesight.models.keras.start import start_network
from kubesight.models.names import find_model
from kubesight.storage.files import sha256_file

SIZE = 32
SPEC = find_model("keras/mobilenet-v1-025-128")
SMALL = find_model("keras/mobilenet-v3-small-075")
CLASSES = ["ant", "bee", "cow"]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)


def lived(network: keras.Model, seed: int = 0) -> keras.Model:
    """Give every variable a value of its own, statistics too, as training would."""
    random = np.random.default_rng(seed)
    for weight in network.weights:
        weight.assign(np.abs(random.normal(0.2, 0.1, weight.shape)))
    return network


def legacy(network: keras.Model, file: Path) -> Path:
    """Write weights as Keras 2 did, and as all published files are."""
    with h5py.File(file, "w") as stream:
        save_weights_to_hdf5_group(stream, network)
    return file


def same(network: keras.Model, other: keras.Model, part: str = BACKBONE) -> bool:
    mine, theirs = network.get_layer(part).get_weights(), other.get_layer(part).get_weights()
    return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))


def start(weights: str | Path, spec=SPEC, classes=CLASSES, outputs: int | None = None, size: int = SIZE, **settings):
    return start_network(
        spec, classes=classes, outputs=outputs or len(classes), size=size, weights=str(weights), settings=settings
    )


@pytest.fixture(scope="module")
def learnt() -> keras.Model:
    return lived(build_network(SPEC, outputs=3, size=SIZE))


@pytest.fixture(scope="module")
def folder(learnt, tmp_path_factory) -> Path:
    """A model folder, as far as a start reads one."""
    path = tmp_path_factory.mktemp("model")
    save_network(learnt, path / KERAS_FILE)
    card = ModelCard(
        task=Task.CLASSIFICATION, model_name=SPEC.name, framework="tensorflow", classes=CLASSES,
        preprocessing=StretchPreprocessing(size=SIZE),
    )  # fmt: skip
    card.save(path)
    return path


@pytest.fixture
def only_mirror(tmp_path, monkeypatch):
    """Published files of Keras's layout on a server, an empty Keras home, and a record of every other address."""
    home = tmp_path / "keras"
    monkeypatch.setattr(config, "_KERAS_DIR", str(home))
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    site.mkdir()
    sources = {}
    for spec in (SPEC, SMALL):
        sources[spec.name] = lived(build_network(spec, outputs=3, size=SIZE), seed=7)
        official = official_file(spec, SIZE)
        file = legacy(sources[spec.name].get_layer(BACKBONE), site / official.file)
        if official.hash is not None:
            md5 = hash_file(file, algorithm="md5")
            monkeypatch.setitem(OFFICIAL, official.file, replace(official, hash=md5))
            top, _ = mobilenet_v3.WEIGHTS_HASHES["small_224_0.75_float"]
            monkeypatch.setitem(mobilenet_v3.WEIGHTS_HASHES, "small_224_0.75_float", (top, md5))
    mirror([official_file(spec, SIZE).file for spec in (SPEC, SMALL)], tmp_path / "mirror", str(site))
    connect, elsewhere = socket.create_connection, []

    def watched(address, *rest, **options):
        if address[0] != "127.0.0.1":
            elsewhere.append(address)
            raise OSError("no way out")
        return connect(address, *rest, **options)

    monkeypatch.setattr(socket, "create_connection", watched)
    monkeypatch.setattr(urllib.request, "urlretrieve", lambda *address: elsewhere.append(address))
    with serving(tmp_path / "mirror") as served:
        monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", served.url)
        yield served, sources, home
    assert elsewhere == []


def test_published_weights_come_from_the_mirror_and_keras_takes_them_unchanged(only_mirror, caplog) -> None:
    caplog.set_level("INFO", "kubesight")
    served, sources, home = only_mirror
    for spec in (replace(SPEC, match="architecture"), replace(SMALL, match="none", nearest="keras/Small")):
        file = official_file(spec, SIZE).file
        network, record = start("default", spec)
        assert same(network, sources[spec.name])
        assert record["source"] == "default"
        assert record["detail"] == file
        assert record["sha256"] == sha256_file(home / "models" / file)
        assert record["fit"] == "the backbone's; the classifier starts anew"
        if spec.match == "architecture":
            assert record["checkpoint"] == f"same architecture, other checkpoint than that of {spec.name}"
            assert "same architecture, other checkpoint" in caplog.text
            assert "substitute" not in record
        else:
            assert record["substitute"] == f"keras/Small, since Keras lacks the architecture of {spec.name}"
            assert "checkpoint" not in record
        # Keras finds the very file, its hash agrees where it has one, and it asks nobody.
        named = build_network(spec, outputs=3, size=SIZE, weights="imagenet")
        assert same(named, network)
        features = [keras.Model(each.input, each.get_layer(DROPOUT).input)(IMAGES) for each in (named, network)]
        np.testing.assert_array_equal(*features)
        assert served.times(file) == 1


def test_random_weights_are_the_seeds_own() -> None:
    networks = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        network, record = start("none", dropout_rate=0.5, regularizers_l2=0.25)
        networks.append(network)
        assert record == {"source": "none", "detail": "random"}
    assert not same(*networks)
    keras.utils.set_random_seed(2)
    assert same(build_network(SPEC, outputs=3, size=SIZE), networks[1])
    assert networks[0].get_layer(DROPOUT).rate == 0.5
    assert networks[0].get_layer(CLASSIFICATION).kernel_regularizer.l2 == 0.25


@pytest.mark.parametrize("name", ["own.weights.h5", "legacy.h5", "backbone.keras", "whole.keras"])
def test_files_of_a_backbone(name: str, learnt, tmp_path) -> None:
    file, backbone = tmp_path / name, learnt.get_layer(BACKBONE)
    if name.startswith("own"):
        backbone.save_weights(file)
    elif name.startswith("legacy"):
        legacy(backbone, file)
    elif name.startswith("whole"):
        save_network(learnt, file)
    else:
        backbone.save(file)
    network, record = start(file, size=64)  # weights know no picture size
    assert same(network, learnt)
    assert not same(network, learnt, CLASSIFICATION)
    assert record["sha256"] == sha256_file(file)
    assert (record["source"], record["detail"]) == ("path", str(file))
    assert "classifier starts anew" in record["fit"]


def test_files_by_url_are_kept(learnt, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    learnt.get_layer(BACKBONE).save_weights(tmp_path / "own.weights.h5")
    served: Served
    with serving(tmp_path) as served:
        url = f"{served.url}/own.weights.h5"
        network, record = start(url)
        assert same(network, learnt)
        assert (record["source"], record["detail"]) == ("url", url)
        assert fetch(url)[0].is_file()
        assert served.times("own.weights.h5") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.weights.h5", r"layers, of which the first: conv1/kernel is \(3, 3, 3, 8\), not \(3, 3, 3, 16\)"),
        ("legacy.h5", r"conv1/kernel.*expects shape \(3, 3, 3, 16\).*with shape \(3, 3, 3, 8\)"),
        ("whole.keras", r"conv1/kernel is \[3, 3, 3, 8\], not \[3, 3, 3, 16\]; .*; and \d+ more"),
        ("whole.weights.h5", "Layer 'conv1' expected 1 variables, but received 0"),
        ("junk.keras", "do not fit"),
        ("weights.safetensors", "not a file of Keras' weights"),
        ("gone.h5", "no file of weights here"),
    ],
)
def test_files_that_do_not_fit_say_what(name: str, message: str, learnt, tmp_path) -> None:
    file, backbone = tmp_path / name, learnt.get_layer(BACKBONE)
    if name.startswith(("junk", "weights")):
        file.write_bytes(b"junk" * 100)
    elif name == "legacy.h5":
        legacy(backbone, file)
    elif name.startswith("whole"):
        save_network(learnt, file) if file.suffix == ".keras" else learnt.save_weights(file)
    elif name.startswith("own"):
        backbone.save_weights(file)
    with pytest.raises(ModelError, match=message):
        start(file, find_model("keras/mobilenet-v1-050-128"))


def test_code_in_a_file_is_not_run(learnt, tmp_path) -> None:
    trap = keras.layers.Lambda(lambda x: x, name=CLASSIFICATION)
    names = (BACKBONE, DROPOUT)
    inside = keras.Sequential([keras.Input((4,)), *(keras.layers.Layer(name=name) for name in names), trap])
    inside.save(tmp_path / "trap.keras")
    with pytest.raises(ModelError, match="holds code of its own, which is not run"):
        start(tmp_path / "trap.keras")


def test_an_earlier_training_goes_on(folder, learnt) -> None:
    network, record = start(folder, reinitialize_top_layer="Auto", dropout_rate=0.4)
    assert same(network, learnt)
    assert same(network, learnt, CLASSIFICATION)
    np.testing.assert_array_equal(network(IMAGES), learnt(IMAGES))
    assert network.get_layer(DROPOUT).rate == 0.4
    assert record == {
        "source": "model", "detail": str(folder), "sha256": sha256_file(folder / KERAS_FILE),
        "fit": "the backbone's and the classifier's",
    }  # fmt: skip


def test_an_earlier_training_goes_on_under_a_new_classifier(folder, learnt) -> None:
    """Another name of the same network, at another size, is the same network."""
    spec = find_model("tensorflow-ic-imagenet-mobilenet-v1-025-160-classification-4")
    network, record = start(folder, spec, size=64, classes=["cow", "x", "y"], reinitialize_top_layer="True")
    assert same(network, learnt)
    assert not same(network, learnt, CLASSIFICATION)
    assert record["fit"] == "the backbone's; the classifier starts anew"


def test_an_earlier_training_in_mixed_precision(folder, learnt) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network, _ = start(folder)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.get_layer(BACKBONE).get_layer("conv1").compute_dtype == "float16"
    assert same(network, learnt)


def test_other_classes_need_a_new_classifier(folder) -> None:
    for wish in ("Auto", "False"):
        with pytest.raises(DatasetError, match=r"training_data: .*\(added: dog; missing: bee, cow\).*to True"):
            start(folder, classes=["ant", "dog"], reinitialize_top_layer=wish)
    with pytest.raises(DatasetError, match="another order"):
        start(folder, classes=CLASSES[::-1])


def test_a_classifier_that_is_not_there_cannot_be_kept(folder, tmp_path, learnt) -> None:
    learnt.get_layer(BACKBONE).save_weights(tmp_path / "own.weights.h5")
    for weights in ("none", "default", str(tmp_path / "own.weights.h5")):
        with pytest.raises(HyperparameterError, match=rf"False keeps a trained classifier, and weights: {weights}"):
            start(weights, reinitialize_top_layer="False")
    with pytest.raises(HyperparameterError, match=r"binary_mode: the classifier in .* has 3 outputs, not 1"):
        start(folder, outputs=1)


def test_an_earlier_training_of_another_architecture(folder, tmp_path) -> None:
    for name in ("keras/Xception", "keras/mobilenet-v1-050-128"):
        with pytest.raises(
            ModelError, match=rf"to go on from is a {SPEC.name}, not a {name}.*model_name to {SPEC.name}"
        ):
            start(folder, find_model(name))
    ModelCard.load(folder).save(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        start(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras/NASNetMobile", "keras/EfficientNetB0"])
def test_awkward_published_files(name: str, tmp_path, monkeypatch) -> None:
    """NASNet's file has another name at its address; EfficientNet's graph depends on how its weights are given."""
    spec = find_model(name)
    official = official_file(spec, 224)
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path / "keras"))
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *_, **__: True)  # the hash is in the code
    monkeypatch.setattr(urllib.request, "urlretrieve", pytest.fail)
    backbone = getattr(keras.applications, spec.library_name)(include_top=False, weights=None)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Normalization):  # what the published files hold
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.229, 0.224, 0.225])
    (tmp_path / "site").mkdir()
    file = legacy(backbone, tmp_path / "site" / official.file)
    monkeypatch.setitem(OFFICIAL, official.file, replace(official, hash=hash_file(file, algorithm="md5")))
    mirror([name], tmp_path / "mirror", str(tmp_path / "site"))
    monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", str(tmp_path / "mirror"))
    network, record = start("default", spec, size=64)
    assert record["detail"] == official.file
    named = build_network(spec, outputs=3, size=64, weights="imagenet")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    features = [np.asarray(keras.Model(each.input, each.get_layer(DROPOUT).input)(images)) for each in (named, network)]
    scale = np.abs(features[0]).max()
    assert 0 < scale < np.inf
    np.testing.assert_allclose(features[1] / scale, features[0] / scale, atol=1e-5)
