"""What a local run prints, read for the terminal and for its errors."""

import io
from pathlib import Path

import pytest

from kubesight.errors import DatasetError, KubesightError
from kubesight.pipelines.local import StepLog, _step_error

RUN = """\
10:00:00.000 - INFO - Executing task \x1b[96m'convert-dataset'\x1b[0m
    [KFP Executor 2026-11-21 10:39:05,390 INFO]: Got executor_input:
    {
        "outputs": {
            "parameters": {
                "text": {
                    "outputFile": "/tmp/text"
                }
            },
            "outputFile": "/tmp/x.json"
        }
    }
        [KFP Executor 2026-11-21 10:39:06,000 WARNING]: two pictures are the same
    a line of its own
    2026-11-21T10:39:45.119919Z epoch=0 accuracy=0.5
"""
FAILED = """\
    Traceback (most recent call last):
      File "x.py", line 3, in convert
        raise DatasetError(message)
    {error}

    The above exception was the direct cause of the following exception:

    Traceback (most recent call last):
      File "x.py", line 4, in convert
        raise DatasetError(message)
    {error}
10:00:01.000 - INFO - Task 'convert-dataset' finished with status FAILURE
"""


def replay(text: str) -> tuple[StepLog, str, str]:
    file, terminal = io.StringIO(), io.StringIO()
    steps = StepLog(file, terminal)
    for at in range(0, len(text), 7):
        steps.write(text[at : at + 7])
    return steps, file.getvalue(), terminal.getvalue()


def test_the_terminal_shows_what_steps_say_and_the_file_everything() -> None:
    steps, file, terminal = replay(RUN + FAILED.format(error="kubesight.errors.DatasetError: a.csv, line 3: no label"))
    assert terminal == "-- convert-dataset\n   two pictures are the same\n   a line of its own\n"
    assert "Got executor_input" in file
    assert "raise DatasetError" in file
    assert "\x1b" not in file
    assert list(steps.seconds) == ["convert-dataset"]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("kubesight.errors.DatasetError: a.csv, line 3: no label", DatasetError, "a.csv, line 3: no label"),
        ("ValueError: too small", KubesightError, "run.log: the step convert-dataset failed: ValueError: too small"),
        ("torch.OutOfMemoryError: CUDA", KubesightError, "run.log: the step convert-dataset failed: torch.OutOfMem"),
    ],
)
def test_a_failed_step_fails_the_run_with_its_own_message(error: str, kind: type, message: str) -> None:
    steps, _, _ = replay(RUN + FAILED.format(error=error))
    raised = _step_error(steps, Path("run.log"))
    assert type(raised) is kind
    assert str(raised).startswith(message)


def test_a_step_that_was_killed_is_told_by_its_last_line() -> None:
    steps, _, _ = replay(RUN + "10:00:01.000 - INFO - Task 'convert-dataset' finished with status FAILURE\n")
    assert "its last line was 'a line of its own'" in str(_step_error(steps, Path("run.log")))
