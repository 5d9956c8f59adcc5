"""Small annotated sources, written on the spot, and their conversion."""

from pathlib import Path
from typing import Any, NamedTuple

import orjson
from PIL import Image

from kubesight.convert import convert
from kubesight.dataset import Dataset
from kubesight.dataset.rows import Row


class Converted(NamedTuple):
    """A converted source: the data set, its rows, and its report."""

    dataset: Dataset
    rows: list[Row]
    report: dict[str, Any]

    @property
    def reasons(self) -> dict[str, dict[str, int]]:
        """Findings counted by severity and reason."""
        return self.report["reasons"]

    def findings(self, reason: str) -> list[dict[str, Any]]:
        """The findings of one reason."""
        return [finding for finding in self.report["findings"] if finding["reason"] == reason]

    def by_name(self) -> dict[str, Row]:
        """Rows by the picture's file name."""
        return {Path(row.image_url).name: row for row in self.rows}


def picture(path: Path, size: tuple[int, int] = (100, 50), *, orientation: int | None = None) -> Path:
    """Write a grey picture of width x height, perhaps with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (90, 90, 90))
    if orientation is None:
        image.save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    return path


def converted(source: Path | str, output: Path, **arguments: Any) -> Converted:
    """Convert and read everything back; by default whatever share may be dropped."""
    arguments.setdefault("max_dropped", 1.0)
    dataset = convert(str(source), output, **arguments)
    report = orjson.loads((dataset.path / "report.json").read_bytes())
    return Converted(dataset, list(dataset.rows()), report)


def write_coco(path: Path, images: list[dict], annotations: list[dict], names: Any = ("cat", "dog")) -> Path:
    """Write a COCO file; `names` are class names with ids from 1, or whole categories."""
    categories = [n if isinstance(n, dict) else {"id": k, "name": n} for k, n in enumerate(names, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
