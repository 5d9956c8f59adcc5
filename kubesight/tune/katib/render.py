"""A sweep as a Katib Experiment: what `kubesight experiment` prints and every way of running a sweep runs."""

import json
import re
from typing import Any

import yaml

from kubesight.dataset.rows import Task
from kubesight.errors import JobError
from kubesight.images import image
from kubesight.job.sections import Resources
from kubesight.models.names import find_model
from kubesight.sweep.names import CONDITIONS_ANNOTATION, LIMITS_ANNOTATION, SPACE_ANNOTATION, STOP_METRIC
from kubesight.sweep.plan import Sweep
from kubesight.tune.katib.arguments import Arguments, arguments_of
from kubesight.tune.katib.policies import settings_of
from kubesight.tune.katib.texts import constant, number
from kubesight.tune.katib.trial import trial_job

METRICS_FILE = "/var/log/katib/metrics.log"

TRIAL_NAME = "trial_name"
"""The trial parameter that holds the trial's name."""

TASK_LABEL = "kubesight/task"
FRAMEWORK_LABEL = "kubesight/framework"

_LONGEST_NAME = 40

_METRIC_TYPE = "validation_metric_type"

_ALSO_WATCHED: dict[Task, dict[str, str]] = {
    Task.CLASSIFICATION: {"accuracy": "max", "f1_score_macro": "max", "validation_loss": "min", "training_loss": "min"},
    Task.MULTILABEL: {"iou": "max", "f1_score_macro": "max", "validation_loss": "min", "training_loss": "min"},
    Task.DETECTION: {"mean_average_precision": "max", "validation_loss": "min", "training_loss": "min"},
    Task.SEGMENTATION: {"mean_average_precision": "max", "validation_loss": "min", "training_loss": "min"},
}
"""What `kubesight train` prints for each task that people look at beside the objective, and which value of a trial
counts. Katib's own default would be the greatest value of a loss, since the objective is maximised."""


def experiment_of(
    sweep: Sweep,
    *,
    training_data: str,
    validation_data: str,
    output: str,
    weights: str = "default",
    resources: Resources,
    namespace: str | None = None,
    here: bool = False,
) -> dict[str, Any]:
    """The Experiment of a sweep.

    Args:
        sweep: what varies, how, and how long.
        training_data: a data set, as the trials' pods see it.
        validation_data: likewise.
        output: the folder that gets one folder a trial, likewise.
        weights: what `kubesight train --weights` takes.
        resources: of one trial.
        namespace: where the Experiment is made; None leaves it to whoever applies it.
        here: it runs on this machine, where no trial needs an image.

    Returns:
        the document, of JSON's types, its keys in the order in which people write them. Katib's official models read
        it whole.

    Raises:
        JobError: something that Katib has no way to say, naming the setting.
    """
    _check(sweep, output)
    resources = _with_image(sweep, resources, here=here)
    arguments = arguments_of(sweep)
    command = _command(sweep, arguments, training_data, validation_data, output, weights)
    document = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": _metadata(sweep, arguments, namespace),
        "spec": {
            "objective": _objective(sweep),
            "algorithm": _algorithm(sweep),
            **_early_stopping(sweep),
            **_counts(sweep, arguments),
            "resumePolicy": "Never",
            "metricsCollectorSpec": {
                "collector": {"kind": "File"},
                "source": {"fileSystemPath": {"path": METRICS_FILE, "kind": "File", "format": "TEXT"}},
            },
            "parameters": list(arguments.parameters),
            "trialTemplate": _trial_template(sweep, arguments, command, resources, output),
        },
    }
    return _read_whole(document)


def to_yaml(document: dict[str, Any]) -> str:
    """The document as people write it: keys in their order, long commands folded at spaces."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Folds long texts."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists within mappings."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out: an anchor says that two places are one, which here is chance."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    folds = len(text) > 100 and text.isprintable() and text == text.strip() and "  " not in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">" if folds else None)


_Dumper.add_representer(str, _text)


def _read_whole(document: dict[str, Any]) -> dict[str, Any]:
    """The same document, once the official models have read it without losing anything."""
    from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment

    experiment = V1beta1Experiment.from_dict(document)
    if experiment is None or experiment.to_dict() != document:
        raise AssertionError("the Experiment has fields that Katib does not know")
    return document


def _check(sweep: Sweep, output: str) -> None:
    if "://" in output:
        raise JobError(
            f"trials write to folders, and {output} is none",
            where="output",
            hint="Name a folder of a volume under kubesight.resources.volumes.",
        )
    settings = [sweep.fixed, *(each for group in sweep.groups for each in (group.fixed, group.parameters))]
    judged_by = [each[_METRIC_TYPE] for each in settings if _METRIC_TYPE in each]
    if any("none" in getattr(each, "values", (each,)) for each in judged_by):
        raise JobError(
            f"trials that compute no metrics report no {sweep.metric}",
            where=_METRIC_TYPE,
            hint="Set it to voc, coco or coco_voc.",
        )


def _with_image(sweep: Sweep, resources: Resources, *, here: bool) -> Resources:
    """The resources with an image that has the trials' framework; all trials of an Experiment share one."""
    frameworks = _frameworks(sweep)
    if resources.image or "tensorflow" not in frameworks:
        return resources
    if len(frameworks) == 1:
        return resources.model_copy(update={"image": image("tensorflow")})
    if here:
        return resources
    raise JobError(
        "trials of one sweep share one image, and none of ours has both torch and TensorFlow",
        where="search_space",
        hint="Sweep keras/* models and others apart, or name an image with both as kubesight.resources.image.",
    )


def _frameworks(sweep: Sweep) -> set[str]:
    return {find_model(name).framework for name in sweep.model_names}


def _command(
    sweep: Sweep, arguments: Arguments, training_data: str, validation_data: str, output: str, weights: str
) -> str:
    folder = constant(output.rstrip("/") + "/")
    words = [
        "kubesight train",
        f"--training-data={constant(training_data)}",
        f"--validation-data={constant(validation_data)}",
        f"--output={folder}${{trialParameters.{TRIAL_NAME}}}",
        f"--metrics-file={METRICS_FILE}",
        f"--primary-metric={sweep.metric}",
        *([f"--weights={constant(weights)}"] if weights != "default" else []),
        *arguments.words,
        "--discard-checkpoints",
        *_termination(sweep),
    ]
    return " ".join(words)


def _termination(sweep: Sweep) -> list[str]:
    if sweep.policy is None or sweep.additions.early_stopping == "service":
        return []
    policy = json.dumps(sweep.policy.model_dump(exclude_none=True), separators=(",", ":"))
    words = [f"--early-termination={constant(policy)}"]
    return [*words, "--stop-by=guard"] if sweep.additions.early_stopping == "guard" else words


def _metadata(sweep: Sweep, arguments: Arguments, namespace: str | None) -> dict[str, Any]:
    limits = {
        "timeout_seconds": sweep.limits.timeout_minutes * 60,
        "no_improvement_trials": sweep.additions.no_improvement_trials,
        "convergence": sweep.additions.convergence or None,
    }
    annotations = {LIMITS_ANNOTATION: json.dumps({name: each for name, each in limits.items() if each is not None})}
    if arguments.conditions:
        annotations[CONDITIONS_ANNOTATION] = json.dumps(arguments.conditions)
    if sweep.space_version is not None:
        annotations[SPACE_ANNOTATION] = str(sweep.space_version)
    return {
        "name": experiment_name(sweep),
        **({"namespace": namespace} if namespace else {}),
        "labels": {TASK_LABEL: sweep.task.value, FRAMEWORK_LABEL: "-".join(sorted(_frameworks(sweep)))},
        "annotations": annotations,
    }


def experiment_name(sweep: Sweep) -> str:
    """The sweep's name, or its task's, as Katib takes it: `[a-z]([-a-z0-9]*[a-z0-9])?`, 40 characters at most."""
    text = re.sub("[^a-z0-9]+", "-", (sweep.name or sweep.task.value).lower())
    return re.sub("^[^a-z]+", "", text)[:_LONGEST_NAME].rstrip("-") or "sweep"


def _objective(sweep: Sweep) -> dict[str, Any]:
    strategies = {sweep.metric: "max" if sweep.maximize else "min"}
    losses_off = sweep.fixed.get("log_validation_loss") == "Disable"
    for name, strategy in _ALSO_WATCHED[sweep.task].items():
        if name != sweep.metric and not (losses_off and name == "validation_loss"):
            strategies[name] = strategy
    if sweep.policy and sweep.additions.early_stopping != "service":
        strategies[STOP_METRIC] = "max"
    return {
        "type": "maximize" if sweep.maximize else "minimize",
        **({} if sweep.goal is None else {"goal": sweep.goal}),
        "objectiveMetricName": sweep.metric,
        "additionalMetricNames": [name for name in strategies if name != sweep.metric],
        "metricStrategies": [{"name": name, "value": value} for name, value in strategies.items()],
    }


def _algorithm(sweep: Sweep) -> dict[str, Any]:
    """Katib's name and settings.

    `bayesian` is `tpe`: Katib's `bayesianoptimization` draws every double log-uniformly whatever its distribution is,
    ignores steps, and dies of a range that begins with 0.
    """
    sampling = sweep.sampling
    name = {"bayesian": "tpe"}.get(sampling.type, sampling.type)
    if sampling.rule == "sobol":
        name = "sobol"
    if sampling.multivariate:
        name = "multivariate-tpe"
    settings: dict[str, Any] = {
        "random_state": None if name in ("sobol", "hyperband") else sampling.seed,
        "gamma": sampling.gamma,
        "prior_weight": sampling.prior_weight,
        "n_startup_trials": sampling.n_startup_trials,
        # Its name in Katib's hyperopt service; the optuna service has it in small letters.
        "n_EI_candidates" if name == "tpe" else "n_ei_candidates": sampling.n_ei_candidates,
        "sigma": sampling.sigma,
        "restart_strategy": sampling.restart_strategy,
    }
    if name == "hyperband":
        settings |= {
            "r_l": sampling.max_resource,
            "resource_name": "number_of_epochs",
            "eta": sampling.reduction_factor,
        }
    given = [
        {"name": key, "value": value if isinstance(value, str) else number(value)}
        for key, value in settings.items()
        if value is not None
    ]
    return {"algorithmName": name, **({"algorithmSettings": given} if given else {})}


def _early_stopping(sweep: Sweep) -> dict[str, Any]:
    if sweep.policy is None or sweep.additions.early_stopping == "training":
        return {}
    name, settings = settings_of(sweep.policy, live=sweep.additions.early_stopping == "guard")
    given = [{"name": key, "value": value} for key, value in settings.items()]
    return {"earlyStopping": {"algorithmName": name, **({"algorithmSettings": given} if given else {})}}


def _counts(sweep: Sweep, arguments: Arguments) -> dict[str, int]:
    """How many trials there are, at a time and in all, and how many may fail.

    Unless the job says so, the sweep fails when a quarter of its trials have failed, three at least.
    """
    trials = sweep.limits.max_trials
    if sweep.sampling.type == "grid":
        combinations = 1
        for parameter in arguments.parameters:
            combinations *= len(parameter["feasibleSpace"]["list"])
        trials = min(trials, combinations)
    failed = sweep.additions.max_failed_trials or max(3, trials // 4)
    return {
        "parallelTrialCount": min(sweep.limits.max_concurrent_trials, trials),
        "maxTrialCount": trials,
        "maxFailedTrialCount": min(failed, trials),
    }


def _trial_template(
    sweep: Sweep, arguments: Arguments, command: str, resources: Resources, output: str
) -> dict[str, Any]:
    """The template. Conditions of success are Katib's own for the kind of job.

    With Katib's early stopping the job is kept when its trial ends: Katib would else delete it before it has read the
    metrics, and lose them.
    """
    limits = sweep.limits
    job = trial_job(
        command,
        sweep.additions.trial_kind,
        resources,
        output=output,
        # A trial without a limit of its own cannot outlive the sweep, which Katib itself would never end.
        deadline_seconds=min(limits.trial_timeout_minutes or limits.timeout_minutes, limits.timeout_minutes) * 60,
    )
    return {
        "retain": bool(sweep.policy and sweep.additions.early_stopping != "training"),
        "primaryContainerName": job.primary_container,
        "trialParameters": [
            *({"name": each["name"], "reference": each["name"]} for each in arguments.parameters),
            {"name": TRIAL_NAME, "reference": "${trialSpec.Name}"},
        ],
        "trialSpec": job.spec,
    }
