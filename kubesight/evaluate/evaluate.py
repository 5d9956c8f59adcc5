"""A model, or somebody's predictions, judged on a labelled data set.

The output folder holds `metrics.json` (what `summarise` gives), `predictions.jsonl` (one line a picture: `image_url`,
`label`, `predicted` and, where known, `probabilities` in the order of the model's classes) and `report.html`.
"""

import logging
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kubesight.dataset import Task
from kubesight.errors import ModelError
from kubesight.evaluate.answers import Answers, Truth, judge_probabilities, load_truth
from kubesight.evaluate.predictions import load_predictions
from kubesight.evaluate.report import render_report
from kubesight.evaluate.summary import summarise
from kubesight.modelcard import ModelCard
from kubesight.serving.predictor import load_predictor
from kubesight.storage.files import atomic_folder, sha256_file, write_json

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.jsonl"
REPORT_FILE = "report.html"
SECONDS_BETWEEN_REMARKS = 10.0

_log = logging.getLogger(__name__)


def evaluate(
    data: Path | str,
    output: Path | str,
    *,
    model: Path | str | None = None,
    predictions: Path | str | None = None,
    task: Task | str | None = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """Judge a model's answers, or those of a file, on a data set of either classification task.

    Classes are matched by name. A class of the data that the model does not know counts as missed, with a warning.

    Args:
        data: the data set's folder.
        output: the folder to write; an earlier evaluation there is replaced, once this one is whole.
        model: a model folder. With `predictions` too, it is not run: it only tells the order of the classes.
        predictions: a file of predictions, as `kubesight.evaluate.prediction_files` reads it.
        task: what the data set must be for, or None for whatever it is for.
        batch_size: pictures that go through the model at a time.

    Returns:
        Metric name to finite value.

    Raises:
        ModelError: neither a model nor predictions, or the model is for another task.
        DatasetError: the data set or the predictions cannot be judged.
        StorageError: a file cannot be read or written.
    """
    if model is None and predictions is None:
        raise ModelError("there is nothing to evaluate", hint="Give --model DIR or --predictions FILE.")
    truth = load_truth(data, task)
    card = None if model is None else _matching_card(model, truth)
    with atomic_folder(output, marker=METRICS_FILE) as folder:
        with open(folder / PREDICTIONS_FILE, "wb") as stream:
            if predictions is not None:
                answers = load_predictions(predictions, truth, card.classes if card else None)
                _write_answers(stream, answers)
            elif model is not None and card is not None:
                answers = _run_model(Path(model), card, truth, batch_size, stream)
        return _write_summary(folder, answers, _describe_model(model, card), _describe_predictions(predictions))


def _write_summary(
    folder: Path, answers: Answers, model: dict[str, Any] | None, predictions: dict[str, Any] | None
) -> dict[str, float]:
    """Write `metrics.json` and `report.html`, and give the metrics."""
    for warning in answers.warnings:
        _log.warning(warning)
    summary = {**summarise(answers), "model": model, "predictions": predictions}
    write_json(folder / METRICS_FILE, summary)
    (folder / REPORT_FILE).write_text(render_report(answers, summary), encoding="utf-8")
    metrics: dict[str, float] = summary["metrics"]
    return metrics


def _matching_card(model: Path | str, truth: Truth) -> ModelCard:
    card = ModelCard.load(model)
    if card.task is not truth.dataset.task:
        raise ModelError(
            f"the model is for {card.task}, the data set {truth.dataset.path} for {truth.dataset.task}",
            where=str(model),
            hint="Evaluate on data of the model's task.",
        )
    return card


def _run_model(model: Path, card: ModelCard, truth: Truth, batch_size: int, stream: IO[bytes]) -> Answers:
    """Predict picture by picture, each answer written as it comes."""
    predictor = load_predictor(model, batch_size=batch_size)
    probabilities = np.zeros((len(truth.urls), len(card.classes)))
    told = time.monotonic()
    for row, prediction in enumerate(predictor.predict(truth.urls)):
        probabilities[row] = prediction.probabilities
        predicted = [prediction.predicted] if isinstance(prediction.predicted, str) else prediction.predicted
        _write_line(stream, truth, row, predicted, prediction.probabilities)
        if time.monotonic() - told > SECONDS_BETWEEN_REMARKS:
            told = time.monotonic()
            _log.info("evaluated %d of %d pictures", row + 1, len(truth.urls))
    return judge_probabilities(truth, card.classes, probabilities)


def _write_answers(stream: IO[bytes], answers: Answers) -> None:
    index = {name: k for k, name in enumerate(answers.classes)}
    columns = [index[name] for name in answers.known]
    for row in range(len(answers.truth.urls)):
        vector = None if answers.probabilities is None else answers.probabilities[row, columns]
        _write_line(stream, answers.truth, row, answers.predicted_names(row), vector)


def _write_line(
    stream: IO[bytes], truth: Truth, row: int, predicted: list[str], probabilities: NDArray[Any] | None
) -> None:
    names = truth.names[row]
    value: dict[str, Any] = {"image_url": truth.urls[row], "label": names if truth.multilabel else names[0]}
    if probabilities is not None:
        value["probabilities"] = probabilities
    value["predicted"] = predicted if truth.multilabel else predicted[0]
    stream.write(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))


def _describe_model(model: Path | str | None, card: ModelCard | None) -> dict[str, Any] | None:
    if card is None:
        return None
    return {"path": str(model), "model_name": card.model_name, "framework": card.framework, "data": card.data}


def _describe_predictions(predictions: Path | str | None) -> dict[str, Any] | None:
    if predictions is None:
        return None
    return {"path": str(predictions), "sha256": sha256_file(predictions)}
