"""The automatic space: what is tried without a search space, within what the job fixes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError, JobError, ModelError
from kubesight.hyperparameters import resolve, rows_for
from kubesight.hyperparameters.search_space import Distribution, LogUniform
from kubesight.job import Job, load_job
from kubesight.job.plan import sweep_of
from kubesight.models.names import DEFAULT_MODEL, MODELS, find_model
from kubesight.sweep import automatic
from kubesight.sweep.automatic import automatic_space

TASKS = list(Task)
ALL_MODELS = [(task, name) for name, spec in MODELS.items() for task in sorted(spec.tasks)]
OTHERS = [
    (Task.CLASSIFICATION, "timm/efficientnet_lite0"),
    (Task.CLASSIFICATION, "keras/VGG16"),
    (Task.DETECTION, "torchvision/ssdlite320_mobilenet_v3_large"),
    (Task.SEGMENTATION, "maskrcnn_timm/resnet18"),
]


def corners(space: dict[str, Distribution]) -> list[dict[str, Any]]:
    """Every combination of the ends of a space."""
    ends = [[(name, end) for end in values.endpoints()] for name, values in space.items()]
    return [dict(corner) for corner in itertools.product(*ends)]


def _resolved(task: Task, fixed: dict[str, Any], space: dict[str, Distribution]) -> None:
    for corner in corners(space):
        drawn = {**fixed, **corner}
        found = resolve(str(drawn["model_name"]), task, drawn)
        assert {name: found[name] for name in drawn} == drawn


@pytest.fixture
def load(tmp_path: Path):
    def written(text: str, trials: int = 20, task: str = "image_classification") -> Job:
        path = tmp_path / "job.yaml"
        path.write_text(f"task: {task}\ntraining_data: data\n{text}\nlimits: {{max_trials: {trials}}}\n")
        return load_job(path)

    return written


@pytest.mark.parametrize("trials", [2, 5, 10, 20, 1000])
@pytest.mark.parametrize("task", TASKS)
def test_every_corner_is_a_training(task: Task, trials: int) -> None:
    spaces = automatic_space(task, {}, trials)
    assert 1 <= len(spaces) <= max(1, trials // automatic.TRIALS_PER_MODEL)
    assert any("learning_rate" in space and space["learning_rate"].size() > 1 for space in spaces)
    for space in spaces:
        _resolved(task, {}, space)


@pytest.mark.parametrize(("task", "model"), [*ALL_MODELS, *OTHERS])
def test_a_fixed_model_is_the_only_one(task: Task, model: str) -> None:
    spaces = automatic_space(task, {"model_name": model}, 100)
    assert {space["model_name"].endpoints() for space in spaces} == {(model,)}
    for space in spaces:
        _resolved(task, {}, space)
    default = resolve(model, task, {})["learning_rate"]
    low, high = spaces[0]["learning_rate"].endpoints()
    assert low <= default <= high


@pytest.mark.parametrize("task", TASKS)
def test_the_first_model_is_the_default(task: Task) -> None:
    assert automatic.MODELS[task][0].model_name == DEFAULT_MODEL[task]


@pytest.mark.parametrize("task", TASKS)
def test_small_budgets_get_fewer_models_and_settings(task: Task) -> None:
    small, larger, large = (automatic_space(task, {}, trials) for trials in (4, 10, 40))
    assert (len(small), len(larger)) == (1, 2)
    assert len(large) == len(automatic.MODELS[task])
    assert [name for name, values in small[0].items() if values.size() > 1] == ["learning_rate"]
    assert len(small[0]) < len(larger[0]) < len(large[0])


@pytest.mark.parametrize("task", TASKS)
def test_the_data_explains_itself(task: Task) -> None:
    for candidate in automatic.MODELS[task]:
        low, high = candidate.learning_rate
        assert 0 < low < high <= 0.1
        assert 5 <= high / low <= 50
        assert len(candidate.reason) > 20
        assert task in find_model(candidate.model_name).tasks
        names = {row.name for row in rows_for(candidate.model_name, task)}
        applying = [each for each in automatic.SETTINGS if task in each.tasks and each.setting in names]
        assert applying
    assert all(each.reason and each.values.size() > 1 for each in automatic.SETTINGS)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("task", "model"), [*ALL_MODELS, *OTHERS])
def test_rates_follow_a_fixed_optimizer(task: Task, model: str, optimizer: str) -> None:
    fixed = {"model_name": model, "optimizer": optimizer}
    (space,) = automatic_space(task, fixed, 100)
    assert "optimizer" not in space
    rate = space["learning_rate"]
    assert isinstance(rate, LogUniform)
    low, high = rate.endpoints()
    assert 0 < low < high <= 0.2
    if optimizer != "sgd" and not model.startswith("keras/"):
        assert high <= 0.01
    _resolved(task, {"optimizer": optimizer}, space)


def test_a_substitute_has_a_space_too() -> None:
    fixed = {"model_name": "keras/bit-m-r50x1", "allow_substitute": True}
    (space,) = automatic_space(Task.CLASSIFICATION, fixed, 100)
    assert space["learning_rate"].endpoints() == pytest.approx((1e-4, 3e-3))  # around the default 0.001
    with pytest.raises(ModelError, match=r"has no equivalent in keras\.applications"):
        automatic_space(Task.CLASSIFICATION, {"model_name": "keras/bit-m-r50x1"}, 100)


def test_what_the_job_fixes_does_not_vary(load) -> None:
    job = load("training_parameters: {number_of_epochs: 4, weight_decay: 0.01, train_only_top_layer: true}")
    sweep = sweep_of(job)
    assert sweep.space_version == automatic.VERSION
    assert sweep.fixed == {"number_of_epochs": 4, "weight_decay": 0.01, "train_only_top_layer": True}
    assert [group.fixed["model_name"] for group in sweep.groups] == [
        "seresnext", "vits16r224", "resnet50", "vitb16r224",
    ]  # fmt: skip
    # layers_to_freeze would have no effect, where all but the classifier is frozen
    assert [set(group.parameters) for group in sweep.groups] == [{"learning_rate", "label_smoothing"}] * 4


def test_a_fixed_size_limits_the_pictures(load) -> None:
    sweep = sweep_of(load("training_parameters: {max_size: 700}", task="image_object_detection"))
    assert all("min_size" not in group.parameters for group in sweep.groups)
    assert any("weight_decay" in group.parameters for group in sweep.groups)


def test_models_that_refuse_what_is_fixed_are_left_out(load) -> None:
    # seresnext and the transformers take pictures of one size alone
    sweep = sweep_of(load("training_parameters: {training_crop_size: 128}"))
    assert sweep.fixed["model_name"] == "resnet50"
    assert sweep.fixed["training_crop_size"] == 128
    adam = sweep_of(load("training_parameters: {training_crop_size: 128, optimizer: adam}"))
    assert (adam.fixed["model_name"], adam.fixed["optimizer"]) == ("resnet50", "adam")
    with pytest.raises(HyperparameterError, match=r"line 3: training_crop_size is 0, but must be 224: seresnext"):
        load("training_parameters: {training_crop_size: 0}")
    # plain momentum is sgd's, so that the candidate with adamw falls out
    sweep = sweep_of(load("training_parameters: {momentum: 0.5}", task="image_object_detection"))
    assert [group.fixed["optimizer"] for group in sweep.groups] == ["sgd", "sgd", "sgd"]


def test_a_fixed_optimizer_keeps_the_candidates_that_are_for_it(load) -> None:
    sweep = sweep_of(load("training_parameters: {optimizer: adamw}", task="image_object_detection"))
    assert sweep.fixed == {"optimizer": "adamw", "model_name": "fasterrcnn_resnet50_fpn"}
    assert sweep.groups[0].parameters["learning_rate"].endpoints() == pytest.approx((5e-5, 5e-4))
    other = sweep_of(load("training_parameters: {optimizer: adam}", task="image_object_detection"))
    assert other.fixed["model_name"] == "fasterrcnn_resnet50_fpn"
    assert other.groups[0].parameters["learning_rate"].endpoints() == pytest.approx((0.005 / 300, 0.0005))


def test_no_sampling_settings_are_needed_and_any_may_be_given(load) -> None:
    assert load("").notices == []
    assert sweep_of(load("sweep: {sampling_algorithm: bayesian}")).sampling.type == "bayesian"
    with pytest.raises(JobError, match="cmaes moves in one space"):
        load("sweep: {sampling_algorithm: cmaes}")
    one = sweep_of(load("sweep: {sampling_algorithm: cmaes}\ntraining_parameters: {model_name: seresnext}"))
    assert len(one.groups) == 1


def test_a_job_that_fixes_everything_is_no_sweep(load) -> None:
    with pytest.raises(JobError, match="nothing varies"):
        load("training_parameters: {model_name: resnet18, learning_rate: 0.1}", trials=4)


def test_a_wrong_setting_is_still_refused(load) -> None:
    with pytest.raises(HyperparameterError, match=r"line 3: min_size does not apply to seresnext"):
        load("training_parameters: {min_size: 300}")


FIXABLE = {
    "number_of_epochs": st.integers(1, 50),
    "weight_decay": st.sampled_from([0.0, 0.1]),
    "learning_rate_scheduler": st.sampled_from(["step", "warmup_cosine"]),
    "early_stopping": st.booleans(),
    "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
    "train_only_top_layer": st.booleans(),
    "layers_to_freeze": st.sampled_from([0, 3]),
    "label_smoothing": st.floats(0, 0.5),
}


@given(
    task=st.sampled_from([Task.CLASSIFICATION, Task.MULTILABEL]),
    fixed=st.fixed_dictionaries({}, optional=FIXABLE),
    trials=st.integers(2, 60),
)
@settings(deadline=None, max_examples=60)
def test_whatever_is_fixed_corners_are_trainings(task: Task, fixed: dict[str, Any], trials: int) -> None:
    try:
        resolve(DEFAULT_MODEL[task], task, fixed)
    except HyperparameterError:
        return
    for space in automatic_space(task, fixed, trials):
        _resolved(task, fixed, space)
