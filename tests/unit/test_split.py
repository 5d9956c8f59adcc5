"""The split as users see it: three data sets, read back."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from kubesight.dataset import (
    Box,
    ClassificationRow,
    Dataset,
    DatasetWriter,
    DetectionRow,
    ImageDetails,
    MultilabelRow,
    Task,
)
from kubesight.dataset.report import Report
from kubesight.errors import DatasetError, HyperparameterError
from kubesight.split import split


def write(path: Path, task: Task, rows: list, classes: list[str] | None = None) -> Path:
    with DatasetWriter(path, task, classes=classes, source={"root": str(path), "format": "made"}) as writer:
        for row in rows:
            writer.write(row)
    return path


def labelled(counts: dict[str, int], **fields: object) -> list[ClassificationRow]:
    return [
        ClassificationRow(image_url=f"https://example.org/{label}/{number}.jpg", label=label, **fields)
        for label, count in counts.items()
        for number in range(count)
    ]


def urls(dataset: Dataset) -> set[str]:
    return {row.image_url for row in dataset.rows()}


def per_class(dataset: Dataset) -> dict[str, int]:
    return dataset.info.counts["per_class"]


def reasons(dataset: Dataset) -> dict[str, int]:
    return Report.load(dataset.path).reasons().get("warning", {})


def test_parts_hold_every_row_once_with_classes_in_proportion(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 50, "b": 30, "c": 20}))
    parts = split(whole, tmp_path / "out", split_ratio=0.2, test_ratio=0.1, seed=3)
    assert list(parts) == ["train", "validation", "test"]
    assert [len(part) for part in parts.values()] == [70, 20, 10]
    assert per_class(parts["validation"]) == {"a": 10, "b": 6, "c": 4}
    assert per_class(parts["test"]) == {"a": 5, "b": 3, "c": 2}
    seen = [row.image_url for part in parts.values() for row in part.rows()]
    assert sorted(seen) == sorted(urls(Dataset(whole)))


def test_parts_are_data_sets_that_say_where_they_come_from(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 8, "b": 8}), classes=["a", "b", "unseen"])
    parts = split(whole, tmp_path / "out", seed=5)
    for name, part in parts.items():
        assert part.path == tmp_path / "out" / name
        assert part.classes == ["a", "b", "unseen"]
        assert part.info.source == Dataset(whole).info.source
        assert part.info.split == {
            "part": name,
            "split_ratio": 0.2,
            "test_ratio": 0.0,
            "seed": 5,
            "of": Dataset(whole).info.content_hash,
        }
        assert Report.load(part.path).images_read == 16
    assert len(parts["test"]) == 0
    assert list(parts["test"].rows()) == []


def test_same_seed_gives_the_same_parts_and_another_seed_others(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 40, "b": 40}))
    first = split(whole, tmp_path / "one", seed=1)
    again = split(whole, tmp_path / "two", seed=1)
    other = split(whole, tmp_path / "three", seed=2)
    assert first["validation"].info.content_hash == again["validation"].info.content_hash
    assert urls(first["validation"]) != urls(other["validation"])


def test_test_part_does_not_depend_on_the_validation_ratio(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 43, "b": 17, "c": 9}))
    tests = [
        urls(split(whole, tmp_path / str(ratio), split_ratio=ratio, test_ratio=0.2)["test"]) for ratio in (0, 0.2, 0.5)
    ]
    assert tests[0] == tests[1] == tests[2]


def test_class_with_one_picture_goes_to_training_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"common": 20, "rare": 1}))
    with caplog.at_level(logging.WARNING, "kubesight"):
        parts = split(whole, tmp_path / "out", split_ratio=0.5)
    assert per_class(parts["train"])["rare"] == 1
    assert "class 'rare' has one picture" in caplog.text
    assert reasons(parts["train"]) == {"class_with_one_picture": 1}


def test_many_warnings_are_kept_and_a_few_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = {"common": 50, **{f"rare{number}": 1 for number in range(30)}}
    with caplog.at_level(logging.WARNING, "kubesight"):
        parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, labelled(counts)), tmp_path / "out")
    assert reasons(parts["train"]) == {"class_with_one_picture": 30}
    assert [len(caplog.records), "more warnings" in caplog.messages[-1]] == [11, True]


def test_training_keeps_a_picture_of_every_class_at_any_ratio(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({f"c{number}": 2 for number in range(20)}))
    parts = split(whole, tmp_path / "out", split_ratio=0.9)
    assert set(per_class(parts["train"]).values()) == {1}


def png(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def test_byte_identical_pictures_stay_together(tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        content = b"header" * 1000 + b"%05d" % number + b"tail" * 2000
        # Files of one size and with equal tails; each content in three files, one of them with a size in its row.
        for copy in range(3):
            url = png(tmp_path / "images" / f"{number}-{copy}.png", content)
            details = ImageDetails(bytes=len(content)) if copy == 1 else None
            rows.append(ClassificationRow(image_url=url, label="ab"[number % 2], image_details=details))
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, rows), tmp_path / "out", split_ratio=0.25)
    numbers = [{Path(url).stem.split("-")[0] for url in urls(part)} for part in parts.values()]
    assert len(parts["validation"]) == 45
    assert numbers[0].isdisjoint(numbers[1])
    assert numbers[0] | numbers[1] == {str(number) for number in range(60)}


def test_groups_stay_together_even_through_copies(tmp_path: Path) -> None:
    rows = [
        ClassificationRow(
            image_url=f"https://example.org/{number}.jpg", label="ab"[number % 2], group=f"g{number // 4}"
        )
        for number in range(80)
    ]
    shared = [
        ClassificationRow(image_url=png(tmp_path / f"{group}.png", b"same"), label="a", group=group)
        for group in ("g1", "g2")
    ]
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, rows + shared), tmp_path / "out", split_ratio=0.25)
    groups = {name: {row.group for row in part.rows()} for name, part in parts.items()}
    assert groups["train"].isdisjoint(groups["validation"])
    assert ({"g1", "g2"} <= groups["train"]) or ({"g1", "g2"} <= groups["validation"])
    assert len(parts["validation"]) == pytest.approx(0.25 * 82, abs=2)


def test_class_in_one_group_goes_to_training_with_a_warning(tmp_path: Path) -> None:
    rows = labelled({"a": 20}) + labelled({"b": 5}, group="patient 7")
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, rows), tmp_path / "out", split_ratio=0.4)
    assert per_class(parts["train"])["b"] == 5
    assert reasons(parts["train"]) == {"class_in_one_group": 5}


def test_rows_keep_the_part_that_they_name(tmp_path: Path) -> None:
    rows = labelled({"a": 10, "b": 10}, split="train")
    given = [
        ClassificationRow(image_url=f"https://example.org/v{number}", label="ab"[number % 2], split="validation")
        for number in range(3)
    ]
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, rows + given)
    parts = split(whole, tmp_path / "out", split_ratio=0.5)
    assert urls(parts["validation"]) == {row.image_url for row in given}
    assert len(parts["train"]) == 20
    assert {row.split for part in parts.values() for row in part.rows()} == {None}


def test_validation_is_drawn_from_training_rows_where_only_a_test_part_is_given(tmp_path: Path) -> None:
    rows = labelled({"a": 10, "b": 10}, split="train")
    given = ClassificationRow(image_url="https://example.org/t", label="a", split="test")
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, [*rows, given]), tmp_path / "out")
    assert urls(parts["test"]) == {given.image_url}
    assert per_class(parts["validation"]) == {"a": 2, "b": 2}


def test_unmarked_rows_are_drawn_from_and_marked_training_rows_are_not(tmp_path: Path) -> None:
    marked = labelled({"a": 30}, split="train")
    free = [ClassificationRow(image_url=f"https://example.org/f{number}", label="a") for number in range(10)]
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, marked + free), tmp_path / "out")
    assert len(parts["validation"]) == 2
    assert urls(parts["validation"]) <= {row.image_url for row in free}


def test_copies_in_parts_that_the_rows_name_are_reported_and_kept(tmp_path: Path) -> None:
    rows = [
        *labelled({"a": 10, "b": 10}, split="train"),
        ClassificationRow(image_url=png(tmp_path / "1.png", b"same"), label="a", split="train"),
        ClassificationRow(image_url=png(tmp_path / "2.png", b"same"), label="a", split="validation"),
        ClassificationRow(image_url=png(tmp_path / "3.png", b"same"), label="a"),
    ]
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, rows), tmp_path / "out")
    assert urls(parts["validation"]) == {str(tmp_path / "2.png")}
    assert str(tmp_path / "3.png") in urls(parts["train"])
    assert reasons(parts["train"]) == {"parts_share_pictures": 1}


def test_class_that_training_lacks_because_of_marks_is_reported(tmp_path: Path) -> None:
    rows = labelled({"a": 10}, split="train") + labelled({"b": 3}, split="validation")
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, rows), tmp_path / "out")
    assert reasons(parts["validation"]) == {"class_not_in_training": 3}


def test_picture_that_cannot_be_read_is_reported_once(tmp_path: Path) -> None:
    rows = [
        ClassificationRow(
            image_url=str(tmp_path / f"gone{number}.png"), label="ab"[number % 2], image_details=ImageDetails(bytes=9)
        )
        for number in range(10)
    ]
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, rows), tmp_path / "out")
    assert reasons(parts["train"]) == {"unreadable_image": 10}
    assert len(parts["validation"]) == 2


def test_multilabel_shares_each_class_and_pictures_of_nothing(tmp_path: Path) -> None:
    names = [["cat"], ["dog"], ["cat", "dog"], ["bird", "cat"], []]
    rows = [MultilabelRow(image_url=f"https://example.org/{n}.jpg", label=names[n % 5]) for n in range(500)]
    parts = split(write(tmp_path / "whole", Task.MULTILABEL, rows), tmp_path / "out", test_ratio=0.1)
    for name, share in (("validation", 0.2), ("test", 0.1)):
        counts = Counter(tuple(row.label) for row in parts[name].rows())
        assert sum(counts.values()) == pytest.approx(500 * share, abs=2)
        assert counts[()] == pytest.approx(100 * share, abs=1)
        assert per_class(parts[name])["cat"] == pytest.approx(300 * share, abs=2)
        assert per_class(parts[name])["bird"] == pytest.approx(100 * share, abs=1)


def test_boxes_are_shared_out_by_pictures_and_by_objects(tmp_path: Path) -> None:
    rows = [
        DetectionRow(
            image_url=f"https://example.org/{number}.jpg",
            label=[Box("car", 0, 0, 1, 1)] * (1 + number % 3) + [Box("bus", 0, 0, 1, 1)] * (number % 10 == 0),
        )
        for number in range(200)
    ]
    parts = split(write(tmp_path / "whole", Task.DETECTION, rows), tmp_path / "out")
    assert len(parts["validation"]) == 40
    assert per_class(parts["validation"])["bus"] == 4
    assert per_class(parts["validation"])["car"] == pytest.approx(0.2 * 399, abs=4)


@pytest.mark.parametrize(
    ("split_ratio", "test_ratio", "seed", "message"),
    [
        (1.0, 0.0, 0, r"split_ratio: 1.0 is not in \[0, 1\)"),
        (-0.1, 0.0, 0, r"split_ratio: -0.1"),
        (0.2, float("nan"), 0, "test_ratio: nan"),
        (0.6, 0.4, 0, "leave nothing for training"),
        (0.2, 0.0, -1, "seed: -1 is negative"),
    ],
)
def test_numbers_out_of_range_are_named(
    tmp_path: Path, split_ratio: float, test_ratio: float, seed: int, message: str
) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 5}))
    with pytest.raises(HyperparameterError, match=message):
        split(whole, tmp_path / "out", split_ratio=split_ratio, test_ratio=test_ratio, seed=seed)


def test_fewer_pictures_than_classes_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 1, "b": 1}), classes=["a", "b", "c"])
    with pytest.raises(DatasetError, match="2 pictures of 3 classes"):
        split(whole, tmp_path / "out")


def test_part_that_would_be_empty_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 1, "b": 1, "c": 1}))
    with pytest.raises(DatasetError, match="the validation part of 3 pictures would be empty"):
        split(whole, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    everything = write(tmp_path / "marked", Task.CLASSIFICATION, labelled({"a": 5}, split="validation"))
    with pytest.raises(DatasetError, match="the train part of 5 pictures would be empty"):
        split(everything, tmp_path / "out")


def test_small_sets_still_get_a_validation_picture(tmp_path: Path) -> None:
    parts = split(write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 2})), tmp_path / "out")
    assert [len(part) for part in parts.values()] == [1, 1, 0]


def test_broken_row_leaves_no_part_behind(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", Task.CLASSIFICATION, labelled({"a": 5}))
    with open(whole / "annotations.jsonl", "a") as stream:
        stream.write('{"image_url": 3}\n')
    with pytest.raises(DatasetError, match="line 6"):
        split(whole, tmp_path / "out")
    assert not (tmp_path / "out").exists()
