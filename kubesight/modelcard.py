"""The model folder: `modelcard.json` says all that is needed to use the weights beside it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.storage.files import read_json, write_json

CARD_FILE = "modelcard.json"
WEIGHTS_FILE = "weights.safetensors"
ONNX_FILE = "model.onnx"
LABELS_FILE = "labels.json"
KERAS_FILE = "model.keras"
SAVED_MODEL_FOLDER = "saved_model"
LABELS_INFO_FILE = "labels_info.json"
LABEL_INDEX_FILE = "class_label_to_prediction_index.json"

Interpolation = Literal["bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"]
Triple = tuple[float, float, float]


class Preprocessing(BaseModel):
    """What torch networks' inputs share: values go from 0..255 to 0..1, then to (value - mean) / std, by channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)


class CropPreprocessing(Preprocessing):
    """From an RGB picture to a classifier's input, the same in evaluation, export and serving.

    The picture's short side becomes `resize_size` pixels (area averaging when it shrinks, bilinear when it grows), and
    its centre `crop_size` by `crop_size` pixels are cut out.
    """

    resize_size: int = Field(256, gt=0)
    crop_size: int = Field(224, gt=0)


class FitPreprocessing(Preprocessing):
    """From an RGB picture to a detector's input, the same in training, evaluation, export and serving.

    The whole picture is resized (bilinear, inside the network) so that its short side has `min_size` pixels, or fewer
    when the long side would get more than `max_size`.
    """

    min_size: int = Field(600, gt=0)
    max_size: int = Field(1333, gt=0)


class StretchPreprocessing(BaseModel):
    """From an RGB picture to a Keras classifier's input, the same in training, evaluation, export and serving.

    The whole picture becomes `size` by `size` pixels, whatever its aspect ratio, by `interpolation`, with
    antialiasing, and is rounded to bytes. `scaling` names what becomes of these bytes inside the network: what
    its own layers do (`built_in`), or `preprocess_input` of keras.applications in this mode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(224, gt=0)
    interpolation: Interpolation = "bilinear"
    scaling: Literal["built_in", "tf", "caffe", "torch"] = "tf"


def _kind(value: Any) -> str:
    fields = value if isinstance(value, dict) else type(value).model_fields
    return "fit" if "min_size" in fields else "stretch" if "interpolation" in fields else "crop"


_AnyPreprocessing = Annotated[
    Annotated[CropPreprocessing, Tag("crop")]
    | Annotated[FitPreprocessing, Tag("fit")]
    | Annotated[StretchPreprocessing, Tag("stretch")],
    Discriminator(_kind),
]


class ModelCard(BaseModel):
    """What `modelcard.json` holds.

    `inference` holds what a detector's users may change: thresholds, the limit of boxes, tiles, how masks are written.
    `metrics` are those of the shipped weights on the validation part. `data` names the training and validation sets'
    content hashes. `weights` says where training started from, `training` how it went (epochs, the best one). `onnx` is
    the agreement record, once exported.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format_version: Literal[1] = 1
    task: Task
    model_name: str
    framework: Literal["torch", "tensorflow"] = "torch"
    classes: list[str]
    preprocessing: _AnyPreprocessing
    inference: dict[str, Any] = {}
    hyperparameters: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    data: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    training: dict[str, Any] = {}
    onnx: dict[str, Any] | None = None
    versions: dict[str, str] = {}

    @property
    def crop(self) -> CropPreprocessing:
        """The preprocessing of a torch classifier.

        Raises:
            ModelError: the model is something else.
        """
        if not isinstance(self.preprocessing, CropPreprocessing):
            raise self._is_not("a torch classifier")
        return self.preprocessing

    @property
    def fit(self) -> FitPreprocessing:
        """The preprocessing of a detector.

        Raises:
            ModelError: the model is something else.
        """
        if not isinstance(self.preprocessing, FitPreprocessing):
            raise self._is_not("a detector")
        return self.preprocessing

    @property
    def stretch(self) -> StretchPreprocessing:
        """The preprocessing of a Keras classifier.

        Raises:
            ModelError: the model is something else.
        """
        if not isinstance(self.preprocessing, StretchPreprocessing):
            raise self._is_not("a Keras classifier")
        return self.preprocessing

    @property
    def binary(self) -> bool:
        """Whether the network has one output, of whose logit the logistic function is the second class's probability.

        Both classes have a probability nevertheless, wherever answers are given.
        """
        return bool(self.hyperparameters.get("binary_mode", False))

    def _is_not(self, kind: str) -> ModelError:
        return ModelError(f"{self.model_name} ({self.framework}, {self.task}) is not {kind}", where=CARD_FILE)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read the card of a model folder.

        Raises:
            ModelError: there is none, or it is not one.
        """
        where = Path(folder) / CARD_FILE
        if not where.is_file():
            raise ModelError("no model here", where=str(where), hint="Name a folder that `kubesight train` wrote.")
        try:
            return cls.model_validate(read_json(where))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"] if part not in ("crop", "fit", "stretch"))
            raise ModelError(f"{field}: {first['msg']}", where=str(where)) from error

    def save(self, folder: Path | str) -> None:
        """Write the card and `labels.json` (the class names in index order)."""
        folder = Path(folder)
        write_json(folder / LABELS_FILE, self.classes)
        write_json(folder / CARD_FILE, self.model_dump(mode="json"))
