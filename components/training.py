"""What the components that train share."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kubesight.components.settings import settings_of_form
from kubesight.components.summaries import training_markdown
from kubesight.errors import ModelError
from kubesight.train.trainer import train

if TYPE_CHECKING:
    from kfp import dsl

_FAMILIES = {
    **dict.fromkeys(("tensorflow", "keras"), "tensorflow"),
    **dict.fromkeys(("torch", "torchvision", "timm"), "torch"),
}
"""The image that has a package."""

_FRAMEWORKS = {"tensorflow": "TensorFlow", "torch": "torch"}


def train_step(
    training_data: "dsl.Dataset",
    validation_data: "dsl.Dataset",
    model: "dsl.Model",
    metrics: "dsl.Metrics",
    log: "dsl.Markdown",
    *,
    model_name: str,
    hyperparameters: str,
    weights: str,
    primary_metric: str,
    training_folder: str,
) -> None:
    """Train, and fill a component's outputs; the arguments are those of `train_model`.

    Raises:
        KubesightError: as `train`; or the image lacks the model's framework.
        SystemExit: the training was stopped; a retry goes on from its checkpoint.
    """
    folder = Path(training_folder or f"{model.path}.training")
    try:
        card = train(
            training_data.path,
            validation_data.path,
            folder,
            model_name=model_name,
            hyperparameters=settings_of_form(hyperparameters),
            weights=weights,
            primary_metric=primary_metric or None,
        )
    except ModuleNotFoundError as error:
        family = _FAMILIES.get((error.name or "").partition(".")[0])
        if family is None:
            raise
        raise ModelError(
            f"{model_name} is trained with {_FRAMEWORKS[family]}, which this image has not",
            where="model_name",
            hint=f"Run the step in the image kubesight-{family}.",
        ) from error
    if card is None:
        raise SystemExit("training was stopped before its end; a retry goes on from the last checkpoint")
    shutil.copytree(folder / "model", model.path, dirs_exist_ok=True)
    model.framework = card.framework
    model.metadata.update(task=str(card.task), model_name=card.model_name, classes=len(card.classes))
    for name, value in card.metrics.items():
        metrics.log_metric(name, value)
    Path(log.path).write_text(training_markdown(card, folder / "metrics.jsonl"), encoding="utf-8")
