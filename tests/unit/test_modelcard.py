"""The model card: what is saved is what is loaded, and damage is named by its field."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.modelcard import CropPreprocessing, FitPreprocessing, ModelCard, StretchPreprocessing

CARD = ModelCard(
    task=Task.MULTILABEL,
    model_name="resnet18",
    classes=["a", "b"],
    preprocessing=CropPreprocessing(resize_size=48, crop_size=32, mean=(0.5, 0.5, 0.5)),
    hyperparameters={"learning_rate": 0.1},
    metrics={"iou": 0.75},
)


def test_a_card_comes_back(tmp_path: Path) -> None:
    CARD.save(tmp_path)
    assert ModelCard.load(tmp_path) == CARD
    assert json.loads((tmp_path / "labels.json").read_text()) == ["a", "b"]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="kubesight train"):
        ModelCard.load(tmp_path)
    CARD.save(tmp_path)
    path = tmp_path / "modelcard.json"
    value = json.loads(path.read_text())
    for change, words in (
        ({"preprocessing": {**value["preprocessing"], "crop_size": 0}}, r"preprocessing\.crop_size"),
        ({"task": "poetry"}, "task"),
        ({"surprise": 1}, "surprise"),
        ({"format_version": 2}, "format_version"),
    ):
        path.write_text(json.dumps({**value, **change}))
        with pytest.raises(ModelError, match=rf"modelcard\.json: {words}"):
            ModelCard.load(tmp_path)


def test_preprocessing_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CARD.preprocessing.crop_size = 3


def test_each_kind_of_preprocessing_comes_back_as_itself(tmp_path: Path) -> None:
    kinds = {
        "crop": CropPreprocessing(),
        "fit": FitPreprocessing(min_size=300),
        "stretch": StretchPreprocessing(size=96, interpolation="lanczos3", scaling="caffe"),
    }
    for kind, preprocessing in kinds.items():
        CARD.model_copy(update={"preprocessing": preprocessing}).save(tmp_path)
        card = ModelCard.load(tmp_path)
        assert getattr(card, kind) == preprocessing
        for other in kinds.keys() - {kind}:
            with pytest.raises(ModelError, match=r"resnet18 .* is not a"):
                getattr(card, other)
    path = tmp_path / "modelcard.json"
    path.write_text(path.read_text().replace("lanczos3", "lanczos4"))
    with pytest.raises(ModelError, match=r"modelcard\.json: preprocessing\.interpolation: .*lanczos5"):
        ModelCard.load(tmp_path)


def test_binary_models_say_so() -> None:
    assert not CARD.binary
    assert CARD.model_copy(update={"hyperparameters": {"binary_mode": True}}).binary
