"""The parts of a job file, typed: data, limits, sweep, and what stands under `kubesight:`."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A mapping of the job file. Keys that it does not know are errors; a key without a value is not given.

    Attributes:
        elsewhere: keys that people look for here, and where they are.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())
    elsewhere: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
                raise PydanticCustomError(
                    "unknown_key", "unknown key '{key}'", {"key": key, "hint": cls.hint_for(str(key)) or hint}
                )
        return {key: each for key, each in value.items() if each is not None}

    @classmethod
    def hint_for(cls, key: str) -> str | None:
        """Where a key that does not belong here does belong."""
        return cls.elsewhere.get(key)


class Data(Section):
    """A data set: a path or URL, with Azure's `type` and `mode`, which change nothing here."""

    path: Annotated[str, Field(min_length=1)]
    type: Literal["mltable", "uri_folder", "uri_file"] | None = None
    mode: Literal["ro_mount", "rw_mount", "download", "direct", "eval_mount", "eval_download", "upload"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Limits(Section):
    """How much a sweep may spend; the ranges and defaults are Azure's (timeouts in minutes, up to 60 days)."""

    timeout_minutes: int = Field(default=7 * 24 * 60, ge=1, le=60 * 24 * 60)
    trial_timeout_minutes: int | None = Field(default=None, ge=1, le=60 * 24 * 60)
    max_trials: int = Field(default=1, ge=1, le=1000)
    max_concurrent_trials: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _concurrent_in_all(self) -> Self:
        if self.max_concurrent_trials > self.max_trials:
            raise PydanticCustomError(
                "contradiction",
                "max_concurrent_trials {some} is more than max_trials {all}",
                {
                    "some": self.max_concurrent_trials,
                    "all": self.max_trials,
                    "key": "max_concurrent_trials",
                    "hint": "Raise max_trials, or lower it.",
                },
            )
        return self


class Sampling(Section):
    """How values are drawn from the search space."""

    type: Literal["random", "grid", "bayesian", "hyperband"] = "random"
    seed: int | None = Field(default=None, ge=0)
    rule: Literal["random", "sobol"] | None = None
    logbase: float | Literal["e"] | None = None

    @model_validator(mode="after")
    def _rule_of_random(self) -> Self:
        if self.type != "random" and (self.rule or self.logbase):
            raise PydanticCustomError("contradiction", "rule and logbase are for random sampling alone", {})
        return self


class _Policy(Section):
    """When a policy is applied: at every multiple of `evaluation_interval` that is `delay_evaluation` or later."""

    evaluation_interval: int = Field(default=1, ge=1)
    delay_evaluation: int = Field(default=0, ge=0)


class Bandit(_Policy):
    """Stop a trial whose metric is worse than the best one's by a factor or an amount."""

    type: Literal["bandit"]
    slack_factor: float | None = Field(default=None, gt=0)
    slack_amount: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_slack(self) -> Self:
        if (self.slack_factor is None) == (self.slack_amount is None):
            raise PydanticCustomError("slack", "bandit needs slack_factor or slack_amount, one of them", {})
        return self


class MedianStopping(_Policy):
    """Stop a trial whose best metric is worse than the median of all trials' running averages."""

    type: Literal["median_stopping"]


class TruncationSelection(_Policy):
    """Stop the worst share of the trials."""

    type: Literal["truncation_selection"]
    truncation_percentage: int = Field(ge=1, le=99)
    exclude_finished_jobs: bool = False


_AnyPolicy = Annotated[Bandit | MedianStopping | TruncationSelection, Field(discriminator="type")]


class Sweep(Section):
    """How a sweep draws trials, and when it ends them early."""

    sampling_algorithm: Annotated[
        Sampling, BeforeValidator(lambda value: {"type": value.lower()} if isinstance(value, str) else value)
    ] = Sampling()
    early_termination: _AnyPolicy | None = None


_Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]
_Option = Annotated[str, BeforeValidator(lambda value: str(value).lower() if isinstance(value, bool) else str(value))]


def _checked_quantity(value: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?", value):
        raise PydanticCustomError("quantity", "Input should be a quantity such as 4, 500m or 16Gi", {})
    return value


def _checked_count(value: str) -> str:
    if not re.fullmatch("[0-9]+", value):
        raise PydanticCustomError("count", "Input should be a whole number such as 1", {})
    return value


_Quantity = Annotated[_Text, AfterValidator(_checked_quantity)]
_Count = Annotated[_Text, AfterValidator(_checked_count)]


class Source(Section):
    """How the labels are read: the arguments of `kubesight convert`."""

    format: str = "auto"
    options: dict[str, _Option] = {}
    url_prefixes: dict[str, str] = {}
    max_dropped: float = Field(default=0.05, ge=0, le=1)
    strict: bool = False
    check_images: bool = False


class Start(Section):
    """What training starts from: `default` (the library's download), `none`, a path or URL; or an earlier model."""

    weights: str = "default"
    checkpoint: str | None = None
    elsewhere = {"name": "model_name stands under training_parameters."}


class Parts(Section):
    """How pictures are parted; the validation part's share is `validation_data_size`, as in Azure."""

    test_ratio: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    elsewhere = dict.fromkeys(
        ("ratio", "split_ratio", "validation_ratio"), "Set validation_data_size at the top of the file."
    ) | {"group": "Groups come with the data: each picture's `group`."}


class Toleration(Section):
    """A Kubernetes toleration."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: _Text | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, alias="tolerationSeconds", ge=0)


class Resources(Section):
    """Where the steps run on a cluster; what is not given is left to the pipeline's own defaults."""

    image: str | None = None
    accelerator: str | None = None
    gpus: _Count | None = None
    cpu: _Quantity | None = None
    memory: _Quantity | None = None
    shared_memory: _Quantity | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = Field(default=(), strict=False)
    training_folder: str | None = None


class Additions(Section):
    """What stands under `kubesight:` and has no equal in Azure's file."""

    source: Source = Source()
    model: Start = Start()
    split: Parts = Parts()
    resources: Resources = Resources()
    storage: dict[str, Any] = {}
    deployment: dict[str, Any] = {}
