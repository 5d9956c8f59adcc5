"""Whole sweeps of real processes: what each end of a trial counts as, and what ends a sweep."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from kubeflow_katib_api.models.v1beta1_experiment_status import V1beta1ExperimentStatus
from sweeps import experiment

from kubesight.errors import JobError
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.records import Trial, read_trials
from kubesight.tune.runner import SweepResult, run_sweep
from kubesight.tune.trials.launching import THREADS


class Watcher:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.most = self._now = 0

    def started(self, trial: Trial) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        self.heard.append(("started", trial.name))

    def reported(self, trial: Trial) -> None:
        self.heard.append(("reported", trial.name))

    def ended(self, trial: Trial) -> None:
        self._now -= 1
        self.heard.append(("ended", trial.name))

    def finished(self, result: SweepResult) -> None:
        self.heard.append(("finished", result.reason))


def run(document: dict[str, Any], output: Path, **options: Any) -> SweepResult:
    return run_sweep(read_experiment(document), output, **options)


def by_value(result: SweepResult) -> dict[str, Trial]:
    return {trial.assignments["x"]: trial for trial in result.trials}


def statuses(output: Path) -> dict[str, Any]:
    return json.loads((output / "status.json").read_text())


ENDS = """case ${x} in
  good) echo accuracy=0.25; echo accuracy=0.75; echo accuracy=0.5;;
  latest-nan) echo accuracy=0.5; echo accuracy=nan;;
  nan) echo accuracy=nan; echo accuracy=inf;;
  nothing) echo loss=3;;
  fails) echo accuracy=0.99; exit 3;;
  killed) echo accuracy=0.99; kill -9 $$$$;;
  hangs) echo accuracy=0.99; sleep 60 & wait;;
  stops-itself) echo accuracy=0.6; echo es_stop=1;;
  torn) printf 'accuracy=0.3\\naccuracy=0.'; sleep 0.3; printf '4';;
esac"""
NAMES = ("good", "latest-nan", "nan", "nothing", "fails", "killed", "hangs", "stops-itself", "torn")


def test_every_end_counts_as_katib_counts_it_and_costs_no_other_trial(tmp_path: Path) -> None:
    watcher = Watcher()
    document = experiment(ENDS, values=NAMES, job={"activeDeadlineSeconds": 2}, parallel=3)
    result = run(document, tmp_path / "out", observer=watcher)
    trials = by_value(result)
    assert {name: (trial.condition, trial.reason, trial.exit_code) for name, trial in trials.items()} == {
        "good": ("Succeeded", "TrialSucceeded", 0),
        "latest-nan": ("Succeeded", "TrialSucceeded", 0),
        "nan": ("Succeeded", "TrialSucceeded", 0),
        "nothing": ("MetricsUnavailable", "MetricsUnavailable", 0),
        "fails": ("Failed", "BackoffLimitExceeded", 3),
        "killed": ("Failed", "BackoffLimitExceeded", -9),
        "hangs": ("Failed", "DeadlineExceeded", -15),
        "stops-itself": ("EarlyStopped", "es_stop", 0),
        "torn": ("Succeeded", "TrialSucceeded", 0),
    }
    # Katib reads no metrics of a failed trial, so 0.99 is nobody's.
    assert {name: trial.value for name, trial in trials.items() if trial.value is not None} == {
        **{"good": 0.75, "latest-nan": 0.5, "stops-itself": 0.6, "torn": 0.4}
    }
    assert trials["good"].metrics == {"accuracy": {"min": 0.25, "max": 0.75, "latest": 0.5}}
    assert trials["good"].curve == [0.25, 0.75, 0.5]
    assert trials["good"].epochs == 3
    assert trials["torn"].curve == [0.3, 0.4]
    assert 2 <= trials["hangs"].seconds < 30
    assert result.best is not None
    assert result.best.assignments == {"x": "good"}
    assert (result.reason, result.finished) == ("ExperimentMaxTrialsReached", True)
    assert watcher.most == 3
    assert watcher.heard[-1] == ("finished", "ExperimentMaxTrialsReached")
    assert sum(what == "ended" for what, _ in watcher.heard) == len(NAMES)
    check_files(tmp_path / "out", result)


def check_files(output: Path, result: SweepResult) -> None:
    """The folder tells the same as the result."""
    status = statuses(output)
    assert status == result.status
    assert V1beta1ExperimentStatus.from_dict(status) is not None
    counts = ("trials", "trialsSucceeded", "trialsFailed", "trialsEarlyStopped", "trialMetricsUnavailable")
    assert [status[key] for key in counts] == [9, 4, 3, 1, 1]
    assert (status["trialsRunning"], status["trialsKilled"]) == (0, 0)
    assert status["currentOptimalTrial"] == {
        "bestTrialName": result.best.name,
        "parameterAssignments": [{"name": "x", "value": "good"}],
        "observation": {"metrics": [{"name": "accuracy", "min": "0.25", "max": "0.75", "latest": "0.5"}]},
    }
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [
        *(("Created", "True"), ("Running", "False"), ("Succeeded", "True"))
    ]
    assert read_trials(output) == result.trials
    assert (output / "best").resolve() == Path(result.best.folder)
    assert "accuracy=0.75" in (output / "best" / "stdout.log").read_text()


def test_failures_end_the_sweep_and_what_runs_is_killed(tmp_path: Path) -> None:
    script = "case ${x} in slow) trap 'exit 0' TERM; echo accuracy=1; sleep 60 & wait;; *) sleep 0.3; exit 1;; esac"
    document = experiment(script, values=("slow", "a", "b", "c", "d"), parallel=5, failures=2)
    result = run(document, tmp_path)
    assert result.reason == "ExperimentFailed"
    assert statuses(tmp_path)["conditions"][-1]["type"] == "Failed"
    slow = by_value(result)["slow"]
    assert (slow.condition, slow.reason, slow.value) == ("Killed", "ExperimentFailed", None)
    assert result.best is None
    assert len(result.trials) == 5
    assert "currentOptimalTrial" not in result.status


def test_the_goal_ends_the_sweep(tmp_path: Path) -> None:
    script = "case ${x} in 0.9) echo accuracy=${x};; 0.1) echo accuracy=${x};; *) sleep 60;; esac"
    result = run(experiment(script, values=("0.1", "0.9", "slow"), parallel=3, goal=0.85), tmp_path)
    assert result.reason == "ExperimentGoalReached"
    assert by_value(result)["slow"].condition == "Killed"
    assert by_value(result)["slow"].exit_code == -15
    assert statuses(tmp_path)["conditions"][-1] | {"message": ""} == result.status["conditions"][-1] | {"message": ""}


def test_less_is_better_when_minimising(tmp_path: Path) -> None:
    result = run(experiment("echo accuracy=${x}", values=("3", "1", "2"), maximize=False, parallel=1), tmp_path)
    assert result.best is not None
    assert result.best.value == 1.0


def test_a_failed_command_is_tried_again_and_its_earlier_reports_are_dropped(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    script = f"echo accuracy=0.9; if [ ! -e {flag} ]; then touch {flag}; exit 1; fi; echo accuracy=0.2"
    document = experiment(script.replace("accuracy=0.9", "accuracy=0.1"), trials=1, parallel=1, job={"backoffLimit": 2})
    (trial,) = run(document, tmp_path / "out").trials
    assert (trial.condition, trial.attempts, trial.curve) == ("Succeeded", 2, [0.1, 0.2])
    log = (Path(trial.folder) / "stdout.log").read_text()
    assert log.count("accuracy=0.1") == 2  # of both attempts


def test_the_space_ends_before_the_trials_do(tmp_path: Path) -> None:
    document = experiment("echo accuracy=1", values=("a", "b", "c"))
    del document["spec"]["maxTrialCount"]
    result = run(document, tmp_path)
    assert (result.reason, len(result.trials)) == ("ExperimentSuggestionEndReached", 3)


def test_a_policy_ends_bad_trials_while_they_run(tmp_path: Path) -> None:
    """Bandit with slack 0.1 at intervals 2, 4, ...: the best has 0.9 at both, so 0.5 < 0.8 goes and 0.85 stays."""
    script = "for i in 1 2 3 4 5 6 7 8; do echo accuracy=${x}; sleep 0.4; done"
    stop = ("bandit", {"slack_amount": "0.1", "evaluation_interval": "2"})
    result = run(experiment(script, values=("0.9", "0.85", "0.5"), parallel=3, stop=stop), tmp_path)
    trials = by_value(result)
    assert [trials[x].condition for x in ("0.9", "0.85", "0.5")] == ["Succeeded", "Succeeded", "EarlyStopped"]
    stopped = trials["0.5"]
    assert (stopped.reason, stopped.value) == ("bandit", 0.5)
    assert len(stopped.curve) < 8
    last = stopped.decisions[-1]
    assert last == {
        **{"policy": "bandit", "trial": stopped.name, "interval": last["interval"], "value": 0.5},
        **{"threshold": pytest.approx(0.8), "peers": last["peers"], "stop": True},
    }
    assert last["interval"] in (2, 4)
    assert [each["interval"] for each in trials["0.9"].decisions] == [2, 4, 6, 8][: len(trials["0.9"].decisions)]
    assert result.status["trialsEarlyStopped"] == 1


def test_katibs_medianstop_knows_only_what_was_known_when_a_trial_was_made(tmp_path: Path) -> None:
    """After three trials with means 1, 2 and 9 the threshold is their mean, 4: so 3 is stopped at its 2nd report."""
    script = "echo accuracy=${x}; echo accuracy=${x}; sleep 0.5; for i in 3 4 5; do echo accuracy=${x}; done"
    stop = ("medianstop", {"min_trials_required": "3", "start_step": "2"})
    order = ["1", "2", "9", "3", "5"]
    document = experiment(f"echo ${{x}} >> {tmp_path}/order; {script}", values=order, parallel=1, stop=stop)
    result = run(document, tmp_path / "out")
    made = (tmp_path / "order").read_text().split()
    trials = by_value(result)
    seen: list[float] = []
    for x in made:  # the sampler chooses the order
        rule = sum(seen) / len(seen) if len(seen) >= 3 else None
        assert (trials[x].condition == "EarlyStopped") == (rule is not None and float(x) < rule), (x, rule)
        assert len(trials[x].decisions) == (rule is not None)
        if trials[x].condition == "Succeeded":
            seen.append(float(x))


def test_a_guarded_trial_is_ended_once_it_says_so(tmp_path: Path) -> None:
    """The training waits for SIGTERM, up to a minute; it must not have to wait that long."""
    script = "echo accuracy=0.5 es_stop=1; trap 'echo ended; exit 0' TERM; sleep 60 & wait"
    document = experiment(script, trials=1, parallel=1, stop=("bandit", {"slack_factor": "0.1", "live": "true"}))
    began = time.monotonic()
    (trial,) = run(document, tmp_path).trials
    assert (trial.condition, trial.reason, trial.value) == ("EarlyStopped", "es_stop", 0.5)
    assert time.monotonic() - began < 30


def test_without_a_guard_a_trial_that_stops_itself_may_finish(tmp_path: Path) -> None:
    script = "echo accuracy=0.5 es_stop=1; sleep 0.6; echo shipped > $0.txt"
    (trial,) = run(experiment(script.replace("$0", "done"), trials=1, parallel=1), tmp_path).trials
    assert trial.condition == "EarlyStopped"
    assert (Path(trial.folder) / "done.txt").exists()


def test_the_time_of_the_sweep_ends_it(tmp_path: Path) -> None:
    document = experiment("echo accuracy=1; sleep 60", trials=4, limits={"timeout_seconds": 1})
    result = run(document, tmp_path)
    assert result.reason == "ExperimentTimeout"
    assert {trial.condition for trial in result.trials} == {"Killed"}
    assert run(document, tmp_path).reason == "ExperimentTimeout"  # it has had its time


def test_no_improvement_ends_the_sweep(tmp_path: Path) -> None:
    document = experiment("echo accuracy=0.5", trials=50, parallel=1, limits={"no_improvement_trials": 3})
    result = run(document, tmp_path)
    assert (result.reason, len(result.trials)) == ("ExperimentNotImproving", 4)


def test_file_collector_volumes_and_paths_with_blanks(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "n").write_text("0.5")
    script = (
        "echo accuracy=0.99; cp '/data/train/n' /scratch/n && "
        'echo "epoch=1 accuracy=$(cat "/scratch/n")" >> /var/log/katib/metrics.log; echo $PLACE; pwd'
    )
    document = experiment(
        script,
        trials=1,
        parallel=1,
        metricsCollectorSpec={
            "collector": {"kind": "File"},
            "source": {"fileSystemPath": {"path": "/var/log/katib/metrics.log", "kind": "File"}},
        },
    )
    pod = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    pod["volumes"] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "pictures"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    pod["containers"][0]["volumeMounts"] = [
        *({"name": name, "mountPath": path} for name, path in (("data", "/data"), ("scratch", "/scratch/"))),
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    pod["containers"][0]["env"] = [{"name": "PLACE", "value": "/data/train:/database:/dev/shm/x"}]
    with pytest.raises(JobError, match="--volume pictures="):
        run(document, tmp_path / "o u't")
    with pytest.raises(JobError, match="no trial mounts"):
        run(document, tmp_path / "o u't", volumes={"pictures": data, "photos": data})
    with pytest.raises(JobError, match="is no folder"):
        run(document, tmp_path / "o u't", volumes={"pictures": data / "nowhere"})
    (trial,) = run(document, tmp_path / "o u't", volumes={"pictures": data}).trials
    folder = Path(trial.folder)
    log = (folder / "stdout.log").read_text()
    assert (trial.condition, trial.value) == ("Succeeded", 0.5), log
    assert (folder / "volumes" / "scratch" / "n").read_text() == "0.5"
    assert log.splitlines()[-2:] == [f"{data}/train:/database:/dev/shm/x", str(folder)]


def test_a_json_file(tmp_path: Path) -> None:
    script = """case ${x} in
      good) echo '{"accuracy": "0.5"}' > /m/log; echo '{"accuracy": "0.25"}' >> /m/log;;
      broken) echo '{"accuracy": "0.5"}' > /m/log; echo 'Epoch 2' >> /m/log;;
      number) echo '{"accuracy": 0.5}' > /m/log;;
      none) :;;
    esac"""
    source = {"fileSystemPath": {"path": "/m/log", "kind": "File", "format": "JSON"}}
    document = experiment(
        script,
        values=("good", "broken", "number", "none"),
        metricsCollectorSpec={"collector": {"kind": "File"}, "source": source},
    )
    trials = by_value(run(document, tmp_path))
    assert {x: (trial.condition, trial.reason, trial.value) for x, trial in trials.items()} == {
        "good": ("Succeeded", "TrialSucceeded", 0.5),
        "broken": ("MetricsUnavailable", "NotJson", None),
        "number": ("MetricsUnavailable", "MetricsUnavailable", None),
        "none": ("MetricsUnavailable", "MetricsUnavailable", None),
    }


def test_a_file_written_anew_counts_as_it_is_at_the_end(tmp_path: Path) -> None:
    """A program that writes all of its history each time, and puts it in place by renaming."""
    script = "for n in 1 2 3; do echo accuracy=0.$n >> all; cp all new; mv new /m/log; sleep 0.5; done"
    source = {"fileSystemPath": {"path": "/m/log", "kind": "File"}}
    collector = {"collector": {"kind": "File"}, "source": source}
    (trial,) = run(experiment(script, trials=1, parallel=1, metricsCollectorSpec=collector), tmp_path).trials
    assert trial.curve == [0.1, 0.2, 0.3]


def test_a_metrics_file_that_the_command_does_not_name_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = {"fileSystemPath": {"path": "/m/log", "kind": "File"}}
    collector = {"collector": {"kind": "File"}, "source": source}
    run(
        experiment("echo accuracy=1 > /m/log", trials=1, parallel=1, metricsCollectorSpec=collector), tmp_path / "named"
    )
    assert "/m/log" not in caplog.text
    (trial,) = run(experiment("true", trials=1, parallel=1, metricsCollectorSpec=collector), tmp_path / "not").trials
    assert "does not name its metrics file /m/log" in caplog.text
    assert trial.condition == "MetricsUnavailable"


def test_caches_of_our_trainings_are_counted(tmp_path: Path) -> None:
    script = """case ${x} in
      ours) echo '{"features_hits": 2, "features_misses": 1, "picture_hits": 40}' > cache.json;;
      theirs) echo '["hits"]' > cache.json;;
    esac; echo accuracy=1"""
    trials = by_value(run(experiment(script, values=("ours", "theirs", "none")), tmp_path))
    assert {x: trial.cache_hits for x, trial in trials.items()} == {"ours": 42, "theirs": 0, "none": 0}


def test_what_trials_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    threads = ",".join(f"${name}" for name in THREADS)
    script = f"echo $CUDA_VISIBLE_DEVICES,{threads},$KATIB_TRIAL_NAME,$(command -v kubesight); echo accuracy=1"
    document = experiment(script + "; sleep 0.3", trials=4, parallel=4)
    container = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    watcher = Watcher()
    result = run(document, tmp_path, observer=watcher)
    seen = [(Path(t.folder) / "stdout.log").read_text().splitlines()[0].split(",") for t in result.trials]
    assert watcher.most == 2  # as many as there are GPUs
    assert sorted({gpu for gpu, *_ in seen}) == ["3", "5"]
    assert {count for each in seen for count in each[1:4]} == {str(max(1, len(os.sched_getaffinity(0)) // 4))}
    assert [name for *_, name, _ in seen] == [trial.name for trial in result.trials]
    assert all(Path(path).parent == Path(os.sys.executable).parent for *_, path in seen)  # type: ignore[attr-defined]
    container["resources"] = {"limits": {"nvidia.com/gpu": 3}}
    with pytest.raises(JobError, match="asks for 3 GPUs"):
        run(document, tmp_path / "more")


def test_gpus_that_are_not_here_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    document = experiment("echo accuracy=1", trials=3)
    container = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"limits": {"nvidia.com/gpu": 8}}
    with caplog.at_level(logging.WARNING):
        assert len(run(document, tmp_path).trials) == 3
    assert len([record for record in caplog.records if "run on its CPU" in record.getMessage()]) == 1


def test_a_command_that_is_not_there_is_an_error_before_the_first_trial(tmp_path: Path) -> None:
    document = experiment("true", trials=3)
    container = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["no-such-program", "${trialParameters.x}"]
    with pytest.raises(JobError, match="cannot be started"):
        run(document, tmp_path / "a")
    container["command"] = ["sh", "-c", "echo accuracy=1 ${trialParameters.x}"]
    container["workingDir"] = "/opt/nowhere"
    with pytest.raises(JobError, match="/opt/nowhere"):
        run(document, tmp_path / "a")
    del container["workingDir"]
    assert len(run(document, tmp_path / "a").trials) == 3  # nothing was run there, so that it may be mended


def test_warm_start_learns_from_the_same_objective_alone(tmp_path: Path) -> None:
    run(experiment("echo accuracy=${x}", trials=3), tmp_path / "first")
    again = run(experiment("echo accuracy=${x}", trials=2), tmp_path / "second", warm_start=[tmp_path / "first"])
    assert len(again.trials) == 2
    other = experiment("echo accuracy=${x}", trials=2, maximize=False)
    with pytest.raises(JobError, match="greatest accuracy"):
        run(other, tmp_path / "third", warm_start=[tmp_path / "first"])
    with pytest.raises(JobError, match="no sweep was run here"):
        run(other, tmp_path / "third", warm_start=[tmp_path])
