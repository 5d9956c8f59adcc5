"""Annotation files with bytes changed, cut or doubled: a data set or a clear error, never anything else."""

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sources import picture

from kubesight.convert import convert
from kubesight.errors import KubesightError

BOX = {"label": "cat", "topX": 0.1, "topY": 0.2, "bottomX": 0.3, "bottomY": 0.6}
OUTLINE = {"label": "dog", "polygon": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], "rle": {"size": [2, 2], "counts": [1, 1, 2]}}
COCO = {
    "images": [{"id": k, "file_name": f"{k}.png", "width": 100, "height": 50} for k in (1, 2)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "segmentation": [[1, 1, 9, 1, 9, 9]]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 2, 30, 40], "iscrowd": 1,
         "segmentation": {"size": [50, 100], "counts": "0P1`0`0"}},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}  # fmt: skip
VOC = (
    b"<annotation><filename>1.png</filename><size><width>100</width><height>50</height></size><object><name>cat</name>"
    b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
FILES = {
    "coco": ("labels.json", orjson.dumps(COCO)),
    "voc": ("1.xml", VOC),
    "csv": ("labels.csv", b"image,xmin,ymin,xmax,ymax,label\n1.png,1,2,30,40,cat\n2.png,1,2,30,40,dog\n1.png,,,,,\n"),
    "jsonl": (
        "labels.jsonl",
        b"\n".join(orjson.dumps({"image_url": f"{k}.png", "label": [BOX, OUTLINE]}) for k in (1, 2)),
    ),
}

damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 12), st.binary(max_size=6)), min_size=1, max_size=4
)


@pytest.mark.parametrize("name", FILES)
@given(damage)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_damage_never_escapes_as_another_error(tmp_path: Path, name: str, places: list) -> None:
    file, data = FILES[name]
    for place, length, replacement in places:
        start = int(place * len(data))
        data = data[:start] + replacement + data[start + length :]
    source = tmp_path / "source"
    for number in (1, 2):
        picture(source / f"{number}.png")
    (source / file).write_bytes(data)
    check(source, tmp_path / "out", name)


def check(source: Path, output: Path, name: str) -> None:
    """Convert; whatever is written can be read."""
    try:
        dataset = convert(str(source), output, format=name, max_dropped=1.0)
    except KubesightError:
        return
    for row in dataset.rows():
        assert Path(row.image_url).is_file()
        for label in row.label:
            assert label if isinstance(label, str) else label.label


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=4) | st.just("1"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["label", "size", "counts", "x"]), inner)
    ),
    max_leaves=8,
)


def places_in(value: object, path: tuple = ()) -> list[tuple]:
    """The path of every value inside nested lists and dicts."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places_in(inner, (*path, key)))]


@pytest.mark.parametrize("name", ["coco", "jsonl"])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_values_of_any_type_anywhere(tmp_path: Path, name: str, data: st.DataObject) -> None:
    line = {
        "image_url": "1.png",
        "image_details": {"width": 100},
        "group": "g",
        "split": "val",
        "label": [BOX, OUTLINE],
    }
    content = orjson.loads(orjson.dumps(COCO if name == "coco" else line))
    *path, last = data.draw(st.sampled_from(places_in(content)[1:]))
    holder = content
    for key in path:
        holder = holder[key]
    holder[last] = data.draw(anything)
    source = tmp_path / "source"
    for number in (1, 2):
        picture(source / f"{number}.png")
    text = json.dumps(content)  # with NaN and Infinity, as Python writes them
    (source / FILES[name][0]).write_text(text if name == "coco" else f"{orjson.dumps(line).decode()}\n{text}\n")
    check(source, tmp_path / "out", name)
