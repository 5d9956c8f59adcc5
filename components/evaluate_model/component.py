"""A model judged on pictures that it was not trained on."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_model(
    model: dsl.Input[dsl.Model],
    validation_data: dsl.Input[dsl.Dataset],
    test_data: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    batch_size: int = 0,
) -> None:
    """Evaluate a model on the test part, or on the validation part when there is no test part.

    Args:
        model: the model folder.
        validation_data: the validation part.
        test_data: the test part, perhaps empty.
        evaluation: gets `metrics.json`, `predictions.jsonl` and `report.html`.
        metrics: all metrics.
        classification: the confusion matrix (up to 45 classes), a detector's with the background; the ROC curve.
        report: the page, shown by the Kubeflow UI.
        batch_size: pictures at a time; 0 takes 32 for a classifier, and what training validated with for a detector.
    """
    import json
    import shutil
    from pathlib import Path

    from kubesight.dataset import Dataset
    from kubesight.evaluate.evaluate import evaluate

    data = test_data if len(Dataset(test_data.path)) else validation_data
    values = evaluate(data.path, evaluation.path, model=model.path, batch_size=batch_size or None)
    for name, value in values.items():
        metrics.log_metric(name, value)
    summary = json.loads((Path(evaluation.path) / "metrics.json").read_text())
    if "confusion_matrix" in summary:
        classification.log_confusion_matrix(
            summary["confusion_matrix"]["classes"], summary["confusion_matrix"]["matrix"]
        )
    if "roc" in summary:
        classification.log_roc_curve(summary["roc"]["fpr"], summary["roc"]["tpr"], summary["roc"]["threshold"])
    evaluation.metadata.update(part=summary["data"]["part"], images=summary["images"])
    shutil.copyfile(Path(evaluation.path) / "report.html", report.path)
