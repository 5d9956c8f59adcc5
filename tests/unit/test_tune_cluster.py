"""Following an Experiment: against a real HTTP server that keeps objects, with a function that plays Katib."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from katib_cluster import Cluster, katib_cluster, now, trial

from kubesight.errors import ClusterError
from kubesight.sweep.progress import stalled
from kubesight.tune.cluster.api import RULES, KatibApi, in_cluster, missing_role
from kubesight.tune.cluster.follow import name_of_run, run_on_cluster

NAME = "cats-1"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with katib_cluster(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("KFP_POD_NAME", raising=False)
        yield running


def document(goal: str = "maximize", **limits: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": NAME}
    if limits:
        metadata["annotations"] = {"kubesight/limits": json.dumps(limits)}
    objective = {"type": goal, "objectiveMetricName": "accuracy"}
    spec = {"objective": objective, "maxTrialCount": 4}
    return {"apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "metadata": metadata, "spec": spec}


def run(**changes: Any) -> Any:
    arguments = {"document": document(), "poll_seconds": 0.01} | changes
    return run_on_cluster(**arguments, api=KatibApi(backoff=0.01))


def succeed(cluster: Cluster, experiment: dict[str, Any]) -> None:
    """Two trials run at the first look, and have ended at the next, when the Experiment has."""
    status = experiment["status"]
    if not status:
        status.update(conditions=[{"type": "Running", "status": "True"}], trials=2, trialsRunning=2)
        return
    if "completionTime" in status:
        return
    cluster.add_trials(
        NAME, trial("cats-1-b", "Succeeded", 0.8, lr="0.1"), trial("cats-1-c", "EarlyStopped", 0.9, lr="2")
    )
    status.update(trialsRunning=0, trialsSucceeded=1, trialsEarlyStopped=1, completionTime=now())
    cluster.end(experiment, "Succeeded", "ExperimentMaxTrialsReached", "Experiment has reached max trials")


def test_an_experiment_is_followed_to_its_end_and_deleted(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster.play = succeed
    caplog.set_level("INFO", "kubesight")
    result = run()
    assert result.best.name == "cats-1-c"
    assert (result.best.assignments, result.best.value) == ({"lr": "2"}, 0.9)
    assert result.best.metrics == {"accuracy": {"min": 0.1, "max": 0.9, "latest": 0.2}}
    assert [(each.name, each.number, each.condition, each.seconds) for each in result.trials] == [
        ("cats-1-b", 0, "Succeeded", 30.0),
        ("cats-1-c", 1, "EarlyStopped", 30.0),
    ]
    assert result.reason == "ExperimentMaxTrialsReached"
    assert result.error is None
    assert cluster.experiment(NAME) is None
    assert "cats-1: Running, 2 running" in caplog.messages
    assert "cats-1: Succeeded, 1 succeeded, 1 stopped early" in caplog.messages


def test_the_best_is_the_smallest_when_that_is_the_goal_and_failures_do_not_count(cluster: Cluster) -> None:
    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        if not experiment["status"]:
            cluster.add_trials(NAME, trial("a", "Failed", 0.9), trial("b", "MetricsUnavailable", "unavailable"))
            cluster.add_trials(NAME, trial("c", "Succeeded", 0.8), trial("d", "Succeeded", 0.7))
            cluster.end(experiment, "Succeeded", "ExperimentGoalReached")

    cluster.play = play
    result = run(document=document("minimize"))
    # Each trial's minimum is 0.1; of equals the first one is the best.
    assert (result.best.name, result.best.value) == ("c", 0.1)
    assert [each.value for each in result.trials] == [None, None, 0.1, 0.1]


def test_running_trials_of_an_ended_experiment_go_with_it(cluster: Cluster) -> None:
    """Katib itself would let them run on."""

    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        cluster.add_trials(NAME, trial("a", "Succeeded", 0.8), trial("b", "Running"))
        cluster.end(experiment, "Succeeded", "ExperimentGoalReached")

    cluster.play = play
    assert [each.condition for each in run().trials] == ["Succeeded", "Running"]
    assert cluster.deleted() == [NAME]


def test_time_is_up_from_the_experiments_beginning(cluster: Cluster) -> None:
    started = document(timeout_seconds=60)
    text = json.dumps(started, sort_keys=True)
    mine = started | {"metadata": {**started["metadata"], "creationTimestamp": "2026-01-02T15:00:00Z"}, "status": {}}
    mine["metadata"]["annotations"] = {"kubesight/content": hashlib.sha256(text.encode()).hexdigest()[:16]}
    cluster.objects[("team", "experiments", NAME)] = mine
    cluster.add_trials(NAME, trial("a", "Succeeded", 0.8), trial("b", "Running"))
    result = run(document=started)
    assert result.reason == "ExperimentTimeout"
    assert result.best.name == "a"
    assert result.status["conditions"][-1]["message"] == "the sweep has had its 60 seconds"
    assert cluster.deleted() == [NAME]
    assert ("POST", "/apis/kubeflow.org/v1beta1/namespaces/team/experiments") in cluster.requests


def test_a_sweep_that_no_longer_improves_is_ended(cluster: Cluster) -> None:
    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        done = experiment["status"].get("trialsSucceeded", 0)
        one = trial(f"t{done}", "Succeeded", [0.5, 0.6, 0.6, 0.6, 0.9][done])
        one["status"]["completionTime"] = f"2026-01-02T15:05:0{done}Z"
        cluster.add_trials(NAME, one)
        experiment["status"]["trialsSucceeded"] = done + 1

    cluster.play = play
    result = run(document=document(no_improvement_trials=2))
    assert result.reason == "ExperimentNotImproving"
    assert result.status["conditions"][-1]["message"] == "no improvement in 2 trials"
    assert len(result.trials) in (4, 5)
    assert cluster.experiment(NAME) is None


def test_convergence_and_improvement_by_hand() -> None:
    up = [0.50, 0.60]
    # Ten trials later the best has gone from 0.600 to 0.605: 0.8 % of 0.600.
    assert stalled([*up, *[0.605] * 10], maximize=True, convergence=True) == (
        "converged: the last 10 trials improved the best by 0.005"
    )
    assert stalled([*up, *[0.607] * 10], maximize=True, convergence=True) is None, "0.007 is more than 1 % of 0.6"
    assert stalled([*up, *[0.605] * 7], maximize=True, convergence=True) is None, "nothing ended before the window"
    assert stalled([0.9, 0.8, None, 0.8], maximize=False, no_improvement_trials=2) == "no improvement in 2 trials"
    assert stalled([0.9, 0.8, None], maximize=False, no_improvement_trials=2) is None
    assert stalled([], maximize=True, no_improvement_trials=1, convergence=True) is None


def test_a_failed_experiment_tells_why(cluster: Cluster) -> None:
    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        cluster.add_trials(NAME, trial("good", "Succeeded", 0.8), trial("bad", "Failed"))
        cluster.end(experiment, "Failed", "ExperimentFailed", "Experiment has failed because max failed count")

    cluster.play = play
    labels = {"katib.kubeflow.org/trial": "bad"}
    containers = [{"name": "training"}]
    cluster.pods["bad-x"] = {"metadata": {"name": "bad-x", "labels": labels}, "spec": {"containers": containers}}
    cluster.logs["bad-x"] = "loading\nerror: cuda out of memory\n"
    result = run()
    assert result.best.name == "good", "what was computed is not lost"
    text = str(result.error)
    assert "the Experiment cats-1 failed: Experiment has failed because max failed count" in text
    assert "Of 1 failed trials the last is bad (TrialFailed); its log ends with:\nloading\nerror: cuda out of" in text
    assert cluster.deleted() == [NAME]


def test_a_refused_algorithm_is_told_by_the_suggestion(cluster: Cluster) -> None:
    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        cluster.end(experiment, "Failed", "ExperimentFailed", "Suggestion has failed")

    cluster.play = play
    told = [{"type": "Failed", "status": "True", "message": "unknown setting gamma for algorithm random"}]
    cluster.objects[("team", "suggestions", NAME)] = {"metadata": {"name": NAME}, "status": {"conditions": told}}
    assert "Suggestion has failed: unknown setting gamma for algorithm random" in str(run().error)


def test_no_trial_with_the_metric_is_an_error_that_shows_the_log_is_gone(cluster: Cluster) -> None:
    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        cluster.add_trials(NAME, trial("mute", "MetricsUnavailable"))
        cluster.end(experiment, "Succeeded", "ExperimentMaxTrialsReached", "max trials")

    cluster.play = play
    result = run()
    assert result.best is None
    assert re.search("no trial of cats-1 has the metric accuracy.*the last is mute.*its log is gone", str(result.error))


DENIED = (
    'experiments.kubeflow.org is forbidden: User "system:serviceaccount:team:pipeline-runner" cannot create resource '
    '"experiments" in API group "kubeflow.org" in the namespace "team"'
)
LACKS = (
    'admission webhook "validator.experiment.katib.kubeflow.org" denied the request: Cannot create the Experiment '
    '"cats-1" in namespace "team": the namespace lacks label "katib.kubeflow.org/metrics-collector-injection: enabled"'
)


@pytest.mark.parametrize(
    ("status", "said", "message"),
    [
        (401, "Unauthorized", "401 Unauthorized: Unauthorized. The credentials have expired"),
        (404, "404 page not found\n", "the cluster has no Experiments: Katib is not installed"),
        (404, 'namespaces "team" not found', '404 Not Found: namespaces "team" not found'),
        (400, LACKS, r"kubectl label namespace team katib\.kubeflow\.org/metrics-collector-injection=enabled"),
        (422, "spec.objective.type must be maximize", "422 Unprocessable.*: spec.objective.type must be maximize"),
    ],
)
def test_refusals_are_told_in_the_apis_words(cluster: Cluster, status: int, said: str, message: str) -> None:
    cluster.refuse[("POST", "experiments")] = [(status, said)]
    with pytest.raises(ClusterError, match=message):
        run()
    assert not cluster.deleted(), "what was never made is not deleted"


def test_a_forbidden_step_prints_the_role_that_it_needs(cluster: Cluster) -> None:
    cluster.refuse[("POST", "experiments")] = [(403, DENIED)]
    with pytest.raises(ClusterError) as raised:
        run()
    role, binding = yaml.safe_load_all(str(raised.value).split("takes:\n")[1])
    assert role["rules"] == list(RULES)
    assert role["metadata"] == {"name": "kubesight-sweeps", "namespace": "team"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "team"}]
    assert binding["roleRef"]["name"] == "kubesight-sweeps"


def test_a_person_gets_a_role_too() -> None:
    _, binding = yaml.safe_load_all(missing_role('User "ann@example.org" cannot get resource "trials"', "team"))
    assert binding["subjects"][0] == {
        "kind": "User", "name": "ann@example.org", "apiGroup": "rbac.authorization.k8s.io",
    }  # fmt: skip


def test_the_manifests_grant_what_is_used() -> None:
    folder = Path(__file__).parents[2] / "manifests" / "rbac"
    made = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    objects = {each["kind"]: each for each in yaml.safe_load_all(made)}
    assert set(objects) == {"Role", "RoleBinding"}
    assert objects["Role"]["rules"] == list(RULES)
    assert "*" not in json.dumps(objects["Role"]["rules"])
    assert objects["RoleBinding"]["roleRef"]["name"] == objects["Role"]["metadata"]["name"]


def test_a_failed_request_that_passes_is_no_failure(cluster: Cluster) -> None:
    """The API restarts in the middle: connections break, it is busy, the token is renewed."""
    cluster.play = succeed
    cluster.refuse = {
        ("POST", "experiments"): [(503, "starting"), (500, "failed calling webhook: connection refused")],
        ("GET", "experiments"): [(0, ""), (502, "bad gateway"), (401, "Unauthorized"), (429, "slow down")],
        ("GET", "trials"): [(504, "timeout"), (0, "")],
        ("DELETE", "experiments"): [(503, "starting"), (0, "")],
    }
    assert run().best.name == "cats-1-c"
    assert not any(cluster.refuse.values()), "all of them were met"
    assert cluster.experiment(NAME) is None


def test_an_answer_that_was_lost_does_not_make_a_second_experiment(cluster: Cluster) -> None:
    cluster.play = succeed
    first = KatibApi(backoff=0.01)
    real = first.create

    def lost(body: dict[str, Any]) -> None:
        real(body)
        real(body)  # the API has made it already and says 409

    first.create = lost  # type: ignore[method-assign]
    assert run_on_cluster(document(), poll_seconds=0.01, api=first).best.name == "cats-1-c"
    assert cluster.deleted() == [NAME]


def test_another_experiment_of_that_name_is_left_alone(cluster: Cluster) -> None:
    cluster.objects[("team", "experiments", NAME)] = {"metadata": {"name": NAME}, "status": {}}
    with pytest.raises(ClusterError, match=r"another Experiment has the name cats-1.*kubectl delete experiment cats-1"):
        run()
    assert cluster.experiment(NAME) is not None


def test_an_earlier_one_that_is_going_is_waited_for(cluster: Cluster) -> None:
    going = {"metadata": {"name": NAME, "deletionTimestamp": now()}, "status": {}}
    cluster.objects[("team", "experiments", NAME)] = going

    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        if experiment["metadata"].get("deletionTimestamp"):
            del cluster.objects[("team", "experiments", NAME)]
        else:
            succeed(cluster, experiment)

    cluster.play = play
    assert run().best.name == "cats-1-c"


def test_somebody_deletes_it(cluster: Cluster) -> None:
    cluster.play = lambda cluster, experiment: cluster.objects.clear()
    with pytest.raises(ClusterError, match="somebody deleted the Experiment cats-1 while it ran"):
        run()


def test_what_cannot_be_deleted_is_said(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster.play = succeed
    cluster.refuse[("DELETE", "experiments")] = [(403, "no")]
    run()
    assert "its trials hold their GPUs: `kubectl delete experiment cats-1 -n team`" in caplog.text


def test_the_runs_workflow_owns_the_experiment(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-1", "uid": "u-1"}
    metadata = {"name": "step", "labels": {}, "ownerReferences": [owner | {"controller": True}]}
    cluster.pods["step"] = {"metadata": metadata, "spec": {"containers": []}}
    monkeypatch.setenv("KFP_POD_NAME", "step")
    seen: list[Any] = []

    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        seen.append(experiment["metadata"].get("ownerReferences"))
        succeed(cluster, experiment)

    cluster.play = play
    run()
    assert seen[0] == [owner]


FOLLOW = """
import json, sys
from kubesight.tune.cluster.follow import run_on_cluster
from kubesight.tune.cluster.api import KatibApi
run_on_cluster(json.loads(sys.argv[1]), poll_seconds=0.05, api=KatibApi(backoff=0.01))
"""


def started(cluster: Cluster) -> subprocess.Popen:
    """A process that follows an Experiment which does not end; it is there when this returns."""
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    process = subprocess.Popen([sys.executable, "-c", FOLLOW, json.dumps(document())], env=environment)
    deadline = time.monotonic() + 60
    while cluster.experiment(NAME) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert cluster.experiment(NAME) is not None
    return process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_deletes_the_experiment(cluster: Cluster, sent: signal.Signals, code: int) -> None:
    process = started(cluster)
    process.send_signal(sent)
    assert process.wait(30) == code
    assert cluster.experiment(NAME) is None


def test_a_killed_step_that_is_started_again_follows_it_on(cluster: Cluster) -> None:
    process = started(cluster)
    process.kill()
    process.wait(30)
    first = cluster.experiment(NAME)
    assert first is not None
    born = first["metadata"]["creationTimestamp"]
    seen = []

    def play(cluster: Cluster, experiment: dict[str, Any]) -> None:
        seen.append(experiment["metadata"]["creationTimestamp"])
        succeed(cluster, experiment)

    cluster.play = play
    assert run().best.name == "cats-1-c"
    assert set(seen) == {born}
    assert cluster.deleted() == [NAME]


@pytest.mark.parametrize("base", ["Cats & Dogs, second try with a very long description", "7", "", "-x-", "ünï"])
def test_names_are_katibs_and_differ_by_run(base: str) -> None:
    name = name_of_run(base, "run-1")
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 40
    assert name == name_of_run(base, "run-1") != name_of_run(base, "run-2")


def test_no_cluster_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert not in_cluster()
    with pytest.raises(ClusterError, match=r"there is no cluster to talk to.*point KUBECONFIG at a file"):
        KatibApi()
