"""Components as functions, with real artifacts, on a tiny data set; and what they promise to KFP."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from kfp import dsl
from PIL import Image

import kubesight
import kubesight.components as components
from kubesight.components.check_settings import check_settings
from kubesight.components.convert_dataset import convert_dataset
from kubesight.components.evaluate_model import evaluate_model
from kubesight.components.export_model import export_model
from kubesight.components.split_dataset import split_dataset
from kubesight.components.train_keras_model import train_keras_model
from kubesight.components.train_model import train_model
from kubesight.components.tune_model import tune_model
from kubesight.components.validate_dataset import validate_dataset
from kubesight.dataset import Dataset
from kubesight.errors import DatasetError
from kubesight.modelcard import ModelCard

COMPONENTS = [
    *(check_settings, convert_dataset, validate_dataset, split_dataset, train_model, train_keras_model, tune_model),
    *(evaluate_model, export_model),
]
SMALL = {
    "number_of_epochs": 1,
    "training_batch_size": 8,
    "training_crop_size": 32,
    "validation_resize_size": 32,
    "validation_crop_size": 32,
    "number_of_workers": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 15 pictures: dark and light noise."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 155)):
        (root / name).mkdir()
        for number in range(15):
            pixels = rng.integers(low, low + 100, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def ran(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dsl.Artifact]:
    """The outputs of all six, each fed with the artifacts of those before."""
    root = tmp_path_factory.mktemp("artifacts")

    def new(kind: type, name: str) -> dsl.Artifact:
        (root / name).mkdir()
        return kind(name=name, uri=str(root / name / "out"))

    made = {
        "dataset": new(dsl.Dataset, "dataset"),
        **{name: new(dsl.Dataset, name) for name in ("train", "validation", "test")},
        **{name: new(dsl.Artifact, name) for name in ("checked", "evaluation")},
        **{name: new(dsl.HTML, name) for name in ("data_report", "report")},
        **{name: new(dsl.Metrics, name) for name in ("counts", "training", "scores", "agreement")},
        "classification": new(dsl.ClassificationMetrics, "classification"),
        "log": new(dsl.Markdown, "log"),
        **{name: new(dsl.Model, name) for name in ("model", "exported")},
    }
    convert_dataset.python_func(source=str(folder), dataset=made["dataset"], format="folder", data_version="v1")
    validate_dataset.python_func(
        dataset=made["dataset"], validation=made["checked"], report=made["data_report"], metrics=made["counts"]
    )
    split_dataset.python_func(
        dataset=made["dataset"], train=made["train"], validation=made["validation"], test=made["test"]
    )
    train_model.python_func(
        training_data=made["train"], validation_data=made["validation"], model=made["model"], metrics=made["training"],
        log=made["log"], model_name="timm/resnet10t", hyperparameters=json.dumps(SMALL), weights="none",
    )  # fmt: skip
    evaluate_model.python_func(
        model=made["model"], validation_data=made["validation"], test_data=made["test"],
        evaluation=made["evaluation"], metrics=made["scores"], classification=made["classification"],
        report=made["report"],
    )  # fmt: skip
    export_model.python_func(
        model=made["model"], data=made["validation"], exported=made["exported"], metrics=made["agreement"], samples=4
    )
    return made


def test_convert_writes_a_data_set_and_says_what_it_is(ran: dict[str, dsl.Artifact]) -> None:
    data = Dataset(ran["dataset"].path)
    assert len(data) == 30
    assert ran["dataset"].metadata == {
        "task": "image_classification",
        "images": 30,
        "classes": 2,
        "content_hash": data.info.content_hash,
        "data_version": "v1",
    }


def test_convert_takes_further_arguments_from_json(folder: Path, tmp_path: Path) -> None:
    (folder / "dark" / "broken.png").write_bytes(b"no picture")
    try:
        with pytest.raises(DatasetError, match=r"broken\.png"):
            convert_dataset.python_func(
                source=str(folder), dataset=dsl.Dataset(uri=str(tmp_path / "out")), conversion='{"strict": true}'
            )
        assert not (tmp_path / "out").exists()
    finally:
        (folder / "dark" / "broken.png").unlink()


def test_validate_shows_its_page_and_counts(ran: dict[str, dsl.Artifact]) -> None:
    assert ran["counts"].metadata["images"] == 30
    assert ran["counts"].metadata["unreadable_images"] == 0
    page = Path(ran["data_report"].path).read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert (Path(ran["checked"].path) / "report.json").exists()


def test_split_gives_three_data_sets(ran: dict[str, dsl.Artifact]) -> None:
    assert [len(Dataset(ran[part].path)) for part in ("train", "validation", "test")] == [24, 6, 0]
    assert ran["validation"].metadata["part"] == "validation"
    assert ran["train"].metadata["images"] == 24


def test_train_gives_a_model_folder_its_metrics_and_a_log(ran: dict[str, dsl.Artifact]) -> None:
    card = ModelCard.load(ran["model"].path)
    assert card.classes == ["dark", "light"]
    assert ran["training"].metadata == pytest.approx(card.metrics)
    assert ran["model"].metadata["model_name"] == "timm/resnet10t"
    assert ran["model"].framework == "torch"
    log = Path(ran["log"].path).read_text(encoding="utf-8")
    assert "| training_crop_size | 32 |" in log
    assert re.search(r"^\| epoch .*accuracy", log, re.MULTILINE)


def test_evaluate_takes_the_validation_part_when_there_is_no_test_part(ran: dict[str, dsl.Artifact]) -> None:
    summary = json.loads((Path(ran["evaluation"].path) / "metrics.json").read_text())
    assert summary["data"]["part"] == "validation"
    # The folder that is shipped is the one that was scored.
    assert ran["scores"].metadata["accuracy"] == pytest.approx(ran["training"].metadata["accuracy"])
    matrix = ran["classification"].metadata["confusionMatrix"]
    assert sum(sum(row["row"]) for row in matrix["rows"]) == 6
    points = ran["classification"].metadata["confidenceMetrics"]
    assert all(np.isfinite(list(point.values())).all() for point in points)


def test_evaluate_prefers_the_test_part(ran: dict[str, dsl.Artifact], tmp_path: Path) -> None:
    evaluate_model.python_func(
        model=ran["model"], validation_data=ran["validation"], test_data=ran["train"],
        evaluation=dsl.Artifact(uri=str(tmp_path / "evaluation")), metrics=dsl.Metrics(uri=str(tmp_path / "m")),
        classification=dsl.ClassificationMetrics(uri=str(tmp_path / "c")), report=dsl.HTML(uri=str(tmp_path / "r")),
    )  # fmt: skip
    summary = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert (summary["data"]["part"], summary["images"]) == ("train", 24)


def test_export_leaves_the_trained_model_alone(ran: dict[str, dsl.Artifact]) -> None:
    assert (Path(ran["exported"].path) / "model.onnx").exists()
    assert not (Path(ran["model"].path) / "model.onnx").exists()
    assert ModelCard.load(ran["exported"].path).onnx is not None
    assert ran["agreement"].metadata["agreement"] == 1.0
    assert ran["exported"].metadata["model_name"] == "timm/resnet10t"


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_components_are_thin_described_and_ascii(component: dsl.base_component.BaseComponent) -> None:
    module = Path(component.python_func.__code__.co_filename)
    source = module.read_text(encoding="utf-8")
    assert source.isascii(), "some deployments store compiled pipelines in columns that take no other characters"
    body = source[source.rindex('    """') :].splitlines()[1:]
    assert len([line for line in body if line.strip()]) <= 30
    spec = component.component_spec
    container = spec.implementation.container
    assert container.image == (components.KERAS_IMAGE if component is train_keras_model else components.IMAGE)
    assert "pip install" not in " ".join(container.command)
    readme = (module.parent / "README.md").read_text(encoding="utf-8")
    for name in [*spec.inputs, *spec.outputs]:
        assert f"`{name}`" in readme, f"{name} is missing in the README"


def test_both_trainings_have_the_same_inputs_and_outputs() -> None:
    specs = [component.component_spec for component in (train_model, train_keras_model)]
    assert specs[0].outputs == specs[1].outputs
    assert specs[0].inputs.keys() == specs[1].inputs.keys()
    differing = {name for name, each in specs[0].inputs.items() if each != specs[1].inputs[name]}
    assert differing == {"model_name"}, "its default"


def test_image_has_the_version_and_the_named_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBESIGHT_IMAGE_REGISTRY", raising=False)
    assert components.image() == f"ghcr.io/kubesight/kubesight-torch:{kubesight.__version__}"
    monkeypatch.setenv("KUBESIGHT_IMAGE_REGISTRY", "registry.example.org:5000/team/")
    assert components.image("serve") == f"registry.example.org:5000/team/kubesight-serve:{kubesight.__version__}"
