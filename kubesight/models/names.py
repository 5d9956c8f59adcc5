"""The names that a job file may give for `model_name`, and what each stands for. Imports no framework."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.models.keras.apps import APPS
from kubesight.models.keras.sagemaker import FRIENDLY, SAGEMAKER, Equivalent, Match

Family = Literal[
    "convnet", "seresnext", "vits16r224", "vitb16r224", "vitl16r224", "timm",
    "yolov5", "fasterrcnn", "retinanet", "fcos", "ssd", "maskrcnn", "keras",
]  # fmt: skip

CLASSIFICATION_TASKS = frozenset({Task.CLASSIFICATION, Task.MULTILABEL})


@dataclass(frozen=True)
class ModelSpec:
    """One architecture.

    `library_name` is what the library calls it (`seresnext50_32x4d` of timm for `seresnext`). `family` groups models
    that share hyperparameter defaults and rules. `size` is the only input size that the architecture takes, in pixels,
    or None when any will do; of a keras model, the size that it gets where none is asked for. A detector's
    `library_name` is that of the whole detector, or of its backbone where the library has but that.

    The rest is of keras models. `options` is what the network is built with, such as its width. `match` says how near
    this is to the model that was named: `architecture` when the weights at hand are of another training, `none` when
    Keras lacks the architecture. `library_name` is then that of the `nearest` network, and `timm` the name here of the
    very architecture on torch, where timm has it.
    """

    name: str
    tasks: frozenset[Task]
    family: Family
    library: Literal["timm", "torchvision", "kubesight", "keras"]
    library_name: str
    size: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    match: Match = "exact"
    nearest: str = ""
    timm: str = ""

    @property
    def framework(self) -> Literal["torch", "tensorflow"]:
        """What trains it."""
        return "tensorflow" if self.library == "keras" else "torch"


def _classifier(name: str, timm_name: str, family: Family = "convnet", size: int | None = None) -> ModelSpec:
    return ModelSpec(name, CLASSIFICATION_TASKS, family, "timm", timm_name, size)


_DEPTHS = (18, 34, 50, 101, 152)
_DETECTION = frozenset({Task.DETECTION})
_SEGMENTATION = frozenset({Task.SEGMENTATION})

_DETECTORS: dict[str, tuple[Family, frozenset[Task]]] = {
    "fasterrcnn_": ("fasterrcnn", _DETECTION),
    "retinanet_": ("retinanet", _DETECTION),
    "fcos_": ("fcos", _DETECTION),
    "ssd": ("ssd", _DETECTION),
    "maskrcnn_": ("maskrcnn", _SEGMENTATION),
}
"""How torchvision's names of detectors begin."""


def _rcnn(family: Family, tasks: frozenset[Task], depth: int) -> ModelSpec:
    """Faster or Mask R-CNN on a ResNet; torchvision puts them together for 50 layers."""
    name = f"{family}_resnet{depth}_fpn"
    return ModelSpec(name, tasks, family, "torchvision", name if depth == 50 else f"resnet{depth}")


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
    *(_rcnn("fasterrcnn", _DETECTION, depth) for depth in _DEPTHS),
    ModelSpec("retinanet_resnet50_fpn", _DETECTION, "retinanet", "torchvision", "retinanet_resnet50_fpn"),
    *(_rcnn("maskrcnn", _SEGMENTATION, depth) for depth in _DEPTHS),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}

PREFIXES = {
    "timm": "image classification by any network of timm",
    "keras": "image classification by any network of keras.applications, such as keras/EfficientNetB0; also by a model "
    "id of SageMaker's or its short name, such as keras/mobilenet-v2-035-96",
    "torchvision": "any detector of torchvision, such as fcos_resnet50_fpn; maskrcnn_... for instance segmentation",
    "fasterrcnn_timm": "object detection by a Faster R-CNN on any network of timm that has stages",
    "maskrcnn_timm": "instance segmentation by a Mask R-CNN on any network of timm that has stages",
}
"""Further models that `find_model` knows, as `PREFIX/NAME`, and what they do."""

DEFAULT_MODEL: dict[Task, str] = {
    Task.CLASSIFICATION: "seresnext",
    Task.MULTILABEL: "seresnext",
    Task.DETECTION: "fasterrcnn_resnet50_fpn",
    Task.SEGMENTATION: "maskrcnn_resnet50_fpn",
}


def keras_names() -> list[str]:
    """The networks of keras.applications and the short names of SageMaker's models, as `keras/NAME`."""
    return [f"keras/{name}" for name in (*APPS, *FRIENDLY)]


def find_model(name: str) -> ModelSpec:
    """The architecture behind a name of the job file.

    One of `MODELS`, `timm/NAME` and `keras/NAME` for classification, `torchvision/NAME` for any detector of
    torchvision, `fasterrcnn_timm/NAME` and `maskrcnn_timm/NAME` for these on any timm network with stages. A keras
    NAME is that of a function of keras.applications, a model id of SageMaker's, which also does without `keras/`, or
    its short name.

    Raises:
        ModelError: nobody knows the name; the nearest known ones are given.
    """
    if name in MODELS:
        return MODELS[name]
    if name in SAGEMAKER:
        return _keras_equivalent(name, SAGEMAKER[name])
    library, _, library_name = name.partition("/")
    if library_name:
        if library == "timm":
            return ModelSpec(name, CLASSIFICATION_TASKS, "timm", "timm", library_name)
        if library == "keras":
            return _keras_model(name, library_name)
        if library == "torchvision":
            return _torchvision_detector(name, library_name)
        if library == "fasterrcnn_timm":
            return ModelSpec(name, _DETECTION, "fasterrcnn", "timm", library_name)
        if library == "maskrcnn_timm":
            return ModelSpec(name, _SEGMENTATION, "maskrcnn", "timm", library_name)
    if name.startswith("tensorflow-ic-"):
        raise _unknown(name, list(SAGEMAKER))
    guesses = [f"{prefix}/{library_name}" for prefix in PREFIXES if library_name]
    raise _unknown(name, [*MODELS, *(guesses or keras_names())])


def _unknown(name: str, known: Sequence[str]) -> ModelError:
    lower = {each.lower(): each for each in reversed(known)}
    bare = {each.rpartition("/")[2]: full for each, full in lower.items()}  # a name that lacks its `keras/`
    near = difflib.get_close_matches(name.lower(), [*lower, *bare], n=3, cutoff=0.5)
    names = list(dict.fromkeys({**bare, **lower}[each] for each in near))
    hint = f"Did you mean {' or '.join(names)}?" if names else "`kubesight models` lists the names."
    return ModelError(f"unknown model name {name!r}", where="model_name", hint=hint)


def _keras_model(name: str, library_name: str) -> ModelSpec:
    if library_name in APPS:
        app = APPS[library_name]
        return ModelSpec(name, CLASSIFICATION_TASKS, "keras", "keras", app.name, app.size)
    found = SAGEMAKER.get(library_name) or FRIENDLY.get(library_name)
    if found is None:
        ids = [f"keras/{each}" for each in SAGEMAKER] if library_name.startswith("tensorflow-ic-") else []
        raise _unknown(name, ids or keras_names())
    return _keras_equivalent(name, found)


def _keras_equivalent(name: str, found: Equivalent) -> ModelSpec:
    return ModelSpec(
        name, CLASSIFICATION_TASKS, "keras", "keras", found.app or found.nearest.removeprefix("keras/"), found.size,
        found.options, found.match, found.nearest, found.timm,
    )  # fmt: skip


def _torchvision_detector(name: str, library_name: str) -> ModelSpec:
    """A detector of torchvision; whether there is one of this name is asked when it is built."""
    for start, (family, tasks) in _DETECTORS.items():
        if library_name.startswith(start):
            size = re.match(r"ssd(?:lite)?(\d+)", library_name)
            return ModelSpec(name, tasks, family, "torchvision", library_name, int(size[1]) if size else None)
    if library_name.startswith("keypointrcnn"):
        raise ModelError(
            f"{name} finds the key points of people, which no task here asks for",
            where="model_name",
            hint="Take a torchvision/fasterrcnn_... or torchvision/maskrcnn_... detector.",
        )
    raise ModelError(
        f"{name} is no detector of torchvision",
        where="model_name",
        hint=f"Their names begin with {', '.join(_DETECTORS)}; classification networks are timm/NAME.",
    )
