"""Commands on the whole pipelines: run, compile, submit, demo. A job with a search space is a sweep."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    from kubesight.job import Job

log = logging.getLogger("kubesight")

JobFile = Annotated[Path, typer.Argument(help="A job file.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(run)
    app.command(name="compile")(compile_pipeline)
    app.command()(submit)
    app.command()(demo)


def run(
    job: JobFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
) -> None:
    """Run the whole pipeline on this machine, without a cluster: one training, or a sweep."""
    _run(job, output)


def compile_pipeline(
    job: Annotated[
        str, typer.Argument(help="A job file; or `train` or `sweep`: that pipeline without a job's values.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The YAML file to write.", show_default=False)],
) -> None:
    """Write the pipeline as YAML for Kubeflow; a job's values become the form's defaults."""
    if job in ("train", "sweep"):
        from kubesight.pipelines.cluster import write_package

        write_package(_pipeline(sweep=job == "sweep"), {}, output)
    else:
        loaded = load_with_notices(Path(job))
        parameters = _parameters(loaded)
        _say_unused(loaded)
        if loaded.kubesight.resources.service_account:
            log.warning("kubesight.resources.service_account is not part of a package: name it when you start a run")
        from kubesight.pipelines.cluster import write_package

        write_package(_pipeline(sweep=loaded.is_sweep), parameters, output, resources=loaded.kubesight.resources)
    typer.echo(str(output))


def submit(
    job: JobFile,
    host: Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of Kubeflow Pipelines.")],
    namespace: Annotated[str | None, typer.Option(help="The profile's namespace.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Groups runs in the UI; the job's, or kubesight.")] = None,
    run_name: Annotated[str | None, typer.Option(help="The job's name and the time.")] = None,
    token: Annotated[str | None, typer.Option(envvar="KUBESIGHT_TOKEN", help="A bearer token.")] = None,
    cookies: Annotated[str | None, typer.Option(envvar="KUBESIGHT_COOKIES", help="authservice_session=...")] = None,
    ca_cert: Annotated[Path | None, typer.Option(help="Certificates to trust.")] = None,
    caching: Annotated[bool, typer.Option(help="Take results of equal steps of earlier runs.")] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; fail when the run fails.")] = False,
) -> None:
    """Run the same pipeline on Kubeflow."""
    loaded = load_with_notices(job)
    parameters = _parameters(loaded)
    _say_unused(loaded)
    from kubesight.pipelines.cluster import Api, submit_run

    url = submit_run(
        Api(host, namespace, token, cookies, ca_cert),
        _pipeline(sweep=loaded.is_sweep),
        parameters,
        experiment=experiment or loaded.experiment_name or "kubesight",
        run_name=run_name or f"{loaded.display_name or loaded.name or job.stem} {time.strftime('%Y-%m-%d %H:%M:%S')}",
        caching=caching,
        wait=wait,
        resources=loaded.kubesight.resources,
    )
    typer.echo(url)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("demo"),
) -> None:
    """Run the whole pipeline on handwritten digits: no network, no cluster."""
    from kubesight.cli.demo import write_demo

    job = write_demo(output)
    typer.echo(f"the pictures and {job} are written", err=True)
    _run(job, output / "results")


def _run(job: Path, output: Path) -> None:
    loaded = load_with_notices(job)
    arguments = _parameters(loaded)
    from kubesight.cli.results import collect, show
    from kubesight.pipelines.local import run_locally

    output = output.absolute()
    if loaded.is_sweep:
        # Here means here, also in a notebook's pod.
        arguments |= {"sweep_folder": str(output / "sweep"), "engine": "local"}
    else:
        arguments |= {"training_folder": str(output / "training")}
    began = time.monotonic()
    folder, seconds = run_locally(_pipeline(sweep=loaded.is_sweep), arguments, output)
    collect(folder, output)
    show(output, loaded.primary_metric, seconds, time.monotonic() - began, sweep=loaded.is_sweep)


def load_with_notices(path: Path) -> "Job":
    """Read a job file, and say what in it has no effect."""
    from kubesight.job import load_job

    job = load_job(path)
    for notice in job.notices:
        log.warning("%s", notice)
    return job


def _say_unused(job: "Job") -> None:
    """Warn of resources that KFP has no field for; a sweep's trials have them all."""
    resources = job.kubesight.resources
    for name in ("priority_class", "secret", "nodes"):
        if not job.is_sweep and getattr(resources, name) != type(resources).model_fields[name].default:
            log.warning("kubesight.resources.%s has no effect: it is for the trials of a sweep", name)


def _parameters(job: "Job") -> dict[str, Any]:
    from kubesight.pipelines.parameters import job_parameters

    return job_parameters(job)


def _pipeline(*, sweep: bool) -> "BaseComponent":
    if sweep:
        from kubesight.pipelines.sweep import sweep_pipeline

        return sweep_pipeline
    from kubesight.pipelines.train import train_pipeline

    return train_pipeline
