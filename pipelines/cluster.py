"""A pipeline for Kubeflow: written as a package, or handed to the API."""

import contextlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import requests
import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from kubesight.errors import ClusterError
from kubesight.job.sections import Resources
from kubesight.storage.files import atomic_file

log = logging.getLogger("kubesight")

_LONGEST_RUN = 30 * 24 * 3600


def write_package(
    pipeline: BaseComponent, parameters: Mapping[str, Any], output: Path, *, resources: Resources | None = None
) -> None:
    """Write a pipeline as YAML.

    Args:
        pipeline: what `dsl.pipeline` made.
        parameters: become the defaults of the run's form.
        output: the file; its name ends in .yaml or .yml.
        resources: those of a job that KFP fixes when a pipeline is compiled: volumes and pull secrets, for every step;
            the size of /dev/shm and Kueue's queue, for the steps on the GPU pool.

    Raises:
        ClusterError: the name does not.
    """
    if output.suffix not in (".yaml", ".yml"):
        raise ClusterError("a pipeline package is a YAML file", where=str(output), hint="Name it train.yaml.")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(file), pipeline_parameters=dict(parameters))
        if resources is not None:
            _set_pods(file, resources)
        text = file.read_text(encoding="utf-8")
    with atomic_file(output, "w") as stream:
        stream.write(text)


def _set_pods(package: Path, resources: Resources) -> None:
    """Write into a compiled package what its parameters cannot say."""
    spec, platforms = yaml.safe_load_all(package.read_text(encoding="utf-8"))
    pods = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    every_step: dict[str, Any] = {}
    if resources.volumes:
        every_step["pvcMount"] = [
            {"constant": each.claim, "mountPath": each.path, "pvcNameParameter": _constant(each.claim)}
            for each in resources.volumes
        ]
    if resources.image_pull_secrets:
        every_step["imagePullSecret"] = [
            {"secretName": name, "secretNameParameter": _constant(name)} for name in resources.image_pull_secrets
        ]
    for name in spec["deploymentSpec"]["executors"] if every_step else ():
        pods.setdefault(name, {}).update(every_step)
    for pod in pods.values():
        mounts = pod.get("emptyDirMounts", ())
        for mount in mounts if resources.shared_memory else ():
            mount["sizeLimit"] = resources.shared_memory
        if mounts and resources.queue:
            pod["podMetadata"] = {"labels": {"kueue.x-k8s.io/queue-name": resources.queue}}
    package.write_text(yaml.safe_dump_all([spec, platforms], sort_keys=False), encoding="utf-8")


def _constant(value: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}


@dataclass(frozen=True)
class Api:
    """Where Kubeflow Pipelines answers, and who asks.

    `token` is a bearer token; without one, the token that Kubeflow mounts into notebooks is taken where there is one.
    `cookies` are those of a browser's session, where a login page stands before the API. `namespace` is the profile's,
    None for an installation without profiles. `ca_cert` holds certificates to trust.
    """

    host: str
    namespace: str | None = None
    token: str | None = None
    cookies: str | None = None
    ca_cert: Path | None = None

    def connect(self) -> kfp.Client:
        """A client that has been answered once.

        Raises:
            ClusterError: nobody answers, or the answer is a refusal or a login page.
        """
        token = self.token or _mounted_token()
        headers = ({"Authorization": f"Bearer {token}"} if token else {}) | (
            {"Cookie": self.cookies} if self.cookies else {}
        )
        self._probe(headers)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message="This client only works")
            return kfp.Client(
                host=self.host,
                namespace=self.namespace or "kubeflow",
                existing_token=token,
                cookies=self.cookies,
                ssl_ca_cert=str(self.ca_cert) if self.ca_cert else None,
            )

    def _probe(self, headers: dict[str, str]) -> None:
        """Ask once, since kfp's client asks five times and prints a traceback for each."""
        verify = str(self.ca_cert) if self.ca_cert else True
        url = f"{self.host.rstrip('/')}/apis/v2beta1/healthz"
        try:
            answer = requests.get(url, headers=headers, verify=verify, timeout=30, allow_redirects=False)
        except requests.RequestException as error:
            raise ClusterError(f"cannot be reached: {_cause(error)}", where=url, hint="Check --host.") from error
        if answer.is_redirect:
            raise ClusterError("a login page stands before the API", where=url, hint=_advice(401))
        if not answer.ok:
            reason = f"the API answered {answer.status_code} {answer.reason}"
            raise ClusterError(reason, where=url, hint=_advice(answer.status_code))
        try:
            answer.json()
        except ValueError as error:
            hint = "Check --host; a page that asks for a login answers so too (--token, --cookies)."
            raise ClusterError("this is a web page, not the API", where=url, hint=hint) from error


def submit_run(
    api: Api,
    pipeline: BaseComponent,
    parameters: Mapping[str, Any],
    *,
    experiment: str,
    run_name: str,
    caching: bool = True,
    wait: bool = False,
    resources: Resources | None = None,
) -> str:
    """Start a run of a pipeline on Kubeflow.

    Args:
        api: where, and as whom.
        pipeline: what `dsl.pipeline` made.
        parameters: of the pipeline.
        experiment: made when it does not exist.
        run_name: shown in the UI.
        caching: take results of equal steps of earlier runs.
        wait: return when the run has ended.
        resources: as in `write_package`; their service account is the one that the steps run as.

    Returns:
        the run's page.

    Raises:
        ClusterError: the API cannot be reached or refuses, or (with `wait`) the run failed.
    """
    source = str(parameters.get("source", ""))
    if Path(source).exists():
        log.warning("%s is a path of this machine: the run needs a volume that holds it at the same place", source)
    client = api.connect()
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
            package = Path(scratch) / "pipeline.yaml"
            write_package(pipeline, {}, package, resources=resources)
            run = client.create_run_from_pipeline_package(
                str(package),
                arguments=dict(parameters),
                run_name=run_name,
                experiment_name=experiment,
                namespace=api.namespace,
                enable_caching=caching,
                service_account=resources.service_account if resources else None,
            )
        page = f"{api.host.rstrip('/')}/#/runs/details/{run.run_id}"
        if wait:
            log.info("waiting for %s", page)
            state = client.wait_for_run_completion(run.run_id, timeout=_LONGEST_RUN).state
            if state != "SUCCEEDED":
                raise ClusterError(f"the run ended as {state}", where=page)
    except ApiException as error:
        raise ClusterError(_refusal(error), where=api.host, hint=_advice(error.status)) from error
    except (requests.RequestException, HTTPError) as error:
        raise ClusterError(f"cannot be reached: {_cause(error)}", where=api.host) from error
    return page


def _mounted_token() -> str | None:
    path = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubeflow/pipelines/token"))
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _cause(error: Exception) -> object:
    """What lies at the bottom of an error of the HTTP libraries, which wrap one another."""
    inner = error.args[0] if error.args else error
    return getattr(inner, "reason", None) or getattr(error, "reason", None) or error


def _refusal(error: ApiException) -> str:
    body = (error.body or "").strip()
    with contextlib.suppress(ValueError, AttributeError):
        body = json.loads(body).get("message") or body
    return f"the API answered {error.status} {error.reason or ''}{': ' + body[:500] if body else ''}"


def _advice(status: int | None) -> str | None:
    if status == 401:
        return "Give --token or --cookies of a session that is logged in."
    if status == 403:
        return "The account needs the right to create runs in that namespace (--namespace)."
    return None
