"""The components on a Keras model: trained, judged and exported, each fed with the artifacts of those before."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from kfp import dsl
from pictures import digits_dataset

from kubesight.components.evaluate_model import evaluate_model
from kubesight.components.export_model import export_model
from kubesight.components.train_keras_model import train_keras_model
from kubesight.errors import JobError
from kubesight.modelcard import ModelCard

NAME = "keras/mobilenet-v2-035-96"
SMALL = {"epochs": 1, "batch_size": 16, "train_only_top_layer": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dsl.Dataset]:
    """Digits of two classes: 24 to train on, 12 to validate with, none to test with."""
    root = tmp_path_factory.mktemp("digits")
    made = {}
    for name, start, count in (("training_data", 0, 24), ("validation_data", 24, 12)):
        made[name] = dsl.Dataset(name=name, uri=str(digits_dataset(root / name, start, count, classes=2).path))
    return made


def outputs(root: Path, **kinds: type) -> dict[str, Any]:
    root.mkdir()
    return {name: kind(name=name, uri=str(root / name)) for name, kind in kinds.items()}


TRAINED = {"model": dsl.Model, "metrics": dsl.Metrics, "log": dsl.Markdown}


@pytest.fixture(scope="module")
def trained(data: dict[str, dsl.Dataset], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made = outputs(tmp_path_factory.mktemp("trained") / "out", **TRAINED)
    train_keras_model.python_func(
        **data, **made, model_name=NAME, hyperparameters=json.dumps(SMALL), weights="none", training_folder="",
    )  # fmt: skip
    return made


@pytest.mark.slow
def test_training_gives_a_model_folder_its_metrics_and_a_log(trained: dict[str, Any]) -> None:
    folder = Path(trained["model"].path)
    card = ModelCard.load(folder)
    assert (card.framework, card.model_name) == ("tensorflow", NAME)
    assert trained["model"].framework == "tensorflow"
    facts = {"framework": "tensorflow", "task": "image_classification", "model_name": NAME, "classes": 2}
    assert trained["model"].metadata == facts
    assert trained["metrics"].metadata == pytest.approx(card.metrics)
    assert "| training_batch_size | 16 |" in Path(trained["log"].path).read_text(encoding="utf-8")
    assert (folder / "saved_model" / "saved_model.pb").exists()
    served = tf.saved_model.load(folder / "saved_model").signatures["serving_default"]
    assert list(served.structured_outputs) == ["probabilities"]


@pytest.mark.slow
def test_the_model_is_judged_and_exported(
    trained: dict[str, Any], data: dict[str, dsl.Dataset], tmp_path: Path
) -> None:
    empty = dsl.Dataset(uri=str(digits_dataset(tmp_path / "none", 0, 0, classes=2).path))
    judged = outputs(
        tmp_path / "judged", evaluation=dsl.Artifact, metrics=dsl.Metrics, classification=dsl.ClassificationMetrics,
        report=dsl.HTML,
    )  # fmt: skip
    evaluate_model.python_func(
        model=trained["model"], validation_data=data["validation_data"], test_data=empty, **judged
    )
    # The folder that is shipped is the one that was scored.
    assert judged["metrics"].metadata["accuracy"] == pytest.approx(trained["metrics"].metadata["accuracy"])
    exported = outputs(tmp_path / "exported", exported=dsl.Model, metrics=dsl.Metrics)
    export_model.python_func(model=trained["model"], data=data["validation_data"], samples=4, **exported)
    assert exported["metrics"].metadata["agreement"] == 1.0
    assert exported["exported"].framework == "tensorflow"
    card = ModelCard.load(exported["exported"].path)
    assert card.onnx is not None
    assert card.onnx["samples"] == 4


def test_settings_must_be_an_object(data: dict[str, dsl.Dataset], tmp_path: Path) -> None:
    with pytest.raises(JobError, match="hyperparameters: not JSON"):
        train_keras_model.python_func(**data, **outputs(tmp_path / "out", **TRAINED), hyperparameters="epochs=3")


PROGRAM = """
import sys
class Hidden:  # as if they were not installed
    def find_spec(name, *_):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden)
from kfp import dsl
from kubesight.components.{component} import {component} as component
folder = sys.argv[3]
outputs = dict(model=dsl.Model(uri=folder + "/m"), metrics=dsl.Metrics(uri=folder), log=dsl.Markdown(uri=folder))
data = dict(training_data=dsl.Dataset(uri=sys.argv[1]), validation_data=dsl.Dataset(uri=sys.argv[2]))
component.python_func(**data, **outputs, model_name="{model_name}")
"""


@pytest.mark.parametrize(
    ("component", "model_name", "framework", "hidden", "image"),
    [
        ("train_model", "keras/MobileNetV2", "TensorFlow", ("tensorflow", "keras"), "kubesight-tensorflow"),
        ("train_keras_model", "resnet18", "torch", ("torch", "torchvision", "timm"), "kubesight-torch"),
    ],
)
def test_an_image_without_the_framework_is_told(
    component: str, model_name: str, framework: str, hidden: tuple[str, ...], image: str, data: dict[str, dsl.Dataset],
    tmp_path: Path,
) -> None:  # fmt: skip
    program = PROGRAM.format(component=component, model_name=model_name, hidden=hidden)
    places = [data["training_data"].path, data["validation_data"].path, str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", program, *places], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        f"kubesight.errors.ModelError: model_name: {model_name} is trained with {framework}, which this image has not. "
        f"Run the step in the image {image}."
    )
