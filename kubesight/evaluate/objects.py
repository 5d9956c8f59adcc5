"""Evaluation of boxes and masks: of a detector, or of somebody's file of detections."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubesight.dataset import Task
from kubesight.errors import DatasetError, ModelError
from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_model import run_detector, write_detections
from kubesight.evaluate.object_predictions import read_detections
from kubesight.evaluate.object_report import render_object_report
from kubesight.evaluate.object_summary import ObjectSettings, deployment_settings, summarise_objects
from kubesight.evaluate.object_truth import ObjectTruth
from kubesight.evaluate.output import METRICS_FILE, PREDICTIONS_FILE, describe_source, write_summary
from kubesight.modelcard import ModelCard
from kubesight.serving.settings import inference_settings
from kubesight.storage.files import atomic_folder


def evaluate_objects(
    truth: ObjectTruth,
    output: Path | str,
    *,
    model: Path | str | None = None,
    predictions: Path | str | None = None,
    batch_size: int | None = None,
    settings: dict[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Judge what a detector, or a file, found in pictures whose objects are labelled.

    Args:
        truth: the labelled objects.
        output: the folder to write; an earlier evaluation there is replaced, once this one is whole.
        model: a model folder. With `predictions` too, it is not run: its classes and settings are used.
        predictions: a file that `kubesight.evaluate.object_predictions` reads.
        batch_size: pictures at a time; None for what the model was validated with.
        settings: fields of `ObjectSettings` to judge by in place of the model's.
        overrides: inference settings of the model in place of its card's.

    Returns:
        Metric name to finite value.

    Raises:
        ModelError: the model is for another task, or there is nothing to judge.
        DatasetError: the predictions cannot be judged.
    """
    card = None if model is None else _matching_card(model, truth)
    rules = ObjectSettings()
    if card is not None:
        inference = inference_settings(card, overrides) if overrides else card.inference
        rules = deployment_settings(card.hyperparameters, inference)
    rules = replace(rules, **(settings or {}))
    if card is not None:
        truth = _with_classes(truth, card)
    with atomic_folder(output, marker=METRICS_FILE) as folder:
        if predictions is not None:
            found, warnings = read_detections(Path(predictions), truth)
        elif model is not None and card is not None:
            found, warnings = run_detector(model, card, truth, batch_size, overrides), []
        with open(folder / PREDICTIONS_FILE, "wb") as stream:
            write_detections(stream, truth, found)
        answers = ObjectAnswers(
            dataset=truth.path,
            urls=truth.urls,
            classes=truth.classes,
            truth=truth.objects,
            found=found,
            masks=truth.masks,
            score_threshold=rules.score_threshold,
            iou_threshold=rules.iou_threshold,
            warnings=[*truth.warnings, *warnings],
        )
        summary = summarise_objects(answers, truth.data, rules) | describe_source(model, card, predictions)
        return write_summary(folder, summary, render_object_report(answers, summary))


def _matching_card(model: Path | str, truth: ObjectTruth) -> ModelCard:
    card = ModelCard.load(model)
    # A model that makes masks can be judged by its boxes.
    if card.task not in (truth.task, Task.SEGMENTATION):
        raise ModelError(
            f"the model is for {card.task}, the data {truth.path} for {truth.task}",
            where=str(model),
            hint="Evaluate on data of the model's task.",
        )
    return card


def _with_classes(truth: ObjectTruth, card: ModelCard) -> ObjectTruth:
    """The truth with the model's classes too, and a warning about those that the model does not know.

    Raises:
        DatasetError: it knows none of them.
    """
    lacking = [name for name in truth.classes if name not in card.classes]
    if len(lacking) == len(truth.classes):
        raise DatasetError(
            f"the model's classes ({', '.join(card.classes[:3])}, ...) and the data's ({', '.join(lacking[:3])}, ...) "
            "have none in common",
            where=truth.path,
            hint="Evaluate on data of the same classes.",
        )
    warnings = list(truth.warnings)
    if lacking:
        count = sum(int((truth.objects.label == truth.classes.index(name)).sum()) for name in lacking)
        warnings.append(
            f"The model does not know {len(lacking)} of the {len(truth.classes)} classes ({', '.join(lacking[:3])}); "
            f"their {count:,} objects count as missed."
        )
    return replace(truth.with_classes(card.classes), warnings=warnings)
