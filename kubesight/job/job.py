"""The job file: Azure AutoML's image job YAML, with additions of ours under `kubesight:`."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError

from kubesight.dataset.rows import Task
from kubesight.errors import HyperparameterError, JobError
from kubesight.hyperparameters import TABLE, resolve
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.keras_rules import substitution
from kubesight.hyperparameters.table import find, is_known
from kubesight.job.checks import checked_metric, located, notices_of
from kubesight.job.plan import planned
from kubesight.job.sagemaker import from_sagemaker, is_sagemaker
from kubesight.job.sections import Additions, Data, Start, Sweep
from kubesight.job.space import SearchGroup, automatic_groups, read_hyperparameters
from kubesight.job.yaml_lines import Keys, YamlFile
from kubesight.models.names import DEFAULT_MODEL, find_model
from kubesight.section import Section, problem
from kubesight.sweep.limits import Limits

Place = Callable[[Keys], str | None]
_TaskName = Annotated[Task, Field(strict=False)]
_Share = Annotated[float, Field(gt=0, lt=1)]
_Spaces = Annotated[
    list[dict[str, Any]], BeforeValidator(lambda value: [value] if isinstance(value, Mapping) else value)
]


class Job(Section):
    """A job file that has been read and checked.

    Attributes:
        target_column_name: the field with the labels; the source's option `label_column` says it too.
        training_data: its `path` is absolute or a URL, as those of the other parts.
        primary_metric: the task's own when the file names none, or the hyperparameter `eval_metric`.
        validation_data_size: share of the pictures for validation; unused when `validation_data` is given.
        test_data: pictures that only the final evaluation sees (an addition: Azure reads the key but does not use it).
        training_parameters: as written; `given_hyperparameters` and `hyperparameters` have them read.
        search_space: as written; `search_groups` has it read.
    """

    schema_: Any = Field(default=None, alias="$schema")
    type: Literal["automl"] = "automl"
    task: _TaskName
    name: str | None = None
    description: str | None = None
    experiment_name: str | None = None
    display_name: str | None = None
    tags: dict[str, Any] = Field(default={})
    compute: Any = None
    log_verbosity: Literal["not_set", "debug", "info", "warning", "error", "critical"] | None = None
    primary_metric: str = ""
    target_column_name: str = "label"
    training_data: Data
    validation_data: Data | None = None
    validation_data_size: _Share = 0.2
    test_data: Data | None = None
    test_data_size: _Share | None = None
    limits: Limits = Limits()
    training_parameters: dict[str, Any] = Field(default={})
    sweep: Sweep = Sweep()
    search_space: _Spaces = Field(default=[])
    outputs: Any = None
    properties: dict[str, Any] = Field(default={})
    queue_settings: Any = None
    identity: Any = None
    environment_variables: Any = None
    resources: Any = None
    services: Any = None
    notification_setting: Any = None
    kubesight: Additions = Additions()

    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("split_ratio", "validation_size"), "It is called validation_data_size here."
    )
    _notices: list[str] = PrivateAttr(default_factory=list)
    _groups: tuple[SearchGroup, ...] = PrivateAttr(default=())
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def hint_for(cls, key: str) -> str | None:
        """Hyperparameters belong under `training_parameters`."""
        if key not in cls.elsewhere and is_known(key):
            return "It is a hyperparameter: write it under training_parameters."
        return super().hint_for(key)

    @property
    def notices(self) -> list[str]:
        """What the file says that has no effect here, one sentence each."""
        return list(self._notices)

    @property
    def is_sweep(self) -> bool:
        """Whether several trainings are asked for: by a search space, or by `max_trials` alone (Azure's AutoMode)."""
        return bool(self.search_space) or self.limits.max_trials > 1

    @property
    def search_groups(self) -> tuple[SearchGroup, ...]:
        """The search space, typed; each group has its own models and settings. Automatic when the file names none."""
        return self._groups

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that the job may train."""
        named = dict.fromkeys(name for group in self._groups for name in group.model_names)
        return tuple(named) or (self._given.get("model_name") or DEFAULT_MODEL[self.task],)

    @property
    def model_name(self) -> str:
        """The model that the job trains.

        Raises:
            JobError: it sweeps over several.
        """
        if len(self.model_names) > 1:
            raise JobError(f"the job sweeps over several models ({', '.join(self.model_names)})", where="model_name")
        return self.model_names[0]

    @property
    def test_ratio(self) -> float:
        """The share of the pictures for the test part."""
        return self.test_data_size or self.kubesight.split.test_ratio

    @property
    def given_hyperparameters(self) -> dict[str, Any]:
        """What the file fixes, by canonical name, typed, without defaults; `model_name` and the split are apart."""
        return {name: value for name, value in self._given.items() if name != "model_name"}

    def hyperparameters(self) -> dict[str, Any]:
        """Every hyperparameter of the job's one training, defaults filled in (`kubesight.hyperparameters.resolve`).

        Raises:
            JobError: the job is a sweep, so that each trial has its own.
        """
        if self.is_sweep:
            raise JobError("each trial of a sweep has its own hyperparameters", where="search_space")
        return resolve(self.model_name, self.task, self.given_hyperparameters)


def load_job(path: Path | str) -> Job:
    """Read and check a job file.

    Args:
        path: YAML or JSON in the shape of Azure's AutoML image job, or in that of SageMaker (`job_sagemaker`).

    Raises:
        JobError: it cannot be read, has unknown keys or values of a wrong type, or contradicts itself.
        HyperparameterError: a hyperparameter is unknown, out of range, without effect or not for the model.
        ModelError: a model's name is unknown. All of them name file and line.
    """
    file = YamlFile(path)
    folder = Path(path).absolute().parent
    if not is_sagemaker(file.value):
        return _job(file.value, folder, file.place)
    translated = from_sagemaker(file.value, file.place)
    job = _job(translated.value, folder, lambda keys: file.place(translated.original(keys)))
    job._notices.extend(translated.notices)
    return job


def load_sagemaker(value: Mapping[str, Any], *, folder: Path | str = ".") -> Job:
    """A job from SageMaker's dictionaries, without a file.

    Args:
        value: `model_id`, `hyperparameters`, `training`, ... or a request of SageMaker's API, as `job_sagemaker` says.
        folder: what relative paths are relative to.

    Raises:
        JobError: as in `load_job`, as HyperparameterError and ModelError; without a line.
    """
    translated = from_sagemaker(value, lambda keys: None)
    job = _job(translated.value, Path(folder), lambda keys: None)
    job._notices.extend(translated.notices)
    return job


def _job(value: Mapping[str, Any], folder: Path, place: Place) -> Job:
    try:
        job = Job.model_validate(value)
    except ValidationError as error:
        raise problem(error, value, place) from None
    changes = _located_data(job, folder, place)
    changes["primary_metric"] = _judged_by(job, place)
    parameters, share = _without_split(job, value, place)
    if share is not None:
        changes["validation_data_size"] = share
    _check_said_once(job, value, place)
    source = job.kubesight.source
    start = _located_start(job.kubesight.model, parameters, folder, source.url_prefixes, place)
    if job.target_column_name != "label":
        source = source.model_copy(update={"options": {"label_column": job.target_column_name, **source.options}})
    changes["kubesight"] = job.kubesight.model_copy(update={"model": start, "source": source})
    changes["training_parameters"] = parameters
    job = job.model_copy(update=changes)
    base = job.sweep.sampling_algorithm.logbase
    job._given, job._groups = read_hyperparameters(
        job.task,
        parameters,
        job.search_space,
        place,
        base=math.e if base in (None, "e") else float(base),
        automatic=job.is_sweep,
    )
    if job.is_sweep and not job.search_space:
        job._groups = automatic_groups(job.task, job._given, job.limits.max_trials)
    substitutes = [substitution(find_model(name)) for name in job.model_names]
    job._notices = [*notices_of(value, place), *(f"{text}." for text in substitutes if text)]
    if job.is_sweep:
        job._notices += planned(job, place)[1]
    return job


def _judged_by(job: Job, place: Place) -> str:
    """The primary metric: SageMaker's `eval_metric` where a training parameter names one."""
    named = [name for name in job.training_parameters if is_known(name) and find(name).name == "eval_metric"]
    if not named:
        return checked_metric(job.task, job.primary_metric, place)
    metric = str(job.training_parameters[named[0]]).lower()
    if job.primary_metric not in ("", metric):
        raise JobError(
            f"primary_metric is {job.primary_metric}, but eval_metric is {metric}: both say which epoch is best",
            where=place(("primary_metric",)),
            hint="Keep one of them.",
        )
    return metric


def _check_said_once(job: Job, value: Mapping[str, Any], place: Place) -> None:
    """Azure's keys and ours that mean the same must not disagree."""
    if job.test_data_size and job.kubesight.split.test_ratio:
        raise JobError(
            "test_data_size and kubesight.split.test_ratio say the same",
            where=place(("kubesight", "split", "test_ratio")),
            hint="Keep one of them.",
        )
    column = job.kubesight.source.options.get("label_column", job.target_column_name)
    if column != job.target_column_name and "target_column_name" in value:
        raise JobError(
            f"target_column_name is {job.target_column_name}, but the option label_column is {column}",
            where=place(("kubesight", "source", "options", "label_column")),
            hint="Keep one of them.",
        )


def _located_data(job: Job, folder: Path, place: Place) -> dict[str, Any]:
    prefixes = job.kubesight.source.url_prefixes
    found = {}
    for part in ("training_data", "validation_data", "test_data"):
        data: Data | None = getattr(job, part)
        if data is not None:
            path = located(data.path, folder, prefixes, place((part, "path")))
            found[part] = data.model_copy(update={"path": path})
    return found


def _without_split(job: Job, value: Mapping[str, Any], place: Place) -> tuple[dict[str, Any], float | None]:
    """Take the split's share out of the training parameters, where Azure's first version and SageMaker have it."""
    parameters = dict(job.training_parameters)
    row = TABLE["validation_data_size"]
    spellings = [name for name in parameters if is_known(name) and find(name) is row]
    if not spellings:
        return parameters, None
    where = place(("training_parameters", spellings[-1]))
    if len(spellings) > 1 or value.get("validation_data_size") is not None:
        raise JobError(
            f"validation_data_size is given twice, once as {spellings[-1]}", where=where, hint="Keep one of them."
        )
    try:
        return parameters, coerce(row, parameters.pop(spellings[0]), written=spellings[0])
    except HyperparameterError as error:
        error.where = where
        raise


def _located_start(
    start: Start, parameters: dict[str, Any], folder: Path, prefixes: Mapping[str, str], place: Place
) -> Start:
    """Make the paths of weights and of an earlier model absolute; the latter moves to `checkpoint_run_id`."""
    row = TABLE["checkpoint_run_id"]
    spellings = [name for name in parameters if is_known(name) and find(name) is row and parameters[name]]
    keys: Keys = ("training_parameters", spellings[0]) if spellings else ("kubesight", "model", "checkpoint")
    checkpoint = parameters[spellings[0]] if spellings else start.checkpoint
    if checkpoint and start.weights != "default":
        raise JobError("training starts from weights or from an earlier model, not from both", where=place(keys))
    if spellings and start.checkpoint:
        raise JobError(
            f"an earlier model is also named by {spellings[0]}", where=place(("kubesight", "model", "checkpoint"))
        )
    weights = start.weights
    if weights not in ("default", "none"):
        weights = located(weights, folder, prefixes, place(("kubesight", "model", "weights")))
    if checkpoint and len(spellings) <= 1 and str(checkpoint).lower() != "none":
        checkpoint = located(str(checkpoint), folder, prefixes, place(keys))
        parameters[spellings[0] if spellings else row.name] = checkpoint
    return start.model_copy(update={"weights": weights, "checkpoint": checkpoint})
