"""Commands on models: train, predict, export, models, hyperparameters; `evaluate` has its own file."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from kubesight.cli.evaluation import evaluate
from kubesight.cli.options import number, show_table, task_named
from kubesight.errors import KubesightError

Model = Annotated[Path, typer.Option("--model", help="A model folder.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; a GPU when there is one.")]

_FREE_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(context_settings=_FREE_FLAGS)(train)
    app.command(context_settings=_FREE_FLAGS)(evaluate)
    app.command(context_settings=_FREE_FLAGS)(predict)
    app.command()(export)
    app.command()(models)
    app.command()(hyperparameters)


def train(
    context: typer.Context,
    training_data: Annotated[Path, typer.Option(help="A data set.", show_default=False)],
    validation_data: Annotated[Path, typer.Option(help="A data set.", show_default=False)],
    output: Output,
    model_name: Annotated[
        str | None, typer.Option(help="A name of `kubesight models`, or PREFIX/NAME.", show_default=False)
    ] = None,
    weights: Annotated[str, typer.Option(help="default, none, a path or a URL.")] = "default",
    primary_metric: Annotated[str | None, typer.Option(help="Chooses the best epoch; the task's own.")] = None,
    device: Device = None,
    metrics_file: Annotated[Path | None, typer.Option(help="Where metric lines go; standard output.")] = None,
    processes: Annotated[int | None, typer.Option(help="Processes that train together; one a GPU.", min=1)] = None,
    alternative: Annotated[
        list[str] | None, typer.Option(help="Settings of one group of a sweep, NAME=VALUE ...; may be repeated.")
    ] = None,
    choose: Annotated[int | None, typer.Option(help="Which alternative counts, from 0; the first.")] = None,
    early_termination: Annotated[
        str | None, typer.Option(help="A sweep's policy as JSON; folders beside the output are its other trials.")
    ] = None,
    stop_by: Annotated[
        Literal["exit", "guard"], typer.Option(help="guard: once stopped, wait for Katib's SIGTERM before the end.")
    ] = "exit",
    discard_checkpoints: Annotated[
        bool, typer.Option("--discard-checkpoints", help="Once finished, keep only the model and histories.")
    ] = False,
) -> None:
    """Train a model; every hyperparameter is a flag too (`--learning-rate 0.01`).

    Started again after an interruption, the same command goes on from the last checkpoint. `kubesight hyperparameters
    MODEL` lists the flags.
    """
    from kubesight.hyperparameters.flags import chosen_settings
    from kubesight.sweep.policies import parse_policy

    # Before the import of torch, so that a typo is answered at once.
    model_name, settings = chosen_settings(context.args, alternative or [], choose, model_name=model_name)
    if early_termination is not None:
        parse_policy(early_termination)
    from kubesight.train.trainer import train as train_model

    train_model(
        training_data,
        validation_data,
        output,
        model_name=model_name,
        hyperparameters=settings,
        weights=weights,
        primary_metric=primary_metric,
        device=device,
        metrics_file=metrics_file,
        processes=processes,
        early_termination=early_termination,
        stop_by=stop_by,
        discard_checkpoints=discard_checkpoints,
    )


def predict(
    images: Annotated[list[str], typer.Argument(help="Picture files or URLs.", show_default=False)],
    model: Model,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures at a time; 32, or 1 for a detector.", min=1, show_default=False)
    ] = None,
    device: Device = None,
    backend: Annotated[
        Literal["torch", "tensorflow", "onnx"] | None,
        typer.Option(help="onnx runs the exported model; by default what trained it.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where masks are written, with --export-as-image true.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(help="Where pictures are written with the objects drawn.")] = None,
) -> None:
    """Say what pictures show, one JSON line a picture.

    The inference settings of a detector are flags too (`--box-score-threshold 0.5`), in place of those in its card.
    """
    import orjson

    from kubesight.hyperparameters import parse_flags

    flags, names = _flags_apart(images)
    overrides = parse_flags(flags)
    if not names:
        raise KubesightError("no picture is named", where="predict", hint="Give picture files or URLs.")
    from kubesight.dataset.urls import absolute_url
    from kubesight.serving.answers import answers
    from kubesight.serving.predictor import load_predictor

    predictor = load_predictor(model, device=device, batch_size=batch_size, backend=backend, overrides=overrides)
    urls = (absolute_url(name, Path.cwd()) for name in names)
    for answer in answers(predictor, urls, masks=output, drawings=draw):
        sys.stdout.write(orjson.dumps(answer).decode() + "\n")
        sys.stdout.flush()


def _flags_apart(words: list[str]) -> tuple[list[str], list[str]]:
    """Free flags with their values, and what is left: the picture files, wherever they stand."""
    flags, names = [], []
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            names.append(word)
            continue
        flags.append(word)
        if "=" not in word:
            flags += [value for value in [next(rest, None)] if value is not None]
    return flags, names


def export(
    model: Model,
    data: Annotated[Path | None, typer.Option(help="Pictures to compare on; the validation data.")] = None,
    samples: Annotated[int, typer.Option(help="How many of them.", min=2)] = 32,
) -> None:
    """Write model.onnx, checked against the trained model."""
    from kubesight.export.onnx import describe
    from kubesight.export.onnx import export as export_model

    record = export_model(model, data=data, samples=samples)
    typer.echo(f"{model / record['file']}: {number(record['bytes'])} bytes; {describe(record)}")


def models(
    task: Annotated[str | None, typer.Argument(help="Only the models of this task.")] = None,
    keras: Annotated[bool, typer.Option("--keras", help="The networks of keras.applications.")] = False,
    sagemaker: Annotated[
        bool, typer.Option("--sagemaker", help="SageMaker's model ids and what they are here.")
    ] = False,
) -> None:
    """List the names that `--model-name` and a job file take."""
    if keras or sagemaker:
        if task or (keras and sagemaker):
            raise KubesightError("only one list at a time", where="models", hint="Name a task, --keras or --sagemaker.")
        _list_sagemaker() if sagemaker else _list_keras()
        return
    from rich.table import Table

    from kubesight.models.names import DEFAULT_MODEL, MODELS, PREFIXES

    wanted = task_named(task) if task else None
    table = Table("model_name", "tasks", "library", "its name there", "input size")
    table.columns[0].no_wrap = True
    for spec in MODELS.values():
        if wanted is None or wanted in spec.tasks:
            mark = " (default)" if spec.name in DEFAULT_MODEL.values() else ""
            size = f"{spec.size} px" if spec.size else "any"
            table.add_row(spec.name + mark, "\n".join(sorted(spec.tasks)), spec.library, spec.library_name, size)
    show_table(table)
    for prefix, what in PREFIXES.items():
        typer.echo(f"{prefix}/NAME: {what}")
    typer.echo("kubesight models --keras and --sagemaker list the names that keras/ takes")


def _list_keras() -> None:
    from rich.table import Table

    from kubesight.models.keras.apps import APPS

    table = Table("model_name", "input size", "pixel scaling", "features")
    for app in APPS.values():
        table.add_row(f"keras/{app.name}", f"{app.size} px", app.scaling, str(app.features))
    show_table(table)


def _list_sagemaker() -> None:
    """All ids, and for those without an equivalent the nearest network and the same one on torch."""
    from rich.table import Table

    from kubesight.models.keras.sagemaker import SAGEMAKER

    table = Table("model_id", "short name", "network here", "input size", "match")
    table.columns[0].no_wrap = True
    for each in SAGEMAKER.values():
        options = ", ".join(f"{name}={value:g}" for name, value in each.options if isinstance(value, float | int))
        network = f"keras/{each.app}" + (f" ({options})" if options else "")
        if each.app is None:
            network = f"none; nearest {each.nearest}" + (f", the same on torch {each.timm}" if each.timm else "")
        table.add_row(each.model_id, f"keras/{each.friendly}", network, f"{each.size} px", each.match)
    show_table(table)


def hyperparameters(
    model: Annotated[str | None, typer.Argument(help="A model's name; all hyperparameters without one.")] = None,
    task: Annotated[str | None, typer.Option(help="The task, where the model does several.")] = None,
) -> None:
    """Print the table of hyperparameters: what they do, their ranges and defaults."""
    from rich.table import Table

    from kubesight.hyperparameters import TABLE, rows_for
    from kubesight.models.names import find_model

    if model:
        rows = rows_for(model, task_named(task) if task else sorted(find_model(model).tasks)[0])
    else:
        wanted = task_named(task) if task else None
        rows = [row for row in TABLE.values() if wanted is None or wanted in (row.applies.tasks or {wanted})]
    table = Table("name", "default", "must be", "what it does", *([] if model else ["for"]))
    table.columns[0].no_wrap = True
    for row in rows:
        default = "" if row.default is None else str(row.default)
        table.add_row(row.name, default, row.allowed(), row.help, *([] if model else [str(row.applies)]))
    show_table(table)
