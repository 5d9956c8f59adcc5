"""Each family of keras.applications: what is served is what was trained, from the bytes of picture files on."""

import json
from pathlib import Path

import pytest
from pictures import digits_dataset
from sklearn.metrics import log_loss

from kubesight.modelcard import SAVED_MODEL_FOLDER, ModelCard
from kubesight.models.keras.apps import APPS

tensorflow = pytest.importorskip("tensorflow", reason="needs the extra kubesight[tensorflow]")

FAMILIES = [
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_served_graph_is_the_training_graph(name: str, tmp_path: Path) -> None:
    from kubesight.train.trainer import train

    parts = [digits_dataset(tmp_path / part, start, 12, classes=3) for part, start in (("a", 0), ("b", 12))]
    settings = {
        "number_of_epochs": 1, "training_batch_size": 6, "label_smoothing": 0, "learning_rate": 1e-4,
        "image_size": APPS[name].minimum,
    }  # fmt: skip
    card = train(
        parts[0].path, parts[1].path, tmp_path / "run", model_name=f"keras/{name}", weights="none",
        hyperparameters=settings, device="cpu", metrics_file=tmp_path / "metrics.log",
    )  # fmt: skip
    assert card is not None
    assert card.stretch.scaling == APPS[name].scaling

    rows = list(parts[1].rows())
    files = tensorflow.constant([Path(row.image_url).read_bytes() for row in rows])
    served = tensorflow.saved_model.load(str(tmp_path / "run" / "model" / SAVED_MODEL_FOLDER))
    answers = served.signatures["serving_default"](files)["probabilities"].numpy()
    now = log_loss([row.label for row in rows], answers.astype(float), labels=card.classes)

    logged = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["validation_loss"]
    assert now == pytest.approx(logged, rel=1e-4)
    assert ModelCard.load(tmp_path / "run" / "model").metrics["validation_loss"] == logged
