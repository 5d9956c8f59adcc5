"""What every evaluation writes: `metrics.json`, `predictions.jsonl` and `report.html`."""

import logging
from pathlib import Path
from typing import Any

from kubesight.modelcard import ModelCard
from kubesight.storage.files import sha256_file, write_json

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.jsonl"
REPORT_FILE = "report.html"

_log = logging.getLogger(__name__)


def write_summary(folder: Path, summary: dict[str, Any], page: str) -> dict[str, float]:
    """Write the figures and the page, log the warnings, and give the metrics."""
    for warning in summary["warnings"]:
        _log.warning(warning)
    write_json(folder / METRICS_FILE, summary)
    (folder / REPORT_FILE).write_text(page, encoding="utf-8")
    metrics: dict[str, float] = summary["metrics"]
    return metrics


def describe_source(model: Path | str | None, card: ModelCard | None, predictions: Path | str | None) -> dict[str, Any]:
    """What gave the answers: `model` and `predictions`, either null when there was none."""
    described: dict[str, Any] = {"model": None, "predictions": None}
    if card is not None:
        described["model"] = {
            "path": str(model),
            "model_name": card.model_name,
            "framework": card.framework,
            "data": card.data,
        }
    if predictions is not None:
        described["predictions"] = {"path": str(predictions), "sha256": sha256_file(predictions)}
    return described
