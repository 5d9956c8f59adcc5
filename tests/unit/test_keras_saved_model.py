"""SavedModels of Keras networks: by plain TensorFlow, by the predictor, and with errors in them."""

import base64
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras_models import CLASSES, SIZE, make_keras_model
from PIL import Image
from scipy.special import expit, softmax
from sklearn.datasets import load_sample_images

from kubesight.dataset.images import read_image
from kubesight.dataset.rows import Task
from kubesight.dataset.stretch import stretch
from kubesight.errors import DatasetError, ModelError
from kubesight.modelcard import KERAS_FILE, ModelCard, StretchPreprocessing
from kubesight.models.keras.saved_model import load_saved_model, write_saved_model
from kubesight.serving.predictor import load_predictor


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_keras_model(tmp_path_factory.mktemp("keras") / "model")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[str]:
    """Parts of two photos, as JPEGs of several sizes, one of them turned by EXIF."""
    folder = tmp_path_factory.mktemp("pictures")
    exif = Image.Exif()
    exif[0x0112] = 6
    names = []
    for index in range(9):
        photo = Image.fromarray(load_sample_images().images[index % 2])
        left = 40 * index
        names.append(str(folder / f"{index}.jpg"))
        part = photo.crop((left, 10 * index, left + 90 + 30 * (index % 3), 330))
        part.save(names[-1], **({"exif": exif} if index == 4 else {}))
    return names


def by_hand(model: Path, names: list[str], preprocessing: StretchPreprocessing | None = None) -> np.ndarray:
    """Logits of the Keras file for pixels that no operation of TensorFlow has touched."""
    preprocessing = preprocessing or ModelCard.load(model).stretch
    views = [stretch(read_image(name, min_size=preprocessing.size), preprocessing) for name in names]
    return keras.models.load_model(model / KERAS_FILE).predict(np.stack(views), verbose=0)


def test_plain_tensorflow_gives_what_the_predictor_gives(model, pictures, tmp_path) -> None:
    copy = shutil.copytree(model / "saved_model", tmp_path / "elsewhere")  # nothing beside it is needed
    program = (
        "import json, sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "files = [open(name, 'rb').read() for name in sys.argv[2:]]\n"
        "answer = served(image_bytes=tf.constant(files))\n"
        "assert list(answer) == ['probabilities'], answer\n"
        "assert not any(name.split('.')[0] == 'kubesight' for name in sys.modules)\n"
        "print(json.dumps(answer['probabilities'].numpy().tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(copy), *pictures], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    served = np.array(json.loads(done.stdout))
    predictor = load_predictor(model, device="cpu", batch_size=4, threads=2)
    predictions = list(predictor.predict(iter(pictures)))
    assert [one.url for one in predictions] == pictures
    np.testing.assert_allclose([one.probabilities for one in predictions], served, atol=1e-6)
    np.testing.assert_allclose(served, softmax(by_hand(model, pictures), axis=1), atol=0.05)  # a level here and there
    assert [one.predicted for one in predictions] == [predictor.classes[k] for k in served.argmax(axis=1)]
    assert len({one.predicted for one in predictions}) > 1


def test_the_signature_suits_servers(model, pictures) -> None:
    loaded = tf.saved_model.load(model / "saved_model")
    assert list(loaded.signatures) == ["serving_default"]
    served = loaded.signatures["serving_default"]
    name, spec = next(iter(served.structured_input_signature[1].items()))
    assert name.endswith("_bytes")  # so that TensorFlow Serving decodes {"b64": ...}
    assert (spec.dtype, spec.shape.as_list()) == (tf.string, [None])
    assert served.structured_outputs["probabilities"].shape.as_list() == [None, 3]
    data = base64.b64decode(base64.b64encode(Path(pictures[0]).read_bytes()))
    np.testing.assert_allclose(
        served(image_bytes=tf.constant([data]))["probabilities"].numpy().sum(axis=1), [1.0], 1e-6
    )


def test_label_files(model) -> None:
    assert json.loads((model / "labels_info.json").read_text()) == {"labels": ["cat", "dog", "emu"]}
    index = json.loads((model / "class_label_to_prediction_index.json").read_text())
    assert index == {"cat": 0, "dog": 1, "emu": 2}
    assert json.loads((model / "labels.json").read_text()) == ["cat", "dog", "emu"]


def test_each_kind_of_output(pictures, tmp_path) -> None:
    several = make_keras_model(tmp_path / "several", Task.MULTILABEL, interpolation="nearest")
    answers = list(load_predictor(several, device="cpu").predict(pictures))
    found = np.array([one.probabilities for one in answers])
    np.testing.assert_allclose(found, expit(by_hand(several, pictures)), atol=0.01)
    # The served graph resizes as the card says, not always bilinearly.
    assert np.abs(found - expit(by_hand(several, pictures, StretchPreprocessing(size=SIZE)))).max() > 0.05
    assert len({tuple(one.predicted) for one in answers}) > 1
    assert all(one.predicted == np.array(CLASSES)[one.probabilities > 0.5].tolist() for one in answers)
    binary = make_keras_model(tmp_path / "binary", classes=("no", "yes"), binary=True)
    answers = list(load_predictor(binary, device="cpu").predict(pictures))
    positive = expit(by_hand(binary, pictures))
    assert positive.shape == (len(pictures), 1)
    np.testing.assert_allclose([one.probabilities for one in answers], np.hstack([1 - positive, positive]), atol=0.05)
    assert {one.predicted for one in answers} == {"no", "yes"}
    assert all(one.predicted == ("yes" if one.probabilities[1] > 0.5 else "no") for one in answers)


def test_a_bad_picture_is_named_among_good_ones(model, pictures, tmp_path) -> None:
    bad = tmp_path / "cut off.jpg"
    bad.write_bytes(Path(pictures[1]).read_bytes()[:-2000])
    with pytest.raises(DatasetError, match=r"cut off\.jpg.*(truncated|cannot be decoded)"):
        list(load_predictor(model, device="cpu").predict([pictures[0], str(bad), pictures[2]]))
    with pytest.raises(DatasetError, match="TensorFlow cannot decode a picture"):
        load_saved_model(model, "cpu")([bad.read_bytes()])


def test_pictures_that_tensorflow_cannot_decode(model, pictures, tmp_path, caplog) -> None:
    photo = Image.open(pictures[2])
    photo.save(tmp_path / "photo.tif")
    photo.save(tmp_path / "photo.png")
    broken = bytearray((tmp_path / "photo.png").read_bytes())
    broken[-1] ^= 0xFF  # the checksum of the last chunk, which Pillow does not read
    (tmp_path / "broken.png").write_bytes(broken)
    with caplog.at_level(logging.WARNING, "kubesight"):
        names = [str(tmp_path / name) for name in ("photo.png", "photo.tif", "broken.png")]
        whole, tiff, damaged = load_predictor(model, device="cpu").predict(names)
    np.testing.assert_allclose(tiff.probabilities, whole.probabilities, atol=1e-6)
    np.testing.assert_allclose(damaged.probabilities, whole.probabilities, atol=1e-6)
    assert "broken.png" in caplog.text


def test_errors(model, tmp_path) -> None:
    card = ModelCard.load(model)
    with pytest.raises(ModelError, match="has 2 outputs, its card 3"):
        write_saved_model(keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.GlobalMaxPooling2D(),
                                            keras.layers.Dense(2)]), card, tmp_path)  # fmt: skip
    with pytest.raises(ModelError, match=r"saved_model.*no SavedModel here"):
        load_saved_model(tmp_path)
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / "saved_model" / "saved_model.pb").write_bytes(b"\x12\x34 nothing of the kind")
    with pytest.raises(ModelError, match="cannot be read as a SavedModel"):
        load_predictor(damaged)
    for device, reason in (
        ("cuda:0", "0 GPUs"),
        ("cuda", "0 GPUs"),
        ("tpu", "no device 'tpu'"),
        ("cuda:x", "no device"),
    ):
        with pytest.raises(ModelError, match=reason):
            load_predictor(model, device=device)
    with pytest.raises(ModelError, match=r"trained with tensorflow, so torch cannot run it.*onnx"):
        load_predictor(model, backend="torch")
    with pytest.raises(ModelError, match=r"model\.onnx: not exported yet"):
        load_predictor(model, backend="onnx")
