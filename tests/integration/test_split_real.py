"""The split on real data sets of each kind."""

from pathlib import Path

import pytest

from kubesight.convert import convert
from kubesight.dataset import Dataset
from kubesight.split import split


def shares(whole: Dataset, part: Dataset) -> dict[str, float]:
    counts = part.info.counts["per_class"]
    return {name: counts[name] / count for name, count in whole.info.counts["per_class"].items()}


@pytest.mark.parametrize(("name", "tolerance"), [("bccd_voc", 0.005), ("facade_coco", 0.2)])
def test_objects_and_pictures_are_shared_out(real_data: Path, tmp_path: Path, name: str, tolerance: float) -> None:
    whole = convert(str(real_data / name), tmp_path / "data")
    parts = split(whole.path, tmp_path / "parts", split_ratio=0.2)
    assert len(parts["validation"]) / len(whole) == pytest.approx(0.2, abs=0.03)
    assert shares(whole, parts["validation"]) == pytest.approx(dict.fromkeys(whole.classes, 0.2), abs=tolerance)
    train = {row.image_url for row in parts["train"].rows()}
    validation = {row.image_url for row in parts["validation"].rows()}
    assert train.isdisjoint(validation)
    assert len(train | validation) == len(whole)


def test_photos_of_each_class_are_within_one(real_data: Path, tmp_path: Path) -> None:
    whole = convert(str(real_data / "grocery10" / "train"), tmp_path / "data")
    parts = split(whole.path, tmp_path / "parts", split_ratio=0.2, test_ratio=0.1)
    for part, share in (("validation", 0.2), ("test", 0.1), ("train", 0.7)):
        for name, count in whole.info.counts["per_class"].items():
            assert abs(parts[part].info.counts["per_class"][name] - share * count) < 1 + 1e-9
