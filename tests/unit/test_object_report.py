"""The page on boxes and outlines: what it says of hand-made answers, and that it bears any data."""

import html
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kubesight.evaluate.object_answers import ObjectAnswers
from kubesight.evaluate.object_report import render_object_report
from kubesight.evaluate.object_sections import MATRIX_CLASSES, TABLE_ROWS, frequent_confusions, pool
from kubesight.evaluate.object_summary import ObjectSettings, summarise_objects
from kubesight.metrics.objects import FoundObjects, TrueObjects

SIDE = 100
NOTHING = np.zeros(0, np.int64)


def truth_of(pictures, rows, *, difficult=()):
    """`rows`: (picture, class, box in pixels)."""
    box = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    return TrueObjects(
        sizes=np.full((pictures, 2), SIDE),
        image=np.array([row[0] for row in rows], np.int64),
        label=np.array([row[1] for row in rows], np.int64),
        box=box,
        area=(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
        crowd=np.zeros(len(rows), bool),
        difficult=np.isin(np.arange(len(rows)), difficult),
    )


def found_of(rows):
    """`rows`: (picture, class, box in pixels, score)."""
    return FoundObjects(
        image=np.array([row[0] for row in rows], np.int64),
        label=np.array([row[1] for row in rows], np.int64),
        box=np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        score=np.array([row[3] for row in rows], np.float64),
    )


def answers_of(folder, classes, truth, found, **changes):
    urls = []
    for k in range(len(truth.sizes)):
        path = folder / f"scene {k} & co.png"
        Image.fromarray(np.full((SIDE, SIDE, 3), 40 + 10 * (k % 20), np.uint8)).save(path)
        urls.append(str(path))
    given = ObjectAnswers(
        dataset=str(folder),
        urls=urls,
        classes=classes,
        truth=truth,
        found=found,
        masks=False,
        score_threshold=0.3,
        iou_threshold=0.5,
        warnings=[],
    )
    return replace(given, **changes)


def render(answers):
    settings = ObjectSettings(score_threshold=answers.score_threshold, iou_threshold=answers.iou_threshold)
    summary = summarise_objects(answers, {"path": "data", "content_hash": "c0ffee", "part": "validation"}, settings)
    summary |= {"model": {"model_name": "fasterrcnn_resnet18_fpn", "path": "models/first"}, "predictions": None}
    return render_object_report(answers, summary)


def section(page, heading):
    return re.search(rf"<section><h2>{heading}</h2>(.*?)</section>", page, re.S)[1]


def words(markup):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup)))


A, B, C = (10, 10, 40, 40), (60, 10, 90, 40), (10, 60, 40, 90)


@pytest.fixture
def scenes(tmp_path):
    """One picture of each kind of error; the last one has none.

    Picture 0: a cat found twice. 1: a cat missed, and a dog where nothing is. 2: a cat called a dog. 3: a dog found
    15 pixels to the right, IoU (15 * 30) / (2 * 900 - 450) = 1/3. 4: right, and a difficult dog found too.
    """
    truth = truth_of(5, [(0, 0, A), (1, 0, A), (2, 0, B), (3, 1, A), (4, 0, A), (4, 1, C)], difficult=[5])
    shifted = (25, 10, 55, 40)
    rows = [
        (0, 0, A, 0.9), (0, 0, A, 0.8), (1, 1, C, 0.7), (2, 1, B, 0.6), (3, 1, shifted, 0.5), (4, 0, A, 0.95),
        (4, 1, C, 0.94), (4, 1, B, 0.1),
    ]  # fmt: skip
    return answers_of(tmp_path, ["cat", "dog"], truth, found_of(rows))


def test_the_headline_counts_what_is_found_missed_and_false(scenes):
    page = render(scenes)
    headline = words(section(page, "Headline"))
    # Objects: 5 count. Right: pictures 0 and 4. Shown and counted: 0.9, 0.8, 0.7, 0.6, 0.5, 0.95.
    assert "2 of 5 objects are found (40%), and 4 of 6 detections are wrong (67%)" in headline
    assert re.search(r" 2 found 3 missed 4 false 0\.3333 precision 0\.4000 recall", headline)
    assert "<title>Evaluation: mean average precision 0." in page


def test_each_wrong_picture_is_drawn_with_its_verdicts(scenes):
    drawn = section(render(scenes), "Pictures with the most errors")
    figures = re.findall(r"<figure>(<svg.*?</svg>)(.*?)</figure>", drawn)
    captions = [words(caption) for _, caption in figures]
    expected = [
        ("scene 1 & co.png · 1 labelled", "1 nothing there", "1 missed"),
        ("scene 0 & co.png · 1 labelled", "1 right", "1 duplicate"),
        ("scene 2 & co.png · 1 labelled", "1 wrong class"),
        ("scene 3 & co.png · 1 labelled", "1 badly placed"),
    ]
    assert len(captions) == len(expected)
    for caption, said in zip(captions, expected, strict=True):
        assert all(part in caption for part in said), caption
        assert "right" not in caption or "1 right" in said
    tips = {title.text for svg, _ in figures for title in ET.fromstring(svg).iter("title")}
    assert "found dog, score 0.600: wrong class (labelled cat, IoU 1.00)" in tips
    assert "found dog, score 0.500: badly placed (labelled dog, IoU 0.33)" in tips
    assert "found dog, score 0.700: nothing there" in tips
    assert "labelled cat: missed" in tips
    assert not any("0.100" in tip for tip in tips)
    tags = [text.text for svg, _ in figures for text in ET.fromstring(svg).iter("text")]
    assert {"? cat", "+ dog .70", "cat .90", "2× cat .80", "≠ dog .60", "↔ dog .50"} <= set(tags)  # noqa: RUF001


def test_labelled_boxes_are_dashed_and_lie_where_they_are(scenes):
    drawn = section(render(scenes), "Pictures with the most errors")
    first = ET.fromstring(re.search(r"<svg.*?</svg>", drawn)[0])
    (missed,) = [p for p in first.iter("path") if p.findtext("title") == "labelled cat: missed"]
    assert "dash" in missed.attrib["class"].split()
    assert missed.attrib["d"] == "M100 100H400V400H100z"
    (false,) = [p for p in first.iter("path") if "nothing there" in p.findtext("title", "")]
    assert "dash" not in false.attrib["class"].split()


def test_the_confusion_matrix_says_what_rows_and_columns_are(scenes):
    part = section(render(scenes), "Confusion matrix")
    said = words(part)
    assert "A row is what an object is labelled as, a column what it was found as" in said
    for name in ("nothing labelled", "missed", "labelled as", "found as"):
        assert name in said
    assert "cat → dog: 1 (25.0% of the row)" in said
    assert "nothing labelled → dog: 2" in said
    assert re.search(r"cat dog 1 25\.0%", said)


def test_thresholds_name_the_best_one_and_what_would_change(scenes):
    said = words(section(render(scenes), "What each score threshold costs"))
    # Keeping 0.9 and more: 2 found, 0 false, F1 4 / (2 + 5) = 0.571; at 0.3: 2 * 2 / (6 + 5) = 0.364.
    assert "F1 is best at a threshold of 0.9000 : 0.571 instead of 0.364 at the deployment threshold of 0.3" in said
    assert "It would find as many objects and give 4 fewer false detections." in said
    assert re.search(r"0\.30 2 4 3 0\.3333 0\.4000 0\.3636 deployment", said)


def test_kinds_of_errors_are_counted_and_explained(scenes):
    said = words(section(render(scenes), "Kinds of errors"))
    assert re.search(r"duplicate A surer detection has the same object already\. 1 20%", said)
    for kind in ("missed", "badly placed", "wrong class", "nothing there"):
        assert re.search(rf"{kind} [A-Z][^.]+\. 1 20%", said), kind


def test_classes_sizes_metrics_and_facts_are_there(scenes):
    page = render(scenes)
    classes = words(section(page, "Classes"))
    assert re.search(r"dog 1 0\.505 0\.000 0\.000 0\.000 0\.000 0 1 3 ", classes)
    assert "up to 32 x 32 6 " in words(section(page, "Small, medium and large objects"))
    assert "voc.AP.cat" in section(page, "All metrics")
    facts = words(section(page, "What was evaluated"))
    for fact in ("c0ffee", "fasterrcnn_resnet18_fpn", "models/first", "of them difficult or crowds, not counted 1"):
        assert fact in facts


def test_nothing_found(scenes):
    page = render(replace(scenes, found=scenes.found.select(NOTHING)))
    assert "0 of 5 objects are found (0%), for nothing scores so high" in words(page)
    assert "Nothing was found" in section(page, "What each score threshold costs")
    assert words(section(page, "Pictures with the most errors")).count("? missed (5)") == 1


def test_nothing_labelled(scenes):
    page = render(replace(scenes, truth=scenes.truth.select(NOTHING)))
    assert "<title>Evaluation: mean average precision undefined</title>" in page
    assert "there is nothing to find, and 7 detections all the same" in words(page)
    assert "Nothing is labelled" in section(page, "Precision and recall")


def test_nothing_at_all(scenes):
    page = render(replace(scenes, truth=scenes.truth.select(NOTHING), found=scenes.found.select(NOTHING)))
    assert "No picture has an error." in page
    assert "There are none." in section(page, "Kinds of errors")
    assert "Nothing counts as labelled, and nothing was found." in page


def test_one_class_needs_no_names_in_tags(tmp_path):
    given = answers_of(tmp_path, ["cell"], truth_of(1, [(0, 0, A)]), found_of([(0, 0, B, 0.75), (0, 0, C, 0.31)]))
    page = render(given)
    drawn = section(page, "Pictures with the most errors")
    tags = [text.text for text in ET.fromstring(re.search(r"<svg.*?</svg>", drawn)[0]).iter("text")]
    assert tags == ["+ .75", "+ .31", "?"]
    assert "wrong class" not in section(page, "Kinds of errors")


def test_pictures_that_cannot_be_opened_are_drawn_without_their_ground(scenes):
    urls = ["s3://bucket/away.png", *scenes.urls[1:]]
    drawn = section(render(replace(scenes, urls=urls)), "Pictures with the most errors")
    assert "1 picture could not be opened and is drawn on an empty ground: s3://bucket/away.png" in words(drawn)
    assert len(re.findall("<svg", drawn)) == 4
    assert len(re.findall("<image ", drawn)) == 3


def test_names_are_escaped_and_nothing_runs(scenes):
    nasty = '<script>alert("1")</script>'
    page = render(replace(scenes, classes=[nasty, "dog"], warnings=[f"beware of {nasty}"]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_five_hundred_boxes_in_a_picture_stay_small_and_keep_their_errors(tmp_path):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 90, (500, 2))
    boxes = np.hstack([corner, corner + rng.uniform(2, 9, (500, 2))])
    rows = [(0, 0, box) for box in boxes]
    given = answers_of(
        tmp_path,
        ["cell"],
        truth_of(1, rows),
        found_of([(0, 0, box, 0.9 - k / 1000) for k, box in enumerate(boxes[40:])]),
    )
    page = render(given)
    drawn = section(page, "Pictures with the most errors")
    assert len(drawn) < 200_000
    assert "500 labelled: 460 right 40 missed" in words(drawn)
    assert "360 of 960 shapes are not drawn" in words(drawn)
    svg = ET.fromstring(re.search(r"<svg.*?</svg>", drawn)[0])
    assert sum(title.text == "labelled cell: missed" for title in svg.iter("title")) == 40


def test_hundreds_of_classes_are_cut_with_a_count_of_the_rest(tmp_path):
    rng = np.random.default_rng(1)
    classes = [f"class {k:03d}" for k in range(365)]
    true = [(k % 40, k % 365, (5 + k % 60, 5, 35 + k % 60, 40)) for k in range(1500)]
    found = [
        (image, label if rng.random() < 0.8 else int(rng.integers(365)), box, float(rng.uniform(0.2, 1)))
        for image, label, box in true
    ]
    page = render(answers_of(tmp_path, classes, truth_of(40, true), found_of(found)))
    assert len(page.encode()) < 3_000_000
    assert f"The first {TABLE_ROWS} of 365 classes" in section(page, "Classes")
    assert section(page, "Classes").count("<tr>") == TABLE_ROWS + 1
    matrix = section(page, "Confusion matrix")
    assert f"The {365 - MATRIX_CLASSES} classes with the fewest errors are pooled as (others)" in words(matrix)
    curves = words(section(page, "Precision and recall"))
    assert "349 classes more are not drawn" in curves


def test_pictures_full_of_detail_never_make_a_page_of_three_megabytes(tmp_path):
    rng = np.random.default_rng(2)
    given = answers_of(tmp_path, ["cell"], truth_of(30, []), found_of([(k, 0, A, 0.9) for k in range(30)]))
    noise = Image.fromarray(rng.integers(0, 256, (700, 700, 3), dtype=np.uint8))
    for url in given.urls:
        noise.save(url, "JPEG", quality=95)
    page = render(given)
    assert len(page.encode()) < 3_000_000
    assert page.count("<image ") == 24


def test_pooling_keeps_every_count():
    rng = np.random.default_rng(3)
    matrix = rng.integers(0, 5, (101, 101))
    matrix[-1, -1] = 0
    matrix[7] = matrix[:, 7] = 0
    small, names, pooled = pool(matrix, [f"{k}" for k in range(100)])
    assert small.sum() == matrix.sum()
    assert len(names) == MATRIX_CLASSES + 1
    assert small.shape == (MATRIX_CLASSES + 2,) * 2
    assert pooled == 99 - MATRIX_CLASSES
    kept = int(names[0])
    assert small[0, -1] == matrix[kept, -1]
    assert small[0].sum() == matrix[kept].sum()
    assert small[-1].sum() == matrix[-1].sum()


def test_few_classes_are_not_pooled_but_empty_ones_go():
    small, names, pooled = pool(np.array([[3, 0, 1], [0, 0, 0], [2, 0, 0]]), ["a", "b"])
    assert (small.tolist(), names, pooled) == ([[3, 1], [2, 0]], ["a"], 0)


def test_frequent_confusions_are_of_classes_alone():
    matrix = np.array([[5, 3, 8], [1, 7, 0], [9, 9, 0]])
    assert frequent_confusions(matrix, ["a", "b"]) == [("a", "b", 3, "18.8%"), ("b", "a", 1, "12.5%")]
