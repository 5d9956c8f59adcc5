"""What a run leaves behind: stable names for its results, and a table of them."""

from pathlib import Path

import typer

from kubesight.cli.options import number, show_metrics
from kubesight.pipelines.local import link_folder
from kubesight.storage.files import read_json

RESULTS = {
    "dataset": "convert-dataset/dataset",
    "validation": "validate-dataset/validation",
    "split/train": "split-dataset/train",
    "split/validation": "split-dataset/validation",
    "split/test": "split-dataset/test",
    "evaluation": "evaluate-model/evaluation",
    "model": "export-model/exported",
}
"""Names below the output folder, and the steps' outputs that they stand for."""


def collect(folder: Path, output: Path) -> None:
    """Give the outputs of a run their stable names."""
    for name, place in RESULTS.items():
        link_folder(folder / place, output / name)


def show(output: Path, primary_metric: str, seconds: dict[str, float], whole: float, *, sweep: bool = False) -> None:
    """Print the metrics, how long each step took, and where to look."""
    summary = read_json(output / "evaluation" / "metrics.json")
    title = f"{number(summary['images'])} pictures of the {summary['data']['part']} part"
    show_metrics(summary["metrics"], title=title, first=primary_metric or summary["primary_metric"])
    steps = ", ".join(f"{name} {taken:.0f} s" for name, taken in seconds.items())
    typer.echo(f"{whole:.0f} s: {steps}")
    typer.echo(f"model: {output / 'model'}")
    if sweep:
        typer.echo(f"sweep report: {output / 'sweep' / 'report.html'}")
    typer.echo(f"data report: {output / 'validation' / 'report.html'}")
    typer.echo(f"report: {output / 'evaluation' / 'report.html'}")
