"""The ready manifests: each Experiment is what `kubesight experiment` prints, and every overlay can be applied."""

import copy
import functools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment
from typer.testing import CliRunner

from kubesight.cli.tune import register
from kubesight.tune.katib.experiment import read_experiment

KATIB = Path(__file__).parents[2] / "manifests" / "katib"
BASE = KATIB / "base"
JOBS = sorted((KATIB / "jobs").glob("*.yaml"), key=lambda path: path.stem)
OVERLAYS = ["aks", "bare-metal", "eks", "gke"]

POOLS: dict[str, tuple[dict[str, str], list[dict[str, str]]]] = {
    "gke": (
        {"cloud.google.com/gke-accelerator": "nvidia-l4"},
        [{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"}],
    ),
    "aks": (
        {"kubernetes.azure.com/accelerator": "nvidia"},
        [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
    ),
    "eks": (
        {"eks.amazonaws.com/instance-gpu-manufacturer": "nvidia"},
        [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    ),
    "bare-metal": (
        {"nvidia.com/gpu.present": "true"},
        [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    ),
}


def printed(job_file: Path) -> str:
    """What `kubesight experiment` prints for data on the volume that the job names."""
    app = typer.Typer()
    register(app)
    data = ["--training-data", "/data/train", "--validation-data", "/data/validation"]
    result = CliRunner().invoke(app, ["experiment", str(job_file), *data], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(autouse=True)
def _default_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBESIGHT_IMAGE_REGISTRY", raising=False)


@functools.cache
def kustomized(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr
    return list(yaml.safe_load_all(result.stdout))


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]


def test_every_task_has_one_and_sagemakers_table_too() -> None:
    assert [job.stem for job in JOBS] == [
        "image-classification",
        "image-classification-multilabel",
        "image-classification-sagemaker",
        "instance-segmentation",
        "object-detection",
    ]
    assert sorted(path.name for path in BASE.glob("*.yaml")) == sorted(
        [*(job.name for job in JOBS), "kustomization.yaml"]
    )


@pytest.mark.parametrize("job_file", JOBS, ids=lambda path: path.stem)
def test_experiments_are_what_the_command_prints(job_file: Path) -> None:
    """When this fails after a change of the renderer, write the files again with `kubesight experiment`."""
    written = BASE / job_file.name
    assert written.read_text(encoding="utf-8") == printed(job_file)
    assert read_experiment(written).name == job_file.stem


@pytest.mark.parametrize("name", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_kubectl_renders_them(name: str) -> None:
    documents = kustomized(KATIB / name)
    assert sorted(each["metadata"]["name"] for each in documents) == [job.stem for job in JOBS]
    for document in documents:
        assert document["kind"] == "Experiment"
        assert V1beta1Experiment.from_dict(json.loads(json.dumps(document))).to_dict() == document  # type: ignore[union-attr]
        read_experiment(document)
    # What `kubectl apply -k ... -l kubesight/task=...,kubesight/framework=...` chooses one by.
    labels = [(each["metadata"]["labels"], each["metadata"]["name"]) for each in documents]
    assert sorted((found["kubesight/task"], found["kubesight/framework"], name) for found, name in labels) == [
        ("image_classification", "tensorflow", "image-classification-sagemaker"),
        ("image_classification", "torch", "image-classification"),
        ("image_classification_multilabel", "torch", "image-classification-multilabel"),
        ("image_instance_segmentation", "torch", "instance-segmentation"),
        ("image_object_detection", "torch", "object-detection"),
    ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_send_trials_to_the_gpu_pool(name: str) -> None:
    base = {each["metadata"]["name"]: each for each in kustomized(KATIB / "base")}
    for document in copy.deepcopy(kustomized(KATIB / "overlays" / name)):
        selector, tolerations = POOLS[name]
        pod = pod_of(document)
        assert pod.pop("nodeSelector") == selector
        assert pod.pop("tolerations") == tolerations
        assert document["metadata"].pop("namespace") == "kubeflow-user-example-com"
        # Nothing else differs.
        assert document == base[document["metadata"]["name"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_namespace_image_and_claim_are_one_line_each(name: str, tmp_path: Path) -> None:
    """What README says to change, changed."""
    shutil.copytree(KATIB, tmp_path / "katib")
    file = tmp_path / "katib" / "overlays" / name / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    for old, new in [
        (r"^namespace: .*$", "namespace: my-team"),
        (r"newName: .*(kubesight-\w+)$", r"newName: registry.example.org/\1"),
        (r"newTag: .*$", 'newTag: "7"'),
        (r"value: kubesight-data$", "value: my-pictures"),
    ]:
        text, count = re.subn(old, new, text, flags=re.MULTILINE)
        assert count == (2 if old.startswith("new") else 1)
    file.write_text(text, encoding="utf-8")
    for document in kustomized(file.parent):
        assert document["metadata"]["namespace"] == "my-team"
        pod = pod_of(document)
        framework = document["metadata"]["labels"]["kubesight/framework"]
        assert pod["containers"][0]["image"] == f"registry.example.org/kubesight-{framework}:7"
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume]
        assert claims == ["my-pictures"]
