"""One training's settings out of several alternatives, as the trials of a conditional space are given them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesight.cli import main as program
from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.flags import chosen_settings

TWO = ["model_name=seresnext learning_rate=0.01", "model_name=vitb16r224 learning-rate=0.002 number_of_epochs=15"]


def test_the_chosen_alternative_joins_the_flags() -> None:
    assert chosen_settings(["--momentum", "0.8"], TWO, 1) == (
        "vitb16r224",
        {"momentum": "0.8", "learning_rate": "0.002", "number_of_epochs": "15"},
    )
    assert chosen_settings([], TWO, None) == chosen_settings([], TWO, 0) == ("seresnext", {"learning_rate": "0.01"})
    assert chosen_settings(["--momentum=0.8"], [], None, model_name="resnet50") == ("resnet50", {"momentum": "0.8"})


def test_the_model_may_come_from_anywhere_but_must_come() -> None:
    assert chosen_settings([], ["learning_rate=1"], 0, model_name="resnet50") == ("resnet50", {"learning_rate": "1"})
    assert chosen_settings([], ["model_id=resnet50"], 0) == ("resnet50", {})
    assert chosen_settings(["--model-id", "resnet50"], [], None) == ("resnet50", {})
    for alternatives in ([], ["learning_rate=1"], [""]):
        with pytest.raises(HyperparameterError, match="no model is named"):
            chosen_settings([], alternatives, None)


def test_the_others_are_not_looked_at() -> None:
    alternatives = ["model_name=seresnext", "nonsense ' --", "learning_rate=${trialParameters.x}"]
    assert chosen_settings(["--learning-rate=1"], alternatives, 0) == ("seresnext", {"learning_rate": "1"})


@pytest.mark.parametrize(
    ("flags", "alternatives", "choose", "model_name", "says"),
    [
        (["--learning-rate", "1"], TWO, 0, None, "learning_rate is given by the alternative, and by --learning-rate"),
        ([], TWO, 0, "resnet50", "model_name is given by the alternative, and by --model-name too"),
        ([], ["model_id=a"], 0, "resnet50", "model_id is given by the alternative, and by --model-name too"),
        (["--model_id", "x"], ["model_name=a"], 0, None, "model_name is given by the alternative, and by --model-id"),
        (["--epochs", "1"], ["number_of_epochs=3"], 0, "a", "and by --epochs too"),
        ([], TWO, 2, None, "--choose is 2, but there are 2, counted from 0"),
        ([], TWO, -1, None, "--choose is -1"),
        ([], [], 0, "resnet50", "no --alternative is given"),
        ([], ["model_name=a momentum"], 0, None, "'momentum' is not NAME=VALUE"),
        ([], ["=3"], 0, None, "'=3' is not NAME=VALUE"),
        ([], ["momentum='0.9"], 0, None, "cannot be split into words: No closing quotation"),
        ([], ["momentun=0.9"], 0, None, "unknown hyperparameter 'momentun'. Did you mean momentum?"),
        ([], ["momentum=0.9 momentum=0.8"], 0, None, "momentum is given twice."),
        ([], ["number_of_epochs=1 epochs=1"], 0, None, "twice, as number_of_epochs and as epochs"),
        ([], ["split_ratio=0.2"], 0, None, "split_ratio has no effect on a training"),
    ],
)
def test_mistakes_are_named(
    flags: list[str], alternatives: list[str], choose: int | None, model_name: str | None, says: str
) -> None:
    with pytest.raises(HyperparameterError) as caught:
        chosen_settings(flags, alternatives, choose, model_name=model_name)
    assert says in str(caught.value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])))
def test_a_quoted_value_arrives_as_it_was(value: str) -> None:
    import shlex

    assert chosen_settings([], [f"model_name={shlex.quote(value)} momentum=1"], 0) == (value, {"momentum": "1"})


def test_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parts = ["--training-data", str(tmp_path), "--validation-data", str(tmp_path), "--output", str(tmp_path / "out")]
    for more, says in [
        ([], "no model is named. Give --model-name NAME"),
        (["--alternative", "model_name=seresnext momentum=1", "--momentum", "0"], "by --momentum too"),
        (["--model-name", "seresnext", "--early-termination", '{"type": "bandit"}'], "slack_factor or slack_amount"),
    ]:
        monkeypatch.setattr("sys.argv", ["kubesight", "train", *parts, *more])
        with pytest.raises(SystemExit) as exit:
            program.main()
        assert exit.value.code == 2
        assert says in capsys.readouterr().err
