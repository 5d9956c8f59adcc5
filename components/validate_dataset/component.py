"""What is in a data set, and what is wrong with it."""

from kfp import dsl

from kubesight.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_dataset(
    dataset: dsl.Input[dsl.Dataset],
    validation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    check_images: bool = True,
) -> None:
    """Check a data set and report what it holds.

    Args:
        dataset: a kubesight data set.
        validation: gets `report.json` and `report.html`.
        report: the page, shown by the Kubeflow UI.
        metrics: counts: images, annotations, classes, unreadable and duplicate images, what was dropped.
        check_images: decode every picture.
    """
    import shutil
    from pathlib import Path

    from kubesight.dataset.validation import validate

    Path(validation.path).mkdir(parents=True, exist_ok=True)
    summary = validate([dataset.path], validation.path, check_images=check_images)
    shutil.copyfile(Path(validation.path) / "report.html", report.path)
    for name, value in summary.items():
        if isinstance(value, int):
            metrics.log_metric(name, value)
    for warning in summary["warnings"]:
        print(warning)
