"""Commands on sweeps: tune runs one on this machine, experiment prints it for Katib."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubesight.cli.options import pairs
from kubesight.errors import JobError

if TYPE_CHECKING:
    from kubesight.job import Job
    from kubesight.tune.katib.objects import Experiment

log = logging.getLogger("kubesight")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(tune)
    app.command()(experiment)


def tune(
    source: Annotated[Path, typer.Argument(help="A job file, or a Katib Experiment.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    volume: Annotated[
        list[str] | None, typer.Option(help="CLAIM=FOLDER: what a volume of the Experiment is here; repeatable.")
    ] = None,
    warm_start: Annotated[
        list[Path] | None, typer.Option(help="The folder of an earlier sweep to learn from; repeatable.")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="Trials at a time; as the Experiment says.", min=1)] = None,
    workers: Annotated[
        bool,
        typer.Option(
            "--warm/--cold", help="Start trials of `kubesight train` from a process with torch or TensorFlow loaded."
        ),
    ] = True,
) -> None:
    """Run a sweep on this machine, as Katib would on a cluster.

    Interrupted and started again, the same command keeps finished trials and goes on with the others.
    """
    output = output.absolute()
    volumes = {claim: Path(folder).absolute() for claim, folder in pairs(volume or [], "--volume").items()}
    read = _read(source, output)
    from kubesight.tune.live import LiveTable
    from kubesight.tune.report.page import summary, write_report
    from kubesight.tune.runner import run_sweep

    with LiveTable(read, output, parallel=parallel) as shown:
        result = run_sweep(
            read,
            output,
            volumes=volumes,
            warm_start=warm_start or (),
            parallel=parallel,
            observer=shown,
            warm_workers=workers,
        )
    write_report(output)
    typer.echo(summary(output))
    if not result.finished:
        raise typer.Exit(130)
    if result.status["conditions"][-1]["type"] == "Failed":
        raise JobError(f"the sweep failed: {result.reason}", where=str(output), hint="The report shows why.")


def experiment(
    job: Annotated[Path, typer.Argument(help="A job file.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The YAML file to write; standard output.")
    ] = None,
    training_data: Annotated[str | None, typer.Option(help="A data set, as trials see it.")] = None,
    validation_data: Annotated[str | None, typer.Option(help="A data set, as trials see it.")] = None,
    trials: Annotated[
        str | None, typer.Option(help="The folder that gets one folder a trial, as trials see it.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Where the Experiment is to run.")] = None,
) -> None:
    """Print the Katib Experiment of a job's sweep, for `kubectl apply` or `kubesight tune`."""
    from kubesight.storage.files import atomic_file
    from kubesight.tune.katib.render import to_yaml

    loaded = _load(job)
    training, validation = _seen_by_trials(loaded, training_data, validation_data)
    text = to_yaml(_document(loaded, training, validation, trials or _trials_folder(loaded), namespace))
    if output is None:
        typer.echo(text, nl=False)
        return
    with atomic_file(output, "w") as stream:
        stream.write(text)
    typer.echo(f"{output}: apply it with `kubectl apply -f`, or run it here with `kubesight tune`", err=True)


def _read(source: Path, output: Path) -> "Experiment":
    """The Experiment of a file, or the one that a job's sweep is; for that, the job's data are prepared."""
    from kubesight.tune.katib.experiment import read_experiment

    if _is_experiment(source):
        return read_experiment(source)
    job = _load(source)
    training, validation = _prepared(job, output)
    return read_experiment(_document(job, training, validation, str(output / "trials"), here=True))


def _is_experiment(path: Path) -> bool:
    """Whether a file holds Kubernetes objects rather than a job: those have `apiVersion`, jobs have none."""
    import yaml

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False  # load_job says what is wrong
    return any(isinstance(document, dict) and "apiVersion" in document for document in documents)


def _load(path: Path) -> "Job":
    from kubesight.cli.pipeline import load_with_notices

    job = load_with_notices(path)
    if not job.is_sweep:
        raise JobError(
            "the job trains once: it has no search_space, and limits.max_trials is 1",
            where=str(path),
            hint="Add them for a sweep, or use `kubesight run`.",
        )
    return job


def _document(
    job: "Job", training: str, validation: str, output: str, namespace: str | None = None, *, here: bool = False
) -> dict[str, Any]:
    from kubesight.job.plan import sweep_of
    from kubesight.tune.katib.render import experiment_of

    return experiment_of(
        sweep_of(job),
        training_data=training,
        validation_data=validation,
        output=output,
        weights=job.kubesight.model.weights,
        resources=job.kubesight.resources,
        namespace=namespace,
        here=here,
    )


def _prepared(job: "Job", output: Path) -> tuple[str, str]:
    """The job's data as two data sets, converted and split once for all trials."""
    from kubesight.convert import convert
    from kubesight.split import split

    data, validation = job.training_data.path, job.validation_data
    if _is_dataset(data) and validation is not None and _is_dataset(validation.path):
        return data, validation.path
    source = job.kubesight.source
    if not _is_dataset(data):
        log.info("converting %s", data)
        convert(
            data,
            output / "dataset",
            task=job.task,
            validation_source=validation.path if validation else None,
            test_source=job.test_data.path if job.test_data else None,
            **source.model_dump(),
        )
        data = str(output / "dataset")
    parts = split(
        data,
        output / "split",
        split_ratio=job.validation_data_size,
        test_ratio=job.test_ratio,
        seed=job.kubesight.split.seed,
    )
    log.info("split: %s", ", ".join(f"{len(part)} in {name}" for name, part in parts.items()))
    return str(output / "split" / "train"), str(output / "split" / "validation")


def _is_dataset(path: str) -> bool:
    from kubesight.dataset.dataset import INFO_FILE

    return (Path(path) / INFO_FILE).is_file()


def _seen_by_trials(job: "Job", training: str | None, validation: str | None) -> tuple[str, str]:
    """The two data sets of a job whose sweep is printed, not prepared: folders here, or on a volume of the trials."""
    from kubesight.tune.katib.pod import is_kept

    named: Mapping[str, str | None] = {
        "training_data": training or job.training_data.path,
        "validation_data": validation or (job.validation_data.path if job.validation_data else None),
    }
    for key, path in named.items():
        given = training if key == "training_data" else validation
        if path is None or not (given or _is_dataset(path) or is_kept(job.kubesight.resources, path)):
            raise JobError(
                f"{path} is no data set that trials can read" if path else "there is none, and trials share one split",
                where=key,
                hint="Make both with `kubesight convert` and `kubesight split`, and name them in the job, or as trials "
                f"see them by --{key.replace('_', '-')} (such as /data/{key.removesuffix('_data')}).",
            )
    return _absolute(str(named["training_data"])), _absolute(str(named["validation_data"]))


def _absolute(path: str) -> str:
    """A folder of this machine as a whole path; one that only trials see as it is."""
    return str(Path(path).absolute()) if _is_dataset(path) else path


def _trials_folder(job: "Job") -> str:
    from kubesight.job.plan import sweep_of
    from kubesight.tune.katib.render import experiment_name

    volumes = job.kubesight.resources.volumes
    if not volumes:
        raise JobError(
            "no volume is named that could keep what trials write",
            where="kubesight.resources.volumes",
            hint="Name one ({claim: kubesight-data, path: /data}), or the folder by --trials.",
        )
    return f"{volumes[0].path.rstrip('/')}/sweeps/{experiment_name(sweep_of(job))}"
