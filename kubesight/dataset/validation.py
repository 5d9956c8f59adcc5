"""`kubesight validate`: what is in a data set and what is wrong with it, before anything is trained."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kubesight.dataset.advice import Advice, advise
from kubesight.dataset.dataset import ROWS_FILE, Dataset
from kubesight.dataset.integrity import Examiner, Integrity, Place
from kubesight.dataset.report import REPORT_FILE, Report
from kubesight.dataset.rows import Row
from kubesight.dataset.statistics import Statistics
from kubesight.dataset.validation_page import render
from kubesight.errors import DatasetError
from kubesight.storage.files import atomic_file, write_json

PAGE_FILE = "report.html"
WHOLE = "all"
"""The part's name where neither the data set nor its rows name one."""


def validate(
    datasets: Sequence[Path | str],
    output: Path | str | None = None,
    *,
    check_images: bool = True,
    progress: bool = False,
) -> dict[str, Any]:
    """Write `report.json` and `report.html` over one data set or the parts of a split.

    The conversion's findings in the data sets' own `report.json` are kept; the keys `statistics`, `warnings`,
    `unreadable`, `changed`, `duplicates` and `checked` are written anew on each run.

    Args:
        datasets: data set folders; with several, each is one part (train, validation, test) of the same task.
        output: the folder to write into; by default the only data set's own.
        check_images: decode every local picture. Without it, missing and duplicate pictures are still found.
        progress: show a progress bar on standard error.

    Returns:
        The summary: `task`, `images`, `annotations`, `classes`, `background_images`, `parts` (images of each),
        `unreadable_images`, `duplicate_images`, `duplicates_across_parts`, `conflicting_duplicates`,
        `images_dropped`, `annotations_dropped`, `warnings` (sentences), `report` (path of the page).

    Raises:
        DatasetError: no data set is given, their tasks differ, or several are given without an output of their own.
    """
    opened = [Dataset(path) for path in datasets]
    target = _target(opened, output)
    names = _part_names(opened)
    statistics, found = _look(opened, names, check_images, progress)
    conversion = _conversion(opened)
    warnings = advise(statistics, found)
    value = {
        **conversion.to_dict(),
        "statistics": statistics.to_dict(),
        "warnings": msgspec.to_builtins(warnings),
        "unreadable": found.unreadable,
        "changed": found.changed,
        "duplicates": {**found.duplicate_counts(), "found": found.duplicates},
        "checked": {"decoded": found.decoded, "remote": found.remote, "check_images": found.check_images},
    }
    write_json(target / REPORT_FILE, value)
    html = render(opened, statistics, found, conversion, warnings)
    with atomic_file(target / PAGE_FILE, "w") as stream:
        stream.write(html)
    return _summary(statistics, found, conversion, warnings, target / PAGE_FILE)


def _target(opened: Sequence[Dataset], output: Path | str | None) -> Path:
    if not opened:
        raise DatasetError("no data set to validate", hint="Name one, or the parts of a split.")
    first = opened[0]
    for other in opened[1:]:
        if other.task != first.task:
            raise DatasetError(
                f"a data set for {other.task} beside one for {first.task}",
                where=str(other.path),
                hint="Validate data sets of different tasks one by one.",
            )
    if output is None:
        if len(opened) > 1:
            raise DatasetError("several data sets need a folder for their report", hint="Name one with --output.")
        return first.path
    target = Path(output)
    if len(opened) > 1 and target.resolve() in {dataset.path.resolve() for dataset in opened}:
        raise DatasetError(
            "the report over several data sets would overwrite the report of one of them",
            where=str(target),
            hint="Name another --output.",
        )
    return target


def _part_names(opened: Sequence[Dataset]) -> list[str | None]:
    """The part that each data set is, or none where its rows may say."""
    names = [(dataset.info.split or {}).get("part") for dataset in opened]
    if len(opened) == 1:
        return names
    names = [name or dataset.path.resolve().name for name, dataset in zip(names, opened, strict=True)]
    if len(set(names)) < len(names):
        names = [str(dataset.path) for dataset in opened]
    return names


def _rows(opened: Sequence[Dataset], names: Sequence[str | None]) -> Iterator[tuple[Place, Row]]:
    for dataset, name in zip(opened, names, strict=True):
        file = str(dataset.path / ROWS_FILE)
        for line, row in enumerate(dataset.rows(), start=1):
            yield Place(name or row.split or WHOLE, file, line), row


def _look(
    opened: Sequence[Dataset], names: Sequence[str | None], check_images: bool, progress: bool
) -> tuple[Statistics, Integrity]:
    classes = dict.fromkeys(name for dataset in opened for name in dataset.classes)
    statistics = Statistics(opened[0].task, sorted(classes))
    for name in names:
        if name is not None:
            statistics.add_part(name)
    examiner = Examiner()
    for place, row in _rows(opened, names):
        try:
            statistics.add(place.part, row)
        except DatasetError as error:
            raise DatasetError(error.message, where=f"{place.file}, line {place.line}", hint=error.hint) from error
        examiner.note_size(row)
    with _bar(progress) as advance:
        examiner.examine(_rows(opened, names), decode=check_images, progress=advance)
    examiner.name_duplicates(_rows(opened, names))
    return statistics, examiner.found


@contextlib.contextmanager
def _bar(wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    if not wanted:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("reading pictures", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _conversion(opened: Sequence[Dataset]) -> Report:
    """The findings of the data sets' own reports; parts that carry a copy of the same report count once."""
    reports: list[Report] = []
    for dataset in opened:
        if not (dataset.path / REPORT_FILE).exists():
            continue
        report = Report.load(dataset.path)
        if all(report.to_dict() != other.to_dict() for other in reports):
            reports.append(report)
    whole = Report(max_dropped=max((report.max_dropped for report in reports), default=0.05))
    for report in reports:
        whole.images_read += report.images_read
        whole.annotations_read += report.annotations_read
        for finding in report.findings:
            whole.add(finding)
    if not reports:
        whole.images_read = sum(len(dataset) for dataset in opened)
        whole.annotations_read = sum(int(dataset.info.counts["annotations"]) for dataset in opened)
    return whole


def _summary(
    statistics: Statistics, found: Integrity, conversion: Report, warnings: Sequence[Advice], page: Path
) -> dict[str, Any]:
    counts = found.duplicate_counts()
    return {
        "task": statistics.task.value,
        "images": statistics.images,
        "annotations": statistics.annotations,
        "classes": len(statistics.per_class()),
        "background_images": statistics.background,
        "parts": {name: part.images for name, part in statistics.parts.items()},
        "unreadable_images": len(found.unreadable),
        "duplicate_images": counts["surplus_pictures"],
        "duplicates_across_parts": counts["groups_across_parts"],
        "conflicting_duplicates": counts["groups_with_different_labels"],
        "images_dropped": conversion.dropped("image"),
        "annotations_dropped": conversion.dropped("annotation"),
        "warnings": [f"{warning.title}: {warning.message}" for warning in warnings],
        "report": str(page),
    }
