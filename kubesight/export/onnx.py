"""`model.onnx` from a trained model, written only when it agrees with it."""

from pathlib import Path
from typing import Any

from kubesight.export.graph import Export, sample_urls
from kubesight.modelcard import KERAS_FILE, ModelCard
from kubesight.models.keras import load_tensorflow
from kubesight.models.names import CLASSIFICATION_TASKS


def export(model: Path | str, *, data: Path | str | None = None, samples: int = 32) -> dict[str, Any]:
    """Write `model.onnx` into a model folder and its agreement with the trained model into the card.

    A classifier's file takes `images`, uint8 [n, size, size, 3] in RGB: the picture resized, and for torch cropped, as
    the card's preprocessing says. Any n will do. It gives `probabilities` and `logits`, float32 [n, classes].

    A detector's file takes `image`, uint8 [height, width, 3] in RGB: one picture of any size. It gives `boxes`,
    float32 [n, 4] (x0, y0, x1, y1 as fractions of width and height), `labels`, int64 [n] (class indices from 0),
    `scores`, float32 [n], and for segmentation `masks`, float32 [n, 28, 28] (probabilities on a grid over each box).
    They come by falling score, after suppression, at most `box_detections_per_image` of them; no score is too low.

    Args:
        model: a folder that `kubesight train` wrote.
        data: a data set whose pictures the two are compared on; by default the validation data that the card names,
            when it is still there, else random pixels.
        samples: how many pictures, at least 2, taken evenly over the data.

    Returns:
        The record as the card holds it under `onnx`.

    Raises:
        ModelError: the network cannot be exported, or its answers differ by more than the stated tolerance; nothing is
            written.
    """
    folder = Path(model)
    card = ModelCard.load(folder)
    kind, network = _opened(folder, card)
    samples = max(samples, 2)
    urls, source = sample_urls(card, data, samples)
    card.onnx = kind(network, card, urls, samples).run(folder, source)
    card.save(folder)
    return card.onnx


def _opened(folder: Path, card: ModelCard) -> tuple[type[Export], Any]:
    """How a model is exported, and its network; a container has the one framework or the other."""
    if card.framework == "tensorflow":
        load_tensorflow()
        from kubesight.export.keras_classification import KerasClassifierExport
        from kubesight.models.keras.network import load_network

        return KerasClassifierExport, load_network(folder / KERAS_FILE)
    from kubesight.export.detection import DetectorExport
    from kubesight.export.torch_classification import TorchClassifierExport
    from kubesight.models.build import load_trained

    network, _ = load_trained(folder)
    return (TorchClassifierExport if card.task in CLASSIFICATION_TASKS else DetectorExport), network


def describe(record: dict[str, Any]) -> str:
    """A record's agreement in a sentence."""
    if "detections" not in record:
        return (
            f"on {record['samples']} pictures its probabilities differ by {record['max_abs_difference']:.1e} at most, "
            f"and {record['agreement']:.0%} of its answers agree"
        )
    return (
        f"on {record['samples']} pictures {record['agreement']:.1%} of {record['detections']} boxes agree; scores "
        f"differ by {record['max_score_difference']:.1e} and corners by {record['max_box_difference']:.1e} pixels at "
        "most"
    )
