"""Any valid search space becomes a sweep whose trials are all trainings."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubesight.dataset import Task
from kubesight.errors import HyperparameterError, KubesightError
from kubesight.hyperparameters import resolve
from kubesight.job import load_job
from kubesight.job.plan import sweep_of
from kubesight.sweep.plan import Group, Sweep

UNIT = st.floats(0.001, 0.999)


def _ordered(kind: str, ends: st.SearchStrategy[float], *, q: float | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Two ends in order, now and then the same."""
    step = {} if q is None else {"q": q}
    pairs = st.tuples(ends, ends).map(sorted)
    return pairs.map(lambda pair: {"type": kind, "min_value": pair[0], "max_value": pair[1], **step})


def _choice(*values: Any) -> st.SearchStrategy[Any]:
    some = st.lists(st.sampled_from(values), min_size=1, unique=True)
    return some.map(lambda chosen: {"type": "choice", "values": chosen}) | st.sampled_from(values)


ENTRIES: dict[str, st.SearchStrategy[Any]] = {
    "model_name": _choice("seresnext", "resnet18", "timm/efficientnet_lite0", "vits16r224"),
    "learning_rate": _ordered("uniform", UNIT)
    | _ordered("loguniform", st.floats(-12, -1))
    | _ordered("reverseloguniform", UNIT)
    | UNIT.map(lambda middle: {"type": "normal", "mu": middle, "sigma": min(middle, 1 - middle) / 4}),
    "lr_scheduler": _choice("step", "warmup_cosine"),
    "step_lr_gamma": _ordered("uniform", UNIT),
    "warmup-cosine-lr-warmup-epochs": st.integers(1, 9).map(lambda upper: f"randint({upper})"),
    "epochs": _ordered("quniform", st.integers(1, 60), q=1) | _ordered("qloguniform", st.floats(0, 4), q=1),
    "optimizer": _choice("sgd", "adam", "adamw"),
    "momentum": _ordered("uniform", UNIT) | _choice(0, 0.5),
    "nesterov": _choice(True, False),
    "beta1": _ordered("quniform", UNIT, q=0.001),
    "amsgrad": _choice("1", "False"),
    "weight_decay": st.floats(-12, -3).map(lambda middle: f"lognormal({middle}, 0.5)"),
    "train_only_top_layer": _choice(True, False),
    "layers_to_freeze": _choice(None, 0, 2),
    "mixup_alpha": _choice(0.0, 0.2),
    "feature_views": _choice(1, 3),
    "randaugment_magnitude": _choice(0, 5),
}
SPACES = st.fixed_dictionaries({}, optional=ENTRIES)
FIXED = st.fixed_dictionaries(
    {}, optional={"momentum": st.just(0.8), "beta1": st.just(0.8), "early_stopping": st.booleans(), "seed": st.just(3)}
)


def _drawn(sweep: Sweep, group: Group, chosen: random.Random) -> list[dict[str, Any]]:
    """Trials at the ends of a group: the lowest, the highest, and some of both."""
    ends = {name: values.endpoints() for name, values in group.parameters.items()}
    mixed = [{name: chosen.choice(values) for name, values in ends.items()} for _ in range(6)]
    corners = [{name: values[index] for name, values in ends.items()} for index in (0, -1)]
    return [{**sweep.fixed, **group.fixed, **corner} for corner in [*corners, *mixed]]


def _check(sweep: Sweep) -> None:
    labels = [group.label for group in sweep.groups]
    assert len(set(labels)) == len(labels)
    assert all(re.fullmatch("[a-z0-9_-]+", label) for label in labels)
    if len(sweep.groups) == 1:
        assert sweep.groups[0].fixed == {}
    for group in sweep.groups:
        assert all(values.size() > 1 for values in group.parameters.values())
        assert not set(group.parameters) & {*group.fixed, *sweep.fixed}
        assert not set(group.fixed) & set(sweep.fixed)
        for trial in _drawn(sweep, group, random.Random(0)):
            settled = resolve(str(trial["model_name"]), Task.CLASSIFICATION, trial)
            assert {name: settled[name] for name in trial} == trial


@given(spaces=st.lists(SPACES, min_size=1, max_size=2), nested=st.lists(SPACES, max_size=2), fixed=FIXED)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150
)
def test_every_corner_of_every_space_is_a_training(
    tmp_path: Path, spaces: list[dict[str, Any]], nested: list[dict[str, Any]], fixed: dict[str, Any]
) -> None:
    spaces = [{"weight_decay": "uniform(0, 0.5)", "optimizer": "choice(sgd, adamw)", **space} for space in spaces]
    if nested:  # with what does not yet stand in the space around them
        inner = [{name: each for name, each in space.items() if name not in spaces[0]} for space in nested]
        spaces = [{**spaces[0], "some case": {"type": "choice", "values": inner}}, *spaces[1:]]
    taken = {name for space in [*spaces, *nested] for name in space}
    fixed = {name: value for name, value in fixed.items() if name not in taken}
    job = {
        "task": "image_classification",
        "training_data": "data",
        "training_parameters": fixed,
        "search_space": spaces,
        "limits": {"max_trials": 5},
    }
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    try:
        loaded = load_job(path)
    except KubesightError as error:
        refused = error
    else:
        _check(sweep_of(loaded))
        return
    assert str(refused).startswith(f"{path}, line ")
    assert isinstance(refused, HyperparameterError) or "nothing varies" in str(refused)


@pytest.mark.parametrize("seed", range(40))
def test_valid_spaces_are_not_refused(tmp_path: Path, seed: int) -> None:
    """What has an effect for some value of what it needs is no mistake, whichever settings vary together."""
    chosen = random.Random(seed)
    space: dict[str, Any] = {
        "optimizer": {"type": "choice", "values": chosen.sample(["sgd", "adam", "adamw"], 3)},
        "learning_rate": "loguniform(-9, -2)",
        "lr_scheduler": "choice(step, warmup_cosine)",
        "train_only_top_layer": "choice(true, false)",
    }
    others = {
        "momentum": "uniform(0.5, 0.99)",
        "beta1": "uniform(0.5, 0.99)",
        "nesterov": "choice(true, false)",
        "step_lr_gamma": "uniform(0.1, 0.5)",
        "step_lr_step_size": "choice(2, 5)",
        "warmup_cosine_lr_cycles": "uniform(0.1, 0.5)",
        "mixup_alpha": "choice(0.1, 0.2)",
        "layers_to_freeze": "choice(0, 2)",
        "feature_views": "choice(1, 4)",
        "randaugment_magnitude": "choice(3, 9)",
    }
    space |= {name: others[name] for name in chosen.sample(sorted(others), 5)}
    path = tmp_path / "job.json"
    path.write_text(
        json.dumps({"task": "image_classification", "training_data": "d", "search_space": space,
                    "limits": {"max_trials": 5}})
    )  # fmt: skip
    sweep = sweep_of(load_job(path))
    _check(sweep)
    named = {name for group in sweep.groups for name in (*group.parameters, *group.fixed)}
    assert {"learning_rate_scheduler" if name == "lr_scheduler" else name for name in space} <= named
