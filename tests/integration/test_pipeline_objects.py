"""`kubesight run` on objects: the whole pipeline in processes of its own, for a job with masks."""

import json
import subprocess
import sys
from pathlib import Path

from pictures import digit_objects_dataset

from kubesight.dataset import Task
from kubesight.modelcard import ModelCard

JOB = """
task: image_instance_segmentation
training_data: train/data
validation_data: validation/data
training_parameters:
  model_name: maskrcnn_timm/test_efficientnet
  number_of_epochs: 1
  min_size: 96
  box_detections_per_image: 10
kubesight:
  source: {format: jsonl}
  model: {weights: none}
"""


def run(folder: Path) -> Path:
    digit_objects_dataset(folder / "train", 0, 6, Task.SEGMENTATION, background=1)
    digit_objects_dataset(folder / "validation", 100, 4, Task.SEGMENTATION)
    (folder / "job.yaml").write_text(JOB)
    command = [sys.executable, "-m", "kubesight.cli.main", "run", str(folder / "job.yaml"), "--output", "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mean_average_precision" in done.stdout
    return folder / "out"


def test_a_job_with_masks_is_trained_judged_exported_and_answers(tmp_path: Path) -> None:
    out = run(tmp_path)
    summary = json.loads((out / "evaluation" / "metrics.json").read_text())
    card = ModelCard.load(out / "model")
    assert summary["metrics"]["mean_average_precision"] == card.metrics["mean_average_precision"]
    assert {"coco.AP", "coco.box.AP", "voc.mAP"} <= summary["metrics"].keys()
    assert summary["confusion_matrix"]["classes"] == [*card.classes, "(background)"]
    assert "<svg" in (out / "evaluation" / "report.html").read_text()
    assert card.onnx is not None
    assert (out / "model" / "model.onnx").is_file()
    picture = next((out.parent / "validation" / "pictures").iterdir())
    command = [sys.executable, "-m", "kubesight.cli.main", "predict", "--model", str(out / "model"), str(picture)]
    for backend in ("torch", "onnx"):
        arguments = ["--backend", backend, "--box-score-threshold", "0"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert 0 < len(answer["boxes"]) <= 10
        assert {"box", "label", "score", "polygon"} <= answer["boxes"][0].keys()
