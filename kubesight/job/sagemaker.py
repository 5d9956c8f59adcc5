"""SageMaker's dictionaries as a job in Azure's shape.

Those of its Python SDK, with the channels' places beside the hyperparameters:
    {"model_id": ..., "hyperparameters": {...}, "training": PATH, "validation": PATH, "test": PATH, "model": PATH,
     "hyperparameter_ranges": {NAME: {"MinValue": ..., "MaxValue": ..., "ScalingType": ...}, NAME: [VALUE, ...]},
     "objective_metric_name", "objective_type", "strategy", "strategy_config", "max_jobs", "max_parallel_jobs",
     "max_runtime_in_seconds", "early_stopping_type", "completion_criteria_config", "random_seed", "autotune"}
and the requests of its API, `CreateTrainingJob` and `CreateHyperParameterTuningJob`, with "model_id" beside their keys
(in a request it is hidden in the names of images and scripts). A "kubesight" section may stand in all of them.
"""

from collections.abc import Mapping
from typing import Any

from kubesight.dataset.rows import Task
from kubesight.errors import JobError, ModelError
from kubesight.hyperparameters.table import find, is_known
from kubesight.job.sagemaker_tuning import CONFIG, SETTINGS, put_tuning
from kubesight.job.translation import Place, Translation, check_keys, mapping_at
from kubesight.job.yaml_lines import Keys
from kubesight.models.names import find_model

_DEFINITION = "TrainingJobDefinition"
_SIGNS = {"model_id", "hyperparameters", "hyperparameter_ranges", "HyperParameters", CONFIG, _DEFINITION}
_CHANNELS = {"training": ("training_data",), "validation": ("validation_data",), "test": ("test_data",),
             "model": ("kubesight", "model", "checkpoint")}  # fmt: skip
_NO_EFFECT = {
    "RoleArn", "OutputDataConfig", "ResourceConfig", "AlgorithmSpecification", "model_version",
    "Tags", "VpcConfig", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining",
    "CheckpointConfig", "Environment", "RetryStrategy",
    "instance_type", "instance_count", "role", "output_path", "metric_definitions",
}  # fmt: skip

_NAMES = ("HyperParameterTuningJobName", "TrainingJobName", "base_tuning_job_name")
_WARM_START = {"WarmStartConfig", "warm_start_config"}


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
    for key, section in mapping_at(value, ("kubesight",), place).items():
        job.value["kubesight"][key] = dict(section) if isinstance(section, Mapping) else section
    source = job.value["kubesight"].setdefault("source", {})
    if isinstance(source, dict):
        source.setdefault("format", "folder")
    _check_keys(job, value, (), place)
    for name in _NAMES:
        if name in value:
            job.put(("name",), value[name], (name,))
    definition = mapping_at(value, (_DEFINITION,), place)
    _check_keys(job, definition, (_DEFINITION,), place)
    _put_data(job, value, definition, place)
    _put_hyperparameters(job, value, place)
    put_tuning(job, value, place)
    return job


def _check_keys(job: Translation, value: Mapping[str, Any], above: Keys, place: Place) -> None:
    inner = {"StaticHyperParameters", "InputDataConfig", "DefinitionName", "StoppingCondition"}
    ours = {*_SIGNS, *_CHANNELS, *SETTINGS, *_NAMES, "InputDataConfig", "StoppingCondition", "kubesight"}
    known = inner if above else ours
    rest = {key: each for key, each in value.items() if key not in (*_NO_EFFECT, *_WARM_START)}
    check_keys(rest, above, known, place)
    for key in value:
        if key in _WARM_START:
            job.note(f"{key} has no effect here: `kubesight tune --warm-start` names earlier sweeps.", place((key,)))
        if key in _NO_EFFECT:
            job.note(f"{key} has no effect here: it configures SageMaker's service.", place((*above, key)))


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
        for name, given in mapping_at(value, above, place).items():
            job.put(("training_parameters", name), given, (*above, name))
    parameters = job.value["training_parameters"]
    named = value.get("model_id")
    origin: Keys = ("model_id",)
    for name in [each for each in parameters if is_known(each) and find(each).name == "model_name"]:
        if named is not None:
            raise JobError(
                f"the model is named twice, {named} and {parameters[name]}",
                where=place(job.original(("training_parameters", name))),
                hint="Keep one of them.",
            )
        origin = job.original(("training_parameters", name))
        named = parameters.pop(name)
    if not isinstance(named, str):
        raise JobError(
            "model_id is missing",
            where=place(()),
            hint="Write it beside the hyperparameters, such as "
            "tensorflow-ic-imagenet-mobilenet-v2-100-224-classification-4.",
        )
    short = not _is_known(named) and _is_known(f"keras/{named}")
    job.put(("training_parameters", "model_name"), f"keras/{named}" if short else named, origin)


def _is_known(model: str) -> bool:
    try:
        return bool(find_model(model))
    except ModelError:
        return False
