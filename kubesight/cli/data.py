"""Commands on data sets: convert, validate, split."""

from pathlib import Path
from typing import Annotated

import typer

from kubesight.cli.options import number, pairs, show_table, task_named

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(convert)
    app.command()(validate)
    app.command()(split)


def convert(
    source: Annotated[str, typer.Argument(help="A folder or file of annotations.", show_default=False)],
    output: Output,
    task: Annotated[str | None, typer.Option(help="image_classification, ... ; what the source says.")] = None,
    format: Annotated[str, typer.Option(help="auto, folder, coco, voc, csv, jsonl, ...")] = "auto",
    validation_source: Annotated[str | None, typer.Option(help="Annotations of the validation part.")] = None,
    test_source: Annotated[str | None, typer.Option(help="Annotations of the test part.")] = None,
    max_dropped: Annotated[float, typer.Option(help="Share of images or labels that may be dropped.")] = 0.05,
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first thing to drop.")] = False,
    check_images: Annotated[bool, typer.Option("--check-images", help="Decode every picture.")] = False,
    url_prefix: Annotated[
        list[str] | None, typer.Option(help="FROM=TO, a URL prefix to replace (AmlDatastore://...); repeatable.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, an option of the format; repeatable.")] = None,
) -> None:
    """Convert labelled pictures of any format to a data set."""
    from kubesight.convert import convert as convert_source
    from kubesight.dataset.report import Report

    dataset = convert_source(
        source,
        output,
        task=task_named(task) if task else None,
        format=format,
        validation_source=validation_source,
        test_source=test_source,
        max_dropped=max_dropped,
        strict=strict,
        check_images=check_images,
        url_prefixes=pairs(url_prefix or [], "--url-prefix"),
        options=pairs(option or [], "--option"),
        progress=True,
    )
    counts = dataset.info.counts
    typer.echo(
        f"{output}: {dataset.task}, {number(counts['images'])} images, {number(counts['annotations'])} labels, "
        f"{number(len(dataset.classes))} classes"
    )
    for severity, reasons in Report.load(dataset.path).reasons().items():
        typer.echo(f"{severity}: {', '.join(f'{number(count)} {reason}' for reason, count in reasons.items())}")


def validate(
    datasets: Annotated[list[Path], typer.Argument(help="A data set, or the parts of a split.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the report goes.")] = None,
    check_images: Annotated[bool, typer.Option(help="Decode every picture.")] = True,
) -> None:
    """Report what a data set holds and what is wrong with it."""
    from kubesight.dataset.validation import validate as validate_datasets

    summary = validate_datasets(datasets, output, check_images=check_images, progress=True)
    for name, value in summary.items():
        if isinstance(value, int | str) and name != "report":
            typer.echo(f"{name.replace('_', ' ')}: {number(value)}")
    for warning in summary["warnings"]:
        typer.echo(f"- {warning}")
    typer.echo(f"report: {summary['report']}")


def split(
    dataset: Annotated[Path, typer.Argument(help="A data set.", show_default=False)],
    output: Output,
    split_ratio: Annotated[float, typer.Option(help="Share of the validation part, in [0, 1).")] = 0.2,
    test_ratio: Annotated[float, typer.Option(help="Share of the test part, in [0, 1).")] = 0.0,
    seed: Annotated[int, typer.Option(help="Source of chance.")] = 0,
) -> None:
    """Divide a data set into train, validation and test, with the classes in proportion."""
    from rich.table import Table

    from kubesight.split import split as split_dataset

    parts = split_dataset(dataset, output, split_ratio=split_ratio, test_ratio=test_ratio, seed=seed)
    table = Table("class", *(f"{name}" for name in parts), title=str(output))
    table.add_row("images", *(number(len(part)) for part in parts.values()), end_section=True)
    for name in parts["train"].classes:
        table.add_row(name, *(number(part.info.counts["per_class"][name]) for part in parts.values()))
    show_table(table)
