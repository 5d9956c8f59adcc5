"""Folders of sweeps that never ran: records as realistic as trainings', and the same for every run of a test."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import yaml

from kubesight.sweep.policies import Bandit
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.limits import Ending
from kubesight.tune.records import TRIALS_FILE, Trial, append_record, trial_name
from kubesight.tune.status import status_of

EPOCHS = 12
START = datetime(2026, 1, 2, 15, 4, 5, tzinfo=UTC)

TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"""


def parameter(name, kind, **space):
    return {"name": name, "parameterType": kind, "feasibleSpace": {k: v for k, v in space.items() if v is not None}}


def log_range(name, low, high):
    return parameter(name, "double", min=str(low), max=str(high), distribution="logUniform")


def job_template(command, names):
    references = [{"name": name, "reference": name} for name in names]
    references.append({"name": "trial", "reference": "${trialSpec.Name}"})
    container = {"name": "training", "image": "kubesight:1", "command": ["sh", "-c", command]}
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "primaryContainerName": "training",
        "retain": True,
        "trialParameters": references,
        "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": pod}},
    }


def experiment(name, parameters, command, *, metric="accuracy", kind="maximize", trials=24, conditions=None):
    document = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {
            "objective": {"type": kind, "objectiveMetricName": metric},
            "algorithm": {"algorithmName": "random", "algorithmSettings": [{"name": "random_state", "value": "7"}]},
            "parallelTrialCount": min(2, trials),
            "maxTrialCount": trials,
            "parameters": parameters,
            "trialTemplate": job_template(command, [each["name"] for each in parameters]),
        },
    }
    if conditions:
        document["metadata"]["annotations"] = {"kubesight/conditions": orjson.dumps(conditions).decode()}
    return document


def two_groups(trials=24):
    """Two models, one with a setting that the other does not have; the parameters are masked."""
    words = {
        "resnet18": "model_name=resnet18 learning_rate=${trialParameters.resnet18_learning_rate} "
        "optimizer=${trialParameters.resnet18_optimizer} layers_to_freeze=${trialParameters.resnet18_layers_to_freeze}",
        "mobilenetv2": "model_name=mobilenetv2 learning_rate=${trialParameters.mobilenetv2_learning_rate} "
        "optimizer=${trialParameters.mobilenetv2_optimizer}",
    }
    command = (
        "kubesight train --training-data /data/train --validation-data /data/validation "
        "--output '/out/${trialParameters.trial}' --primary-metric accuracy --metrics-file /var/log/katib/metrics.log "
        f'--number-of-epochs {EPOCHS} --training-batch-size 16 --early-termination \'{{"type":"bandit"}}\' '
        + " ".join(f'--alternative "{text}"' for text in words.values())
        + " --choose ${trialParameters.group}"
    )
    optimizers = ["sgd", "adam", "adamw"]
    parameters = [
        parameter("group", "categorical", list=["0", "1"]),
        log_range("resnet18_learning_rate", 0.0001, 0.1),
        parameter("resnet18_optimizer", "categorical", list=optimizers),
        parameter("resnet18_layers_to_freeze", "int", min="0", max="4", step="1"),
        log_range("mobilenetv2_learning_rate", 0.0005, 0.05),
        parameter("mobilenetv2_optimizer", "categorical", list=optimizers),
    ]
    conditions = {each["name"]: ["0" if "resnet18" in each["name"] else "1"] for each in parameters[1:]}
    return experiment("grocery", parameters, command, trials=trials, conditions=conditions)


def mnist(metric="loss", kind="minimize", trials=12):
    """An Experiment of somebody else's, after Katib's own example."""
    parameters = [
        parameter("lr", "double", min="0.01", max="0.05"),
        parameter("momentum", "double", min="0.5", max="0.9"),
    ]
    command = "python3 mnist.py --epochs=4 --lr=${trialParameters.lr} --momentum=${trialParameters.momentum} && true"
    document = experiment("random", parameters, command, metric=metric, kind=kind, trials=trials)
    template = document["spec"]["trialTemplate"]
    template["trialParameters"] = template["trialParameters"][:-1]
    return document


def write_sweep(folder, document, trials, *, ending=True):
    """The files of a sweep with these trials; those that are still running are in its status only."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    reason = Ending("ExperimentMaxTrialsReached", "all trials have ended") if ending else None
    now = max((trial.ended for trial in trials if trial.ended), default=stamp(0))
    status = status_of(read_experiment(document), trials, started=stamp(0), now=now, ending=reason)
    (folder / "status.json").write_bytes(orjson.dumps(status))
    for trial in trials:
        if trial.has_ended:
            append_record(folder / TRIALS_FILE, trial)
    return folder


def stamp(seconds):
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def grocery(folder: Path, trials=24, *, failures=2) -> Path:
    """A sweep over two models: best near a rate of 0.004, adamw helps a little, frozen layers cost, a bandit stops."""
    random = np.random.default_rng(3)
    policy = Bandit(type="bandit", slack_factor=0.15, evaluation_interval=2, delay_evaluation=4)
    done, curves, clock = [], {}, [0.0, 0.0]
    for number in range(trials):
        drawn = draw(random)
        trial = Trial(trial_name("grocery", number), number, drawn)
        trial.folder = str(folder / "trials" / trial.name)
        lane = int(np.argmin(clock))
        trial.started = stamp(clock[lane])
        if number in (5, 11)[:failures]:
            fail(trial, Path(trial.folder))
        else:
            train(trial, random, policy, curves)
        clock[lane] += trial.seconds
        trial.ended = stamp(clock[lane])
        done.append(trial)
    write_sweep(folder, two_groups(max(trials, 1)), done)
    good = [trial for trial in done if trial.value is not None]
    for trial in good:
        Path(trial.folder, "model" if trial.condition == "Succeeded" else ".").mkdir(parents=True, exist_ok=True)
        Path(trial.folder, "stdout.log").write_text(f"epoch {trial.epochs} done\n")
    return folder


def draw(random):
    optimizers = ["sgd", "adam", "adamw"]
    return {
        "group": str(random.integers(2)),
        "resnet18_learning_rate": repr(float(10 ** random.uniform(-4, -1))),
        "resnet18_optimizer": str(random.choice(optimizers)),
        "resnet18_layers_to_freeze": str(random.integers(5)),
        "mobilenetv2_learning_rate": repr(float(10 ** random.uniform(np.log10(0.0005), np.log10(0.05)))),
        "mobilenetv2_optimizer": str(random.choice(optimizers)),
    }


def fail(trial, folder):
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_text(f"epoch 1\n{TRACEBACK} <b>&\n")
    trial.condition, trial.reason, trial.exit_code = "Failed", "BackoffLimitExceeded", 1
    trial.seconds, trial.attempts = 3.5, 2


def train(trial, random, policy, curves):
    model = "resnet18" if trial.assignments["group"] == "0" else "mobilenetv2"
    rate = float(trial.assignments[f"{model}_learning_rate"])
    top = 0.93 - 0.09 * (math.log10(rate) - math.log10(0.004)) ** 2
    top += {"sgd": -0.05, "adam": 0.0, "adamw": 0.012}[trial.assignments[f"{model}_optimizer"]]
    if model == "resnet18":
        top -= 0.012 * int(trial.assignments["resnet18_layers_to_freeze"])
    top = max(0.12, top + random.normal(0, 0.012))
    trial.condition, trial.exit_code, trial.attempts = "Succeeded", 0, 1
    for epoch in range(1, EPOCHS + 1):
        value = 0.1 + (top - 0.1) * (1 - math.exp(-epoch / 2.5)) + random.normal(0, 0.006)
        trial.curve.append(round(value, 4))
        curves[trial.name] = trial.curve
        if policy.due(epoch):
            decision = policy.decide(trial.name, curves, maximize=True)
            trial.decisions.append({k: getattr(decision, k) for k in decision.__dataclass_fields__})
            if decision.stop:
                trial.condition, trial.reason = "EarlyStopped", "bandit"
                break
    trial.epochs = len(trial.curve)
    trial.seconds = round(2.1 * trial.epochs + random.uniform(0, 2), 2)
    trial.value = max(trial.curve)
    trial.metrics = {"accuracy": {"min": min(trial.curve), "max": trial.value, "latest": trial.curve[-1]}}
    trial.cache_hits = 3
