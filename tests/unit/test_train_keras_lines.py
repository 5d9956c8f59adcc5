"""Lines as Keras writes them, read by the regular expressions of SageMaker's metric definitions."""

import re

import pytest

from kubesight.train.keras.lines import closing_lines, epoch_line

RECORD = {
    "epoch": 1, "seconds": 2.6, "training_loss": 0.61, "training_accuracy": 0.9, "validation_loss": 9.8e-05,
    "accuracy": 0.93, "top_5_accuracy": 1.0, "precision": 0.5, "recall": 0.25, "auc": float("nan"), "prc": 0.75,
}  # fmt: skip


def test_a_line_is_keras() -> None:
    record = {key: RECORD[key] for key in ("seconds", "training_loss", "training_accuracy", "accuracy")}
    line = epoch_line({**record, "validation_loss": 0.55}, steps=12)
    assert line == "12/12 - 3s - loss: 0.6100 - accuracy: 0.9000 - val_loss: 0.5500 - val_accuracy: 0.9300"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (r"val_accuracy: ([0-9\.]+)", 0.93),
        (r"val_loss: ([0-9\.]+)", 0.0001),
        (r"- accuracy: ([0-9\.]+)", 0.9),
        (r"- loss: ([0-9\.]+)", 0.61),
        (r"- val_top_5_accuracy: ([0-9\.]+)", 1.0),
        (r"- val_precision: ([0-9\.]+)", 0.5),
        (r"- val_recall: ([0-9\.]+)", 0.25),
        (r"- val_prc: ([0-9\.]+)", 0.75),
    ],
)
def test_each_expression_finds_its_value_once(expression: str, value: float) -> None:
    assert [float(found) for found in re.findall(expression, epoch_line(RECORD, steps=12))] == [value]


def test_what_is_no_number_is_left_out() -> None:
    assert "auc" not in epoch_line(RECORD, steps=12)


def test_the_end_is_told() -> None:
    text = "\n".join(closing_lines(trainable=5, frozen=7, seconds=90.5, epochs=3))
    for expression, value in (
        (r"- Number of parameters: ([0-9\.]+)", 12),
        (r"- Number of trainable parameters: ([0-9\.]+)", 5),
        (r"- Number of non-trainable parameters: ([0-9\.]+)", 7),
        (r"- Total training duration: ([0-9\.]+)", 90.5),
        (r"- Average training duration per epoch: ([0-9\.]+)", 30.167),
    ):
        assert [float(found) for found in re.findall(expression, text)] == [value]
