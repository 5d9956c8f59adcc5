"""Any sweep as a Katib Experiment: nothing lost, nothing that Katib refuses, commands that say what was meant."""

import json
import re
import shlex
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment
from rendering import a_sweep, rendered

from kubesight.dataset.rows import Task
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.flags import chosen_settings
from kubesight.hyperparameters.search_space import (
    Choice,
    LogNormal,
    LogUniform,
    Normal,
    RandInt,
    ReverseLogUniform,
    Uniform,
)
from kubesight.hyperparameters.table import TABLE
from kubesight.models.names import find_model
from kubesight.sweep.limits import Limits
from kubesight.sweep.plan import Group, Sweep, SweepAdditions
from kubesight.sweep.policies import Asha, Bandit, MedianStopping, TruncationSelection
from kubesight.sweep.sampling import Sampling
from kubesight.tune.katib.experiment import read_experiment
from kubesight.tune.katib.render import to_yaml

# Every kind of distribution, over settings that take it.
VARYING: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": st.one_of(
        st.builds(lambda low, width: Uniform(low, low + width), st.floats(0, 0.4), st.floats(1e-6, 0.5)),
        st.builds(lambda low, width: LogUniform(low, low + width), st.floats(-12, -4), st.floats(0.1, 3)),
        st.builds(lambda low, width: LogUniform(low, low + width, 1e-4), st.floats(-7, -4), st.floats(0.1, 3)),
        st.builds(Normal, st.floats(0.4, 0.6), st.floats(0.001, 0.1)),
        st.builds(LogNormal, st.floats(-6, -4), st.floats(0.01, 0.5)),
    ),
    "momentum": st.builds(
        lambda low, width: ReverseLogUniform(low, low + width), st.floats(0, 0.8), st.floats(0.01, 0.19)
    ),
    "number_of_epochs": st.builds(lambda low, more: Uniform(low, low + more, 1), st.integers(1, 9), st.integers(1, 9)),
    "layers_to_freeze": st.sampled_from([RandInt(5), RandInt(101), Choice((None, 2)), Choice((0, 1, 2))]),
    "optimizer": st.just(Choice(("sgd", "adamw"))),
    "nesterov": st.just(Choice((True, False))),
    "image_mean": st.just(Choice(([0.5, 0.5, 0.5], [0.485, 0.456, 0.406]))),
}
FIXED: dict[str, st.SearchStrategy[Any]] = {
    "weight_decay": st.floats(0, 1),
    "random_seed": st.integers(0, 2**32 - 1),
    "early_stopping": st.booleans(),
    "advanced_settings": st.just({"stream_image_files": True}),
    "checkpoint_run_id": st.sampled_from(["/data/an old model", "/data/it's", "/data/$HOME/$(X)/$$", 'a"b\\c']),
    "image_std": st.lists(st.floats(0.01, 5), min_size=3, max_size=3),
}


def some_of(strategies: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=strategies)


POLICIES = st.one_of(
    st.none(),
    st.builds(Bandit, slack_factor=st.floats(0.01, 1), delay_evaluation=st.integers(0, 9)),
    st.builds(Bandit, slack_amount=st.floats(0.00001, 1)),
    st.builds(MedianStopping, evaluation_interval=st.integers(1, 9)),
    st.builds(TruncationSelection, truncation_percentage=st.integers(1, 99)),
    st.builds(Asha, reduction_factor=st.integers(2, 9)),
)


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    fixed = draw(some_of(FIXED))
    count = draw(st.integers(1, 3))
    groups = []
    for index in range(count):
        own = draw(some_of({name: FIXED[name] for name in FIXED if name not in fixed})) if count > 1 else {}
        own |= {"model_name": draw(st.sampled_from(["resnet50", "seresnext"]))} if count > 1 else {}
        groups.append(Group(f"group{index}", own, draw(some_of(VARYING).filter(bool))))
    if count == 1:
        fixed["model_name"] = "resnet50"
    trials = draw(st.integers(1, 1000))
    return a_sweep(
        name=draw(st.none() | st.text(max_size=60)),
        goal=draw(st.none() | st.floats(0.1, 1)),
        fixed=fixed,
        groups=tuple(groups),
        sampling=draw(st.sampled_from([Sampling(), Sampling(seed=3), Sampling(type="tpe", gamma=0.00001)])),
        policy=draw(POLICIES),
        limits=Limits(max_trials=trials, max_concurrent_trials=draw(st.integers(1, min(trials, 100)))),
        additions=SweepAdditions(
            early_stopping=draw(st.sampled_from(["training", "guard", "service"])),
            no_improvement_trials=draw(st.none() | st.integers(1, 9)),
            convergence=draw(st.booleans()),
        ),
    )


@given(sweeps())
@settings(max_examples=50, deadline=None)
def test_the_official_models_lose_nothing(sweep: Sweep) -> None:
    document = rendered(sweep)
    assert V1beta1Experiment.from_dict(json.loads(json.dumps(document))).to_dict() == document  # type: ignore[union-attr]
    assert yaml.safe_load(to_yaml(document)) == document


@given(sweeps(), st.data())
@settings(max_examples=80, deadline=None)
def test_trials_are_given_what_was_drawn(sweep: Sweep, data: st.DataObject) -> None:
    """Through Katib's substitution, Kubernetes' expansion and a shell to the settings that `kubesight train` reads."""
    experiment = read_experiment(rendered(sweep))
    drawn: dict[str, str] = {}
    for parameter in experiment.parameters:
        if parameter.values:
            drawn[parameter.name] = data.draw(st.sampled_from(parameter.values))
        else:
            drawn[parameter.name] = data.draw(
                st.sampled_from([f"{parameter.low:.17g}", f"{parameter.high:.17g}"])
                if parameter.kind == "double"
                else st.integers(int(parameter.low or 0), int(parameter.high or 0)).map(str)
            )
    container = experiment.template.render("one-abc", "team", drawn)["spec"]["template"]["spec"]["containers"][0]
    command = container["command"][2].replace("$$", "$")
    words = shlex.split(command)
    assert words[:2] == ["kubesight", "train"]
    assert "--output=/data/sweeps/one/one-abc" in words
    chosen = int(drawn.get("group", "0"))
    group = sweep.groups[chosen]
    label = f"{group.label}_" if len(sweep.groups) > 1 else ""
    expected = {**sweep.fixed, **group.fixed}
    for name, distribution in group.parameters.items():
        if isinstance(distribution, ReverseLogUniform):
            expected[name] = f"1-{drawn[f'{label}one_minus_{name}']}"
            continue
        expected[name] = coerce(TABLE[name].for_model(find_model("resnet50"), sweep.task), drawn[f"{label}{name}"])
    assert read_settings(words) == expected


def read_settings(words: list[str]) -> dict[str, Any]:
    """The hyperparameters of a command line, read as `kubesight train` does."""
    own = ("training-data", "validation-data", "output", "metrics-file", "primary-metric", "weights", "model-name")
    own += ("discard-checkpoints", "early-termination", "stop-by", "alternative", "choose")
    given_here = {word.partition("=")[0][2:]: word.partition("=")[2] for word in words[2:]}
    alternatives = [word.partition("=")[2] for word in words if word.startswith("--alternative=")]
    flags = [word for word in words[2:] if word.partition("=")[0][2:] not in own]
    model, texts = chosen_settings(
        flags,
        alternatives,
        int(given_here["choose"]) if "choose" in given_here else None,
        model_name=given_here.get("model-name"),
    )
    found = {"model_name": model}
    for name, text in texts.items():
        row = TABLE[name].for_model(find_model("resnet50"), Task.CLASSIFICATION)
        found[name] = text if text.startswith("1-") else coerce(row, text)
    return found


@given(sweeps())
@settings(max_examples=50, deadline=None)
def test_katibs_webhook_would_take_it(sweep: Sweep) -> None:
    """Rules of Katib's validator.go, written out here on the plain document."""
    document = rendered(sweep)
    spec = document["spec"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", document["metadata"]["name"])
    assert len(document["metadata"]["name"]) <= 40
    assert 0 < spec["parallelTrialCount"] <= spec["maxTrialCount"]
    assert 0 < spec["maxFailedTrialCount"] <= spec["maxTrialCount"]
    assert spec["objective"]["objectiveMetricName"] not in spec["objective"]["additionalMetricNames"]
    assert len(set(spec["objective"]["additionalMetricNames"])) == len(spec["objective"]["additionalMetricNames"])
    for parameter in spec["parameters"]:
        space = parameter["feasibleSpace"]
        if parameter["parameterType"] in ("double", "int"):
            assert float(space["min"]) < float(space["max"])
            assert set("".join(str(value) for key, value in space.items() if key != "distribution")) <= set(
                "-.0123456789"
            )
            if space.get("distribution") in ("logUniform", "logNormal"):
                assert float(space["min"]) > 0
            assert "list" not in space
        else:
            assert set(space) == {"list"}
            assert len(set(space["list"])) == len(space["list"]) >= 2
    template = spec["trialTemplate"]
    text = json.dumps(template["trialSpec"])
    names = [each["name"] for each in template["trialParameters"]]
    references = [each["reference"] for each in template["trialParameters"]]
    assert len(set(names)) == len(names)
    assert sorted(set(re.findall(r"\$\{trialParameters\.(.+?)\}", text))) == sorted(names)
    assert set(references) == {parameter["name"] for parameter in spec["parameters"]} | {"${trialSpec.Name}"}
    assert not {"name", "namespace"} & set(template["trialSpec"].get("metadata", {}))
    assert template["retain"] == ("earlyStopping" in spec)
