"""A stand-in for the Kubernetes API of a cluster with Katib: a real HTTP server, and a controller that plays Katib."""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_OBJECT = re.compile(r"/apis/kubeflow\.org/v1beta1/namespaces/([^/]+)/(\w+)(?:/([^/]+))?")
_POD = re.compile(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+))?(/log)?")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def trial(name: str, condition: str, value: float | str | None = None, **assignments: str) -> dict[str, Any]:
    """A Trial as Katib writes one; `value` is the accuracy's maximum."""
    status: dict[str, Any] = {
        "startTime": "2026-01-02T15:04:05Z",
        "conditions": [
            {"type": "Created", "status": "True", "reason": "TrialCreated"},
            {"type": condition, "status": "True", "reason": f"Trial{condition}", "message": f"Trial is {condition}"},
        ],
    }
    if condition != "Running":
        status["completionTime"] = "2026-01-02T15:04:35Z"
    if value is not None:
        numbers = {"min": "0.1", "max": str(value), "latest": "0.2"}
        status["observation"] = {"metrics": [{"name": "accuracy", **numbers}]}
    return {
        "metadata": {"name": name, "creationTimestamp": now()},
        "spec": {"parameterAssignments": [{"name": key, "value": each} for key, each in assignments.items()]},
        "status": status,
    }


@dataclass
class Cluster:
    """What the API keeps, and how it behaves.

    `refuse` maps (method, kind) to answers that are given instead, one after another: (status, message).
    `play` is called with the cluster and the Experiment each time somebody looks at it, before it is shown.
    """

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    refuse: dict[tuple[str, str], list[tuple[int, str]]] = field(default_factory=dict)
    play: Callable[["Cluster", dict[str, Any]], None] = lambda cluster, experiment: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    kubeconfig: Path = Path()
    host: str = ""

    def experiment(self, name: str) -> dict[str, Any] | None:
        found = [each for (_, kind, key), each in self.objects.items() if (kind, key) == ("experiments", name)]
        return found[0] if found else None

    def add_trials(self, experiment: str, *trials: dict[str, Any], namespace: str = "team") -> None:
        for each in trials:
            each["metadata"]["labels"] = {"katib.kubeflow.org/experiment": experiment}
            self.objects[(namespace, "trials", each["metadata"]["name"])] = each

    def end(self, experiment: dict[str, Any], kind: str, reason: str, message: str = "") -> None:
        experiment["status"].setdefault("conditions", []).append(
            {"type": kind, "status": "True", "reason": reason, "message": message}
        )

    def deleted(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for method, path in self.requests if method == "DELETE"]


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, value: Any) -> None:
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def _say(self, status: int, message: str) -> None:
        self._answer(status, message if message.endswith("not found\n") else {"kind": "Status", "message": message})

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with self.lock:
            self.cluster.requests.append((self.command, path))
            pod, found = _POD.fullmatch(path), _OBJECT.fullmatch(path)
            kind = "pods" if pod else found[2] if found else ""
            if waiting := self.cluster.refuse.get((self.command, kind)):
                status, message = waiting.pop(0)
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                else:
                    self._say(status, message)
            elif pod:
                self._pods(pod)
            elif found:
                self._objects(found, body)
            else:
                self._say(404, "404 page not found\n")

    def _pods(self, match: re.Match[str]) -> None:
        if match[3]:
            self._answer(200, self.cluster.logs[match[2]])
        elif match[2]:
            self._answer(200, self.cluster.pods[match[2]])
        else:
            label = parse_qs(urlsplit(self.path).query)["labelSelector"][0].split("=")
            items = [
                each for each in self.cluster.pods.values() if each["metadata"]["labels"].get(label[0]) == label[1]
            ]
            self._answer(200, {"items": items})

    def _objects(self, match: re.Match[str], body: Any) -> None:
        namespace, kind, name = match[1], match[2], match[3]
        objects = self.cluster.objects
        if self.command == "POST":
            name = body["metadata"]["name"]
            if (namespace, kind, name) in objects:
                self._say(409, f'experiments.kubeflow.org "{name}" already exists')
                return
            body["metadata"].setdefault("creationTimestamp", now())
            objects[(namespace, kind, name)] = body | {"status": {}}
            self._answer(201, body)
        elif name is None:
            label = parse_qs(urlsplit(self.path).query)["labelSelector"][0].split("=")
            items = [
                each for (where, sort, _), each in objects.items()
                if (where, sort) == (namespace, kind) and each["metadata"]["labels"].get(label[0]) == label[1]
            ]  # fmt: skip
            self._answer(200, {"items": items})
            return
        if kind == "experiments" and self.command == "GET" and (namespace, kind, name) in objects:
            self.cluster.play(self.cluster, objects[(namespace, kind, name)])
        if (namespace, kind, name) not in objects:
            self._say(404, f'{kind}.kubeflow.org "{name}" not found')
        elif self.command == "DELETE":
            del objects[(namespace, kind, name)]
            self._answer(200, {"kind": "Status", "status": "Success"})
        else:
            self._answer(200, objects[(namespace, kind, name)])

    do_GET = do_POST = do_DELETE = _handle


@contextlib.contextmanager
def katib_cluster(folder: Path) -> Iterator[Cluster]:
    """A running stand-in; `cluster.kubeconfig` names it, with the namespace `team`."""
    cluster = Cluster()
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    cluster.host = f"http://127.0.0.1:{server.server_port}"
    cluster.kubeconfig = folder / "kubeconfig"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
        "clusters": [{"name": "here", "cluster": {"server": cluster.host}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }  # fmt: skip
    cluster.kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
