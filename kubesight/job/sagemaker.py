"""SageMaker's dictionaries as a job in Azure's shape.

Those of its Python SDK, with the channels' places beside the hyperparameters:
    {"model_id": ..., "hyperparameters": {...}, "training": PATH, "validation": PATH, "test": PATH, "model": PATH,
     "hyperparameter_ranges": {NAME: {"MinValue": ..., "MaxValue": ..., "ScalingType": ...}, NAME: [VALUE, ...]},
     "objective_metric_name", "objective_type", "strategy", "max_jobs", "max_parallel_jobs", "early_stopping_type",
     "random_seed"}
and the requests of its API, `CreateTrainingJob` and `CreateHyperParameterTuningJob`, with "model_id" beside their keys
(in a request it is hidden in the names of images and scripts). A "kubesight" section may stand in all of them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError, JobError
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.spec import Hyperparameter
from kubesight.hyperparameters.table import find, is_known
from kubesight.job.yaml_lines import Keys
from kubesight.models.names import MODELS

Place = Callable[[Keys], str | None]

_CONFIG, _DEFINITION = "HyperParameterTuningJobConfig", "TrainingJobDefinition"
_SIGNS = {"model_id", "hyperparameters", "hyperparameter_ranges", "HyperParameters", _CONFIG, _DEFINITION}
_CHANNELS = {"training": ("training_data",), "validation": ("validation_data",), "test": ("test_data",),
             "model": ("kubesight", "model", "checkpoint")}  # fmt: skip
_METRICS = {"validation:accuracy", "tflow-ic:val-accuracy", "val_accuracy", "accuracy"}
_SETTINGS = {"objective_metric_name", "objective_type", "strategy", "max_jobs", "max_parallel_jobs",
             "early_stopping_type", "random_seed"}  # fmt: skip
_NO_EFFECT = {
    "RoleArn", "OutputDataConfig", "ResourceConfig", "StoppingCondition", "AlgorithmSpecification", "model_version",
    "Tags", "VpcConfig", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining",
    "CheckpointConfig", "Environment", "RetryStrategy", "TrainingJobName", "HyperParameterTuningJobName",
    "instance_type", "instance_count", "role", "output_path", "max_run", "metric_definitions",
}  # fmt: skip


@dataclass
class Translation:
    """A job in Azure's shape, where its parts stood before, and what has no effect."""

    value: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, Keys] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def put(self, keys: Keys, value: Any, origin: Keys) -> None:
        """Set something of the job, and remember where it came from."""
        target = self.value
        for key in keys[:-1]:
            target = target.setdefault(str(key), {})
        target[str(keys[-1])] = value
        self.origins[keys] = origin

    def original(self, keys: Keys) -> Keys:
        """Where something of the job stood in SageMaker's dictionary."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.origins:
                return (*self.origins[keys[:length]], *keys[length:])
        return keys


def is_sagemaker(value: Mapping[str, Any]) -> bool:
    """Whether a mapping has SageMaker's shape: some key of its own, and no `task`."""
    return "task" not in value and bool(_SIGNS & value.keys())


def from_sagemaker(value: Mapping[str, Any], place: Place) -> Translation:
    """Translate SageMaker's dictionary.

    Args:
        value: what the module's text describes.
        place: the line of a key.

    Raises:
        JobError: a key that nobody knows, no model, no training data, or a setting that cannot be had here.
    """
    job = Translation({"type": "automl", "task": Task.CLASSIFICATION.value, "kubesight": {}})
    for key, section in _mapping(value, ("kubesight",), place).items():
        job.value["kubesight"][key] = dict(section) if isinstance(section, Mapping) else section
    source = job.value["kubesight"].setdefault("source", {})
    if isinstance(source, dict):
        source.setdefault("format", "folder")
    _check_keys(job, value, (), place)
    definition = _mapping(value, (_DEFINITION,), place)
    _check_keys(job, definition, (_DEFINITION,), place)
    _put_data(job, value, definition, place)
    _put_hyperparameters(job, value, place)
    _put_tuning(job, value, place)
    return job


def _check_keys(job: Translation, value: Mapping[str, Any], above: Keys, place: Place) -> None:
    inner = {"StaticHyperParameters", "InputDataConfig", "DefinitionName"}
    known = inner if above else {*_SIGNS, *_CHANNELS, *_SETTINGS, "InputDataConfig", "kubesight"}
    for key in value:
        if key in _NO_EFFECT:
            where = place((*above, key))
            text = f"{key} has no effect here: it configures SageMaker's service."
            job.notices.append(f"{where}: {text}" if where else text)
        elif key not in known:
            raise JobError(f"unknown key {key!r}", where=place((*above, key)), hint=f"There are {_listed(known)}.")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _mapping(value: Mapping[str, Any], keys: Keys, place: Place) -> Mapping[str, Any]:
    """The mapping at a place, empty when there is none."""
    found: Any = value
    for key in keys:
        found = found.get(key) or {}
        if not isinstance(found, Mapping):
            raise JobError(f"{key} is {found!r}, but must be a mapping of keys to values", where=place(keys))
    return found


def _put_data(job: Translation, value: Mapping[str, Any], definition: Mapping[str, Any], place: Place) -> None:
    for channel, keys in _CHANNELS.items():
        if value.get(channel):
            job.put(keys, value[channel] if channel == "model" else {"path": value[channel]}, (channel,))
    above: Keys = (_DEFINITION, "InputDataConfig") if "InputDataConfig" in definition else ("InputDataConfig",)
    channels = definition.get("InputDataConfig") or value.get("InputDataConfig") or []
    for index, channel in enumerate(channels if isinstance(channels, list) else [channels]):
        origin = (*above, index)
        try:
            name, uri = channel["ChannelName"], channel["DataSource"]["S3DataSource"]["S3Uri"]
        except (KeyError, TypeError):
            raise JobError(
                "a channel needs ChannelName and DataSource.S3DataSource.S3Uri", where=place(origin)
            ) from None
        if name not in _CHANNELS:
            raise JobError(f"unknown channel {name!r}", where=place(origin), hint=f"There are {', '.join(_CHANNELS)}.")
        job.put(_CHANNELS[name], uri if name == "model" else {"path": uri}, origin)
    if "training_data" not in job.value:
        raise JobError("no training channel", where=place(()), hint="Name the pictures' folder or URL as `training`.")


def _put_hyperparameters(job: Translation, value: Mapping[str, Any], place: Place) -> None:
    job.value["training_parameters"] = {}
    for above in (("hyperparameters",), ("HyperParameters",), (_DEFINITION, "StaticHyperParameters")):
        for name, given in _mapping(value, above, place).items():
            job.put(("training_parameters", name), given, (*above, name))
    parameters = job.value["training_parameters"]
    named = value.get("model_id") or parameters.pop("model_id", None) or parameters.pop("model_name", None)
    if not isinstance(named, str):
        raise JobError(
            "model_id is missing",
            where=place(()),
            hint="Write it beside the hyperparameters, such as "
            "tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4.",
        )
    known = named in MODELS or named.startswith(("keras/", "timm/"))
    job.put(("training_parameters", "model_name"), named if known else f"keras/{named}", ("model_id",))


def _put_tuning(job: Translation, value: Mapping[str, Any], place: Place) -> None:
    config = _mapping(value, (_CONFIG,), place)
    objective = _mapping(config, ("HyperParameterTuningJobObjective",), place)
    resources = _mapping(config, ("ResourceLimits",), place)
    metric = value.get("objective_metric_name") or objective.get("MetricName")
    direction = value.get("objective_type") or objective.get("Type") or "Maximize"
    if (metric and metric not in _METRICS) or direction != "Maximize":
        where = place(("objective_metric_name",) if "objective_metric_name" in value else (_CONFIG,))
        raise JobError(f"the objective {direction} {metric} is not one", where=where, hint="It is validation:accuracy.")
    ranges: Keys = ("hyperparameter_ranges",) if "hyperparameter_ranges" in value else (_CONFIG, "ParameterRanges")
    space = _space(job, value, ranges, place)
    if not space:
        return
    job.value["search_space"] = [space]
    trials = value.get("max_jobs") or resources.get("MaxNumberOfTrainingJobs") or 1
    job.put(("limits", "max_trials"), trials, ("max_jobs",))
    together = value.get("max_parallel_jobs") or resources.get("MaxParallelTrainingJobs") or 1
    job.put(("limits", "max_concurrent_trials"), together, ("max_parallel_jobs",))
    strategy = value.get("strategy") or config.get("Strategy") or "Bayesian"
    job.put(("sweep", "sampling_algorithm", "type"), str(strategy).lower(), ("strategy",))
    if (seed := value.get("random_seed", config.get("RandomSeed"))) is not None:
        job.put(("sweep", "sampling_algorithm", "seed"), seed, ("random_seed",))
    stopping = value.get("early_stopping_type") or config.get("TrainingJobEarlyStoppingType") or "Off"
    if stopping not in ("Off", "Auto"):
        raise JobError(
            f"early_stopping_type is {stopping!r}, but must be Off or Auto", where=place(("early_stopping_type",))
        )
    if stopping == "Auto":
        job.put(("sweep", "early_termination", "type"), "median_stopping", ("early_stopping_type",))


def _space(job: Translation, value: Mapping[str, Any], above: Keys, place: Place) -> dict[str, Any]:
    """Azure's expressions for SageMaker's ranges. A static value of the same name gives way, as in the SDK."""
    ranges = _mapping(value, above, place)
    entries: dict[str, tuple[Keys, Any]] = {}
    for key, found in ranges.items():
        if key.endswith("ParameterRanges") and isinstance(found, list):
            for index, each in enumerate(found):
                if not isinstance(each, Mapping) or "Name" not in each:
                    raise JobError("a range needs a Name", where=place((*above, key, index)))
                entries[str(each["Name"])] = ((*above, key, index), each)
        else:
            entries[key] = ((*above, key), found)
    space = {}
    for name, (origin, each) in entries.items():
        row = find(name, place=place(origin))
        space[name] = _expression(row, each, place(origin))
        job.origins[("search_space", 0, name)] = origin
        for static in [key for key in job.value["training_parameters"] if is_known(key) and find(key) is row]:
            job.notices.append(f"{static} varies, so that its static value {_popped(job, static)!r} is not used.")
    return space


def _popped(job: Translation, name: str) -> Any:
    return job.value["training_parameters"].pop(name)


def _expression(row: Hyperparameter, given: Any, where: str | None) -> dict[str, Any]:
    """One range. `Auto` scaling is logarithmic where the ends are a factor of 100 or more apart, else linear."""
    values = given.get("Values") if isinstance(given, Mapping) else given
    if isinstance(values, list):
        return {"type": "choice", "values": values}
    number = Hyperparameter(f"an end of {row.name}", "float", "", default=0.0)
    try:
        low, high = (coerce(number, given[key]) for key in ("MinValue", "MaxValue"))
    except (KeyError, TypeError):
        raise JobError(f"{row.name} needs MinValue and MaxValue, or Values", where=where) from None
    except HyperparameterError as error:
        error.where = where
        raise
    scaling = given.get("ScalingType", "Auto")
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= 100 else "Linear"
    step = {"q": 1} if row.kind == "int" else {}
    prefix = "q" if step else ""
    if scaling == "Linear":
        return {"type": f"{prefix}uniform", "min_value": low, "max_value": high, **step}
    if scaling == "Logarithmic" and low > 0:
        return {"type": f"{prefix}loguniform", "min_value": math.log(low), "max_value": math.log(high), **step}
    if scaling == "ReverseLogarithmic" and not step:
        return {"type": "reverseloguniform", "min_value": low, "max_value": high}
    raise JobError(f"{row.name} from {low:g} to {high:g} cannot be scaled as {scaling}", where=where)
