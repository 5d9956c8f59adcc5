"""Records of trials: names, files with torn ends, the best."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.errors import StorageError
from kubesight.tune.folder import differences
from kubesight.tune.records import (
    Suggestion,
    Trial,
    append_record,
    best_of,
    read_records,
    read_trials,
    trial_name,
)
from kubesight.tune.trials.slots import GpuSlots, visible_gpus


def test_names_are_the_same_again_and_all_different() -> None:
    names = [trial_name("demo", number) for number in range(2000)]
    assert names == [trial_name("demo", number) for number in range(2000)]
    assert len(set(names)) == 2000
    assert all(re.fullmatch(r"demo-[a-z0-9]{8}", name) for name in names)
    assert trial_name("other", 0)[-8:] != names[0][-8:]
    assert len(trial_name("x" * 40, 36**3)) <= 63


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    trials = [
        Trial("a", 0, {"x": "1"}, "Succeeded", metrics={"m": {"min": 0.1, "max": None}}, value=0.1, curve=[0.1]),
        Trial("b", 1, {"x": 'quo"te\n'}, "Failed", "DeadlineExceeded", exit_code=-9, decisions=[{"stop": False}]),
    ]
    for trial in trials:
        append_record(path, trial)
    assert read_trials(tmp_path) == trials
    assert read_trials(tmp_path / "nowhere") == []


def test_a_torn_end_is_cut_off_so_that_the_next_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "suggestions.jsonl"
    one, two = Suggestion(0, "a", {"x": "1"}, 0), Suggestion(1, "b", {"x": "2"}, 1)
    append_record(path, one)
    with open(path, "ab") as stream:
        stream.write(b'{"number": 1, "na')
    torn = path.read_bytes()
    assert read_records(path, Suggestion) == [one]
    assert path.read_bytes() == torn  # it may be another process that is writing
    assert read_records(path, Suggestion, repair=True) == [one]
    append_record(path, two)
    assert read_records(path, Suggestion) == [one, two]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    append_record(tmp_path / "trials.jsonl", Trial("a", 0, {}))
    with open(tmp_path / "trials.jsonl", "ab") as stream:
        stream.write(b"nonsense\n")
    with pytest.raises(StorageError, match=r"trials\.jsonl, line 2"):
        read_trials(tmp_path)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left"):
        append_record(tmp_path / "trials.jsonl", Trial("a", 0, {}))


@given(st.lists(st.none() | st.floats(-10, 10)), st.booleans())
def test_best_is_the_first_of_the_best(values: list[float | None], maximize: bool) -> None:
    trials = [Trial(f"t{n}", n, {}, value=value) for n, value in enumerate(values)]
    best = best_of(list(reversed(trials)), maximize=maximize)
    numbers = [value for value in values if value is not None]
    if not numbers:
        assert best is None
    else:
        target = max(numbers) if maximize else min(numbers)
        assert best is trials[values.index(target)]


def test_differences_name_the_fields() -> None:
    one = {"a": {"b": [1, {"c": "x"}]}, "d": 1}
    other = {"a": {"b": [1, {"c": "y"}]}, "e": [2]}
    assert list(differences(one, other)) == ["a.b[1].c: was 'x', now 'y'", "d: was 1, now None", "e: was None, now [2]"]
    assert list(differences({"a": [1]}, {"a": [1, 2]})) == ["a: was [1], now [1, 2]"]
    assert list(differences(one, one)) == []


@pytest.mark.parametrize(
    ("text", "devices"),
    [("0,1", ["0", "1"]), (" 2 , GPU-abc", ["2", "GPU-abc"]), ("", []), ("-1", []), ("0,-1,1", ["0"]), ("x", ["x"])],
)
def test_visible_devices(text: str, devices: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": text}) == devices


def test_slots() -> None:
    slots = GpuSlots(["3", "5", "7"])
    assert slots.take(2) == ["3", "5"]
    assert slots.take(2) is None
    assert slots.take(0) == []
    assert slots.take(1) == ["7"]
    slots.give(["5"])
    slots.give(["3"])
    assert slots.take(2) == ["3", "5"]
    assert GpuSlots([]).take(4) == []
