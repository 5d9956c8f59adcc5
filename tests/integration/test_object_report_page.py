"""The page on boxes and outlines of real pictures, opened in a browser."""

import cv2
import numpy as np
import pytest
from browser import open_page
from pycocotools import mask as coco_mask

from kubesight.convert.conversion import convert
from kubesight.dataset.objects import true_objects
from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_report import render_object_report
from kubesight.evaluate.object_summary import ObjectSettings, summarise_objects
from kubesight.evaluate.object_verdicts import LAYERS, RIGHT
from kubesight.metrics.objects import FoundObjects

PICTURES = 30


def moved(rle, x, y):
    mask = coco_mask.decode(rle)
    shifted = cv2.warpAffine(mask, np.float32([[1, 0, x], [0, 1, y]]), mask.shape[::-1])
    return coco_mask.encode(np.asfortranarray(shifted))


def detections(truth, classes, rng):
    """The labelled objects, most of them a little beside their place, a tenth missing, some of another class."""
    kept = np.flatnonzero(rng.random(len(truth)) < 0.9)
    side = np.tile(truth.box[kept, 2:] - truth.box[kept, :2], 2)
    spread = np.where(rng.random(len(kept)) < 0.8, 0.04, 0.3)[:, None]
    shift = np.rint(np.tile(rng.normal(0, spread, (len(kept), 2)), 2) * side)
    label = np.where(rng.random(len(kept)) < 0.95, truth.label[kept], rng.integers(0, len(classes), len(kept)))
    masks = None
    if truth.masks is not None:
        masks = [moved(truth.masks[k], *xy) for k, xy in zip(kept.tolist(), shift[:, :2].tolist(), strict=True)]
    return FoundObjects(truth.image[kept], label, truth.box[kept] + shift, rng.beta(5, 2, len(kept)), masks)


@pytest.fixture(scope="module", params=["bccd_voc", "nuclei_coco/val/instances_rle.json"])
def text(request, real_data, tmp_path_factory):
    """A page on real pictures."""
    dataset = convert(str(real_data / request.param), tmp_path_factory.mktemp("data") / "out")
    rows = [row for _, row in zip(range(PICTURES), dataset.rows(), strict=False)]
    truth = true_objects(rows, dataset.classes)
    found = detections(truth, dataset.classes, np.random.default_rng(0))
    answers = ObjectAnswers(
        dataset=str(dataset.path),
        urls=[row.image_url for row in rows],
        classes=list(dataset.classes),
        truth=truth,
        found=found,
        masks=truth.masks is not None,
        score_threshold=0.3,
        iou_threshold=0.5,
        warnings=[],
    )
    summary = summarise_objects(answers, {"path": str(dataset.path)}, ObjectSettings())
    summary |= {"model": None, "predictions": {"path": "found.json", "sha256": "0" * 64}}
    return render_object_report(answers, summary)


def green_pixels(screenshot):
    """How many pixels have the very colour of what is right."""
    picture = cv2.cvtColor(cv2.imread(str(screenshot)), cv2.COLOR_BGR2RGB)
    return int((np.abs(picture.astype(int) - LAYERS[RIGHT].colour).max(axis=2) < 4).sum())


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (600, False)])
def test_the_page_opens_without_a_console_line(tmp_path, text, width, dark):
    assert 100_000 < len(text.encode()) < 3_000_000
    assert "could not be opened" not in text
    assert text.count('<svg class="over') == 24
    for heading in ("Pictures with the most errors", "Confusion matrix", "Classes", "Precision and recall"):
        assert f"<h2>{heading}</h2>" in text
    page = tmp_path / "report.html"
    page.write_text(text, encoding="utf-8")
    opened = open_page(page, tmp_path / "page.png", width=width, height=3000, dark=dark)
    assert opened.console == []
    assert green_pixels(opened.screenshot) > 2000


def test_a_box_without_its_tick_hides_its_layer(tmp_path, text):
    ticked = f'class="w{RIGHT}" checked'
    assert text.count(ticked) == 1
    (tmp_path / "all.html").write_text(text, encoding="utf-8")
    (tmp_path / "less.html").write_text(text.replace(ticked, f'class="w{RIGHT}"'), encoding="utf-8")
    shown = open_page(tmp_path / "all.html", tmp_path / "all.png", height=2400)
    hidden = open_page(tmp_path / "less.html", tmp_path / "less.png", height=2400)
    # The key and the captions keep their marks.
    assert green_pixels(hidden.screenshot) < 0.2 * green_pixels(shown.screenshot)
