"""Sweeps of keras/* models: the trials' image, and one that mixes frameworks."""

from pathlib import Path
from typing import Any

import pytest
from rendering import PLACES

from kubesight.errors import JobError
from kubesight.images import image
from kubesight.job import load_job
from kubesight.job.plan import sweep_of
from kubesight.tune.katib.render import experiment_of

JOB = """task: image_classification
training_data: d
limits: {max_trials: 4}
"""
KERAS = "  - model_name: keras/MobileNetV2\n    learning_rate: uniform(0.001, 0.01)\n"
TORCH = "  - model_name: resnet18\n    learning_rate: uniform(0.001, 0.01)\n"


def render(tmp_path: Path, space: str, **options: Any) -> dict[str, Any]:
    path = tmp_path / "job.yaml"
    path.write_text(JOB + space)
    job = load_job(path)
    return experiment_of(sweep_of(job), resources=job.kubesight.resources, **PLACES, **options)


def image_of(document: dict[str, Any]) -> str:
    pod = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    return str(pod["containers"][0]["image"])


@pytest.mark.parametrize(
    ("space", "family"),
    [
        (f"search_space:\n{KERAS}", "tensorflow"),
        ("search_space: {model_name: 'choice(keras/VGG16, keras/mobilenet-v2-035-96)'}\n", "tensorflow"),
        ("search_space: {model_name: tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4, seed: randint(4)}\n",
         "tensorflow"),
        (f"search_space:\n{TORCH}", "torch"),
        ("", "torch"),
    ],
)  # fmt: skip
def test_trials_get_the_image_of_their_framework(tmp_path: Path, space: str, family: str) -> None:
    assert image_of(render(tmp_path, space)) == image(family)
    named = f"{space}kubesight: {{resources: {{image: 'registry.example.org/mine:1'}}}}\n"
    assert image_of(render(tmp_path, named)) == "registry.example.org/mine:1"


def test_frameworks_mix_on_this_machine_or_in_an_image_with_both(tmp_path: Path) -> None:
    mixed = f"search_space:\n{KERAS}{TORCH}"
    with pytest.raises(JobError, match="none of ours has both torch and TensorFlow") as error:
        render(tmp_path, mixed)
    assert "kubesight.resources.image" in str(error.value)
    assert len(render(tmp_path, mixed, here=True)["spec"]["parameters"]) == 3
    both = f"{mixed}kubesight: {{resources: {{image: 'registry.example.org/both:1'}}}}\n"
    assert image_of(render(tmp_path, both)) == "registry.example.org/both:1"


@pytest.mark.parametrize("spread", ["resources: {nodes: 2}", "sweep: {trial_kind: PyTorchJob}"])
def test_keras_models_train_on_one_machine(tmp_path: Path, spread: str) -> None:
    with pytest.raises(JobError, match=r"job\.yaml, line 7: keras/\* models train on the GPUs of one machine"):
        render(tmp_path, f"search_space:\n{KERAS}kubesight: {{{spread}}}\n")
    assert render(tmp_path, f"search_space:\n{TORCH}kubesight: {{{spread}}}\n")
