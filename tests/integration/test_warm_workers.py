"""Trainings in processes forked from a server that has torch loaded: the same results, signals, ends and threads."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pictures import digits_dataset

from kubesight.dataset import Dataset
from kubesight.errors import JobError
from kubesight.tune.trials.processes import TrialProcess, start
from kubesight.tune.trials.warm import WarmWorkers

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "kubesight.cli.main"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    folder = tmp_path_factory.mktemp("digits")
    return (
        digits_dataset(folder / "train", 0, 96, classes=3),
        digits_dataset(folder / "validation", 96, 45, classes=3),
    )


@pytest.fixture(scope="module")
def workers() -> Iterator[WarmWorkers]:
    with WarmWorkers() as warm:
        warm.start(ENV)
        yield warm


def train_arguments(digits: tuple[Dataset, Dataset], output: Path, **changes: Any) -> list[str]:
    settings = {
        "training_data": digits[0].path, "validation_data": digits[1].path, "output": output,
        "model_name": "timm/resnet10t", "weights": "none", "device": "cpu", "number_of_epochs": 2,
        "training_crop_size": 32, "validation_crop_size": 32, "validation_resize_size": 32,
        "number_of_workers": 0, "training_batch_size": 16, **changes,
    }  # fmt: skip
    return ["train", *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items())]


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def wait(process: TrialProcess) -> int:
    return int(until(lambda: [code] if (code := process.poll()) is not None else None)[0])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children(pid: int) -> list[int]:
    names = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [name for name in names if is_running(name) and parent(name) == pid]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def busy_threads(pid: int) -> int:
    """How many of a process's threads have used a core at all; torch also keeps some that never do anything."""
    states = [(task / "stat").read_text().rpartition(")")[2].split() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(state[11]) + int(state[12]) > 0 for state in states)


def history(output: Path) -> list[dict[str, float]]:
    """The evaluations, without how long they took."""
    rows = [orjson.loads(line) for line in (output / "metrics.jsonl").read_bytes().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


@pytest.mark.parametrize(("threads", "loaders"), [("1", 0), ("2", 2)])
def test_the_same_seed_gives_the_same_metrics_warm_and_cold(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path, threads: str, loaders: int
) -> None:
    env = {**ENV, "OMP_NUM_THREADS": threads}
    outputs = [tmp_path / name for name in ("cold", "warm")]
    commands = [train_arguments(digits, output, number_of_workers=loaders) for output in outputs]
    cold = start([*COMMAND, *commands[0]], env=env, cwd=tmp_path, stdout=tmp_path / "cold.log")
    warm = workers.run(commands[1], env=env, cwd=tmp_path, stdout=tmp_path / "warm.log")
    assert parent(cold.pid) == os.getpid() != parent(warm.pid)
    assert (wait(cold), wait(warm)) == (0, 0), (tmp_path / "warm.log").read_text()
    assert history(outputs[1]) == history(outputs[0])
    weights = [(output / "model" / "weights.safetensors").read_bytes() for output in outputs]
    assert weights[0] == weights[1]
    lines = [line for line in (tmp_path / "warm.log").read_text().splitlines() if " epoch=" in line]
    assert len(lines) == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_a_trial_has_the_threads_that_it_asks_for(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path, threads: int
) -> None:
    arguments = train_arguments(digits, tmp_path / "out", number_of_epochs=50)
    env = {**ENV, "OMP_NUM_THREADS": str(threads)}
    process = workers.run(arguments, env=env, cwd=tmp_path, stdout=tmp_path / "log")
    until(lambda: (tmp_path / "out" / "metrics.jsonl").exists() and history(tmp_path / "out"))
    until(lambda: busy_threads(process.pid) >= threads)
    time.sleep(0.5)
    found = busy_threads(process.pid)
    process.kill()
    assert wait(process) == -signal.SIGKILL
    assert found == threads


def test_sigterm_writes_a_checkpoint_that_the_same_command_goes_on_from(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    arguments = train_arguments(digits, tmp_path / "out", number_of_epochs=6, number_of_workers=1)
    process = workers.run(arguments, env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
    until(lambda: (tmp_path / "out" / "metrics.jsonl").exists() and history(tmp_path / "out"))
    process.terminate()
    assert wait(process) == 0, (tmp_path / "log").read_text()
    assert "stopped on SIGTERM" in (tmp_path / "log").read_text()
    process = workers.run(arguments, env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
    assert wait(process) == 0
    assert "going on from the checkpoint" in (tmp_path / "log").read_text()
    assert [row["epoch"] for row in history(tmp_path / "out")] == list(range(6))


def test_a_mistake_is_said_in_the_output_and_exits_with_2(workers: WarmWorkers, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    process = workers.run(["train", "--learnin-rate", "1"], env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
    assert wait(process) == 2
    text = (tmp_path / "log").read_text()
    assert text.startswith("before\n")
    assert "--learning-rate" in text or "Missing option" in text


def test_it_runs_in_its_own_folder_session_and_environment(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    env = {**ENV, "KUBESIGHT_CACHE": str(tmp_path / "cache")}
    arguments = train_arguments(digits, Path("out"), train_only_top_layer="true", number_of_epochs=300)
    process = workers.run(arguments, env=env, cwd=tmp_path, stdout=tmp_path / "log")
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    until(lambda: (tmp_path / "out" / "metrics.jsonl").exists())
    assert len(list((tmp_path / "cache" / "features").glob("*.npy"))) == 2
    process.kill()
    assert wait(process) == -signal.SIGKILL
    process.kill()


def test_a_folder_that_is_not_there_is_an_error(workers: WarmWorkers, tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        workers.run(["models"], env=ENV, cwd=tmp_path / "none", stdout=tmp_path / "log")
    assert caught.value.where == str(tmp_path / "none")


def test_another_environment_gets_no_server_that_has_read_the_first(workers: WarmWorkers, tmp_path: Path) -> None:
    """Libraries read variables while they are imported: HF_HOME, for one."""
    env = {**ENV, "KUBESIGHT_MAX_PIXELS": "1000", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2"}
    same = workers.run(["models"], env=env, cwd=tmp_path, stdout=tmp_path / "log")
    assert parent(same.pid) != os.getpid()
    other = workers.run(["models"], env={**env, "HF_HOME": "/x"}, cwd=tmp_path, stdout=tmp_path / "log")
    assert parent(other.pid) == os.getpid()
    assert (wait(same), wait(other)) == (0, 0)


def test_a_dead_server_fails_its_trials_and_the_next_ones_get_a_new_one(
    digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    with WarmWorkers() as warm:
        arguments = train_arguments(digits, tmp_path / "out", number_of_epochs=500)
        process = warm.run(arguments, env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
        server = parent(process.pid)
        os.kill(server, signal.SIGKILL)
        assert wait(process) == -signal.SIGKILL
        assert "error: the server of warm workers died" in (tmp_path / "log").read_text()
        until(lambda: not is_running(process.pid))
        process = warm.run(["models"], env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
        assert parent(process.pid) not in (server, os.getpid())
        assert wait(process) == 0


def test_an_idle_server_of_another_environment_is_replaced(tmp_path: Path) -> None:
    with WarmWorkers() as warm:
        warm.start(ENV)
        process = warm.run(["models"], env={**ENV, "HF_HOME": "/x"}, cwd=tmp_path, stdout=tmp_path / "log")
        assert parent(process.pid) != os.getpid()
        assert b"HF_HOME=/x" in Path(f"/proc/{parent(process.pid)}/environ").read_bytes().split(b"\0")
        assert wait(process) == 0


def test_where_torch_is_not_installed_workers_are_warm_without_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    env = {**ENV, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "2"}
    with WarmWorkers() as warm:
        process = warm.run(["models"], env=env, cwd=tmp_path, stdout=tmp_path / "log")
        assert parent(process.pid) != os.getpid()
        assert wait(process) == 0, (tmp_path / "log").read_text()
    assert "resnet50" in (tmp_path / "log").read_text()


def test_without_a_server_commands_are_run_plainly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "timm.py").write_text("raise ImportError('this timm is broken')\n")
    env = {**ENV, "PYTHONPATH": str(tmp_path)}
    with WarmWorkers() as warm:
        for _ in range(2):
            process = warm.run(["models"], env=env, cwd=tmp_path, stdout=tmp_path / "log")
            assert parent(process.pid) == os.getpid()
            assert wait(process) == 0
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "this timm is broken" in warnings[0]


RUNNER = """
import os, sys, time
from pathlib import Path
from kubesight.tune.trials.warm import WarmWorkers
warm = WarmWorkers()
process = warm.run(sys.argv[2:], env=dict(os.environ), cwd=Path.cwd(), stdout=Path(sys.argv[1]))
print(process.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("how", ["close", "death of the runner"])
def test_nothing_outlives_the_runner(digits: tuple[Dataset, Dataset], tmp_path: Path, how: str) -> None:
    arguments = train_arguments(digits, tmp_path / "out", number_of_epochs=500, number_of_workers=1)
    if how == "close":
        warm = WarmWorkers()
        process = warm.run(arguments, env=ENV, cwd=tmp_path, stdout=tmp_path / "log")
        pid, server = process.pid, parent(process.pid)
        until(lambda: (tmp_path / "out" / "metrics.jsonl").exists())
        loaders = until(lambda: children(pid))
        warm.close()
        assert process.poll() == -signal.SIGKILL
    else:
        command = [sys.executable, "-c", RUNNER, str(tmp_path / "log"), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENV) as runner:
            assert runner.stdout is not None
            pid = int(runner.stdout.readline())
            server = parent(pid)
            until(lambda: (tmp_path / "out" / "metrics.jsonl").exists())
            loaders = until(lambda: children(pid))
            runner.kill()
    until(lambda: not is_running(pid) and not is_running(server))
    until(lambda: not any(is_running(loader) for loader in loaders))


def test_of_two_trials_at_once_one_computes_the_features(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    env = {**ENV, "KUBESIGHT_CACHE": str(tmp_path / "cache")}
    processes = []
    for rate in ("0.1", "0.01"):
        arguments = train_arguments(digits, tmp_path / rate, train_only_top_layer="true", learning_rate=rate)
        processes.append(workers.run(arguments, env=env, cwd=tmp_path, stdout=tmp_path / f"{rate}.log"))
    assert [wait(process) for process in processes] == [0, 0]
    counts = [orjson.loads((tmp_path / rate / "cache.json").read_bytes()) for rate in ("0.1", "0.01")]
    assert sum(each["features_misses"] for each in counts) == 2
    assert sum(each["features_hits"] for each in counts) == 2


def test_trials_share_decoded_pictures_and_learn_the_same(
    workers: WarmWorkers, digits: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    found = []
    for name in ("none", "first", "second"):
        kept = {} if name == "none" else {"KUBESIGHT_PICTURES": str(tmp_path / "kept")}
        arguments = train_arguments(digits, tmp_path / name, number_of_workers=1)
        process = workers.run(arguments, env={**ENV, **kept}, cwd=tmp_path, stdout=tmp_path / f"{name}.log")
        assert wait(process) == 0
        counts = orjson.loads((tmp_path / name / "cache.json").read_bytes())
        found.append((counts["picture_hits"], counts["picture_misses"]))
    # 96 pictures to train on and 45 to judge by, each read in both epochs.
    assert found == [(0, 0), (141, 141), (282, 0)]
    assert history(tmp_path / "none") == history(tmp_path / "first") == history(tmp_path / "second")
