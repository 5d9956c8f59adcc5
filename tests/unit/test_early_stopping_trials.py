"""The mark on a stopped trial, against a Kubernetes API that stands on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes import client

from kubesight.errors import ClusterError
from kubesight.tune.early_stopping.trials import Trials


class Kubernetes(ThreadingHTTPServer):
    """Trials as an API server keeps them: a status changes by merge patch, and only from the version that was read."""

    def __init__(self, conflicts=0, status=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.trials = {"t1": {"metadata": {"name": "t1", "resourceVersion": "1"}, "status": {"conditions": []}}}
        self.conflicts, self.refusal, self.patches = conflicts, status, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def api(self):
        return client.CustomObjectsApi(
            client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{self.server_port}"))
        )


class _Handler(BaseHTTPRequestHandler):
    server: Kubernetes

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self._answer(200 if name in self.server.trials else 404, self.server.trials.get(name, {}))

    def do_PATCH(self):
        server = self.server
        *_, name, part = self.path.split("/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.patches += 1
        if server.refusal:
            self._answer(server.refusal, {"message": "no"})
            return
        trial = server.trials[name]
        if server.conflicts:
            server.conflicts -= 1
            self._answer(409, {"message": "the object has been modified"})
            return
        assert part == "status"
        assert "merge-patch" in self.headers["Content-Type"]
        assert body["metadata"]["resourceVersion"] == trial["metadata"]["resourceVersion"]
        trial["status"].update(body["status"])
        trial["metadata"]["resourceVersion"] += "1"
        self._answer(200, trial)

    def _answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_stopped_trial_is_marked_once_beside_its_other_conditions():
    cluster = Kubernetes(conflicts=2)
    running = {"type": "Running", "status": "True", "reason": "TrialRunning"}
    cluster.trials["t1"]["status"]["conditions"].append(running)
    trials = Trials(cluster.api(), "team-a")
    trials.mark_stopped("t1")
    first, second = cluster.trials["t1"]["status"]["conditions"]
    assert first == running
    assert (second["type"], second["status"], second["reason"]) == ("EarlyStopped", "True", "TrialEarlyStopped")
    assert cluster.patches == 3  # two were refused since somebody else had written
    trials.mark_stopped("t1")
    assert cluster.patches == 3


@pytest.mark.parametrize(
    ("status", "words"), [(403, "needs get on trials"), (500, "answered 500"), (409, "answered 409")]
)
def test_refusals_name_the_trial_and_the_right(status, words):
    with pytest.raises(ClusterError, match=words) as caught:
        Trials(Kubernetes(status=status).api(), "team-a").mark_stopped("t1")
    assert "t1" in str(caught.value)
