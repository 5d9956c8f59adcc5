"""The parts of a job file, typed: data, limits, sweep, and what stands under `kubesight:`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kubesight.section import Section
from kubesight.sweep.plan import SweepAdditions
from kubesight.sweep.policies import AnyPolicy
from kubesight.sweep.sampling import Sampling


class Data(Section):
    """A data set: a path or URL, with Azure's `type` and `mode`, which change nothing here."""

    path: Annotated[str, Field(min_length=1)]
    type: Literal["mltable", "uri_folder", "uri_file"] | None = None
    mode: Literal["ro_mount", "rw_mount", "download", "direct", "eval_mount", "eval_download", "upload"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Sweep(Section):
    """How a sweep draws trials, and when it ends them early."""

    sampling_algorithm: Annotated[
        Sampling, BeforeValidator(lambda value: {"type": value.lower()} if isinstance(value, str) else value)
    ] = Sampling()
    early_termination: AnyPolicy | None = None


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
    options: dict[str, _Option] = Field(default={})
    url_prefixes: dict[str, str] = Field(default={})
    max_dropped: float = Field(default=0.05, ge=0, le=1)
    strict: bool = False
    check_images: bool = False


class Start(Section):
    """What training starts from: `default` (the library's download), `none`, a path or URL; or an earlier model."""

    weights: str = "default"
    checkpoint: str | None = None
    elsewhere: ClassVar[Mapping[str, str]] = {"name": "model_name stands under training_parameters."}


class Parts(Section):
    """How pictures are parted; the validation part's share is `validation_data_size`, as in Azure."""

    test_ratio: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("ratio", "split_ratio", "validation_ratio"), "Set validation_data_size at the top of the file."
    ) | {"group": "Groups come with the data: each picture's `group`."}


class Toleration(Section):
    """A Kubernetes toleration."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: _Text | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, alias="tolerationSeconds", ge=0)


class Volume(Section):
    """A folder that pods find at `path`: the persistent volume claim `claim`."""

    claim: Annotated[str, Field(min_length=1)]
    path: Annotated[str, Field(pattern="^/.")]


class Resources(Section):
    """Where the steps run on a cluster; what is not given is left to the pipeline's own defaults.

    Attributes:
        gpus: of each pod.
        nodes: pods of one training, each with `gpus`.
        queue: Kueue's local queue.
        secret: a secret whose keys become environment variables (the object store's).
        training_folder: where the pipeline's training keeps what it resumes from.
    """

    image: str | None = None
    accelerator: str | None = None
    gpus: _Count | None = None
    cpu: _Quantity | None = None
    memory: _Quantity | None = None
    shared_memory: _Quantity | None = None
    node_selector: dict[str, str] = Field(default={})
    tolerations: tuple[Toleration, ...] = Field(default=(), strict=False)
    training_folder: str | None = None
    nodes: int = Field(default=1, ge=1)
    priority_class: str | None = None
    queue: str | None = None
    service_account: str | None = None
    image_pull_secrets: tuple[str, ...] = Field(default=(), strict=False)
    secret: str | None = None
    volumes: tuple[Volume, ...] = Field(default=(), strict=False)


class Additions(Section):
    """What stands under `kubesight:` and has no equal in Azure's file."""

    source: Source = Source()
    model: Start = Start()
    split: Parts = Parts()
    resources: Resources = Resources()
    sweep: SweepAdditions = SweepAdditions()
    storage: dict[str, Any] = Field(default={})
    deployment: dict[str, Any] = Field(default={})
