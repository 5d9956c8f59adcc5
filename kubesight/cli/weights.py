"""The command `weights`: a mirror of Keras's published weights, for trainings without a network."""

from pathlib import Path
from typing import Annotated

import typer

from kubesight.cli.options import number


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(weights)


def weights(
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="keras/NAME, the names of weight files, or all.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The mirror's folder.", show_default=False)],
    source: Annotated[
        str | None,
        typer.Option(help="A folder or URL with the files under Keras's names, such as another mirror; Keras's own."),
    ] = None,
) -> None:
    """Make or extend a mirror of the weights that Keras publishes, for trainings without a network.

    The models' files without classifier are downloaded and checked by Keras's hashes; index.json gets their SHA-256.
    Files that are there and right stay. Trainings read the mirror where KUBESIGHT_KERAS_WEIGHTS names the folder, or
    the https:// address that serves it.
    """
    from kubesight.models.keras.mirror import mirror

    kept = mirror(names, output, source)
    for one in kept:
        typer.echo(f"{one.file}: {number(one.bytes)} bytes, {'fetched' if one.fetched else 'there already'}")
    typer.echo(f"{len(kept)} files in {output}. Set KUBESIGHT_KERAS_WEIGHTS={output.expanduser().resolve()} to use it.")
