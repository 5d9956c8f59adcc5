"""What a terminal, and what a log file, is told of a sweep."""

import io
import logging
import sys

import pytest
from rich.console import Console
from sweep_folders import mnist, two_groups, write_sweep

from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.live import LiveTable
from kubesight.tune.records import Trial
from kubesight.tune.runner import SweepResult


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def captured(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=140, color_system=None, legacy_windows=False)


def table(clock, *, terminal=False, document=None, **more):
    return LiveTable(read_experiment(document or mnist()), console=captured(terminal), clock=clock, **more)


def told(live):
    return live._console.file.getvalue()


def shown(live):
    console = captured(False)
    console.print(live)
    return console.file.getvalue()


def trial(number, *curve, **more):
    assignments = {"lr": "0.0123456", "momentum": "0.6"}
    return Trial(f"random-{number}", number, assignments, "Running", curve=list(curve), epochs=len(curve), **more)


def end(made, condition, value=None, **more):
    made.condition, made.value = condition, value
    for name, each in more.items():
        setattr(made, name, each)
    return made


def test_a_log_file_gets_a_line_an_event(clock):
    live = table(clock)
    with live:
        first = trial(0)
        live.started(first)
        first.curve, first.epochs = [0.9, 0.5], 2
        live.ended(end(first, "Succeeded", 0.5, reason="TrialSucceeded", seconds=12.3))
        second = trial(1)
        live.started(second)
        live.ended(end(second, "Failed", reason="BackoffLimitExceeded", exit_code=1, seconds=2))
        third = trial(2)
        live.started(third)
        live.ended(end(third, "EarlyStopped", 0.7, reason="bandit", seconds=4))
        clock.now += 65
        live.finished(SweepResult(first, [first, second, third], {}, "ExperimentMaxTrialsReached", True))
    assert told(live).splitlines() == [
        "#0 random-0 started: lr=0.01235, momentum=0.6",
        "#0 random-0 succeeded after 12 s: loss 0.5000, the best so far; lr=0.01235, momentum=0.6",
        "#1 random-1 started: lr=0.01235, momentum=0.6",
        "#1 random-1 failed (BackoffLimitExceeded), exit code 1 after 2.0 s: no value",
        "#2 random-2 started: lr=0.01235, momentum=0.6",
        "#2 random-2 stopped early (bandit) after 4.0 s: loss 0.7000",
        "random ended (ExperimentMaxTrialsReached) after 1m 5s: 3 of 12 trials (1 succeeded, 1 stopped early, "
        "1 failed); best loss 0.5000 in #0 random-0",
    ]


def test_a_log_file_is_not_flooded_with_reports(clock):
    live = table(clock)
    made = trial(0)
    live.started(made)
    for report in range(1, 101):
        clock.now += 1
        made.curve, made.epochs = [*made.curve, 1 / report], report
        live.reported(made)
    reports = [line for line in told(live).splitlines() if " report " in line]
    assert reports == [f"#0 random-0 report {n}: loss {1 / n:.4f}" for n in (30, 60, 90)]


def test_a_terminal_shows_running_trials_the_best_and_the_time_left(clock):
    live = table(clock, terminal=True)
    live.ended(end(trial(0, 0.4), "Succeeded", 0.4, seconds=20.0))
    live.ended(end(trial(1, 0.6), "EarlyStopped", 0.6, seconds=10.0))
    running = trial(2, 0.8, 0.7)
    live.started(running)
    clock.now += 5
    text = shown(live)
    assert "2 of 12 trials (1 succeeded, 1 stopped early)" in text
    row = next(line for line in text.splitlines() if "random-2" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["#2 random-2", "0.01235", "0.6", "2", "0.7000", "5.0 s"]
    assert "best: loss 0.4000 in #0 random-0" in text
    # Ten trials of 15 s on average, 5 s of one done, two at a time: (150 - 5) / 2 = 72.5 s.
    assert "about 1m 12s left" in text


def test_a_terminal_keeps_failures_and_new_bests_above_the_table(clock):
    live = table(clock, terminal=True)
    with live:
        for number, (condition, value) in enumerate(
            [("Succeeded", 0.5), ("Succeeded", 0.6), ("Failed", None), ("Succeeded", 0.4)]
        ):
            made = trial(number)
            live.started(made)
            live.ended(end(made, condition, value))
    lines = [line.strip() for line in told(live).splitlines() if "after 0.0 s" in line]
    assert [line.split("#")[-1][0] for line in lines] == ["0", "2", "3"]
    assert "started" not in told(live)
    assert "\x1b[?25h" in told(live)  # the cursor is back


def test_what_is_logged_meanwhile_stays_above_the_table(clock, monkeypatch):
    console = captured(True)
    monkeypatch.setattr(sys, "stderr", console.file)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        live = LiveTable(read_experiment(mnist()), console=console, clock=clock)
        with live:
            assert handler.stream is not console.file
            logging.getLogger().warning("a disk is full")
        assert handler.stream is console.file
    finally:
        logging.getLogger().removeHandler(handler)
    assert "a disk is full" in console.file.getvalue()


def test_the_table_goes_when_the_runner_raises(clock):
    live = table(clock, terminal=True)
    with pytest.raises(RuntimeError), live:
        raise RuntimeError
    assert "\x1b[?25h" in told(live)


def test_a_sweep_that_goes_on_counts_what_had_ended(clock, tmp_path):
    done = end(trial(0, 0.3), "Succeeded", 0.3, seconds=10)
    write_sweep(tmp_path, mnist(), [done], ending=False)
    live = table(clock, output=tmp_path, parallel=1)
    assert "1 of 12 trials (1 succeeded)" in shown(live)
    assert "best: loss 0.3000" in shown(live)
    assert "about 1m 50s left" in shown(live)
    live.ended(end(trial(1, 0.5), "Succeeded", 0.5, seconds=10))
    assert "the best so far" not in told(live)


def test_more_trials_than_rows_and_settings_of_groups(clock):
    live = table(clock, document=two_groups())
    assignments = {
        "group": "1",
        "resnet18_learning_rate": "0.001",
        "resnet18_optimizer": "sgd",
        "resnet18_layers_to_freeze": "2",
        "mobilenetv2_learning_rate": "0.02",
        "mobilenetv2_optimizer": "adam",
    }
    for number in range(20):
        live.started(Trial(f"grocery-{number}", number, assignments, "Running"))
    text = shown(live)
    assert "and 8 more" in text
    row = next(line for line in text.splitlines() if "grocery-3" in line)
    assert [cell.strip() for cell in row.split("│")[2:6]] == ["mobilenetv2", "0.02", "adam", "-"]
    assert "left" not in text.splitlines()[-1]


def test_markup_in_names_is_text(clock):
    live = table(clock)
    made = trial(0)
    made.assignments["lr"] = "[red]x[/red]"
    live.started(made)
    assert "lr=[red]x[/red]" in told(live)
    assert "[red]x" in shown(live)
