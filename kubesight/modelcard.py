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

Triple = tuple[float, float, float]


class Preprocessing(BaseModel):
    """What every network's input shares: values go from 0..255 to 0..1, then to (value - mean) / std, by channel."""

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


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "fit" if "min_size" in value else "crop"
    return "fit" if isinstance(value, FitPreprocessing) else "crop"


_AnyPreprocessing = Annotated[
    Annotated[CropPreprocessing, Tag("crop")] | Annotated[FitPreprocessing, Tag("fit")], Discriminator(_kind)
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
        """A classifier's preprocessing.

        Raises:
            ModelError: the model is a detector.
        """
        if not isinstance(self.preprocessing, CropPreprocessing):
            raise ModelError(f"{self.model_name} is for {self.task}, not for classification", where=CARD_FILE)
        return self.preprocessing

    @property
    def fit(self) -> FitPreprocessing:
        """A detector's preprocessing.

        Raises:
            ModelError: the model is a classifier.
        """
        if not isinstance(self.preprocessing, FitPreprocessing):
            raise ModelError(f"{self.model_name} is for {self.task}, not for detection", where=CARD_FILE)
        return self.preprocessing

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
            field = ".".join(str(part) for part in first["loc"] if part not in ("crop", "fit"))
            raise ModelError(f"{field}: {first['msg']}", where=str(where)) from error

    def save(self, folder: Path | str) -> None:
        """Write the card and `labels.json` (the class names in index order)."""
        folder = Path(folder)
        write_json(folder / LABELS_FILE, self.classes)
        write_json(folder / CARD_FILE, self.model_dump(mode="json"))
