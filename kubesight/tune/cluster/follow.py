"""A sweep on a cluster: its Experiment is made, followed to the end, and deleted so that GPUs are free.

The Experiment is polled, not watched: a state every few seconds is all that is needed, and polling has no stream to
lose when the API restarts. Katib keeps running trials alive when an Experiment ends or is out of time, so that deleting
it is the only way to have their GPUs back; this happens in every case, also on SIGTERM, which is what cancelling a
pipeline's run sends. A process that was killed outright finds its Experiment by its name and content when it is
started again, and follows it on.
"""

import contextlib
import hashlib
import json
import logging
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from kubesight.errors import ClusterError
from kubesight.sweep.names import LIMITS_ANNOTATION
from kubesight.sweep.progress import stalled
from kubesight.tune.cluster.api import KatibApi
from kubesight.tune.cluster.records import condition_of, trial_records
from kubesight.tune.limits import Ending
from kubesight.tune.records import FAILED, Trial, best_of

log = logging.getLogger("kubesight")

CONTENT_ANNOTATION = "kubesight/content"
"""A hash of the Experiment as it was written, by which the command that made it knows it again."""

LONGEST_NAME = 40
"""Katib's limit for an Experiment's name. It refuses `generateName` too: its webhook sees the name still empty."""

_ENDED = ("Succeeded", "Failed")
_RUNNING = {"running": "trialsRunning", "waiting": "trialsPending"}
_DONE = {
    "succeeded": "trialsSucceeded",
    "stopped early": "trialsEarlyStopped",
    "failed": "trialsFailed",
    "killed": "trialsKilled",
    "without metrics": "trialMetricsUnavailable",
}


@dataclass(frozen=True)
class ClusterResult:
    """What came out of a sweep on a cluster.

    Attributes:
        name: the Experiment's.
        best: the best trial with its parameters and metrics; None when no trial has the objective.
        trials: all of them, in the order they were made.
        status: the Experiment's, as Katib wrote it last.
        reason: why the sweep ended, one word: Katib's, `ExperimentTimeout` or `ExperimentNotImproving`.
        error: why it failed, with the end of a failed trial's log; None when it did not.
    """

    name: str
    best: Trial | None
    trials: list[Trial]
    status: dict[str, Any]
    reason: str
    error: ClusterError | None


def name_of_run(base: str, run: str) -> str:
    """A name for the Experiment of one run: the same for the same run, another for any other.

    Args:
        base: what people know the sweep by; its letters and digits are kept, up to 31 of them.
        run: anything that tells the run from others.
    """
    words = re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")
    words = words if words[:1].isalpha() else f"sweep-{words}"
    mark = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{words[: LONGEST_NAME - 9].rstrip('-')}-{mark}"


def run_on_cluster(
    document: Mapping[str, Any],
    *,
    namespace: str | None = None,
    poll_seconds: float = 15.0,
    api: KatibApi | None = None,
) -> ClusterResult:
    """Run an Experiment on the cluster, and delete it when it has ended.

    The sweep's own limits (time, trials without improvement, convergence), for which Katib has no field, come from the
    Experiment's annotation `kubesight/limits` and are kept here.

    Args:
        document: the Experiment. When the cluster has this very one already, it is followed on.
        namespace: None takes the document's, else this pod's or the kubeconfig's.
        poll_seconds: between two looks.
        api: for other credentials than those that are found.

    Returns:
        what came out, also of a sweep that failed (`result.error`).

    Raises:
        ClusterError: the Experiment is refused, another one has its name, somebody deleted it, or the API is gone for
            half an hour.
        SystemExit: SIGTERM came; the Experiment has been deleted.
    """
    api = api or KatibApi(namespace or document["metadata"].get("namespace"))
    name = document["metadata"]["name"]
    limits = json.loads(document["metadata"].get("annotations", {}).get(LIMITS_ANNOTATION, "{}"))
    with _ended_by_signals() as hold:
        owned = True
        try:
            try:
                _create(api, _owned_document(document, api))
            except ClusterError:
                owned = False
                raise
            log.info("the Experiment %s runs in namespace %s", name, api.namespace)
            ending = _follow(api, document, limits, poll_seconds)
            return _result(api, document, ending)
        finally:
            hold()
            if owned:
                log.info("deleting the Experiment %s", name)
                api.delete(name)


def _owned_document(document: Mapping[str, Any], api: KatibApi) -> dict[str, Any]:
    """The Experiment with a mark of its content, and the pipeline's run as its owner."""
    text = json.dumps(document, sort_keys=True)
    mark = {CONTENT_ANNOTATION: hashlib.sha256(text.encode()).hexdigest()[:16]}
    metadata = dict(document["metadata"]) | {"namespace": api.namespace}
    metadata["annotations"] = dict(metadata.get("annotations", {})) | mark
    if owners := api.own_workflow():
        metadata["ownerReferences"] = owners
    return dict(document) | {"metadata": metadata}


def _create(api: KatibApi, document: dict[str, Any]) -> None:
    """Create the Experiment, unless the cluster has this very one, as after a restart of the step that follows it."""
    metadata = document["metadata"]
    for _ in range(60):
        try:
            return api.create(document)
        except ClusterError as error:
            if getattr(error.__cause__, "status", None) != 409:
                raise
            existing = api.experiment(metadata["name"])
            if existing is None:
                continue
            if existing["metadata"].get("deletionTimestamp"):
                log.info("waiting for the earlier Experiment %s to be deleted", metadata["name"])
                time.sleep(api.backoff)
                continue
            theirs = existing["metadata"].get("annotations", {}).get(CONTENT_ANNOTATION)
            if theirs != metadata["annotations"][CONTENT_ANNOTATION]:
                hint = f"Give the job another name, or `kubectl delete experiment {metadata['name']}`."
                raise ClusterError(
                    f"another Experiment has the name {metadata['name']}", where=error.where, hint=hint
                ) from error
            log.info("the Experiment %s is there already: it is followed on", metadata["name"])
            return None
    raise ClusterError(
        f"the earlier Experiment {metadata['name']} does not go away", where=f"namespace {api.namespace}"
    )


def _follow(
    api: KatibApi, document: Mapping[str, Any], limits: Mapping[str, Any], poll_seconds: float
) -> Ending | None:
    """Wait for the end, saying what changes.

    Returns:
        the limit that was met; None when Katib itself has ended the Experiment.
    """
    name, objective, said, ended = document["metadata"]["name"], document["spec"]["objective"], "", -1
    while True:
        found = api.experiment(name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise ClusterError(
                f"somebody deleted the Experiment {name} while it ran", where=f"namespace {api.namespace}"
            )
        status = found.get("status", {})
        if (text := _progress(found, objective)) != said:
            log.info("%s: %s", name, text)
            said = text
        if condition_of(found, _ENDED):
            return None
        seconds = limits.get("timeout_seconds")
        # From its creation, so that a step that was started again does not begin to count anew.
        if seconds is not None and _age(found) >= seconds:
            return Ending("ExperimentTimeout", f"the sweep has had its {seconds:g} seconds")
        if ended != (ended := _ended_count(status)) and (why := _stalled(api, name, objective, limits)):
            return Ending("ExperimentNotImproving", why)
        time.sleep(poll_seconds)


def _stalled(api: KatibApi, name: str, objective: Mapping[str, Any], limits: Mapping[str, Any]) -> str | None:
    rules = {key: limits[key] for key in ("no_improvement_trials", "convergence") if limits.get(key)}
    if not rules:
        return None
    ended = [trial for trial in trial_records(api.trials(name), objective) if trial.has_ended]
    ended.sort(key=lambda trial: (trial.ended or "", trial.number))
    return stalled([trial.value for trial in ended], maximize=objective["type"] == "maximize", **rules)


def _result(api: KatibApi, document: Mapping[str, Any], ending: Ending | None) -> ClusterResult:
    name, objective = document["metadata"]["name"], document["spec"]["objective"]
    found = api.experiment(name) or {"status": {}}
    condition = condition_of(found, _ENDED)
    trials = trial_records(api.trials(name), objective)
    if ending is not None:
        # Katib knows nothing of these limits; the record of the sweep says it as it does for Katib's own.
        condition = {"type": "Succeeded", "status": "True", "reason": ending.reason, "message": ending.message}
        found["status"].setdefault("conditions", []).append(condition)
    reason = condition.get("reason", "")
    best = best_of(trials, maximize=objective["type"] == "maximize")
    error = None
    if condition.get("type") == "Failed":
        error = _failure(api, name, condition, trials)
    elif best is None:
        error = ClusterError(f"no trial of {name} has the metric {objective['objectiveMetricName']} ({reason})",
                             hint=_words_of(api, trials))  # fmt: skip
    return ClusterResult(name, best, trials, found["status"], reason, error)


def _failure(api: KatibApi, name: str, condition: Mapping[str, Any], trials: list[Trial]) -> ClusterError:
    """Why an Experiment failed: Katib says only that it did, the Suggestion and the trials know more."""
    message = f"the Experiment {name} failed: {condition.get('message') or condition.get('reason')}"
    with contextlib.suppress(ClusterError):
        refused = condition_of(api.suggestion(name) or {}, ("Failed",))
        if refused:
            message += f": {refused.get('message') or refused.get('reason')}"
    return ClusterError(message, where=f"namespace {api.namespace}", hint=_words_of(api, trials))


def _words_of(api: KatibApi, trials: list[Trial]) -> str | None:
    """The end of the log of the last trial that failed; its pod is gone once the Experiment is deleted."""
    failed = [trial for trial in trials if trial.condition in FAILED]
    if not failed:
        return None
    trial = failed[-1]
    text = api.last_words(trial.name)
    told = f"its log ends with:\n{text}" if text else "its log is gone with its pod: look in the cluster's log store"
    return f"Of {len(failed)} failed trials the last is {trial.name} ({trial.reason}); {told}"


def _progress(experiment: Mapping[str, Any], objective: Mapping[str, Any]) -> str:
    """One line: the condition, how many trials are in which state, and the best of them."""
    status = experiment.get("status", {})
    counts = [f"{status[key]} {words}" for words, key in (_RUNNING | _DONE).items() if status.get(key)]
    text = ", ".join([condition_of(experiment).get("type", "Created"), *counts])
    best = status.get("currentOptimalTrial") or {}
    which = "max" if objective["type"] == "maximize" else "min"
    for metric in best.get("observation", {}).get("metrics") or []:
        if metric["name"] == objective["objectiveMetricName"]:
            text += f"; best {metric['name']} {metric.get(which)} by {best.get('bestTrialName')}"
    return text


def _ended_count(status: Mapping[str, Any]) -> int:
    return sum(status.get(key) or 0 for key in _DONE.values())


def _age(experiment: Mapping[str, Any]) -> float:
    created = datetime.fromisoformat(experiment["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - created).total_seconds()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[Callable[[], None]]:
    """Let SIGTERM end the process as an exception does, so that the Experiment is deleted.

    Yields:
        what turns signals off, for the deletion itself.
    """

    def hold() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end(number: int, frame: FrameType | None) -> None:
        hold()
        raise SystemExit(128 + number)

    try:
        earlier = signal.signal(signal.SIGTERM, end)
    except ValueError:
        # Not the main thread: signals are somebody else's business.
        yield lambda: None
        return
    try:
        yield hold
    finally:
        signal.signal(signal.SIGTERM, earlier)
