"""A metrics file tells of each evaluation once, whatever happened between them."""

from pathlib import Path

import orjson

from kubesight.train.metric_log import MetricLog, tell_again

PAST = [{"epoch": number, "iou": number / 4, "seconds": 2.0 + number, "images_per_second": 3.0} for number in range(3)]


def told(path: Path) -> list[str]:
    """The lines without their times."""
    return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]


EXPECTED = ["epoch=0 iou=0", "epoch=1 iou=0.25", "epoch=2 iou=0.5"]


def test_an_evaluation_made_again_after_an_interruption_is_not_told_again(tmp_path: Path) -> None:
    history, lines = tmp_path / "metrics.jsonl", tmp_path / "metrics.log"
    log = MetricLog(history, lines, [])
    for record in PAST[:2]:
        log.append(record)
    # Killed before the checkpoint of epoch 1: it is trained and judged once more, slower.
    log = MetricLog(history, lines, PAST[:1])
    log.append({**PAST[1], "seconds": 9.0})
    log.append(PAST[2])
    assert told(lines) == EXPECTED
    assert [orjson.loads(line)["epoch"] for line in history.read_bytes().splitlines()] == [0, 1, 2]


def test_the_file_of_a_new_pod_is_told_of_the_past(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl", tmp_path / "new" / "metrics.log", PAST[:2])
    log.append(PAST[2])
    assert told(tmp_path / "new" / "metrics.log") == EXPECTED


def test_an_evaluation_that_came_out_differently_is_told(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl", tmp_path / "metrics.log", [])
    log.append(PAST[0])
    log.append({**PAST[0], "iou": 0.125})
    assert told(tmp_path / "metrics.log") == ["epoch=0 iou=0", "epoch=0 iou=0.125"]


def test_what_is_finished_is_told_again_only_where_it_is_missing(tmp_path: Path) -> None:
    history, lines = tmp_path / "metrics.jsonl", tmp_path / "metrics.log"
    tell_again(history, lines)
    assert not lines.exists()
    history.write_bytes(b"".join(orjson.dumps(record | {"nan": None}) + b"\n" for record in PAST))
    before = history.stat().st_mtime_ns
    tell_again(history, None)
    for _ in range(2):
        tell_again(history, lines)
        assert told(lines) == EXPECTED
    assert history.stat().st_mtime_ns == before
