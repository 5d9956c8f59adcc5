"""The names that a job file may give for `model_name`, and what each stands for. Imports no framework."""

import difflib
from dataclasses import dataclass
from typing import Literal

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError

Family = Literal[
    "convnet", "seresnext", "vits16r224", "vitb16r224", "vitl16r224", "timm",
    "yolov5", "fasterrcnn", "retinanet", "maskrcnn", "keras",
]  # fmt: skip

CLASSIFICATION_TASKS = frozenset({Task.CLASSIFICATION, Task.MULTILABEL})


@dataclass(frozen=True)
class ModelSpec:
    """One architecture.

    `library_name` is what the library calls it (`seresnext50_32x4d` of timm for `seresnext`). `family` groups models
    that share hyperparameter defaults and rules. `size` is the only input size that the architecture takes, in pixels,
    or None when any will do.
    """

    name: str
    tasks: frozenset[Task]
    family: Family
    library: Literal["timm", "torchvision", "kubesight", "keras"]
    library_name: str
    size: int | None = None

    @property
    def framework(self) -> Literal["torch", "tensorflow"]:
        """What trains it."""
        return "tensorflow" if self.library == "keras" else "torch"


def _classifier(name: str, timm_name: str, family: Family = "convnet", size: int | None = None) -> ModelSpec:
    return ModelSpec(name, CLASSIFICATION_TASKS, family, "timm", timm_name, size)


_DEPTHS = (18, 34, 50, 101, 152)
_DETECTION = frozenset({Task.DETECTION})
_SEGMENTATION = frozenset({Task.SEGMENTATION})

_SPECS = (
    _classifier("mobilenetv2", "mobilenetv2_100"),
    *(_classifier(f"resnet{depth}", f"resnet{depth}") for depth in _DEPTHS),
    _classifier("resnest50", "resnest50d"),
    _classifier("resnest101", "resnest101e"),
    _classifier("seresnext", "seresnext50_32x4d", "seresnext"),
    _classifier("vits16r224", "vit_small_patch16_224", "vits16r224", 224),
    _classifier("vitb16r224", "vit_base_patch16_224", "vitb16r224", 224),
    _classifier("vitl16r224", "vit_large_patch16_224", "vitl16r224", 224),
    ModelSpec("yolov5", _DETECTION, "yolov5", "kubesight", "yolov5"),
    *(
        ModelSpec(f"fasterrcnn_resnet{depth}_fpn", _DETECTION, "fasterrcnn", "torchvision", f"resnet{depth}")
        for depth in _DEPTHS
    ),
    ModelSpec("retinanet_resnet50_fpn", _DETECTION, "retinanet", "torchvision", "resnet50"),
    *(
        ModelSpec(f"maskrcnn_resnet{depth}_fpn", _SEGMENTATION, "maskrcnn", "torchvision", f"resnet{depth}")
        for depth in _DEPTHS
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}

DEFAULT_MODEL: dict[Task, str] = {
    Task.CLASSIFICATION: "seresnext",
    Task.MULTILABEL: "seresnext",
    Task.DETECTION: "fasterrcnn_resnet50_fpn",
    Task.SEGMENTATION: "maskrcnn_resnet50_fpn",
}


def find_model(name: str) -> ModelSpec:
    """The architecture behind a name of the job file: one of `MODELS`, `timm/NAME` or `keras/NAME`.

    Raises:
        ModelError: nobody knows the name; the nearest known ones are given.
    """
    if name in MODELS:
        return MODELS[name]
    library, _, library_name = name.partition("/")
    if library == "timm" and library_name:
        return ModelSpec(name, CLASSIFICATION_TASKS, "timm", "timm", library_name)
    if library == "keras" and library_name:
        return ModelSpec(name, CLASSIFICATION_TASKS, "keras", "keras", library_name)
    near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`kubesight models` lists the names."
    raise ModelError(f"unknown model name {name!r}", where="model_name", hint=hint)
