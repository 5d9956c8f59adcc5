"""Evaluation of classifiers, for one class a picture and for several."""

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
from kubesight.evaluate.output import METRICS_FILE, PREDICTIONS_FILE, describe_source, write_summary
from kubesight.evaluate.predictions import load_predictions
from kubesight.evaluate.report import render_report
from kubesight.evaluate.summary import summarise
from kubesight.modelcard import ModelCard
from kubesight.serving.classifier import Classifier
from kubesight.serving.predictor import load_predictor
from kubesight.storage.files import atomic_folder

SECONDS_BETWEEN_REMARKS = 10.0

_log = logging.getLogger(__name__)


def evaluate_classes(
    data: Path | str,
    output: Path | str,
    *,
    model: Path | str | None = None,
    predictions: Path | str | None = None,
    task: Task | None = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """Judge a model's answers, or those of a file, on a data set of either classification task.

    Args:
        data: the data set's folder.
        output: the folder to write; an earlier evaluation there is replaced, once this one is whole.
        model: a model folder. With `predictions` too, it is not run: it only tells the order of the classes.
        predictions: a file of predictions, as `kubesight.evaluate.prediction_files` reads it.
        task: what the data set must be for, or None for whatever it is for.
        batch_size: pictures that go through the model at a time; 32 when None.

    Returns:
        Metric name to finite value.

    Raises:
        ModelError: the model is for another task.
        DatasetError: the data set or the predictions cannot be judged.
    """
    truth = load_truth(data, task)
    card = None if model is None else _matching_card(model, truth)
    with atomic_folder(output, marker=METRICS_FILE) as folder:
        with open(folder / PREDICTIONS_FILE, "wb") as stream:
            if predictions is not None:
                answers = load_predictions(predictions, truth, card.classes if card else None)
                _write_answers(stream, answers)
            elif model is not None and card is not None:
                answers = _run_model(Path(model), card, truth, batch_size, stream)
        summary = summarise(answers) | describe_source(model, card, predictions)
        return write_summary(folder, summary, render_report(answers, summary))


def _matching_card(model: Path | str, truth: Truth) -> ModelCard:
    card = ModelCard.load(model)
    if card.task is not truth.dataset.task:
        raise ModelError(
            f"the model is for {card.task}, the data set {truth.dataset.path} for {truth.dataset.task}",
            where=str(model),
            hint="Evaluate on data of the model's task.",
        )
    return card


def _run_model(model: Path, card: ModelCard, truth: Truth, batch_size: int | None, stream: IO[bytes]) -> Answers:
    """Predict picture by picture, each answer written as it comes."""
    predictor = load_predictor(model, batch_size=batch_size)
    assert isinstance(predictor, Classifier)  # as the card's task says
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
