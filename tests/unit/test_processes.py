"""Commands of trials as processes: output, environment, exit codes, signals, and nothing left behind."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from kubesight.errors import JobError
from kubesight.tune.trials.processes import TrialProcess, start


def wait(process: TrialProcess, seconds: float = 20) -> int:
    end = time.monotonic() + seconds
    while (code := process.poll()) is None:
        assert time.monotonic() < end, "it did not end"
        time.sleep(0.01)
    return code


def run(tmp_path: Path, *argv: str, **env: str) -> tuple[TrialProcess, Path]:
    output = tmp_path / "stdout.log"
    return start(argv, env={"PATH": os.environ["PATH"], **env}, cwd=tmp_path, stdout=output), output


def wait_for(path: Path) -> str:
    end = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < end
        time.sleep(0.01)
    return path.read_text()


def is_running(pid: int) -> bool:
    """Zombies have ended; nobody may have reaped them yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_runs_in_its_folder_with_its_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_RUNNER", "1")
    process, output = run(tmp_path, "sh", "-c", 'pwd; echo "$A,$OF_THE_RUNNER" >&2; cat', A="b c")
    assert wait(process) == 0
    assert output.read_text() == f"{tmp_path}\nb c,\n"


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -15 $$", -15)])
def test_exit_codes(tmp_path: Path, script: str, code: int) -> None:
    process, _ = run(tmp_path, "sh", "-c", script)
    assert wait(process) == code
    assert process.poll() == code


def test_output_of_a_second_attempt_comes_behind(tmp_path: Path) -> None:
    wait(run(tmp_path, "echo", "one")[0])
    process, output = run(tmp_path, "echo", "two")
    wait(process)
    assert output.read_text() == "one\ntwo\n"


def test_has_a_session_of_its_own(tmp_path: Path) -> None:
    process, _ = run(tmp_path, "sleep", "30")
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid != os.getsid(0)
    assert process.poll() is None
    process.kill()
    assert wait(process) == -signal.SIGKILL
    process.kill()
    process.terminate()


def test_terminate_reaches_the_shells_child_too(tmp_path: Path) -> None:
    process, output = run(tmp_path, "sh", "-c", "sleep 30 & echo $!; wait")
    child = int(wait_for(output))
    process.terminate()
    assert wait(process) == -signal.SIGTERM
    assert not is_running(child)


def test_what_the_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    process, output = run(tmp_path, "sh", "-c", "sleep 30 & echo $!")
    assert wait(process) == 0
    child = int(output.read_text())
    end = time.monotonic() + 20
    while is_running(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_is_looked_for_in_its_own_path(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "its-own").write_text(f"#!{sys.executable}\nprint('here')\n")
    (folder / "its-own").chmod(0o755)
    process = start(["its-own"], env={"PATH": str(folder)}, cwd=tmp_path, stdout=tmp_path / "stdout.log")
    assert wait(process) == 0
    assert (tmp_path / "stdout.log").read_text() == "here\n"


def test_an_unknown_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be started: No such file") as caught:
        run(tmp_path, "no-such-command")
    assert caught.value.where == "no-such-command"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        start(["true"], env=dict(os.environ), cwd=tmp_path / "none", stdout=tmp_path / "stdout.log")
    assert caught.value.where == str(tmp_path / "none")
