"""The model card: what is saved is what is loaded, and damage is named by its field."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.modelcard import CropPreprocessing, ModelCard

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
