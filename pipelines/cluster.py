"""A pipeline for Kubeflow: written as a package, or handed to the API."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kfp
from kfp import compiler
from kfp_server_api import ApiException
from requests import RequestException
from urllib3.exceptions import HTTPError

from kubesight.errors import ClusterError
from kubesight.pipelines.train import train_pipeline
from kubesight.storage.files import atomic_file

log = logging.getLogger("kubesight")


def write_package(parameters: Mapping[str, Any], output: Path) -> None:
    """Write the training pipeline as YAML.

    Args:
        parameters: become the defaults of the run's form.
        output: the file; its name ends in .yaml or .yml.

    Raises:
        ClusterError: the name does not.
    """
    if output.suffix not in (".yaml", ".yml"):
        raise ClusterError("a pipeline package is a YAML file", where=str(output), hint="Name it train.yaml.")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(train_pipeline, str(file), pipeline_parameters=dict(parameters))
        text = file.read_text(encoding="utf-8")
    with atomic_file(output, "w") as stream:
        stream.write(text)


def submit_run(
    parameters: Mapping[str, Any],
    *,
    host: str,
    namespace: str | None,
    experiment: str,
    run_name: str,
    token: str | None = None,
    cookies: str | None = None,
    ca_cert: Path | None = None,
    caching: bool = True,
    wait: bool = False,
) -> str:
    """Start a run of the training pipeline on Kubeflow.

    Args:
        parameters: of the pipeline.
        host: URL of the API.
        namespace: of the profile; None for an installation without profiles.
        experiment: made when it does not exist.
        run_name: shown in the UI.
        token: a bearer token.
        cookies: of a browser's session, where a login page stands before the API.
        ca_cert: certificates to trust.
        caching: take results of equal steps of earlier runs.
        wait: return when the run has ended.

    Returns:
        the run's page.

    Raises:
        ClusterError: the API cannot be reached or refuses, or (with `wait`) the run failed.
    """
    source = str(parameters.get("source", ""))
    if Path(source).exists():
        log.warning("%s is a path of this machine: the run needs a volume that holds it at the same place", source)
    try:
        client = kfp.Client(
            host=host,
            namespace=namespace or "kubeflow",
            existing_token=token,
            cookies=cookies,
            ssl_ca_cert=str(ca_cert) if ca_cert else None,
        )
        run = client.create_run_from_pipeline_func(
            train_pipeline,
            arguments=dict(parameters),
            run_name=run_name,
            experiment_name=experiment,
            namespace=namespace,
            enable_caching=caching,
        )
        page = f"{host.rstrip('/')}/#/runs/details/{run.run_id}"
        if wait:
            log.info("waiting for %s", page)
            state = client.wait_for_run_completion(run.run_id, timeout=30 * 24 * 3600).state
            if state != "SUCCEEDED":
                raise ClusterError(f"the run ended as {state}", where=page)
    except ApiException as error:
        raise ClusterError(_refusal(error), where=host, hint=_advice(error.status)) from error
    except (RequestException, HTTPError, OSError) as error:
        raise ClusterError(f"cannot be reached: {error}", where=host, hint="Check --host.") from error
    return page


def _refusal(error: ApiException) -> str:
    body = (error.body or "").strip().splitlines()
    return f"the API answered {error.status} {error.reason or ''}{': ' + body[0][:300] if body else ''}"


def _advice(status: int | None) -> str | None:
    if status in (401, 302):
        return "Give --token or --cookies of a session that is logged in."
    if status == 403:
        return "The account needs the right to create runs in that namespace (--namespace)."
    return None
