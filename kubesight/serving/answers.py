"""The answers of `kubesight predict`: one dictionary a picture, with the files that belong to it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kubesight.errors import KubesightError
from kubesight.serving.classifier import Classifier
from kubesight.serving.detector import Detector
from kubesight.serving.files import FileNames, write_drawing, write_masks


def answers(
    predictor: Classifier | Detector,
    urls: Iterable[str],
    *,
    masks: Path | None = None,
    drawings: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Say what pictures show, in their order.

    Args:
        predictor: from `load_predictor`.
        urls: the pictures.
        masks: the folder for masks as pictures; wanted exactly when the model's `export_as_image` is true. Each object
            then has its file under `mask`.
        drawings: a folder for the pictures with what was found drawn on them, under `drawing`.

    Raises:
        KubesightError: a folder that nothing would be written to, or none where masks are to be written; a picture that
            cannot be read, a file that cannot be written.
    """
    if isinstance(predictor, Classifier):
        for option, folder in (("--output", masks), ("--draw", drawings)):
            if folder is not None:
                raise KubesightError("a classifier finds no objects to draw", where=option, hint=f"Leave {option} out.")
        for prediction in predictor.predict(urls):
            yield prediction.to_dict()
        return
    _check_folder(predictor, masks)
    names = FileNames()
    for found in predictor.predict(urls):
        answer, stem = found.to_dict(), names.stem(found.url)
        if masks is not None:
            for one, file in zip(answer["boxes"], write_masks(found, masks, stem), strict=True):
                one["mask"] = file
        if drawings is not None:
            answer["drawing"] = str(write_drawing(found, drawings, stem))
        yield answer


def _check_folder(predictor: Detector, masks: Path | None) -> None:
    wanted = bool(predictor.settings.get("export_as_image"))
    if masks is None and wanted:
        raise KubesightError(
            "export_as_image is true, but no folder is named for the masks", where="--output",
            hint="Add --output DIR, or --export-as-image false.",
        )  # fmt: skip
    if masks is not None and not wanted:
        hint = "Add --export-as-image true." if "export_as_image" in predictor.settings else "Leave --output out."
        raise KubesightError("nothing would be written there: masks are not exported", where="--output", hint=hint)
