"""Katib's objects through the Kubernetes API: calls that outlive a restart of the API, and refusals in words."""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from kubesight.errors import ClusterError

log = logging.getLogger("kubesight")

GROUP, VERSION = "kubeflow.org", "v1beta1"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
RULES: tuple[dict[str, list[str]], ...] = (
    {"apiGroups": [GROUP], "resources": ["experiments"], "verbs": ["create", "get", "delete"]},
    {"apiGroups": [GROUP], "resources": ["trials"], "verbs": ["list"]},
    {"apiGroups": [GROUP], "resources": ["suggestions"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
)
"""All that following a sweep needs; `manifests/rbac` grants it."""

_TRANSIENT = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0
_TIMEOUT = (10, 60)
_LOG_LINES = 15
_DENIED = re.compile(r'User "([^"]+)" cannot (\w+) resource "([^"]+)"')
_ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
_Answer = TypeVar("_Answer")


def in_cluster() -> bool:
    """Whether this process runs in a pod that may speak to the cluster's API."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file()


def default_namespace() -> str:
    """The namespace of this pod, or that of the current kubeconfig context."""
    file = SERVICE_ACCOUNT / "namespace"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    with contextlib.suppress(config.ConfigException, KeyError, TypeError):
        return str(config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))[1]["context"]["namespace"])
    return "default"


class KatibApi:
    """Experiments of one namespace.

    Args:
        namespace: None takes this pod's, or the kubeconfig's.
        backoff: seconds before a call is made again after a passing failure; doubled each time, up to a minute.

    Raises:
        ClusterError: neither a service account nor a kubeconfig is there.
    """

    def __init__(self, namespace: str | None = None, *, backoff: float = 1.0) -> None:
        """Read where the API is; it is not called yet."""
        self.namespace = namespace or default_namespace()
        self.backoff = backoff
        settings = client.Configuration()
        try:
            if in_cluster():
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            hint = "Run in a pod of the cluster, or point KUBECONFIG at a file that names it."
            raise ClusterError(f"there is no cluster to talk to: {error}", hint=hint) from error
        # Calls are repeated here, with pauses; urllib3 would repeat them at once and warn of each.
        settings.retries = False
        self.host = settings.host
        connection = client.ApiClient(settings)
        self._objects = client.CustomObjectsApi(connection)
        self._core = client.CoreV1Api(connection)

    def create(self, document: Mapping[str, Any]) -> None:
        """Make an Experiment.

        Raises:
            ClusterError: the API or Katib's webhook refuses; `error.__cause__.status` is 409 when the name is taken.
        """
        self._call(
            lambda: self._objects.create_namespaced_custom_object(
                GROUP, VERSION, self.namespace, "experiments", dict(document), _request_timeout=_TIMEOUT
            ),
            patience=60,
        )

    def experiment(self, name: str, *, patience: float = 1800) -> dict[str, Any] | None:
        """An Experiment as it is now; None when there is none."""
        return self._named("experiments", name, patience)

    def suggestion(self, name: str) -> dict[str, Any] | None:
        """The Suggestion of an Experiment: its conditions tell why no trials came."""
        return self._named("suggestions", name, 60)

    def trials(self, experiment: str) -> list[dict[str, Any]]:
        """All Trials of an Experiment, oldest first."""
        answer = self._call(
            lambda: self._objects.list_namespaced_custom_object(
                GROUP, VERSION, self.namespace, "trials", _request_timeout=_TIMEOUT,
                label_selector=f"katib.kubeflow.org/experiment={experiment}",
            ),
            patience=1800, and_also=(401,),
        )  # fmt: skip
        return sorted(answer["items"], key=lambda item: (item["metadata"].get("creationTimestamp") or "", _name(item)))

    def delete(self, name: str) -> None:
        """Delete an Experiment with its trials and their pods, so that GPUs are free.

        An Experiment that is gone already is no failure. When the API does not answer for two minutes, the log says
        what is left to be done.
        """
        try:
            self._call(
                lambda: self._objects.delete_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, "experiments", name, _request_timeout=_TIMEOUT
                ),
                patience=120, and_also=(401,),
            )  # fmt: skip
        except ClusterError as error:
            if _status(error) != 404:
                command = f"kubectl delete experiment {name} -n {self.namespace}"
                log.error("the Experiment is still there and its trials hold their GPUs: `%s` (%s)", command, error)

    def last_words(self, trial: str) -> str | None:
        """The end of a trial's log; None when its pods are gone or may not be read."""
        try:
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"katib.kubeflow.org/trial={trial}", _request_timeout=_TIMEOUT
            ).items
            for pod in pods:
                text = self._core.read_namespaced_pod_log(
                    pod.metadata.name, self.namespace, container=pod.spec.containers[0].name,
                    tail_lines=_LOG_LINES, _request_timeout=_TIMEOUT,
                )  # fmt: skip
                if text and text.strip():
                    return text.strip()
        except (ApiException, HTTPError) as error:
            log.warning("the log of trial %s cannot be read: %s", trial, _reason(error))
        return None

    def own_workflow(self) -> list[dict[str, Any]]:
        """The owner of this pod, where a pipeline's step runs in it, as owner references for what the step makes.

        With its run deleted, the cluster then deletes the Experiment too, even if the step was killed outright.
        """
        pod = os.environ.get("KFP_POD_NAME")
        if not pod:
            return []
        try:
            owners = self._core.read_namespaced_pod(pod, self.namespace, _request_timeout=_TIMEOUT).metadata
        except (ApiException, HTTPError) as error:
            log.warning("the run that this step belongs to is unknown: %s", _reason(error))
            return []
        return [
            {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
            for owner in owners.owner_references or []
            if owner.kind == "Workflow"
        ]

    def _named(self, kind: str, name: str, patience: float) -> dict[str, Any] | None:
        try:
            return self._call(
                lambda: self._objects.get_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, kind, name, _request_timeout=_TIMEOUT
                ),
                patience=patience, and_also=(401,),
            )  # fmt: skip
        except ClusterError as error:
            if _status(error) == 404:
                return None
            raise

    def _call(self, call: Callable[[], _Answer], *, patience: float, and_also: Collection[int] = ()) -> _Answer:
        """Call until the API answers, for `patience` seconds: it may restart, or be busy.

        `and_also` names further answers that pass: the token of a pod is renewed while it runs, so that a 401 in the
        middle of a sweep is no refusal yet.
        """
        wait, deadline = self.backoff, time.monotonic() + patience
        while True:
            try:
                return call()
            except (ApiException, HTTPError) as error:
                passing = not isinstance(error, ApiException) or error.status in (*_TRANSIENT, *and_also)
                if not passing or time.monotonic() + wait > deadline:
                    raise self._explained(error) from error
                log.warning("%s: %s; asked again in %.0f s", self.host, _reason(error), wait)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _explained(self, error: ApiException | HTTPError) -> ClusterError:
        """A refusal in the API's words, and what to do about it."""
        reason = _reason(error)
        if not isinstance(error, ApiException):
            return ClusterError(f"the cluster cannot be reached: {reason}", where=self.host)
        hint = None
        if error.status == 401:
            hint = "The credentials have expired or are for another cluster: log in again."
        elif error.status == 403:
            hint = f"The account needs this, which `kubectl apply -f -` takes:\n{missing_role(reason, self.namespace)}"
        elif error.status == 404 and "page not found" in reason:
            reason, hint = "the cluster has no Experiments: Katib is not installed", "Install Katib 0.18 or later."
        elif "metrics-collector-injection" in reason:
            label = "katib.kubeflow.org/metrics-collector-injection=enabled"
            hint = f"`kubectl label namespace {self.namespace} {label}` adds it."
        elif "failed calling webhook" in reason:
            hint = "Katib's controller is not up: `kubectl get pods -n kubeflow -l katib.kubeflow.org/component`."
        return ClusterError(reason, where=f"{self.host}, namespace {self.namespace}", hint=hint)


def missing_role(reason: str, namespace: str) -> str:
    """A Role and its binding, as YAML, for the account that a refusal names.

    Args:
        reason: the API's words: `... User "system:serviceaccount:team:default-editor" cannot create resource ...`.
        namespace: where the Experiments are.
    """
    denied = _DENIED.search(reason)
    user = denied[1] if denied else "system:serviceaccount:NAMESPACE:NAME"
    account = _ACCOUNT.fullmatch(user)
    subject = (
        {"kind": "ServiceAccount", "name": account[2], "namespace": account[1]}
        if account
        else {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    )
    metadata = {"name": "kubesight-sweeps", "namespace": namespace}
    api = "rbac.authorization.k8s.io/v1"
    role = {"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": list(RULES)}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kubesight-sweeps"}
    binding = {"apiVersion": api, "kind": "RoleBinding", "metadata": dict(metadata)}
    return yaml.safe_dump_all([role, binding | {"roleRef": reference, "subjects": [subject]}], sort_keys=False)


def _reason(error: ApiException | HTTPError) -> str:
    """What the API said, without the headers that the client's own text shows."""
    if not isinstance(error, ApiException):
        return str(getattr(error, "reason", None) or error)
    body = (error.body or "").strip()
    with contextlib.suppress(ValueError, AttributeError):
        body = json.loads(body).get("message") or body
    return f"the API answered {error.status} {error.reason or ''}{': ' + body[:2000] if body else ''}"


def _status(error: ClusterError) -> int | None:
    return getattr(error.__cause__, "status", None)


def _name(item: Mapping[str, Any]) -> str:
    return item["metadata"]["name"]
