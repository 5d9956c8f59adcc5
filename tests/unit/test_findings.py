"""The report of a reading: counts, limits, and that it survives its file."""

from pathlib import Path

import pytest

from kubesight.dataset.report import Finding, Report
from kubesight.errors import DatasetError


def dropped(reason: str, line: int | None = None, *, count: int = 1, image: bool = False) -> Finding:
    return Finding(
        "dropped", reason, f"about {reason}", "a.csv", line, subject="image" if image else "annotation", count=count
    )


def test_findings_survive_the_file(tmp_path: Path) -> None:
    report = Report(max_dropped=0.5)
    report.images_read, report.annotations_read = 10, 40
    report.add(dropped("degenerate_box", 3, count=2))
    report.add(Finding("warning", "odd", "words", "b.csv"))
    report.add(dropped("missing_picture", image=True))
    report.save(tmp_path)
    again = Report.load(tmp_path)
    assert again.to_dict() == report.to_dict()
    assert (again.dropped("annotation"), again.dropped("image")) == (2, 1)
    assert again.reasons() == {"dropped": {"degenerate_box": 2, "missing_picture": 1}, "warning": {"odd": 1}}


@pytest.mark.parametrize(("drops", "fails"), [(2, False), (3, True)])
def test_more_than_the_limit_fails_with_the_most_frequent_reason(drops: int, fails: bool) -> None:
    report = Report(max_dropped=0.05)
    report.images_read, report.annotations_read = 40, 1000
    report.add(dropped("rare", 9, image=True))
    for number in range(drops - 1):
        report.add(dropped("frequent", number + 1, image=True) if drops > 2 else dropped("rare", 1, image=True))
    report.add(Finding("repaired", "frequent", "words", "a.csv", subject="image", count=30))
    if not fails:
        report.check()
        return
    with pytest.raises(DatasetError, match=r"a\.csv, line 1: 3 of 40 images .*5%; most for frequent.*--max-dropped"):
        report.check()


def test_annotations_have_a_limit_of_their_own() -> None:
    report = Report(max_dropped=0.1)
    report.images_read, report.annotations_read = 1, 10
    report.add(dropped("degenerate_box", count=2))
    with pytest.raises(DatasetError, match="2 of 10 annotations"):
        report.check()


def test_strict_fails_at_the_first_drop_and_not_at_a_repair() -> None:
    report = Report(strict=True)
    report.add(Finding("repaired", "clipped", "words", "a.csv", 1))
    with pytest.raises(DatasetError, match=r"a\.csv, line 7: about degenerate_box .*--strict"):
        report.add(dropped("degenerate_box", 7))
