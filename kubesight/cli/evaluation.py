"""The command `evaluate`: a model, or somebody's predictions, judged on labelled pictures of any format."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubesight.cli.options import number, show_metrics, task_named

if TYPE_CHECKING:
    from kubesight.dataset.rows import Task


def evaluate(
    context: typer.Context,
    data: Annotated[
        Path,
        typer.Option(help="A data set; or annotations of any format that convert reads.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[Path | None, typer.Option("--model", help="A model folder.", show_default=False)] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="A file of predictions; with --model, only its classes and settings are used.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What the data must be for; a COCO file needs it.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures at a time; 32, or what a detector was validated with.", min=1)
    ] = None,
    iou_threshold: Annotated[
        float | None, typer.Option(help="Overlap from which a detection is right; the model's, or 0.5.")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="Score at which precision and recall are given; the model's, or 0.3.")
    ] = None,
    voc_eleven_points: Annotated[
        bool, typer.Option("--voc-eleven-points", help="VOC's average precision by the rule of 2007.")
    ] = False,
    voc_inclusive_pixels: Annotated[
        bool, typer.Option("--voc-inclusive-pixels", help="VOC's boxes hold their last pixel, as in its devkit.")
    ] = False,
) -> None:
    """Judge a model, or somebody's predictions, on labelled pictures.

    Predictions of boxes and masks are COCO results (a JSON list) or JSON lines of ours or of Azure's endpoints. A COCO
    file of annotations is then taken exactly as it is; other annotations are converted first. The inference settings
    of a detector are flags too (`--tile-grid-size 2x2`), in place of those in its card.
    """
    from kubesight.hyperparameters import parse_flags

    overrides = parse_flags(context.args)
    from kubesight.evaluate.evaluate import evaluate as judge

    with _judgeable(data, task_named(task) if task else None, model, predictions) as arguments:
        metrics = judge(
            output=output,
            model=model,
            predictions=predictions,
            task=task,
            batch_size=batch_size,
            iou_threshold=iou_threshold,
            score_threshold=score_threshold,
            eleven_points=voc_eleven_points,
            inclusive_pixels=voc_inclusive_pixels,
            overrides=overrides,
            **arguments,
        )
    show_metrics(metrics, title=str(data))
    typer.echo(f"report: {output / 'report.html'}")


@contextlib.contextmanager
def _judgeable(
    data: Path, task: "Task | None", model: Path | None, predictions: Path | None
) -> Iterator[dict[str, Any]]:
    """The arguments that name the data: a data set, a COCO file, or the data set that a source was converted to."""
    from kubesight.dataset.dataset import INFO_FILE

    nothing_to_judge = model is None and predictions is None
    if nothing_to_judge or not data.exists() or (data / INFO_FILE).is_file():
        yield {"data": data}
    elif predictions is not None and data.suffix.lower() == ".json":
        from kubesight.convert.layout import picture_folders

        yield {"data": data, "pictures": picture_folders(data)}
    else:
        with tempfile.TemporaryDirectory() as folder:
            _convert(data, Path(folder) / "data", task)
            yield {"data": Path(folder) / "data", "data_name": str(data)}


def _convert(source: Path, output: Path, task: "Task | None") -> None:
    """Make a data set of a source, and say what it was found to be and what was not as it should be."""
    from kubesight.convert import convert
    from kubesight.dataset.report import Report

    dataset = convert(str(source), output, task=task)
    typer.echo(f"{source}: {dataset.task}, {number(dataset.info.counts['images'])} images", err=True)
    for severity, reasons in Report.load(output).reasons().items():
        found = ", ".join(f"{number(count)} {reason}" for reason, count in reasons.items())
        typer.echo(f"{severity}: {found}", err=True)
