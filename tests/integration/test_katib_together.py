"""Trials of several processes: the command of a PyTorchJob, started as the operator starts it."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kubesight.convert import convert
from kubesight.job.sections import Resources
from kubesight.split import split
from kubesight.tune.katib.trial import trial_job


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two classes of noise, parted."""
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 155)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(low, low + 100, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    convert(tmp_path / "pictures", tmp_path / "dataset")
    split(tmp_path / "dataset", tmp_path / "parts", split_ratio=0.2)
    return tmp_path / "parts"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_two_nodes_of_a_pytorch_job_train_as_one_and_report_once(parts: Path, tmp_path: Path) -> None:
    """Two pods on one machine, with the variables that the training operator sets in each (envvar.go)."""
    words = [
        *("kubesight", "train", f"--training-data={parts / 'train'}", f"--validation-data={parts / 'validation'}"),
        *(f"--output={tmp_path / 'output'}", f"--metrics-file={tmp_path / 'metrics.log'}", "--weights=none"),
        *("--model-name=timm/test_resnet", "--number-of-epochs=2", "--number-of-workers=0", "--training-batch-size=4"),
        *("--training-crop-size=32", "--validation-crop-size=32", "--validation-resize-size=32", "--device=cpu"),
    ]
    resources = Resources.model_validate({"nodes": 2, "gpus": "1"})
    spec = trial_job(shlex.join(words), "auto", resources, output=str(tmp_path), deadline_seconds=600).spec
    master, worker = (
        spec["spec"]["pytorchReplicaSpecs"][name]["template"]["spec"]["containers"][0]["command"]
        for name in ("Master", "Worker")
    )
    assert master == worker
    port = str(_free_port())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shared = {"PATH": path, "OMP_NUM_THREADS": "1", "PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1"}
    shared |= {"PET_MASTER_PORT": port, "PET_NPROC_PER_NODE": spec["spec"]["nprocPerNode"], "MASTER_PORT": port}
    shared |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    pods = [
        subprocess.Popen(master, env={**os.environ, **shared, "RANK": rank, "PET_NODE_RANK": rank}, cwd=tmp_path)
        for rank in ("0", "1")
    ]
    try:
        assert [pod.wait(240) for pod in pods] == [0, 0]
    finally:
        for pod in pods:
            pod.kill()
    lines = (tmp_path / "metrics.log").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["epoch=0", "epoch=1"]
    assert (tmp_path / "output" / "model" / "modelcard.json").is_file()
