"""Model folders of Keras networks through evaluation, prediction and ONNX, as users run them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from keras_models import make_keras_model
from PIL import Image

from kubesight.dataset import ClassificationRow, Dataset, DatasetWriter, Task
from kubesight.errors import DatasetError, ModelError
from kubesight.evaluate.evaluate import evaluate
from kubesight.export.onnx import export
from kubesight.metrics.classification import multiclass_metrics
from kubesight.models.build import load_trained
from kubesight.serving.predictor import load_predictor

CLASSES = ("Apple", "Lemon", "Pear")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    """Coloured squares in five formats, one of them turned by EXIF."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 8
    with DatasetWriter(folder / "set", Task.CLASSIFICATION, source={"root": str(folder)}) as writer:
        for index in range(18):
            blocks = rng.integers(0, 256, (3, 5, 3), np.uint8)
            picture = Image.fromarray(blocks.repeat(17, axis=0).repeat(13, axis=1))
            path = folder / f"{index}.{('jpg', 'png', 'gif', 'tif', 'webp')[index % 5]}"
            picture.save(path, **({"exif": exif} if index == 5 else {}))
            writer.write(ClassificationRow(image_url=str(path), label=CLASSES[index % 3]))
    return Dataset(folder / "set")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_keras_model(tmp_path_factory.mktemp("model") / "model", classes=CLASSES)


def test_evaluation_and_prediction_agree(model, data, tmp_path) -> None:
    metrics = evaluate(data.path, tmp_path / "out", model=model, batch_size=5)
    lines = [orjson.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_bytes().splitlines()]
    rows = list(data.rows())
    assert [line["image_url"] for line in lines] == [row.image_url for row in rows]
    predictions = list(load_predictor(model, device="cpu", batch_size=32).predict(row.image_url for row in rows))
    np.testing.assert_allclose(
        [p.probabilities for p in predictions], [line["probabilities"] for line in lines], atol=1e-6
    )
    labels = np.array([CLASSES.index(row.label) for row in rows])
    probabilities = np.array([line["probabilities"] for line in lines])
    assert metrics["accuracy"] == (probabilities.argmax(axis=1) == labels).mean()
    expected = multiclass_metrics(labels, probabilities, CLASSES)["log_loss"]
    assert metrics["log_loss"] == pytest.approx(expected, rel=1e-6)
    assert len({line["predicted"] for line in lines}) > 1
    summary = json.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert summary["model"]["framework"] == "tensorflow"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/") > 3  # pictures that were judged wrong


def test_the_exported_file_answers_alike_without_tensorflow(model, data) -> None:
    record = export(model, data=data.path, samples=4)
    assert record["agreement"] == 1.0
    urls = [row.image_url for row in data.rows()]
    ours = [one.probabilities for one in load_predictor(model, device="cpu").predict(urls)]
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from kubesight.serving.predictor import load_predictor\n"
        "answers = load_predictor(sys.argv[1], backend='onnx', device='cpu').predict(sys.argv[2:])\n"
        "import json; print(json.dumps([one.probabilities.tolist() for one in answers]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), *urls], capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(json.loads(done.stdout), ours, atol=0.02)  # a level of a pixel here and there
    with pytest.raises(ValueError, match=r"wants uint8 \[n, 32, 32, 3\]"):
        load_predictor(model, backend="onnx").probabilities(np.zeros((1, 32, 32, 3), np.float32))


def test_what_cannot_be_done_says_so(model, data, tmp_path) -> None:
    with pytest.raises(ModelError, match="trained with tensorflow, so torch cannot load it"):
        load_trained(model)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(Path(next(data.rows()).image_url).read_bytes()[:400])
    with DatasetWriter(tmp_path / "set", Task.CLASSIFICATION, source={}) as writer:
        for row in (*data.rows(), ClassificationRow(image_url=str(bad), label="Pear")):
            writer.write(row)
    with pytest.raises(DatasetError, match=r"bad\.jpg"):
        evaluate(tmp_path / "set", tmp_path / "out", model=model)
    assert not (tmp_path / "out").exists()
