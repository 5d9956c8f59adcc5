"""The page that `kubesight validate` writes for people: under 1 MB, everything in one file."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kubesight.dataset.advice import Advice
from kubesight.dataset.dataset import Dataset
from kubesight.dataset.integrity import Integrity
from kubesight.dataset.report import REPORT_FILE, Report
from kubesight.dataset.rows import Task
from kubesight.dataset.samples import sample_pictures
from kubesight.dataset.statistics import Statistics
from kubesight.report.page import (
    Html,
    Page,
    bars,
    fit_pictures,
    histogram,
    lines,
    notes,
    paragraph,
    pictures,
    plural,
    shorten,
    side_by_side,
    table,
    tiles,
)

PAGE_BYTES = 1_000_000
_FINDINGS_SHOWN = 200
_GROUPS_SHOWN = 100
_CLASSES_SHOWN = 300
BOXED = {Task.DETECTION, Task.SEGMENTATION}
_TEXT_LENGTH, _FILE_LENGTH = 300, 90
_ANNOTATION_NAMES = {
    Task.CLASSIFICATION: "label",
    Task.MULTILABEL: "label",
    Task.DETECTION: "box",
    Task.SEGMENTATION: "outline",
}


def render(
    opened: Sequence[Dataset],
    statistics: Statistics,
    found: Integrity,
    conversion: Report,
    warnings: Sequence[Advice],
) -> str:
    """The page as HTML."""
    names = ", ".join(str(dataset.path) for dataset in opened)
    page = Page(f"Data set report: {_title(opened)}", f"{statistics.task.value} · {names}")
    _overview(page, statistics, found, conversion, warnings)
    _findings(page, conversion)
    _problems(page, found)
    _duplicates(page, found)
    _classes(page, statistics)
    _distributions(page, statistics)
    room = PAGE_BYTES - len(page.render().encode()) - 20_000
    shown = fit_pictures(sample_pictures(statistics), room)
    if shown:
        note = "Chosen by chance with a fixed seed, some of each class; boxes and outlines as the labels say."
        page.section("Samples", pictures(shown, width=240 if statistics.task in BOXED else 140), note=note)
    return page.render()


def _title(opened: Sequence[Dataset]) -> str:
    first = opened[0].path.resolve()
    return first.name if len(opened) == 1 else first.parent.name


def _overview(
    page: Page, statistics: Statistics, found: Integrity, conversion: Report, warnings: Sequence[Advice]
) -> None:
    noun = _ANNOTATION_NAMES[statistics.task]
    numbers: list[tuple[str, object]] = [("pictures", statistics.images), ("classes", len(statistics.per_class()))]
    if statistics.task is not Task.CLASSIFICATION:
        numbers += [(f"{noun}{'e' * noun.endswith('x')}s", statistics.annotations)]
        numbers += [("background pictures", statistics.background)]
    numbers += [(f"pictures in {name}", part.images) for name, part in statistics.parts.items() if name != "all"]
    repaired = sum(finding.count for finding in conversion.findings if finding.severity == "repaired")
    numbers += [
        ("unreadable", len(found.unreadable)),
        ("duplicates", found.duplicate_counts()["surplus_pictures"]),
        ("repaired", repaired),
        ("dropped", conversion.dropped("image") + conversion.dropped("annotation")),
    ]
    remarks = [
        notes([(w.title, w.message) for w in warnings if w.level == "bad"], "bad"),
        notes([(w.title, w.message) for w in warnings if w.level == "warning"], "warning"),
    ]
    if not warnings:
        remarks = [notes([("Nothing to warn of", "no check found a fault in these pictures and labels")], "good")]
    page.section("Overview", tiles(numbers), *remarks, note=_checked(found, statistics))


def _checked(found: Integrity, statistics: Statistics) -> str:
    if found.check_images:
        return f"{plural(found.decoded, 'picture')} of {statistics.images:,} were decoded."
    return "The pictures were not decoded; missing and duplicate files were looked for."


def _findings(page: Page, conversion: Report) -> None:
    read = f"{plural(conversion.images_read, 'picture')} and {plural(conversion.annotations_read, 'annotation')} read"
    if not conversion.findings:
        page.section("Findings", notes([("Clean", f"{read}; nothing was repaired or dropped")], "good"))
        return
    totals: dict[tuple[str, str, str], int] = {}
    for finding in conversion.findings:
        key = (finding.severity, finding.reason, finding.subject)
        totals[key] = totals.get(key, 0) + finding.count
    order = {"dropped": 0, "repaired": 1, "warning": 2}
    ranked = sorted(totals.items(), key=lambda item: (order[item[0][0]], -item[1]))
    summary = table(
        ["what was done", "reason", "of", "count"],
        [(severity, reason.replace("_", " "), f"{subject}s", count) for (severity, reason, subject), count in ranked],
    )
    first = sorted(conversion.findings, key=lambda finding: order[finding.severity])[:_FINDINGS_SHOWN]
    folder = _folder([finding.file for finding in first])
    rows = table(
        ["what was done", "reason", "what was met", "file", "line"],
        [
            (f.severity, f.reason.replace("_", " "), shorten(f.message, _TEXT_LENGTH), _file(f.file, folder), f.line)
            for f in first
        ],
    )
    more = _more(len(conversion.findings), len(first))
    page.section("Findings", summary, rows, more, note=f"{read}.{_files_under(folder)}")


def _problems(page: Page, found: Integrity) -> None:
    for heading, entries in (("Unreadable pictures", found.unreadable), ("Changed pictures", found.changed)):
        if entries:
            folder = _folder([entry["image_url"] for entry in entries[:_FINDINGS_SHOWN]])
            rows = [
                (_file(e["image_url"], folder), shorten(e["message"], _TEXT_LENGTH), e["part"], e["line"])
                for e in entries[:_FINDINGS_SHOWN]
            ]
            columns = ["picture", "what is wrong", "part", "line"]
            more = _more(len(entries), len(rows))
            page.section(heading, table(columns, rows), more, note=_files_under(folder).strip())


def _duplicates(page: Page, found: Integrity) -> None:
    if not found.duplicates:
        return
    ranked = sorted(found.duplicates, key=lambda group: -2 * group["across_parts"] - group["different_labels"])
    folder = _folder([place["image_url"] for group in ranked[:_GROUPS_SHOWN] for place in group["pictures"][:10]])
    rows = []
    for number, group in enumerate(ranked[:_GROUPS_SHOWN], start=1):
        remarks = ["across parts"] * group["across_parts"] + ["labels differ"] * group["different_labels"]
        for place in group["pictures"][:10]:
            labels = shorten(", ".join(place["labels"]), 60)
            rows.append(
                (number, _file(place["image_url"], folder), place["part"], labels, ", ".join(remarks) or "copies")
            )
    page.section(
        "Duplicate pictures",
        table(["group", "picture", "part", "labels", "remark"], rows),
        _more(len(ranked), min(len(ranked), _GROUPS_SHOWN), "groups"),
        note="Byte-identical files. `kubesight split` keeps them in one part." + _files_under(folder),
    )


def _classes(page: Page, statistics: Statistics) -> None:
    what = "images" if statistics.task in {Task.CLASSIFICATION, Task.MULTILABEL} else "annotations"
    counts = statistics.per_class(what)
    if not counts:
        return
    names = sorted(counts, key=lambda name: (-counts[name], name))
    noun = "Pictures" if what == "images" else "Labels"
    parts = list(statistics.parts)
    values: Any = [counts[name] for name in names]
    if len(parts) > 1:
        each = {part: statistics.per_class(what, part) for part in parts}
        values = {part: [each[part][name] for name in names] for part in parts}
    columns, rows = _class_table(statistics, names[:_CLASSES_SHOWN])
    chart = bars(names, values, title=f"{noun} per class, largest first", limit=40)
    sized = lines({"": (range(1, len(names) + 1), [counts[name] for name in names])}, "class by rank", noun.lower())
    curve = sized if len(names) > 40 else Html()
    numbers = table(columns, rows, numeric=columns[1:])
    # A wide table stands alone.
    both = side_by_side(chart, numbers + curve) if len(columns) <= 6 else side_by_side(chart, curve) + numbers
    page.section("Classes", both, _more(len(names), len(rows), "classes"))


def _class_table(statistics: Statistics, names: Sequence[str]) -> tuple[list[str], list[list[object]]]:
    images, annotations = statistics.per_class("images"), statistics.per_class("annotations")
    boxed = statistics.task in BOXED
    parts = list(statistics.parts) if len(statistics.parts) > 1 else []
    columns = ["class", *parts, "pictures", *(["labels", "per picture"] if boxed else []), "share"]
    total = max(1, sum(annotations.values()))
    rows: list[list[object]] = []
    for name in names:
        row: list[object] = [name, *(statistics.parts[part].images_per_class[name] for part in parts), images[name]]
        if boxed:
            row += [annotations[name], f"{annotations[name] / max(1, images[name]):.1f}"]
        rows.append([*row, f"{annotations[name] / total:.1%}"])
    return columns, rows


def _distributions(page: Page, statistics: Statistics) -> None:
    sizes = statistics.sizes().astype(np.float64)
    parts = [_formats(statistics)]
    if len(np.unique(sizes, axis=0)) > 1:
        parts += [
            histogram(sizes[:, 0], None, "width (pixels)", title="Picture width"),
            histogram(sizes[:, 1], None, "height (pixels)", title="Picture height"),
            histogram(sizes[:, 0] / sizes[:, 1], None, "width / height", title="Aspect ratio"),
        ]
    if statistics.task is not Task.CLASSIFICATION and statistics.objects_per_picture:
        noun = "labels" if statistics.task is Task.MULTILABEL else "objects"
        per_picture = np.asarray(statistics.objects_per_picture)
        parts.append(histogram(per_picture, None, f"{noun} in a picture", title=f"{noun.capitalize()} per picture"))
    if statistics.box_shares:
        shares, pixels = np.asarray(statistics.box_shares), np.asarray(statistics.box_pixels)
        label = "square root of the box's share of the picture"
        parts.append(histogram(shares, 24, label, title="Box size, relative", log=True))
        parts.append(
            histogram(pixels, 24, "square root of the box's area (pixels)", title="Box size, pixels", log=True)
        )
    page.section(
        "Pictures and boxes" if statistics.box_shares else "Pictures", side_by_side(*parts), _marks(statistics)
    )


def _formats(statistics: Statistics) -> Html:
    sizes, counts = np.unique(statistics.sizes(), axis=0, return_counts=True)
    rows: list[tuple[object, ...]] = [(f"format {name}", count) for name, count in statistics.formats.most_common(8)]
    for index in np.argsort(-counts, kind="stable")[:8]:
        rows.append((f"{sizes[index, 0]} x {sizes[index, 1]} pixels", int(counts[index])))
    if len(counts) > 8:
        rows.append((f"{len(counts) - 8:,} other sizes", int(np.sort(counts)[:-8].sum())))
    return table(["formats and sizes", "pictures"], rows)


def _marks(statistics: Statistics) -> Html:
    names = {
        "isCrowd": "crowds",
        "difficult": "difficult",
        "truncated": "truncated",
        "occluded": "occluded",
        "rle": "exact masks (RLE)",
        "several_rings": "outlines of several rings",
    }
    marks = [f"{statistics.marks[key]:,} {text}" for key, text in names.items() if statistics.marks[key]]
    return paragraph(f"Marked objects: {', '.join(marks)}.") if marks else Html()


def _folder(files: Sequence[str]) -> str:
    """The folder that all files are under, with its slash, so that tables need not repeat it; empty for none."""
    # By characters, not by `commonpath`, which spoils `s3://` and refuses relative names beside absolute ones.
    shared = os.path.commonprefix(list(files))  # noqa: RUF071
    return shared[: shared.rfind("/") + 1]


def _files_under(folder: str) -> str:
    return f" Files are under {folder}" if len(folder) > 1 else ""


def _file(name: str, folder: str) -> str:
    return shorten(name.removeprefix(folder), _FILE_LENGTH)


def _more(count: int, shown: int, what: str = "rows") -> Html:
    return paragraph(f"{count - shown:,} more {what} are in {REPORT_FILE}.") if count > shown else Html()
