"""Experiments for tests: real ones, with a shell script for a training."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RUN = """
import json, logging, sys
from pathlib import Path
from kubesight.errors import KubesightError
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.runner import run_sweep

logging.basicConfig()
try:
    result = run_sweep(read_experiment(json.loads(sys.argv[1])), Path(sys.argv[2]))
except KubesightError as error:
    sys.exit(f"error: {error}")
print(result.reason, result.finished)
"""


def experiment(
    script: str,
    *,
    values: Sequence[str] | None = None,
    parallel: int = 2,
    trials: int | None = None,
    failures: int | None = None,
    goal: float | None = None,
    maximize: bool = True,
    stop: tuple[str, Mapping[str, str]] | None = None,
    job: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """An Experiment whose trials run `script`; `${x}` in it is the trial's value.

    Args:
        script: for `sh`; a dollar before a dollar or a bracket is Kubernetes's, so `$$$$` is the shell's number.
        values: of the parameter x, tried in this order by a grid; None: random numbers from 0 to 1.
        parallel, trials, failures: the counts.
        goal, maximize: of the objective `accuracy`.
        stop: early stopping's name and settings.
        job: more fields of the Job's spec.
        limits: of the annotation.
        spec: more fields of the Experiment's spec.
    """
    space = (
        {"parameterType": "double", "feasibleSpace": {"min": "0", "max": "1"}}
        if values is None
        else {"parameterType": "categorical", "feasibleSpace": {"list": list(values)}}
    )
    container = {
        "name": "training",
        "image": "example.com/training:1",
        "command": ["sh", "-c", script.replace("${x}", "${trialParameters.x}") + " #${trialParameters.x}"],
    }
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata: dict[str, Any] = {"name": "demo"}
    if limits:
        metadata["annotations"] = {"kubesight/limits": json.dumps(limits)}
    count = trials if trials is not None else len(values) if values else None
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": metadata,
        "spec": {
            "objective": {
                "type": "maximize" if maximize else "minimize",
                "objectiveMetricName": "accuracy",
                **({"goal": goal} if goal is not None else {}),
            },
            "algorithm": {"algorithmName": "grid" if values else "random"},
            **({"earlyStopping": _algorithm(*stop)} if stop else {}),
            "parallelTrialCount": parallel,
            **({"maxTrialCount": count} if count is not None else {}),
            **({"maxFailedTrialCount": failures} if failures is not None else {}),
            "parameters": [{"name": "x", **space}],
            "trialTemplate": {
                "primaryContainerName": "training",
                "retain": True,
                "trialParameters": [{"name": "x", "reference": "x"}],
                "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": pod, **(job or {})}},
            },
            **spec,
        },
    }


def _algorithm(name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    return {"algorithmName": name, "algorithmSettings": [{"name": key, "value": settings[key]} for key in settings]}


def start_runner(document: Mapping[str, Any], output: Path) -> "subprocess.Popen[str]":
    """A runner of its own, to be interrupted or killed."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(document), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to one process, not to what it started."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
