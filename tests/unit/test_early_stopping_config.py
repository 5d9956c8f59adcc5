"""Our algorithms in Katib's configuration."""

import subprocess
import sys

import pytest
import yaml

from kubesight.errors import ClusterError
from kubesight.tune.early_stopping.config import KEY, algorithms, with_algorithms

CONFIG = """\
init:
  controller:
    trialResources: [Job.v1.batch]
runtime:
  suggestions:
    - {algorithmName: random, image: ghcr.io/kubeflow/katib/suggestion-hyperopt:v0.19.0}
  earlyStoppings:
    - {algorithmName: medianstop, image: ghcr.io/kubeflow/katib/earlystopping-medianstop:v0.19.0}
    - {algorithmName: bandit, image: an/older:one}
"""


def config_map(text=CONFIG):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "katib-config", "namespace": "kubeflow", "uid": "1", "resourceVersion": "9"},
        "data": {KEY: text, "other": "kept"},
    }


def test_katibs_configuration_gains_our_algorithms_and_keeps_the_rest():
    changed = with_algorithms(config_map(), "registry.example.com/es:1")
    assert changed["metadata"] == {"name": "katib-config", "namespace": "kubeflow"}
    assert changed["data"]["other"] == "kept"
    before, after = yaml.safe_load(CONFIG), yaml.safe_load(changed["data"][KEY])
    assert after["init"] == before["init"]
    assert after["runtime"]["suggestions"] == before["runtime"]["suggestions"]
    names = [each["algorithmName"] for each in after["runtime"]["earlyStoppings"]]
    assert names == ["medianstop", "bandit", "median", "truncation", "asha"]
    assert {each["image"] for each in after["runtime"]["earlyStoppings"][1:]} == {"registry.example.com/es:1"}
    assert with_algorithms(changed, "registry.example.com/es:1") == changed


@pytest.mark.parametrize("text", ["", "init: {}", "- a list", "runtime: 1"])
def test_something_else_is_not_taken_for_katibs_configuration(text):
    with pytest.raises(ClusterError, match="runtime section"):
        with_algorithms(config_map(text))


def test_the_command_changes_what_kubectl_prints():
    command = [sys.executable, "-m", "kubesight.tune.early_stopping.config", "--image", "a/b:1"]
    done = subprocess.run(command, input=yaml.safe_dump(config_map()), capture_output=True, text=True, check=True)
    assert yaml.safe_load(done.stdout) == with_algorithms(config_map(), "a/b:1")
    assert "katib-config.yaml: |" in done.stdout
    failed = subprocess.run(command, input="nothing", capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "no ConfigMap" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_manifest_is_what_the_command_adds(pytestconfig):
    kept = yaml.safe_load((pytestconfig.rootpath / "manifests/early-stopping/algorithms.yaml").read_text())
    assert kept == {"earlyStoppings": algorithms()}
