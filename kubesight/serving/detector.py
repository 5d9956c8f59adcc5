"""Object detection and instance segmentation: pictures in, boxes, scores and outlines out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from kubesight.dataset.detections import Detections, object_region
from kubesight.dataset.images import read_details, read_image
from kubesight.dataset.tiling import Grid, detect
from kubesight.dataset.urls import local_path
from kubesight.errors import ModelError
from kubesight.modelcard import ONNX_FILE, ModelCard
from kubesight.serving.ahead import read_ahead
from kubesight.serving.polygons import mask_outline
from kubesight.serving.sessions import Backend, open_session, torch_device
from kubesight.serving.settings import Settings

if TYPE_CHECKING:
    import onnxruntime

Network = Callable[[Sequence[np.ndarray]], list[Detections]]  # pictures, uint8 [height, width, 3], to what is found

EXPORTED_SETTINGS = ("nms_iou_threshold", "box_detections_per_image")
"""What is fixed inside an exported detector; its metadata says the values, under `inference`."""

_DECIMALS = 7


@dataclass(frozen=True)
class FoundObjects:
    """What a detector says of one picture, of the objects whose score is high enough.

    Attributes:
        url: the picture.
        height: of the picture as it is shown, in pixels.
        width: of the picture as it is shown, in pixels.
        found: the objects, by falling score.
        classes: the class names in index order.
        settings: the inference settings.
    """

    url: str
    height: int
    width: int
    found: Detections
    classes: Sequence[str]
    settings: Settings

    @property
    def labels(self) -> list[str]:
        """The objects' class names."""
        return [self.classes[index] for index in self.found.labels]

    def region(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        """An object's pixels: bool [rows, columns], and the place (x, y) of the first of them in the picture.

        Raises:
            ValueError: the model makes no masks.
        """
        if self.found.masks is None:
            raise ValueError("the model makes no masks")
        box = self.found.pixel_boxes(self.height, self.width)[index]
        threshold = self.settings["mask_pixel_score_threshold"]
        return object_region(self.found.masks[index], box, self.height, self.width, threshold)

    def polygon(self, index: int) -> list[list[float]]:
        """An object's outline: flat x, y rings as fractions of the picture, combined by XOR; none without pixels."""
        region, place = self.region(index)
        rings = mask_outline(region, self.settings["max_number_of_polygon_points"])
        return [_rounded(((ring + place) / (self.width, self.height)).ravel()) for ring in rings]

    def to_dict(self) -> dict[str, Any]:
        """The answer in the form of Azure AutoML's endpoints."""
        objects: list[dict[str, Any]] = []
        for index, label in enumerate(self.labels):
            corners = dict(zip(("topX", "topY", "bottomX", "bottomY"), _rounded(self.found.boxes[index]), strict=True))
            objects.append({"box": corners, "label": label, "score": _rounded(self.found.scores[index : index + 1])[0]})
            if self.found.masks is not None:
                objects[-1]["polygon"] = self.polygon(index)
        return {"image_url": self.url, "boxes": objects}


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(values.astype(np.float64), _DECIMALS).tolist()


@dataclass(frozen=True)
class _Picture:
    """`pixels` may be fewer than the picture's height times width: the codec shrinks large JPEGs."""

    pixels: np.ndarray
    height: int
    width: int


class Detector:
    """Runs a detector over pictures; `load_predictor` makes one from a model folder.

    Args:
        card: the model's card.
        network: what finds objects in pictures, of any score.
        settings: the inference settings, from `inference_settings`.
        batch_size: pictures at a time, where there are no tiles.
        threads: how many read pictures ahead of the network.
    """

    def __init__(
        self, card: ModelCard, network: Network, settings: Settings, *, batch_size: int = 1, threads: int = 1
    ) -> None:
        """Keep the parts; nothing is read before it is asked for."""
        self.card = card
        self.settings = settings
        self.batch_size = batch_size
        self.threads = threads
        self.grid = Grid.of(settings)
        self._network = network

    @property
    def classes(self) -> list[str]:
        """The class names in index order."""
        return self.card.classes

    def detections(self, url: str) -> Detections:
        """All that is found in one picture, whatever the score, up to `box_detections_per_image` objects.

        Raises:
            DatasetError: the picture cannot be read.
        """
        return next(self.all_detections([url]))

    def all_detections(self, urls: Iterable[str]) -> Iterator[Detections]:
        """The same of many pictures, in their order; some are read ahead of the network."""
        for _, _, found in self._found(urls):
            yield found

    def predict(self, urls: Iterable[str]) -> Iterator[FoundObjects]:
        """Read pictures, some ahead of the network, and say what is in them, in their order.

        Objects with a score below `box_score_threshold` are left out.

        Raises:
            DatasetError: a picture cannot be read; it is named.
        """
        threshold = self.settings["box_score_threshold"]
        for url, picture, found in self._found(urls):
            kept = found.select(found.scores >= threshold)
            yield FoundObjects(url, picture.height, picture.width, kept, self.classes, self.settings)

    def _found(self, urls: Iterable[str]) -> Iterator[tuple[str, _Picture, Detections]]:
        for batch in read_ahead(urls, self._read, threads=self.threads, batch_size=self.batch_size):
            pictures = [picture for _, picture in batch]
            for (url, picture), found in zip(batch, self._find([one.pixels for one in pictures]), strict=True):
                yield url, picture, found

    def _find(self, pictures: list[np.ndarray]) -> list[Detections]:
        limit = self.settings["box_detections_per_image"]
        if self.grid is None:
            return [found.select(slice(limit)) for found in self._network(pictures)]
        one = partial(_one, self._network)
        threshold = self.settings["tile_predictions_nms_threshold"]
        return [detect(one, picture, self.grid, threshold, limit) for picture in pictures]

    def _read(self, url: str) -> _Picture:
        # Tiles are for what is small: they are cut from the picture in full.
        pixels = read_image(url, min_size=None if self.grid else self.card.fit.min_size)
        path = local_path(url)
        details = read_details(path) if path else None
        height, width = pixels.shape[:2]
        return _Picture(pixels, (details and details.height) or height, (details and details.width) or width)


def _one(network: Network, picture: np.ndarray) -> Detections:
    return network([picture])[0]


def open_network(model_dir: Path, device: str | None, backend: Backend, settings: Settings) -> Network:
    """The network of a model folder; see `load_predictor`."""
    return (_onnx if backend == "onnx" else _torch)(model_dir, device, settings)


def _torch(model_dir: Path, device: str | None, settings: Settings) -> Network:
    import torch  # not needed to serve model.onnx

    from kubesight.models.build import load_trained
    from kubesight.models.detectors import detect_batch, set_inference

    module, _ = load_trained(model_dir, torch_device(device))
    set_inference(
        module,
        nms_iou_threshold=settings["nms_iou_threshold"],
        box_detections_per_image=settings["box_detections_per_image"],
    )

    def network(pictures: Sequence[np.ndarray]) -> list[Detections]:
        return detect_batch(module, [torch.from_numpy(np.ascontiguousarray(picture)) for picture in pictures])

    return network


def _onnx(model_dir: Path, device: str | None, settings: Settings) -> Network:
    session = open_session(model_dir, device)
    exported = orjson.loads(session.get_modelmeta().custom_metadata_map["inference"])
    _check_exported(exported, settings, model_dir)

    def network(pictures: Sequence[np.ndarray]) -> list[Detections]:
        return [onnx_detections(session, picture) for picture in pictures]

    return network


def onnx_detections(session: "onnxruntime.InferenceSession", picture: np.ndarray) -> Detections:
    """What an exported detector finds in a picture, uint8 [height, width, 3]."""
    return Detections(*session.run(None, {"image": np.ascontiguousarray(picture)}))


def _check_exported(exported: Settings, settings: Settings, model_dir: Path) -> None:
    """Refuse settings that the exported graph cannot heed. Fewer boxes than it gives are simply cut off."""
    overlap, limit = (settings[name] for name in EXPORTED_SETTINGS)
    if overlap == exported["nms_iou_threshold"] and limit <= exported["box_detections_per_image"]:
        return
    name = EXPORTED_SETTINGS[0] if overlap != exported["nms_iou_threshold"] else EXPORTED_SETTINGS[1]
    raise ModelError(
        f"{name} is {settings[name]}, but {ONNX_FILE} was exported with {exported[name]}, which is fixed inside",
        where=str(model_dir / ONNX_FILE),
        hint="Use the torch backend; or write the value into modelcard.json and run `kubesight export` again.",
    )
