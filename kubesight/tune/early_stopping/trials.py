"""The one thing that the service changes in a cluster: a condition of a Trial."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from kubesight.errors import ClusterError

GROUP, VERSION, PLURAL = "kubeflow.org", "v1beta1", "trials"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT = 60
_ATTEMPTS = 5


class Trials:
    """The Trials of the namespace that the service runs in.

    Args:
        api: Kubernetes' API of custom objects.
        namespace: where the Experiment is.
    """

    def __init__(self, api: Any, namespace: str) -> None:
        """Nothing is asked yet."""
        self._api = api
        self._place = (GROUP, VERSION, namespace, PLURAL)

    @classmethod
    def of_this_pod(cls) -> "Trials":
        """Those of the pod's namespace, by its service account.

        Raises:
            ClusterError: this is no pod.
        """
        try:
            config.load_incluster_config()
            namespace = NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        except (config.ConfigException, OSError) as error:
            raise ClusterError(
                f"not in a pod with a service account: {error}",
                hint="Katib starts this service; elsewhere only rules can be asked for (--no-cluster).",
            ) from error
        return cls(client.CustomObjectsApi(), namespace)

    def mark_stopped(self, name: str) -> None:
        """Add the condition EarlyStopped to a Trial's status, unless it is there.

        Raises:
            ClusterError: the API refuses or cannot be reached.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._add_condition(name)
                return
            except client.ApiException as error:
                if error.status == 409 and left:
                    continue
                raise ClusterError(
                    f"the API answered {error.status} {error.reason}", where=f"trial {name}", hint=_advice(error.status)
                ) from error
            except HTTPError as error:
                raise ClusterError(f"the API cannot be reached: {error}", where=f"trial {name}") from error

    def _add_condition(self, name: str) -> None:
        trial = self._api.get_namespaced_custom_object(*self._place, name, _request_timeout=_TIMEOUT)
        conditions = trial.get("status", {}).get("conditions", [])
        if any(each["type"] == "EarlyStopped" and each["status"] == "True" for each in conditions):
            return
        # A merge patch puts the whole list in place of the old one; the version lets the API refuse it (409) when the
        # controller has written in between.
        patch = {
            "metadata": {"resourceVersion": trial["metadata"]["resourceVersion"]},
            "status": {"conditions": [*conditions, _condition()]},
        }
        self._api.patch_namespaced_custom_object_status(*self._place, name, patch, _request_timeout=_TIMEOUT)


def _condition() -> dict[str, str]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "EarlyStopped",
        "status": "True",
        "reason": "TrialEarlyStopped",
        "message": "A rule of early stopping has stopped the trial",
        "lastTransitionTime": now,
        "lastUpdateTime": now,
    }


def _advice(status: int | None) -> str | None:
    if status == 403:
        return "The service account needs get on trials and patch on trials/status (group kubeflow.org)."
    return None
