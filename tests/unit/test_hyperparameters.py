"""Reading values: what is accepted, what is refused, and in which words."""

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError, ModelError
from kubesight.hyperparameters import TABLE, Hyperparameter, parse_flags, resolve, rows_for
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.page import reference_markdown, reference_table
from kubesight.hyperparameters.resolve import settle
from kubesight.hyperparameters.search_space import Choice, Uniform

MC, ML, OD, IS = Task.CLASSIFICATION, Task.MULTILABEL, Task.DETECTION, Task.SEGMENTATION
CONTEXTS = [("resnet50", MC), ("keras/MobileNetV2", MC), ("fasterrcnn_resnet50_fpn", OD), ("yolov5", OD),
            ("maskrcnn_resnet50_fpn", IS)]  # fmt: skip


def _everywhere() -> list[tuple[str, Task, Hyperparameter]]:
    """Each row with the first model that it applies to."""
    found = {}
    for model, task in CONTEXTS:
        for row in rows_for(model, task):
            found.setdefault(row.name, (model, task, row))
    assert found.keys() == TABLE.keys()
    # What these may be depends on the model; they have tests of their own.
    return [each for each in found.values() if each[2].name not in ("model_name", "allow_substitute")]


# What must be set so that a row has an effect, and that does not get in another's way.
COMPANIONS: dict[str, dict[str, Any]] = {
    "step_lr_gamma": {"learning_rate_scheduler": "step"},
    "step_lr_step_size": {"learning_rate_scheduler": "step"},
    "beta1": {"optimizer": "adam"},
    "beta2": {"optimizer": "adamw"},
    "ams_gradient": {"optimizer": "adam"},
    "rho": {"optimizer": "adadelta"},
    "initial_accumulator_value": {"optimizer": "adagrad"},
    "augmentation_random_flip": {"augmentation": True},
    "augmentation_random_rotation": {"augmentation": True},
    "augmentation_random_zoom": {"augmentation": True},
    "early_stopping_min_delta": {"early_stopping": True},
    "eval_metric": {"binary_mode": True},
    "tile_overlap_ratio": {"tile_grid_size": "3x2"},
    "tile_predictions_nms_threshold": {"tile_grid_size": "3x2"},
    "tile_min_visible_share": {"tile_grid_size": "3x2"},
    "image_type": {"export_as_image": True},
    "feature_views": {"train_only_top_layer": True},
    "validation_crop_size": {"validation_resize_size": 10**7},
    "validation_resize_size": {"validation_crop_size": 1},
    "min_size": {"max_size": 10**7},
    "max_size": {"min_size": 1},
}
EVERYWHERE = _everywhere()
NUMBERS = [each for each in EVERYWHERE if each[2].kind in ("int", "float")]


def _inside(row: Hyperparameter) -> st.SearchStrategy[Any]:
    low, high = row.range.low, row.range.high
    if row.kind == "int":
        return st.integers(int(-(10**6) if low is None else low), int(10**6 if high is None else high))
    if row.kind == "float":
        return st.floats(
            -1e6 if low is None else low, 1e6 if high is None else high,
            exclude_min=row.range.open_low, exclude_max=row.range.open_high,
        )  # fmt: skip
    if row.kind == "triple":
        return st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3)
    if row.kind == "grid":
        return st.tuples(st.integers(1, 9), st.integers(2, 9)).map(lambda grid: f"{grid[0]}x{grid[1]}")
    if row.kind == "json":
        return st.dictionaries(st.just("stream_image_files"), st.booleans())
    if row.kind == "str":
        return st.text(min_size=1).filter(lambda text: text.strip() and text.lower() not in ("none", "null"))
    return st.sampled_from(row.choices) if row.kind == "choice" else st.booleans()


def _text(row: Hyperparameter, value: Any) -> str:
    if row.kind == "triple":
        return ",".join(map(repr, value))
    if row.kind == "json":
        return "{" + ",".join(f'"{key}": {str(switch).lower()}' for key, switch in value.items()) + "}"
    return repr(value) if isinstance(value, float) else str(value)


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_values_inside_are_accepted_natively_and_as_text(data: st.DataObject) -> None:
    model, task, row = data.draw(st.sampled_from(EVERYWHERE))
    value = data.draw(_inside(row))
    others = COMPANIONS.get(row.name, {})
    for form in (value, _text(row, value)):
        found = resolve(model, task, {**others, row.name: form})[row.name]
        assert found == value
        assert type(found) is type(value)
    if row.kind == "int":
        assert resolve(model, task, {**others, row.name: f"{value}.0"})[row.name] == value


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_numbers_outside_are_refused_natively_and_as_text(data: st.DataObject) -> None:
    model, task, row = data.draw(st.sampled_from(NUMBERS))
    outside = []
    if row.range.low is not None:
        below = row.range.low if row.range.open_low else math.nextafter(row.range.low, -math.inf)
        outside += [row.range.low - 1 if row.kind == "int" else below, data.draw(st.floats(-1e300, below))]
    if row.range.high is not None:
        above = row.range.high if row.range.open_high else math.nextafter(row.range.high, math.inf)
        outside += [row.range.high + 1 if row.kind == "int" else above, data.draw(st.floats(above, 1e300))]
    assert outside
    for value in [*outside, math.nan, math.inf, -math.inf]:
        assume(value not in row.range)
        for form in (value, repr(value)):
            with pytest.raises(HyperparameterError) as error:
                resolve(model, task, {**COMPANIONS.get(row.name, {}), row.name: form})
            assert row.name in str(error.value)
            assert row.allowed() in str(error.value)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.aliases])
def test_aliases_lead_to_the_canonical_name(name: str) -> None:
    everywhere = [*EVERYWHERE, ("resnet50", MC, TABLE["model_name"])]
    model, task, row = next(each for each in everywhere if each[2].name == name)
    value = {"model_name": model, "checkpoint_run_id": "folder"}.get(name, row.default)
    value = {"tile_grid_size": "2x2", "number_of_workers": 2}.get(name, value)
    for alias in row.aliases:
        for spelling in (alias, alias.replace("_", "-")):
            assert resolve(model, task, {spelling: value})[name] == value
            with pytest.raises(HyperparameterError, match=f"{name} is given twice, as {name} and as {spelling}"):
                resolve(model, task, {name: value, spelling: value})


@pytest.mark.parametrize(("model", "task"), CONTEXTS)
def test_what_is_resolved_resolves_to_itself(model: str, task: Task) -> None:
    changed = {"optimizer": "adam", "learning_rate": "1e-3"}
    once = resolve(model, task, changed)
    assert resolve(model, task, once) == once
    assert list(once) == [row.name for row in rows_for(model, task)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("early_stopping", "True", True),
        ("early_stopping", "false", False),
        ("early_stopping", 0, False),
        ("early_stopping", "1", True),
        ("early_stopping", 1.0, True),
        ("number_of_epochs", 3.0, 3),
        ("number_of_epochs", "3.0", 3),
        ("number_of_epochs", "3e1", 30),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", ".5", 0.5),
        ("learning_rate", 1, 1.0),
        ("weighted_loss", "2", 2),
        ("weighted_loss", 2.0, 2),
        ("weighted_loss", "2.0", 2),
        ("optimizer", "ADAMW", "adamw"),
        ("mixed_precision", "off", "off"),
        ("layers_to_freeze", None, None),
        ("layers_to_freeze", "none", None),
        ("number_of_workers", "auto", None),
        ("image_mean", "[0.5, 0.5, 0.5]", [0.5, 0.5, 0.5]),
        ("image_std", (0.2, 0.3, 1), [0.2, 0.3, 1.0]),
        ("advanced_settings", '{"stream_image_files": true}', {"stream_image_files": True}),
    ],
)
def test_forms_that_are_read(name: str, value: Any, expected: Any) -> None:
    found = resolve("resnet50", MC, {name: value})[name]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("early_stopping", "yes"),
        ("early_stopping", 2),
        ("early_stopping", None),
        ("number_of_epochs", True),
        ("number_of_epochs", 2.5),
        ("number_of_epochs", "2.5"),
        ("number_of_epochs", "1_000"),
        ("number_of_epochs", "\u0663"),
        ("number_of_epochs", ""),
        ("number_of_epochs", [3]),
        ("number_of_epochs", None),
        ("learning_rate", "0,1"),
        ("learning_rate", "1e999"),
        ("learning_rate", False),
        ("learning_rate", "0x1"),
        ("weighted_loss", True),
        ("weighted_loss", 3),
        ("weighted_loss", 1.5),
        ("optimizer", "lion"),
        ("optimizer", "nesterov"),
        ("optimizer", None),
        ("image_mean", "0.5,0.5"),
        ("image_std", "0.5,0,0.5"),
        ("image_mean", "0.5,0.5,nan"),
        ("advanced_settings", "{"),
        ("advanced_settings", {"stream_image_file": True}),
        ("checkpoint_run_id", 3),
    ],
)
def test_forms_that_are_refused(name: str, value: Any) -> None:
    with pytest.raises(HyperparameterError) as error:
        resolve("resnet50", MC, {name: value})
    assert repr(value) in str(error.value)
    assert "must be" in str(error.value)


@pytest.mark.parametrize("value", ["3x2", "3X2", "(3, 2)", "3,2", (3, 2), [3, 2]])
def test_grids(value: Any) -> None:
    assert resolve("yolov5", OD, {"tile_grid_size": value})["tile_grid_size"] == "3x2"


@pytest.mark.parametrize("value", ["1x1", "(1, 1)", "0x2", "3", "3x2x1", "-3x2", 3])
def test_what_is_no_grid(value: Any) -> None:
    with pytest.raises(HyperparameterError, match="a grid such as 3x2, other than 1x1"):
        resolve("yolov5", OD, {"tile_grid_size": value})


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(HyperparameterError) as error:
        resolve("resnet50", MC, {"learning_rat": 0.1}, places={"learning_rat": "job.yaml, line 9"})
    assert str(error.value) == "job.yaml, line 9: unknown hyperparameter 'learning_rat'. Did you mean learning_rate?"
    with pytest.raises(HyperparameterError, match="Did you mean gradient_accumulation_step"):
        resolve("resnet50", MC, {"grad_acumulation_steps": 2})
    with pytest.raises(HyperparameterError, match="kubesight hyperparameters"):
        resolve("resnet50", MC, {"qqqqqq": 2})


def test_what_does_not_apply_says_what_it_is_for() -> None:
    with pytest.raises(HyperparameterError) as error:
        resolve("yolov5", OD, {"min_size": 500})
    assert "min_size does not apply to yolov5" in str(error.value)
    assert "object detection and instance segmentation but yolov5" in str(error.value)
    with pytest.raises(HyperparameterError, match="compile does not apply to maskrcnn_resnet50_fpn"):
        resolve("maskrcnn_resnet50_fpn", IS, {"compile": True})
    for name in ("min_size", "max_size"):
        with pytest.raises(HyperparameterError, match=f"{name} does not apply to torchvision/ssd300_vgg16"):
            resolve("torchvision/ssd300_vgg16", OD, {name: 300})
    with pytest.raises(HyperparameterError, match=r"it is for keras/\* models"):
        resolve("resnet50", MC, {"dropout_rate": 0.2})
    with pytest.raises(HyperparameterError, match=r"all models but keras/\*"):
        resolve("keras/VGG16", MC, {"ema_decay": 0.2})


def test_alias_and_place_are_named_in_errors_of_values() -> None:
    with pytest.raises(HyperparameterError) as error:
        resolve("resnet50", MC, {"lr_scheduler": "cosine"}, places={"lr_scheduler": "here"})
    assert str(error.value) == (
        "here: lr_scheduler (learning_rate_scheduler) is 'cosine', but must be one of warmup_cosine, step, constant"
    )


def test_models() -> None:
    with pytest.raises(ModelError, match="unknown model name 'resnet19'"):
        resolve("resnet19", MC, {})
    with pytest.raises(ModelError, match="yolov5 does image_object_detection, not image_classification"):
        resolve("yolov5", MC, {})
    with pytest.raises(HyperparameterError, match="model_name is resnet50, but resnet18 is trained"):
        resolve("resnet18", MC, {"model_name": "resnet50"})
    assert resolve("resnet18", MC, {"model_name": "resnet18"})["model_name"] == "resnet18"


def test_a_sweep_lets_settings_wait_for_what_varies() -> None:
    swept = {"optimizer": Choice(("sgd", "adam")), "momentum": Uniform(0.5, 0.9)}
    fixed, varying = settle("resnet50", MC, {"beta1": "0.8"}, swept)
    assert fixed["beta1"] == 0.8
    assert "optimizer" not in fixed
    assert varying == swept
    with pytest.raises(HyperparameterError, match=r"momentum is .* but it has no effect"):
        settle("resnet50", MC, {}, {**swept, "optimizer": Choice(("adam", "adamw"))})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--learning-rate", "0.1", "--number_of_epochs=3"], {"learning_rate": "0.1", "number_of_epochs": "3"}),
        (["--augmentation-random-rotation", "-0.2"], {"augmentation_random_rotation": "-0.2"}),
        (["--tile-grid-size=3x2"], {"tile_grid_size": "3x2"}),
        (["--checkpoint-run-id=a=b"], {"checkpoint_run_id": "a=b"}),
        ([], {}),
    ],
)
def test_flags(arguments: list[str], expected: dict[str, str]) -> None:
    assert parse_flags(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate"], "--learning-rate has no value"),
        (["--early-stopping", "--momentum", "0.1"], "--early-stopping has no value"),
        (["0.1"], "unexpected argument '0.1'"),
        (["-lr", "0.1"], "unexpected argument '-lr'"),
        (["--learning-rat", "0.1"], "unknown option --learning-rat. Did you mean --learning-rate?"),
        (["--momentum", "1", "--momentum=1"], "--momentum is given twice"),
        (["--split-ratio", "0.1"], "--split-ratio has no effect on a training"),
        (["--", "x"], "unexpected argument '--'"),
    ],
)
def test_wrong_flags(arguments: list[str], message: str) -> None:
    with pytest.raises(HyperparameterError) as error:
        parse_flags(arguments)
    assert str(error.value).startswith(message)


def test_page_shows_every_row_and_what_applies_to_a_model() -> None:
    page = reference_markdown()
    assert all(f"| `{name}` |" in page for name in TABLE)
    widths = {line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("|")}
    assert widths == {8}
    assert "15; yolov5: 30; keras/* models: 3" in page
    cells = {name: (value, default, help_) for name, value, default, help_ in reference_table("vitb16r224")}
    assert cells["learning_rate"][1] == "0.0125; image_classification_multilabel: 0.025"
    assert cells["training_batch_size"][1] == "48"
    assert cells["momentum"][2].endswith("Only with optimizer sgd or nesterov or rmsprop.")
    assert "min_size" not in cells
    only = dict(row[:1] + row[2:3] for row in reference_table("vitb16r224", ML))
    assert only["learning_rate"] == "0.025"
    assert "keras/* models: one of adam, adamw, sgd" in page


def test_importing_the_table_loads_no_framework() -> None:
    heavy = "('torch', 'pydantic', 'numpy', 'yaml')"
    code = f"import sys, kubesight.hyperparameters; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@given(st.floats(0, 1))
def test_a_number_may_be_given_by_its_distance_from_one(distance: float) -> None:
    row = next(row for row in rows_for("seresnext", Task.CLASSIFICATION) if row.name == "momentum")
    assert coerce(row, f"1-{distance!r}") == 1 - distance


def test_distances_from_one() -> None:
    def momentum(value: str) -> float:
        return resolve("seresnext", Task.CLASSIFICATION, {"momentum": value})["momentum"]

    assert momentum("1-1e-3") == 0.999
    assert momentum("1-.25") == 0.75
    for wrong in ("1-2", "1--0.5", "1-+0.5", "1-", "1-x", "1-0.1-0.1", "2-1.5", "1 - 0.5"):
        with pytest.raises(HyperparameterError, match="must be a number in"):
            momentum(wrong)
    with pytest.raises(HyperparameterError, match="must be an integer"):
        resolve("seresnext", Task.CLASSIFICATION, {"number_of_epochs": "1-0"})
