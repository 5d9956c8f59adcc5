"""Experiments in the manner of Katib's examples run here with nothing but the container's command replaced."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.runner import run_sweep

FOLDER = Path(__file__).parents[1] / "experiments"

# Prints every wanted metric, as a number that is made of its arguments.
TRAINING = 'v=$(printf %s "$*" | cksum | cut -c1-3); for m in METRICS; do echo LINE; done > FILE'
LINES = {"TEXT": "$m=0.$v", "JSON": r"{\"$m\": \"0.$v\"}"}


def document(name: str) -> dict[str, Any]:
    """An example whose training is a script that gets the same arguments."""
    text = (FOLDER / f"{name}.yaml").read_text()
    (found,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "Experiment")
    objective = found["spec"]["objective"]
    metrics = " ".join([objective["objectiveMetricName"], *objective.get("additionalMetricNames", [])])
    collector = found["spec"].get("metricsCollectorSpec", {}).get("source", {}).get("fileSystemPath", {})
    script = TRAINING.replace("METRICS", metrics).replace("LINE", LINES[collector.get("format", "TEXT")])
    script = script.replace("FILE", collector.get("path", "/dev/stdout"))
    for container in containers(found["spec"]["trialTemplate"]["trialSpec"]):
        words = [*container.pop("command"), *container.pop("args", [])]
        container["command"] = ["sh", "-c", script, *words]
    if name != "hyperband":  # whose brackets need as many as they are
        found["spec"] |= {"maxTrialCount": 6, "parallelTrialCount": 3}
    objective.pop("goal", None)
    return found


def containers(value: Any) -> list[dict[str, Any]]:
    """All mappings with a command, at any depth."""
    if isinstance(value, list):
        return [found for each in value for found in containers(each)]
    if not isinstance(value, dict):
        return []
    return ([value] if "command" in value else []) + [found for each in value.values() for found in containers(each)]


@pytest.mark.parametrize(
    "name",
    ["random", "grid", "tpe", "multivariate-tpe", "hyperband", "bayesianoptimization", "sobol", "cmaes",
     "medianstop", "distributions", "metadata", "pytorchjob", "trainjob"],
)  # fmt: skip
def test_runs_here(name: str, tmp_path: Path) -> None:
    experiment = read_experiment(document(name))
    result = run_sweep(experiment, tmp_path)
    assert result.finished
    assert {trial.condition for trial in result.trials} == {"Succeeded"}
    assert len(result.trials) == experiment.max_trials or result.reason == "ExperimentSuggestionEndReached"
    assert result.best is not None
    best = max if experiment.maximize else min
    assert result.best.value == best(trial.value for trial in result.trials if trial.value is not None)
    for trial in result.trials:
        assert set(trial.assignments) == {parameter.name for parameter in experiment.parameters}
        assert re.fullmatch(rf"{experiment.name}-[a-z0-9]{{8}}", trial.name)
