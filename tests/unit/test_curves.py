"""Curves read from the folders of a sweep while trainings write them."""

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.sweep.curves import CurveReader, curve_of, read_curves
from kubesight.train.metric_log import MetricLog


def write(folder: Path, trial: str, text: str, *, add: bool = False) -> None:
    (folder / trial).mkdir(parents=True, exist_ok=True)
    with open(folder / trial / "metrics.jsonl", "a" if add else "w") as stream:
        stream.write(text)


def test_curves_are_what_trainings_log(tmp_path: Path) -> None:
    for trial, values in {"a": [0.5, 0.25], "b": [1.0]}.items():
        (tmp_path / trial).mkdir()
        log = MetricLog(tmp_path / trial / "metrics.jsonl", tmp_path / trial / "lines.log", [])
        for epoch, value in enumerate(values):
            log.append({"epoch": epoch, "accuracy": value, "seconds": 1.0})
    assert read_curves(tmp_path, "accuracy") == {"a": [0.5, 0.25], "b": [1.0]}
    assert read_curves(tmp_path, "iou") == {}
    assert read_curves(tmp_path / "none", "iou") == {}


def test_evaluations_without_a_finite_value_are_no_reports() -> None:
    records = [{"m": 1}, {}, {"m": None}, {"m": float("nan")}, {"m": float("inf")}, {"m": "2"}, {"m": True}, {"m": 0.5}]
    assert curve_of(records, "m") == [1.0, 0.5]


def test_a_line_counts_once_it_has_its_end(tmp_path: Path) -> None:
    write(tmp_path, "a", '{"m": 1}\n{"m": 2')
    reader = CurveReader(tmp_path, "m")
    assert reader.read() == {"a": [1.0]}
    write(tmp_path, "a", "5}", add=True)
    assert reader.read() == {"a": [1.0]}
    write(tmp_path, "a", '\n{"m": 3}\n', add=True)
    assert reader.read() == {"a": [1.0, 25.0, 3.0]}


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path, "a", '{"m": 1}\n')
    reader = CurveReader(tmp_path, "m")
    first = reader.read()
    # In place, so that only a reader that starts over would see it.
    with open(tmp_path / "a" / "metrics.jsonl", "r+") as stream:
        stream.write('{"m": 9}\n{"m": 2}\n')
    assert reader.read() == {"a": [1.0, 2.0]}
    first["a"].append(7.0)
    assert reader.read() == {"a": [1.0, 2.0]}


def test_a_resumed_training_s_history_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "metrics.jsonl"
    log = MetricLog(path, tmp_path / "lines.log", [])
    for epoch in range(3):
        log.append({"epoch": epoch, "m": float(epoch)})
    reader = CurveReader(tmp_path, "m")
    assert reader.read() == {"a": [0.0, 1.0, 2.0]}
    log = MetricLog(path, tmp_path / "lines.log", [{"epoch": 0, "m": 0.0}])
    assert reader.read() == {"a": [0.0]}
    log.append({"epoch": 1, "m": 1.5})
    assert reader.read() == {"a": [0.0, 1.5]}
    os.truncate(path, 0)
    assert reader.read() == {}


@pytest.mark.parametrize("damage", ["nonsense\n", "[1]\n", "3\n", "\n"])
def test_a_damaged_history_is_no_curve_until_it_is_replaced(tmp_path: Path, damage: str) -> None:
    write(tmp_path, "a", '{"m": 1}\n' + damage + '{"m": 2}\n')
    write(tmp_path, "b", '{"m": 5}\n')
    reader = CurveReader(tmp_path, "m")
    assert reader.read() == {"b": [5.0]}
    write(tmp_path, "a", '{"m": 3}\n', add=True)
    assert reader.read() == {"b": [5.0]}
    (tmp_path / "new").mkdir()
    write(tmp_path / "new", "a", '{"m": 4}\n')
    (tmp_path / "new" / "a" / "metrics.jsonl").replace(tmp_path / "a" / "metrics.jsonl")
    assert reader.read() == {"a": [4.0], "b": [5.0]}


def test_trials_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "empty").mkdir()
    reader = CurveReader(tmp_path, "m")
    assert reader.read() == {}
    write(tmp_path, "b", '{"m": 1}\n')
    assert reader.read() == {"b": [1.0]}
    write(tmp_path, "a", '{"m": 2}\n')
    (tmp_path / "b" / "metrics.jsonl").unlink()
    assert reader.read() == {"a": [2.0]}
    write(tmp_path, "b", '{"m": 3}\n')
    assert reader.read() == {"a": [2.0], "b": [3.0]}


@given(st.lists(st.floats(-1e6, 1e6), max_size=8), st.lists(st.integers(1, 40), max_size=30))
def test_however_a_file_grows_the_curve_is_the_same(values: list[float], steps: list[int]) -> None:
    import tempfile

    content = b"".join(orjson.dumps({"m": value}) + b"\n" for value in values)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir()
        reader, done = CurveReader(Path(folder), "m"), 0
        for step in [*steps, len(content)]:
            with open(Path(folder) / "a" / "metrics.jsonl", "ab") as stream:
                stream.write(content[done : done + step])
            done += step
            seen = reader.read().get("a", [])
            assert seen == values[: len(seen)]
        assert reader.read() == ({"a": values} if values else {})
