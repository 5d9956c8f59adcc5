"""The predictor against the network run by hand."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, softmax
from torchvision.transforms import functional

from kubesight.dataset.rows import Task
from kubesight.errors import DatasetError, ModelError
from kubesight.modelcard import WEIGHTS_FILE, CropPreprocessing, ModelCard
from kubesight.models.build import build_model, load_trained
from kubesight.models.names import find_model
from kubesight.models.weights import save_weights
from kubesight.serving.networks import to_probabilities
from kubesight.serving.predictor import load_predictor

NAME = "timm/test_resnet"
RESIZE, CROP = 48, 40


def make_model(folder: Path, task: Task = Task.CLASSIFICATION) -> Path:
    """A model folder with random weights and a head whose answers are far apart."""
    torch.manual_seed(5)
    module = build_model(find_model(NAME), 3).module
    torch.nn.init.normal_(module.fc.weight, std=3.0)
    coarse = torch.nn.functional.interpolate(torch.randn(32, 3, 8, 8), CROP)
    module.train()(coarse)  # batch statistics that are not the initial ones
    with torch.no_grad():
        module.fc.bias.sub_(module.eval()(coarse).mean(dim=0))  # so that no class wins everywhere
    card = ModelCard(
        task=task, model_name=NAME, classes=["cat", "dog", "emu"],
        preprocessing=CropPreprocessing(resize_size=RESIZE, crop_size=CROP, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    )  # fmt: skip
    folder.mkdir(parents=True)
    save_weights(module, folder / WEIGHTS_FILE)
    card.save(folder)
    return folder


def make_pictures(folder: Path, count: int) -> list[str]:
    """PNG files whose short side needs no resizing."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    names = []
    for index in range(count):
        size = (RESIZE, 60) if index % 2 else (64, RESIZE)
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1)))[: size[0], : size[1]].astype(np.uint8)
        names.append(str(folder / f"{index}.png"))
        Image.fromarray(pixels).save(names[-1])
    return names


def by_hand(model: Path, names: list[str]) -> np.ndarray:
    """Logits from Pillow, torchvision and the bare network."""
    module, card = load_trained(model)
    mean, std = list(card.crop.mean), list(card.crop.std)
    rows = []
    for name in names:
        picture = functional.center_crop(functional.to_tensor(Image.open(name)), [CROP, CROP])
        with torch.no_grad():
            rows.append(module(functional.normalize(picture, mean, std)[None])[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_single_label(tmp_path, batch_size) -> None:
    model, names = make_model(tmp_path / "model"), make_pictures(tmp_path / "pictures", 11)
    expected = softmax(by_hand(model, names), axis=1)
    predictor = load_predictor(model, device="cpu", batch_size=batch_size, threads=3)
    predictions = list(predictor.predict(iter(names)))
    assert [p.url for p in predictions] == names
    np.testing.assert_allclose([p.probabilities for p in predictions], expected, atol=2e-5)
    assert [p.predicted for p in predictions] == [predictor.classes[k] for k in expected.argmax(axis=1)]
    assert len({p.predicted for p in predictions}) > 1
    line = predictions[0].to_dict()
    assert line["image_url"] == names[0]
    assert sum(line["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_several_labels(tmp_path) -> None:
    model = make_model(tmp_path / "model", Task.MULTILABEL)
    names = make_pictures(tmp_path / "pictures", 6)
    expected = expit(by_hand(model, names))
    predictions = list(load_predictor(model, device="cpu").predict(names))
    np.testing.assert_allclose([p.probabilities for p in predictions], expected, atol=2e-5)
    classes = np.array(["cat", "dog", "emu"])
    assert [p.predicted for p in predictions] == [classes[row > 0.5].tolist() for row in expected]
    assert len({len(p.predicted) for p in predictions}) > 1


def test_pictures_are_read_only_a_little_ahead(tmp_path) -> None:
    model, names = make_model(tmp_path / "model"), make_pictures(tmp_path / "pictures", 40)
    taken = 0

    def counted():
        nonlocal taken
        for name in names:
            taken += 1
            yield name

    predictions = load_predictor(model, device="cpu", batch_size=4, threads=2).predict(counted())
    assert taken == 0
    next(predictions)
    assert taken <= 12
    predictions.close()
    assert taken <= 12


def test_a_bad_picture_is_named(tmp_path) -> None:
    model, names = make_model(tmp_path / "model"), make_pictures(tmp_path / "pictures", 3)
    Path(names[1]).write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(DatasetError, match=r"1\.png"):
        list(load_predictor(model, device="cpu").predict(names))


def test_probabilities_at_the_extremes() -> None:
    logits = np.array([[1000.0, 0.0, -1000.0], [-1e4, -1e4, -1e4]], dtype=np.float32)
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(to_probabilities(logits, Task.CLASSIFICATION), [[1, 0, 0], [1 / 3] * 3], rtol=1e-6)
        np.testing.assert_allclose(to_probabilities(logits, Task.MULTILABEL), [[1, 0.5, 0], [0, 0, 0]])


def test_no_model_and_no_export(tmp_path) -> None:
    with pytest.raises(ModelError, match="no model here"):
        load_predictor(tmp_path)
    model = make_model(tmp_path / "model")
    with pytest.raises(ModelError, match=r"model\.onnx: not exported yet.*kubesight export --model"):
        load_predictor(model, backend="onnx")


def test_predicting_changes_nothing_in_the_folder(tmp_path) -> None:
    model, names = make_model(tmp_path / "model"), make_pictures(tmp_path / "pictures", 2)

    def contents() -> dict[str, str]:
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in model.iterdir()}

    before = contents()
    list(load_predictor(model, device="cpu").predict(names))
    assert contents() == before


@pytest.mark.parametrize("batch", [np.zeros((2, CROP, CROP, 3), np.float32), np.zeros((2, 3, CROP, CROP), np.uint8)])
def test_other_batches_are_refused(tmp_path, batch) -> None:
    with pytest.raises(ValueError, match=r"wants uint8 \[n, 40, 40, 3\]"):
        load_predictor(make_model(tmp_path / "model"), device="cpu").probabilities(batch)
