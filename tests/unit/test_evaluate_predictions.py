"""Files of predictions from anybody: read leniently, matched exactly, and refused with the line when they cannot be."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.dataset import ClassificationRow, DatasetWriter, DetectionRow, MultilabelRow, Task
from kubesight.errors import DatasetError, StorageError
from kubesight.evaluate.answers import load_truth
from kubesight.evaluate.predictions import load_predictions

PICTURES = [("/data/a/1.jpg", "cat"), ("/data/b/2.jpg", "dog"), ("s3://bucket/c/3.jpg", "emu")]
CLASSES = ["cat", "dog", "emu"]


@pytest.fixture
def truth(tmp_path):
    with DatasetWriter(tmp_path / "data", Task.CLASSIFICATION) as writer:
        for url, label in PICTURES:
            writer.write(ClassificationRow(image_url=url, label=label))
    return load_truth(tmp_path / "data")


@pytest.fixture
def many(tmp_path):
    with DatasetWriter(tmp_path / "many", Task.MULTILABEL, classes=CLASSES) as writer:
        for (url, _), labels in zip(PICTURES, [["cat", "dog"], [], ["emu"]], strict=True):
            writer.write(MultilabelRow(image_url=url, label=labels))
    return load_truth(tmp_path / "many")


@pytest.fixture
def lines(tmp_path):
    def write(*objects):
        path = tmp_path / "predictions.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in objects))
        return path

    return write


@pytest.fixture
def sheet(tmp_path):
    def write(text):
        path = tmp_path / "predictions.csv"
        path.write_text(text, encoding="utf-8-sig")
        return path

    return write


def test_probabilities_as_lists_objects_and_azure_s_answers(truth, lines):
    answers = load_predictions(
        lines(
            {"image_url": "/data/a/1.jpg", "probabilities": [0.7, 0.2, 0.1]},
            {"image_url": "/data/b/2.jpg", "probabilities": {"emu": 0.5, "cat": 0.1, "dog": 0.4}},
            {"filename": "/tmp/x/3.jpg", "probs": [0.1, 0.7, 0.2], "labels": ["dog", "emu", "cat"]},
        ),
        truth,
    )
    assert answers.probabilities.tolist() == [[0.7, 0.2, 0.1], [0.1, 0.4, 0.5], [0.2, 0.1, 0.7]]
    assert answers.predicted.tolist() == [0, 2, 2]
    assert answers.labels.tolist() == [0, 1, 2]
    assert answers.warnings == [
        "1 of 3 lines: the picture was found by the end of its path, the beginning differs "
        f"(first: {truth.dataset.path.parent}/predictions.jsonl, line 3)"
    ]


def test_predicted_classes_alone(truth, lines):
    answers = load_predictions(
        lines(
            {"image_url": "s3://bucket/c/3.jpg", "predicted": "emu"},
            {"image": "1.jpg", "prediction": ["dog"]},
            {"path": "b\\2.jpg", "predicted": "dog"},
        ),
        truth,
    )
    assert answers.probabilities is None
    assert answers.predicted.tolist() == [1, 1, 2]
    assert not answers.warnings


def test_multilabel_by_names_and_by_probabilities(many, lines, sheet):
    names = lines(
        {"image": "1.jpg", "predicted": ["cat", "emu"]},
        {"image": "2.jpg", "predicted": []},
        {"image": "3.jpg", "predicted": "emu; dog"},
    )
    expected = [[1, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert load_predictions(names, many).predicted.tolist() == expected
    columns = sheet("filename;cat;dog;emu\n1.jpg;.9;.5;.51\n2.jpg;0;0;0\n3.jpg;.1;.8;1\n")
    answers = load_predictions(columns, many)
    assert answers.predicted.tolist() == expected
    assert answers.probabilities[0].tolist() == [0.9, 0.5, 0.51]
    assert answers.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    cells = sheet("filename,predicted\n1.jpg,cat|emu\n2.jpg,\n3.jpg,dog;emu\n")
    assert load_predictions(cells, many).predicted.tolist() == expected


def test_csv_with_a_label_alone_takes_it_for_the_prediction_and_says_so(truth, sheet):
    answers = load_predictions(sheet("file_name,label,note\n1.jpg,cat,x\n2.jpg,cat,y\n3.jpg,emu,z\n"), truth)
    assert answers.predicted.tolist() == [0, 0, 2]
    assert any("'label' was taken for it" in warning for warning in answers.warnings)
    assert any("not used: note" in warning for warning in answers.warnings)


def test_class_names_that_look_like_numbers(tmp_path, lines):
    with DatasetWriter(tmp_path / "digits", Task.CLASSIFICATION) as writer:
        writer.write(ClassificationRow(image_url="/x/1.png", label="3"))
        writer.write(ClassificationRow(image_url="/x/2.png", label="8"))
    answers = load_predictions(
        lines({"image": "1.png", "predicted": 3}, {"image": "2.png", "predicted": "3"}), load_truth(tmp_path / "digits")
    )
    assert answers.predicted.tolist() == [0, 0]


def test_pictures_of_one_name_are_told_apart_by_their_folders(tmp_path, lines):
    with DatasetWriter(tmp_path / "digits", Task.CLASSIFICATION) as writer:
        for label in ("3", "8"):
            writer.write(ClassificationRow(image_url=f"/x/{label}/1.png", label=label))
    truth = load_truth(tmp_path / "digits")
    there = lines({"image": "8/1.png", "predicted": "8"}, {"image": "/elsewhere/3/1.png", "predicted": "8"})
    assert load_predictions(there, truth).predicted.tolist() == [1, 1]
    with pytest.raises(DatasetError, match=r"line 1: '1.png' can be 2 pictures of the data set: /x/3/1.png"):
        load_predictions(lines({"image": "1.png", "predicted": "8"}), truth)


def test_a_picture_that_comes_twice_in_the_data_set_needs_one_line(tmp_path, lines):
    with DatasetWriter(tmp_path / "twice", Task.CLASSIFICATION) as writer:
        for label in ("a", "b"):
            writer.write(ClassificationRow(image_url="/x/1.png", label=label))
    answers = load_predictions(lines({"image": "1.png", "predicted": "a"}), load_truth(tmp_path / "twice"))
    assert answers.predicted.tolist() == [0, 0]
    assert answers.labels.tolist() == [0, 1]


GOOD = [{"image": f"{k}.jpg", "probabilities": [0.5, 0.3, 0.2]} for k in (1, 2, 3)]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (GOOD[:1], r"no prediction for 2 of 3 pictures, /data/b/2\.jpg among them"),
        ([*GOOD, GOOD[1]], r"line 4: a second line for 2\.jpg; line 2 was the first"),
        (
            [*GOOD, {**GOOD[0], "image": "9.jpg"}],
            r"line 4: '9\.jpg' is no picture of the data set; so are 1 of 4 lines",
        ),
        ([{**GOOD[0], "probabilities": [0.5, 0.5]}], r"line 1: 2 probabilities for 3 classes\..*--model"),
        ([{**GOOD[0], "probabilities": {"cta": 1.0}}], r"line 1: the class 'cta' is none of the 3.*nearest is 'cat'"),
        ([{"image": "1.jpg", "predicted": "Dog"}], r"the class 'Dog'.*nearest is 'dog'"),
        ([{"image": "1.jpg", "predicted": ["cat", "dog"]}], r"2 predicted classes for a task of one class"),
        ([{**GOOD[0], "probabilities": [3.1, -2.0, 0.4]}], r"'cat' is 3\.1, outside \[0, 1\].*softmax or sigmoid"),
        ([{**GOOD[0], "probabilities": [0.5, -0.1, 0.6]}], r"'dog' is -0\.1, outside"),
        ([{**GOOD[0], "probabilities": ["a", 0, 0]}], r"the probability of 'cat' is 'a', not a number"),
        ([{**GOOD[0], "probabilities": [None, 0, 0]}], r"is None, not a number"),
        ([{**GOOD[0], "probabilities": [True, 0, 0]}], r"is True, not a number"),
        ([{**GOOD[0], "labels": ["cat", "cat", "dog"]}], r"a class comes twice among the labels"),
        ([{**GOOD[0], "probabilities": [0, 0, 0]}], r"no class has a probability above 0"),
        ([{**GOOD[0], "probabilities": 0.5}], r"must be a list or an object, not 0\.5"),
        ([{**GOOD[0], "labels": "cat"}], r"labels must be the list of class names"),
        (
            [GOOD[0], {"image": "2.jpg", "predicted": "cat"}],
            r"line 2: a line without probabilities, while line 1 is with",
        ),
        (
            [{"image": "2.jpg", "predicted": "cat"}, GOOD[0]],
            r"line 2: a line with probabilities, while line 1 is without",
        ),
        ([{"image": "1.jpg"}], r"neither probabilities nor predicted classes"),
        ([{"probabilities": [1, 0, 0]}], r"the line names no picture.*'image_url'"),
        ([["1.jpg", "cat"]], r"line 1: not a JSON object"),
        ([], r"no prediction for 3 of 3"),
    ],
)
def test_bad_lines_are_named(truth, lines, objects, message):
    with pytest.raises(DatasetError, match=message):
        load_predictions(lines(*objects), truth)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "filename,cat,dog\n1.jpg,1,0\n",
            r"line 1: no column of probabilities for 1 of the 3 classes, 'emu' among them",
        ),
        ("filename,cat,dog,Emu\n", r"Columns that are no class: Emu"),
        ("name,predicted\n1.jpg,cat\n", r"no column names the pictures; there are name, predicted"),
        ("filename,score\n1.jpg,1\n", r"neither a column of predicted classes nor one for each class"),
        ("filename,cat,cat\n", r"the column 'cat' comes twice"),
        ("filename,predicted\n1.jpg\n", r"line 2: 1 cells under 2 columns"),
        ("filename,cat,dog,emu\n1.jpg,1,x,0\n", r"line 2: 'x' in column 'dog' is not a number"),
        ("filename,cat,dog,emu\n1.jpg,1,nan,0\n", r"the probability of 'dog' is nan, not a number"),
        ("filename,predicted\n1.jpg,\n", r"the class ''"),
        ("", r"no column names the pictures"),
    ],
)
def test_bad_sheets_are_named(truth, sheet, text, message):
    with pytest.raises(DatasetError, match=message):
        load_predictions(sheet(text), truth)


def test_files_that_are_no_predictions(truth, tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        load_predictions(tmp_path / "none.jsonl", truth)
    (tmp_path / "bad.jsonl").write_text("{'image': 1}\n")
    with pytest.raises(DatasetError, match=r"bad.jsonl, line 1: not JSON"):
        load_predictions(tmp_path / "bad.jsonl", truth)
    (tmp_path / "bad.csv").write_bytes("filename,predicted\n1.jpg,cät\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="not UTF-8"):
        load_predictions(tmp_path / "bad.csv", truth)


def test_what_is_odd_but_usable_is_reported_with_counts(truth, lines):
    answers = load_predictions(
        lines(
            {"image": "1.jpg", "probabilities": [0.9, 0.9, 0.1], "predicted": "emu", "label": "dog"},
            {"image": "2.jpg", "probabilities": {"dog": 1.0}, "epoch": 3},
            {"image": "3.jpg", "probabilities": [0.25, 0.25, 0.4], "predicted": "emu", "label": "emu"},
        ),
        truth,
    )
    text = "\n".join(answers.warnings)
    assert "2 of 3 lines: the probabilities do not sum to 1; they were used as they are" in text
    assert "line 1: 1.9" in text
    assert "1 of 3 lines: the predicted class is not the one that the probabilities say; they decided" in text
    assert "1 of 3 lines: 'label' differs from the data set's label, which was used" in text
    assert "1 of 3 lines: not all classes have a probability; those left out were taken for 0" in text
    assert "1 of 3 lines: not used: epoch" in text
    assert answers.predicted.tolist() == [0, 1, 2]
    assert answers.labels.tolist() == [0, 1, 2]


def test_the_model_s_class_order_decides_and_its_other_classes_stay(truth, lines):
    order = ["yak", "emu", "dog", "cat"]
    answers = load_predictions(
        lines(*({"image": f"{k}.jpg", "probabilities": [0.1, 0.2, 0.3, 0.4]} for k in (1, 2, 3))), truth, order
    )
    assert answers.classes == ["cat", "dog", "emu", "yak"]
    assert answers.probabilities[0].tolist() == [0.4, 0.3, 0.2, 0.1]


def test_classes_that_the_model_lacks_count_as_missed_with_a_warning(truth, lines):
    answers = load_predictions(
        lines(*({"image": f"{k}.jpg", "probabilities": [0.4, 0.6]} for k in (1, 2, 3))), truth, ["cat", "dog"]
    )
    assert answers.predicted.tolist() == [1, 1, 1]
    assert answers.probabilities[:, 2].tolist() == [0, 0, 0]
    assert "does not know 1 of the data set's 3 classes (emu). 1 of 3 pictures" in answers.warnings[0]
    with pytest.raises(DatasetError, match=r"model's classes \(lynx, yak\).*have none in common"):
        load_predictions(
            lines(*({"image": f"{k}.jpg", "probabilities": [0.4, 0.6]} for k in (1, 2, 3))), truth, ["lynx", "yak"]
        )


def test_truth_is_checked_against_the_task(tmp_path, truth):
    with pytest.raises(DatasetError, match="is for image_classification, not for image_classification_multilabel"):
        load_truth(truth.dataset.path, "image_classification_multilabel")
    with pytest.raises(DatasetError, match="is for image_classification, not for classification"):
        load_truth(truth.dataset.path, "classification")
    assert load_truth(truth.dataset.path, "image_classification").urls == [url for url, _ in PICTURES]
    with DatasetWriter(tmp_path / "boxes", Task.DETECTION) as writer:
        writer.write(DetectionRow(image_url="/x.jpg", label=[]))
    with pytest.raises(DatasetError, match="image_object_detection has no classes of pictures"):
        load_truth(tmp_path / "boxes")
    with DatasetWriter(tmp_path / "empty", Task.CLASSIFICATION, classes=["a"]):
        pass
    with pytest.raises(DatasetError, match="no pictures to evaluate on"):
        load_truth(tmp_path / "empty")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_order_of_lines_and_any_form_gives_the_same(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    n = data.draw(st.integers(1, 6))
    scores = np.random.default_rng(data.draw(st.integers(0, 99))).dirichlet(np.ones(3), size=n)
    with DatasetWriter(folder / "data", Task.CLASSIFICATION, classes=CLASSES) as writer:
        for k in range(n):
            writer.write(ClassificationRow(image_url=f"https://host/pictures/{k}.jpg", label=CLASSES[k % 3]))
    rows = []
    for k in data.draw(st.permutations(range(n))):
        picture = data.draw(st.sampled_from([f"{k}.jpg", f"pictures/{k}.jpg", f"https://host/pictures/{k}.jpg"]))
        as_list = data.draw(st.booleans())
        given_ = scores[k].tolist() if as_list else dict(zip(CLASSES, scores[k].tolist(), strict=True))
        rows.append({"image_url": picture, "probabilities": given_})
    (folder / "p.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    answers = load_predictions(folder / "p.jsonl", load_truth(folder / "data"))
    assert np.array_equal(answers.probabilities, scores)
    assert not answers.warnings
