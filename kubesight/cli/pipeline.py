"""Commands on the whole pipeline: run, compile, submit, demo."""

import time
from pathlib import Path
from typing import Annotated

import typer

Job = Annotated[Path, typer.Argument(help="A job file.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(run)
    app.command(name="compile")(compile_pipeline)
    app.command()(submit)
    app.command()(demo)


def run(
    job: Job,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
) -> None:
    """Run the whole pipeline on this machine, without a cluster."""
    from kubesight.job import load_job

    _run(load_job(job), output)


def compile_pipeline(
    job: Annotated[str, typer.Argument(help="A job file, or `train`: the pipeline without a job's values.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The YAML file to write.", show_default=False)],
) -> None:
    """Write the pipeline as YAML for Kubeflow; a job's values become the form's defaults."""
    from kubesight.pipelines.cluster import write_package

    write_package(_parameters(job), output)
    typer.echo(str(output))


def submit(
    job: Job,
    host: Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of Kubeflow Pipelines.")],
    namespace: Annotated[str | None, typer.Option(help="The profile's namespace.")] = None,
    experiment: Annotated[str, typer.Option(help="Groups runs in the Kubeflow UI.")] = "kubesight",
    run_name: Annotated[str | None, typer.Option(help="The job's name and the time.")] = None,
    token: Annotated[str | None, typer.Option(envvar="KUBESIGHT_TOKEN", help="A bearer token.")] = None,
    cookies: Annotated[str | None, typer.Option(envvar="KUBESIGHT_COOKIES", help="authservice_session=...")] = None,
    ca_cert: Annotated[Path | None, typer.Option(help="Certificates to trust.")] = None,
    caching: Annotated[bool, typer.Option(help="Take results of equal steps of earlier runs.")] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; fail when the run fails.")] = False,
) -> None:
    """Run the same pipeline on Kubeflow."""
    from kubesight.pipelines.cluster import submit_run

    url = submit_run(
        _parameters(str(job)),
        host=host,
        namespace=namespace,
        experiment=experiment,
        run_name=run_name or f"{job.stem} {time.strftime('%Y-%m-%d %H:%M:%S')}",
        token=token,
        cookies=cookies,
        ca_cert=ca_cert,
        caching=caching,
        wait=wait,
    )
    typer.echo(url)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("demo"),
) -> None:
    """Run the whole pipeline on handwritten digits: no network, no cluster."""
    from kubesight.cli.demo import write_demo
    from kubesight.job import load_job

    job = write_demo(output)
    typer.echo(f"1,797 digits and {job}")
    _run(load_job(job), output / "results")


def _run(job: "Job", output: Path) -> None:
    from kubesight.cli.results import collect, show
    from kubesight.pipelines.local import run_locally
    from kubesight.pipelines.parameters import job_parameters
    from kubesight.pipelines.train import train_pipeline

    output = output.absolute()
    began = time.monotonic()
    arguments = {**job_parameters(job), "training_folder": str(output / "training")}
    folder, seconds = run_locally(train_pipeline, arguments, output)
    collect(folder, output)
    show(output, seconds, time.monotonic() - began)


def _parameters(job: str) -> dict[str, object]:
    if job == "train":
        return {}
    from kubesight.job import load_job
    from kubesight.pipelines.parameters import job_parameters

    return job_parameters(load_job(Path(job)))
