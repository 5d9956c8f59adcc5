"""What a person should know before training on a data set, in order of weight."""

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec
import numpy as np

from kubesight.dataset.integrity import Integrity
from kubesight.dataset.rows import Task
from kubesight.dataset.statistics import Statistics
from kubesight.report.markup import plural

FEW_PICTURES = 10
"""Azure's documents advise 10 to 15 pictures a label at the least."""

IMBALANCE = 10.0
"""The ratio of the largest class to the smallest from which a warning is given."""

_NAMES_SHOWN = 8
_THIN_SHARE = 0.01
_ODD_ASPECT = 3.0
_SMALL_SIDE, _LARGE_SIDE = 32, 8000


class Advice(msgspec.Struct):
    """One remark; `code` is stable for programs, `title` and `message` are for people."""

    code: str
    level: Literal["bad", "warning"]
    title: str
    message: str


Check = Callable[[Statistics, Integrity], Iterator[Advice]]


def advise(statistics: Statistics, found: Integrity) -> list[Advice]:
    """Every remark that applies, the serious ones first."""
    checks: list[Check] = [_pictures, _duplicates, _classes, _parts, _boxes, _sizes]
    remarks = [remark for check in checks for remark in check(statistics, found)]
    return sorted(remarks, key=lambda remark: remark.level != "bad")


def _pictures(statistics: Statistics, found: Integrity) -> Iterator[Advice]:
    if not statistics.images:
        yield Advice("empty", "bad", "Empty", "there are no pictures")
    if found.unreadable:
        text = f"{plural(len(found.unreadable), 'picture')} cannot be read; each is listed below with its reason"
        yield Advice("unreadable", "bad", "Unreadable pictures", text)
    if found.changed:
        text = f"{plural(len(found.changed), 'picture')} no longer have the size that was noted at conversion"
        yield Advice("changed", "bad", "Changed since conversion", f"{text}; convert again")
    if found.remote:
        text = f"{plural(found.remote, 'picture')} are not local and were not opened"
        yield Advice("remote", "warning", "Not checked", text)


def _duplicates(statistics: Statistics, found: Integrity) -> Iterator[Advice]:
    counts = found.duplicate_counts()
    if across := counts["groups_across_parts"]:
        text = (
            f"{plural(across, 'picture')} are in more than one part, byte for byte: scores on such parts are too good"
        )
        yield Advice("duplicates_across_parts", "bad", "Leak between parts", text)
    if conflicts := counts["groups_with_different_labels"]:
        text = f"{plural(conflicts, 'picture')} occur more than once, with different labels"
        yield Advice("conflicting_duplicates", "bad", "Contradicting labels", text)
    if surplus := counts["surplus_pictures"]:
        text = f"{plural(surplus, 'picture')} are byte-identical copies of another"
        yield Advice("duplicates", "warning", "Duplicate pictures", text)


def _classes(statistics: Statistics, found: Integrity) -> Iterator[Advice]:
    images, annotations = statistics.per_class("images"), statistics.per_class("annotations")
    if len(images) == 1 and statistics.task is Task.CLASSIFICATION:
        yield Advice("one_class", "bad", "One class only", f"all pictures are {_quote(next(iter(images)))}")
    if statistics.images and not images:
        yield Advice("no_classes", "bad", "No labels", "no picture has a label")
    if empty := [name for name, count in images.items() if count == 0]:
        yield Advice("empty_class", "bad", "Classes without pictures", _list(empty))
    if few := [name for name, count in images.items() if 0 < count < FEW_PICTURES]:
        text = f"under {FEW_PICTURES} pictures each: {_list(few)}; 10 to 15 a class are the least that training needs"
        yield Advice("few_pictures", "warning", "Small classes", text)
    present = {name: count for name, count in annotations.items() if count}
    if len(present) > 1:
        largest, smallest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        ratio = present[largest] / present[smallest]
        if ratio >= IMBALANCE:
            boxes = statistics.task in {Task.DETECTION, Task.SEGMENTATION}  # their losses take no weights
            text = (
                f"{_quote(largest)} has {present[largest]:,} labels and {_quote(smallest)} {present[smallest]:,}, "
                f"{ratio:.3g} to 1; consider {'' if boxes else 'the hyperparameter weighted_loss, or '}"
                "more pictures of the small classes"
            )
            yield Advice("class_imbalance", "warning", "Class imbalance", text)


def _parts(statistics: Statistics, found: Integrity) -> Iterator[Advice]:
    if len(statistics.parts) < 2:
        return
    images = statistics.per_class("images")
    for name, part in statistics.parts.items():
        if not part.images:
            yield Advice("empty_part", "warning", "Empty part", f"{name} has no pictures")
        elif missing := [c for c, count in images.items() if count and not part.images_per_class[c]]:
            level: Literal["bad", "warning"] = "bad" if name == "train" else "warning"
            text = f"{name} has no picture of {_list(missing)}"
            yield Advice("class_missing", level, "Classes missing in a part", text)


def _boxes(statistics: Statistics, found: Integrity) -> Iterator[Advice]:
    if thin := statistics.thin_boxes(_THIN_SHARE):
        share = thin / len(statistics.box_shares)
        text = f"{thin:,} boxes ({share:.1%}) are thinner than 1 % of the picture; consider larger inputs or tiling"
        yield Advice("small_boxes", "warning", "Very small boxes", text)
    if repeated := statistics.repeated_objects:
        text = f"{repeated:,} boxes are there twice: the same class and corners in the same picture"
        yield Advice("repeated_objects", "warning", "Repeated boxes", text)


def _sizes(statistics: Statistics, found: Integrity) -> Iterator[Advice]:
    sizes = statistics.sizes().astype(np.float64)
    unknown = statistics.images - len(sizes)
    if unknown:
        yield Advice("unknown_size", "warning", "Unknown sizes", f"{plural(unknown, 'picture')} have no noted size")
    if not len(sizes):
        return
    aspect = sizes.max(1) / sizes.min(1)
    if odd := int((aspect > _ODD_ASPECT).sum()):
        text = f"{plural(odd, 'picture')} are more than {_ODD_ASPECT:g} times as long as wide; centre crops lose much"
        yield Advice("odd_aspect", "warning", "Long pictures", text)
    if small := int((sizes.min(1) < _SMALL_SIDE).sum()):
        text = f"{plural(small, 'picture')} have a side under {_SMALL_SIDE} pixels"
        yield Advice("small_pictures", "warning", "Tiny pictures", text)
    if large := int((sizes.max(1) > _LARGE_SIDE).sum()):
        text = f"{plural(large, 'picture')} have a side over {_LARGE_SIDE:,} pixels and will be slow to decode"
        yield Advice("large_pictures", "warning", "Huge pictures", text)


def _quote(name: str) -> str:
    return f"“{name}”"


def _list(names: list[str]) -> str:
    shown = ", ".join(_quote(name) for name in names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN:,} more"
