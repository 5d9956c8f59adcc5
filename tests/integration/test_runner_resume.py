"""Sweeps that are interrupted, killed or met again: nothing that has ended is lost, and nothing runs twice."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sweeps import experiment, kill, start_runner, wait_for

from kubesight.errors import JobError, StorageError
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.records import Trial, read_trials
from kubesight.tune.runner import SweepResult, run_sweep
from kubesight.tune.trials.leftovers import remember


def run(document: dict[str, Any], output: Path, **options: Any) -> SweepResult:
    return run_sweep(read_experiment(document), output, **options)


def counting(folder: Path, rest: str) -> str:
    """A script that notes that it was started."""
    return f"echo ${{x}} >> {folder}/starts; {rest}"


def starts(folder: Path) -> list[str]:
    path = folder / "starts"
    return path.read_text().split() if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def trial_pids(output: Path) -> list[int]:
    """Of all trials whose process is written down."""
    found = [path.read_text().split() for path in output.glob("trials/*/process")]
    return [int(words[0]) for words in found if words]


def test_killed_and_run_again(tmp_path: Path) -> None:
    """The second run keeps what ended, ends what the first left running, and gives what one run would have given."""
    gate, output = tmp_path / "gate", tmp_path / "out"
    hold = f"case $KATIB_TRIAL_NAME in *00[0-2]) ;; *) while [ ! -e {gate} ]; do sleep 0.1; done;; esac"
    rest = f"echo accuracy=${{x}}; {hold}"
    document = experiment(counting(tmp_path, rest), trials=8, parallel=2)
    runner = start_runner(document, output)
    wait_for(lambda: len(starts(tmp_path)) >= 5 and len(trial_pids(output)) == 5 and len(read_trials(output)) == 3)
    kill(runner)
    left = [pid for pid in trial_pids(output) if is_alive(pid)]
    assert len(left) == 2
    before = read_trials(output)
    gate.touch()
    result = run(document, output)
    assert not any(is_alive(pid) for pid in left)
    assert result.trials[:3] == before
    assert [trial.condition for trial in result.trials] == ["Succeeded"] * 8
    assert len(starts(tmp_path)) == 10  # five, the two unfinished again, and the three that were missing
    whole = run(experiment("echo accuracy=${x}", trials=8, parallel=2), tmp_path / "whole")
    assert {t.number: (t.name, t.assignments, t.value) for t in result.trials} == {
        t.number: (t.name, t.assignments, t.value) for t in whole.trials
    }


def test_tpe_goes_on_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    """One trial at a time: what a sampler that learns draws depends on all before."""
    settings = [{"name": "random_state", "value": "3"}, {"name": "n_startup_trials", "value": "2"}]
    algorithm = {"algorithmName": "multivariate-tpe", "algorithmSettings": settings}
    gate, output = tmp_path / "gate", tmp_path / "out"
    wait = f"if [ $(wc -l < {tmp_path}/starts) -eq 5 ]; then while [ ! -e {gate} ]; do sleep 0.1; done; fi"
    document = experiment(
        counting(tmp_path, f"{wait}; echo accuracy=${{x}}"), trials=9, parallel=1, algorithm=algorithm
    )
    runner = start_runner(document, output)
    wait_for(lambda: len(starts(tmp_path)) == 5)
    kill(runner)
    gate.touch()
    result = run(document, output)
    whole = run(experiment("echo accuracy=${x}", trials=9, parallel=1, algorithm=algorithm), tmp_path / "whole")
    assert [trial.assignments for trial in result.trials] == [trial.assignments for trial in whole.trials]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_trials_write_their_checkpoint_and_go_on(tmp_path: Path, number: int) -> None:
    """The training counts to 4 in a file of its own folder, as ours does with checkpoints."""
    output = tmp_path / "out"
    rest = (
        "trap 'echo saved >> saved; exit 0' TERM; while [ $(cat count 2>/dev/null | wc -l) -lt 4 ]; do echo >> count;"
        f" echo accuracy=0.$(wc -l < count); [ -e {tmp_path}/gate ] || {{ sleep 60 & wait; }}; done"
    )
    document = experiment(counting(tmp_path, rest), trials=2, parallel=2)
    runner = start_runner(document, output)
    wait_for(lambda: len(list(output.glob("trials/*/count"))) == 2)
    os.kill(runner.pid, number)
    said, errors = runner.communicate(timeout=40)
    assert said.split() == ["Interrupted", "False"], errors
    status = json.loads((output / "status.json").read_text())
    assert status["trials"] == 0
    assert "completionTime" not in status
    assert read_trials(output) == []
    folders = list(output.glob("trials/*"))
    assert [(folder / "saved").read_text() for folder in folders] == ["saved\n"] * 2
    assert not any(is_alive(pid) for pid in trial_pids(output))
    (tmp_path / "gate").touch()
    result = run(document, output)
    assert result.finished
    assert [trial.condition for trial in result.trials] == ["Succeeded"] * 2
    assert [trial.curve for trial in result.trials] == [[0.2, 0.3, 0.4]] * 2  # what it told before is dropped
    assert sorted(output.glob("trials/*")) == sorted(folders)


def test_a_trial_that_ignores_sigterm_does_not_hold_a_second_sigint(tmp_path: Path) -> None:
    document = experiment(
        "trap '' TERM; echo accuracy=1; touch here; while :; do sleep 0.1; done", trials=1, parallel=1
    )
    runner = start_runner(document, tmp_path)
    wait_for(lambda: list(tmp_path.glob("trials/*/here")))
    os.kill(runner.pid, signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        runner.communicate(timeout=1)
    os.kill(runner.pid, signal.SIGINT)
    said, _ = runner.communicate(timeout=10)
    assert said.split() == ["Interrupted", "False"]
    assert not any(is_alive(pid) for pid in trial_pids(tmp_path))


def test_one_runner_a_folder(tmp_path: Path) -> None:
    document = experiment("touch here; sleep 60; echo accuracy=1", trials=1, parallel=1)
    runner = start_runner(document, tmp_path)
    wait_for(lambda: list(tmp_path.glob("trials/*/here")) and trial_pids(tmp_path))
    with pytest.raises(JobError, match="another sweep is running in this folder"):
        run(document, tmp_path)
    kill(runner)
    # The trial that is left holds no lock.
    (pid,) = trial_pids(tmp_path)
    assert is_alive(pid)
    result = run(
        experiment("touch here; sleep 60; echo accuracy=1", trials=1, parallel=1, limits={"timeout_seconds": 1}),
        tmp_path,
    )
    assert result.reason == "ExperimentTimeout"
    assert not is_alive(pid)


def test_run_again_when_it_is_over_changes_nothing(tmp_path: Path) -> None:
    document = experiment(counting(tmp_path, "echo accuracy=${x}"), trials=3)
    first = run(document, tmp_path / "out")
    again = run(document, tmp_path / "out")
    assert again == first
    assert len(starts(tmp_path)) == 3


def test_what_a_user_has_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mine.jpg").touch()
    script = 'echo accuracy=1; mkdir -p "$KUBESIGHT_PICTURES"; touch "$KUBESIGHT_PICTURES/kept"'
    run(experiment(script, trials=2), tmp_path)
    assert (tmp_path / "pictures" / "mine.jpg").exists()
    assert not list(tmp_path.rglob("kept"))  # the trials' own are gone


def test_counts_and_limits_may_change_and_nothing_else(tmp_path: Path) -> None:
    script = counting(tmp_path, "echo accuracy=${x}")
    run(experiment(script, trials=3), tmp_path / "out")
    more = experiment(script, trials=5, parallel=1, failures=2, limits={"timeout_seconds": 100})
    assert len(run(more, tmp_path / "out").trials) == 5
    assert len(starts(tmp_path)) == 5
    saved = (tmp_path / "out" / "experiment.yaml").read_text()
    assert "maxTrialCount: 5" in saved
    for other in (experiment(script, trials=5, goal=0.5), experiment("echo accuracy=${x}", trials=5)):
        with pytest.raises(JobError, match="another Experiment") as caught:
            run(other, tmp_path / "out")
        assert "spec." in caught.value.message
    assert (tmp_path / "out" / "experiment.yaml").read_text() == saved


def test_experiment_file_is_the_experiment(tmp_path: Path) -> None:
    document = experiment("echo 'accuracy=0.5' # ü: \"yes\"", trials=1, parallel=1)
    run(document, tmp_path / "out")
    assert read_experiment(tmp_path / "out" / "experiment.yaml").document == document


def test_a_folder_that_vanishes_costs_one_trial(tmp_path: Path) -> None:
    rest = 'echo accuracy=0.5; case ${x} in gone) rm -r "$PWD"; sleep 0.5;; esac'
    result = run(experiment(rest, values=("gone", "a", "b"), parallel=1), tmp_path)
    by_value = {trial.assignments["x"]: trial for trial in result.trials}
    assert [by_value[x].condition for x in ("a", "b")] == ["Succeeded"] * 2
    assert by_value["gone"].condition in ("Succeeded", "MetricsUnavailable")  # did we read it before?
    again = run(experiment(rest, values=("gone", "a", "b"), parallel=1), tmp_path)
    assert again.trials == result.trials


def test_a_torn_last_line_is_a_trial_to_run_again(tmp_path: Path) -> None:
    document = experiment(counting(tmp_path, "echo accuracy=${x}"), trials=3, parallel=1)
    first = run(document, tmp_path / "out")
    path = tmp_path / "out" / "trials.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    again = run(document, tmp_path / "out")
    assert len(starts(tmp_path)) == 4
    assert [(t.number, t.value) for t in again.trials] == [(t.number, t.value) for t in first.trials]


def test_a_sampler_that_draws_otherwise_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As another version of its library might: what was drawn then stays as it was."""
    run(experiment("echo accuracy=${x}", trials=3, parallel=1), tmp_path)
    path = tmp_path / "suggestions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["assignments"]["x"] = "0.123"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    kept = read_trials(tmp_path)
    result = run(experiment("echo accuracy=${x}", trials=5, parallel=1), tmp_path)
    assert "draws other trials" in caplog.text
    assert result.trials[:3] == kept
    assert len({trial.assignments["x"] for trial in result.trials}) == 5


def test_a_number_that_now_is_another_process_is_left_alone(tmp_path: Path) -> None:
    document = experiment("echo accuracy=${x}; sleep 0.2", trials=1, parallel=1)
    runner = start_runner(document, tmp_path)
    wait_for(lambda: trial_pids(tmp_path))
    kill(runner)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        (folder,) = tmp_path.glob("trials/*")
        remember(folder, stranger.pid)
        text = (folder / "process").read_text().split()
        (folder / "process").write_text(f"{text[0]} {int(text[1]) - 1}\n")  # the same number, started earlier
        assert run(document, tmp_path).finished
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_observer_that_fails_leaves_no_trial_running(tmp_path: Path) -> None:
    class Broken:
        def started(self, trial: Trial) -> None: ...
        def reported(self, trial: Trial) -> None:
            raise RuntimeError("no terminal")

        def ended(self, trial: Trial) -> None: ...
        def finished(self, result: SweepResult) -> None: ...

    document = experiment("echo accuracy=1; sleep 60", trials=2, parallel=2)
    with pytest.raises(RuntimeError, match="no terminal"):
        run(document, tmp_path, observer=Broken())
    assert not any(is_alive(pid) for pid in trial_pids(tmp_path))


def test_a_full_disk_is_said_and_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    class FullDisk:
        def started(self, trial: Trial) -> None:
            if trial.number == 2:
                (tmp_path / "trials.jsonl").rename(tmp_path / "kept")
                (tmp_path / "trials.jsonl").symlink_to("/dev/full")

        def reported(self, trial: Trial) -> None: ...
        def ended(self, trial: Trial) -> None: ...
        def finished(self, result: SweepResult) -> None: ...

    document = experiment("echo accuracy=${x}; sleep 0.3", trials=6, parallel=1)
    with pytest.raises(StorageError, match="No space left on device"):
        run(document, tmp_path, observer=FullDisk())
    assert not any(is_alive(pid) for pid in trial_pids(tmp_path))
    (tmp_path / "kept").rename(tmp_path / "trials.jsonl")
    kept = read_trials(tmp_path)
    assert len(kept) == 2
    result = run(document, tmp_path)
    assert result.trials[:2] == kept
    assert len(result.trials) == 6
