"""Metric lines as Katib's collectors read them; what each line gives was run through Katib's own Go code or docs."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.errors import JobError
from kubesight.tune.trials.collect import (
    BrokenLog,
    LineReader,
    Observation,
    Report,
    Tail,
    check_collector,
    compile_filter,
    parse_time,
)


@dataclass
class Spec:
    kind: str = "StdOut"
    path: str | None = None
    format: str = "TEXT"
    filters: tuple[str, ...] = ()


def read(line: str, *metrics: str, filters: tuple[str, ...] = (), format: str = "TEXT") -> list[tuple]:
    reader = LineReader(Spec(filters=filters, format=format), metrics)
    return [(report.name, report.value) for report in reader.read(line)]


@pytest.mark.parametrize(
    ("line", "metric", "expected"),
    [
        ("loss=.98", "loss", [0.98]),
        ("loss=1e-3", "loss", [0.001]),
        ("loss = -2.5E+1", "loss", [-25.0]),
        ("loss: 0.5", "loss", []),
        ("val/mAP_50-95=0.4", "mAP_50-95", [0.4]),
        ("mAP@0.5=0.61", "5", [0.61]),
        ("mAP@0.5=0.61", "mAP", []),
        ("metrics.top1=0.9", "top1", [0.9]),
        ("loss=1,234.5", "loss", [1.0]),
        ("loss=nan", "loss", [None]),
        ("loss = inf", "loss", [None]),
        ("loss=", "loss", [None]),
        ("validation_loss=0.3", "loss", []),
        ("loss=0.3 loss=0.2", "loss", [0.3, 0.2]),
        ("batch 3 loss=0.25, accuracy=0.5", "accuracy", [0.5]),
        ("loss=٣", "loss", [None]),  # Go's \d is ASCII
        ("", "loss", []),
    ],
)
def test_default_filter(line: str, metric: str, expected: list) -> None:
    assert [value for _, value in read(line, metric)] == expected


def test_names_must_be_exact_and_all_pairs_of_a_line_count() -> None:
    line = "2026-01-02T15:04:05.123456Z epoch=3 accuracy=0.912 validation_loss=0.310 other=1"
    reader = LineReader(Spec(), ("accuracy", "validation_loss"))
    time = datetime(2026, 1, 2, 15, 4, 5, 123456, UTC)
    assert reader.read(line) == [Report("accuracy", 0.912, time), Report("validation_loss", 0.31, time)]


def test_custom_filters_replace_the_default_and_each_counts() -> None:
    filters = (r"(\w+): (\d+\.\d+)", r"\{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)\}")
    assert read("loss: 0.5", "loss", filters=filters) == [("loss", 0.5)]
    assert read("loss=0.5", "loss", filters=filters) == []
    assert read("x {metricName: loss, metricValue: -3.5};", "loss", filters=filters) == [("loss", -3.5)]


def test_a_group_that_took_no_part_is_empty() -> None:
    assert read("loss ", "loss", filters=(r"(loss) (\d+)?",)) == [("loss", None)]


@pytest.mark.parametrize(
    "text",
    [r"(\w+)=(\d+", r"(?=x)(a)(b)", r"(?<!x)(a)(b)", r"(a)(b)\1", r"(\pL+)=(.*)", r"(a)=(\d++)", r"(?>a)(b)(c)",
     r"([[:alpha:]]+)=(.*)", r"(\w+)=\d+", r"(?P<n>a)(b)(?P=n)", r"(a{2}+)(b)", r"(a)(b)(?#why)"],
)  # fmt: skip
def test_filters_that_are_refused(text: str) -> None:
    with pytest.raises(JobError, match="filter"):
        compile_filter(text)


@pytest.mark.parametrize(
    ("text", "line", "groups"),
    [
        (r"(?<name>\w+)=(?P<value>\d+)", "a=1", ("a", "1")),
        (r"(?i)(LOSS)=(\S+)", "loss=1", ("loss", "1")),
        (r"([*+?]+)=([^\]+]+)", "*+=7", ("*+", "7")),
        (r"(\w+)\+\+=(\d+?)", "a++=12", ("a", "1")),
        (r"([\]+]+)=(.)", "]+=x", ("]+", "x")),
    ],
)
def test_filters_that_both_know(text: str, line: str, groups: tuple[str, str]) -> None:
    found = compile_filter(text).search(line)
    assert found is not None
    assert found.groups()[:2] == groups


@pytest.mark.parametrize("kind", ["TensorFlowEvent", "PrometheusMetric", "Custom", "Push", "None", "Magic"])
def test_other_collectors_are_refused(kind: str) -> None:
    with pytest.raises(JobError, match=kind) as caught:
        check_collector(Spec(kind=kind))
    assert "StdOut" in str(caught.value)


def test_stdout_and_file_are_taken() -> None:
    check_collector(Spec("StdOut"))
    check_collector(Spec("File", "/var/log/katib/metrics.log"))
    with pytest.raises(JobError):
        check_collector(Spec("File", "/x", filters=("(",)))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("2026-01-02T15:04:05Z", True),
        ("2026-01-02T15:04:05.123456789+02:00", True),
        ("2026-01-02T15:04:05,5Z", True),
        ("2026-01-02 15:04:05Z", False),
        ("2026-01-02T15:04:05", False),
        ("2026-02-31T15:04:05Z", False),
        ("1767366245.5", False),
    ],
)
def test_times(text: str, known: bool) -> None:
    assert (parse_time(text) is not None) is known


def test_json_takes_strings_and_says_once_that_it_passes_numbers_over(caplog: pytest.LogCaptureFixture) -> None:
    reader = LineReader(Spec("File", "/m", "JSON"), ("accuracy", "loss"))
    with caplog.at_level(logging.WARNING):
        first = reader.read('{"timestamp": "2026-01-02T15:04:05Z", "accuracy": "0.9", "loss": 0.1}')
        reader.read('{"loss": 0.2}')
    assert first == [Report("accuracy", 0.9, datetime(2026, 1, 2, 15, 4, 5, tzinfo=UTC))]
    assert len([record for record in caplog.records if "strings alone" in record.message]) == 1
    assert reader.read("") == []
    assert reader.read('{"timestamp": 1, "loss": "nan"}') == [
        Report("loss", None, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    ]
    for line in ("Epoch 1", "[1]", "3", " "):
        with pytest.raises(BrokenLog):
            reader.read(line)


def test_min_max_and_latest() -> None:
    seen = Observation()
    for value in (0.3, None, 0.9, 0.5):
        seen.add(Report("a", value))
    assert seen.metrics() == {"a": {"min": 0.3, "max": 0.9, "latest": 0.5}}
    assert [seen.value("a", strategy) for strategy in ("min", "max", "latest")] == [0.3, 0.9, 0.5]
    assert seen.has("a")
    assert not seen.has("b")
    assert seen.value("b", "max") is None


def test_latest_is_by_time_then_by_order() -> None:
    seen = Observation()
    for value, text in (
        (1.0, "2026-01-02T15:04:05Z"),
        (2.0, "2026-01-02T15:04:04Z"),
        (3.0, "2026-01-02T16:04:05+01:00"),
    ):
        seen.add(Report("a", value, parse_time(text)))
    assert seen.value("a", "latest") == 3.0  # the same moment as the first, printed later
    seen.add(Report("a", 4.0, None))  # a line without a time is the earliest of all
    assert seen.value("a", "latest") == 3.0


def test_a_last_value_that_is_no_number_leaves_min_and_max() -> None:
    seen = Observation()
    seen.add(Report("a", 0.25))
    seen.add(Report("a", None))
    assert seen.metrics() == {"a": {"min": 0.25, "max": 0.25, "latest": None}}


def test_torn_lines_wait(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert list(tail.lines()) == []
    path.write_bytes(b"accuracy=0.5\naccur")
    assert list(tail.lines()) == ["accuracy=0.5"]
    assert list(tail.lines()) == []
    with open(path, "ab") as stream:
        stream.write(b"acy=0.75")
    assert list(tail.lines()) == []
    assert list(tail.lines(final=True)) == ["accuracy=0.75"]
    assert list(tail.lines(final=True)) == []


def test_a_file_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a=1\na=2\n")
    tail = Tail(path)
    assert len(list(tail.lines())) == 2
    path.write_text("a=3\n")
    assert list(tail.lines()) == ["a=3"]
    assert tail.renewals == 1
    path.unlink()
    assert list(tail.lines(final=True)) == []


def test_starts_behind_an_earlier_attempt(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a=1\n")
    tail = Tail(path, path.stat().st_size)
    with open(path, "a") as stream:
        stream.write("a=2\n")
    assert list(tail.lines()) == ["a=2"]


def test_a_line_without_end_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 * 2**20) + b"\rloss=1\n")
    lines = list(Tail(path).lines())
    assert max(map(len, lines)) < 2.1 * 2**20
    assert lines[-1].endswith("loss=1")


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\xfe accuracy=0.5 \xe2\x82\n")
    (line,) = Tail(path).lines()
    assert read(line, "accuracy") == [("accuracy", 0.5)]


@given(st.text(), st.text(alphabet="ab_-1", min_size=1), st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_printed_is_read_whatever_stands_before(before: str, name: str, value: float) -> None:
    line = before.replace("\n", " ") + f" {name}={value!r}"
    assert read(line, name)[-1] == (name, value)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_pieces_give_the_same_lines(tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    tail, found, start = Tail(path), [], 0
    path.touch()
    for cut in [*sorted(cut for cut in cuts if cut <= len(data)), len(data)]:
        with open(path, "ab") as stream:
            stream.write(data[start:cut])
        found, start = found + list(tail.lines()), cut
    found += tail.lines(final=True)
    whole = [line.decode(errors="replace") for line in data.split(b"\n")]
    assert found == (whole if whole[-1] else whole[:-1])


@given(st.text())
def test_no_line_kills_the_reader(line: str) -> None:
    LineReader(Spec(), ("a", "=")).read(line)
