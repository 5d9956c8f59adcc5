"""What Katib's webhook and services refuse, and what they let pass to fail later: an error each, with its place."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment

from kubesight.errors import JobError
from kubesight.tune.katib.experiment import read_experiment

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
GONE = object()


def edited(name: str, **changes: Any) -> dict:
    """The Experiment with values put in at `a__0__b`, or taken out."""
    document = next(yaml.safe_load_all((EXPERIMENTS / f"{name}.yaml").read_text()))
    for way, value in changes.items():
        keys: list = [int(part) if part.isdigit() else part for part in way.split("__")]
        place = document
        for key in keys[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        if value is GONE:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
    return document


def refusal(document: dict) -> str:
    with pytest.raises(JobError) as error:
        read_experiment(document)
    return str(error.value)


SPACE = "spec__parameters__0__feasibleSpace"
LAYERS = "spec__parameters__1__feasibleSpace"
CHOICE = "spec__parameters__2"
TEMPLATE = "spec__trialTemplate"
COLLECTOR = "spec__metricsCollectorSpec"
SETTINGS = "spec__algorithm__algorithmSettings"
CONTAINER = f"{TEMPLATE}__trialSpec__spec__template__spec__containers__0"


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("kind", "OptimizationJob", "OptimizationJob of the Kubeflow Trainer is not read"),
        ("kind", "Job", "kind: 'Job' is not an Experiment"),
        ("kind", GONE, "None is not an Experiment"),
        ("apiVersion", "kubeflow.org/v1alpha3", "apiVersion: 'kubeflow.org/v1alpha3' is not Katib's"),
        ("metadata__name", GONE, "metadata.name: an Experiment needs a name"),
        ("metadata__name", "Random", "metadata.name: 'Random' is no name"),
        ("metadata__name", "random-", "metadata.name: 'random-' is no name"),
        ("metadata__name", "random.1", "is no name"),
        ("metadata__name", "a" * 41, "has 41 characters"),
        ("spec__parallelTrialCount", 0, "spec.parallelTrialCount: 0 is less than 1"),
        ("spec__parallelTrialCount", 13, "spec.parallelTrialCount: 13 is more than maxTrialCount, 12"),
        ("spec__maxTrialCount", 0, "spec.maxTrialCount: 0 is less than 1"),
        ("spec__maxFailedTrialCount", -1, "spec.maxFailedTrialCount: -1 is less than 0"),
        ("spec__maxFailedTrialCount", 13, "spec.maxFailedTrialCount: 13 is more than maxTrialCount, 12"),
        ("spec__objective", GONE, "spec.objective.type: None is neither"),
        ("spec__objective__type", "max", "'max' is neither minimize nor maximize"),
        ("spec__objective__objectiveMetricName", GONE, "needs the name of its metric"),
        ("spec__objective__additionalMetricNames", ["loss"], "loss is the objective already"),
        ("spec__objective__metricStrategies", [{"name": "f1", "value": "max"}], "'f1' is not a metric"),
        ("spec__objective__metricStrategies", [{"name": "loss", "value": "mean"}], "'mean' is not one of"),
        ("spec__objective__goal", float("nan"), "nan is not a finite number"),
        ("spec__algorithm", GONE, "spec.algorithm.algorithmName: the algorithm needs a name"),
        ("spec__algorithm__algorithmName", "randon", "Did you mean random"),
        ("spec__algorithm__algorithmName", "enas", "searches architectures"),
        ("spec__resumePolicy", "Always", "'Always' is not one of Never, LongRunning, FromVolume"),
        ("spec__earlyStopping", {}, "needs a name"),
        ("spec__earlyStopping", {"algorithmName": "hyperband"}, "there is no service 'hyperband'"),
        ("spec__nasConfig", {"graphConfig": {"numLayers": 8}}, "a search of architectures"),
        ("spec__parameters", [], "an Experiment needs parameters"),
    ],
)
def test_the_experiment_itself(change: str, value: Any, said: str) -> None:
    assert said in refusal(edited("random", **{change: value}))


def test_three_at_a_time_is_the_default_and_more_than_two_in_all() -> None:
    document = edited("random", spec__parallelTrialCount=GONE, spec__maxFailedTrialCount=GONE, spec__maxTrialCount=2)
    assert "Write parallelTrialCount: 2" in refusal(document)


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("spec__paralellTrialCount", 3, "spec.paralellTrialCount: an ExperimentSpec has no such field. Did you mean"),
        ("spec__objective__metric", "loss", "spec.objective.metric: an ObjectiveSpec has no such field"),
        (f"{SPACE}__maximum", "1", "spec.parameters[0].feasibleSpace.maximum: a FeasibleSpace has no such field"),
        (f"{TEMPLATE}__trialParameters__0__ref", "lr", "a TrialParameterSpec has no such field"),
        ("metadata__label", {}, "metadata.label: an ObjectMeta has no such field. Did you mean labels"),
        ("specs", {}, "specs: an Experiment has no such field. Did you mean spec"),
        ("spec__maxTrialCount", "12", "spec.maxTrialCount: '12': Input should be a valid integer. Write it without"),
        ("spec__maxTrialCount", 12.5, "spec.maxTrialCount: 12.5"),
        ("spec__maxTrialCount", True, "spec.maxTrialCount: True"),
        (f"{SPACE}__min", 0.01, 'Write it in quotes: "0.01"'),
        (f"{CHOICE}__feasibleSpace__list", ["a", True], 'Write it in quotes: "true"'),
        (f"{CHOICE}__feasibleSpace__list", "a", "'a' is not a list"),
        ("spec__objective__goal", "0.9", "spec.objective.goal: '0.9'"),
        ("spec__objective", [], "spec.objective: [] is not a mapping"),
        ("spec__parameters", {"lr": {}}, "is not a list"),
        (SETTINGS, [{"name": "random_state", "value": 1}], 'Write it in quotes: "1"'),
        (f"{CONTAINER}__comand", [], "a Container has no such field. Did you mean command"),
        (f"{TEMPLATE}__trialSpec__spec__backOffLimit", 1, "a Job has no such field. Did you mean backoffLimit"),
        (f"{TEMPLATE}__trialSpec__spec__backoffLimit", "1", "Write it without quotes: 1"),
        (f"{TEMPLATE}__trialSpec__spec__template__spec__volumes", [{"name": "a", "emptydir": {}}], "a Volume has no"),
        (f"{CONTAINER}__env", [{"name": "A", "value": 1}], 'Write it in quotes: "1"'),
    ],
)
def test_unknown_fields_and_wrong_types(change: str, value: Any, said: str) -> None:
    assert said in refusal(edited("random", **{change: value}))


def test_the_official_models_drop_or_refuse_what_is_refused_here() -> None:
    unknown = edited("random", spec__paralellTrialCount=3)
    assert V1beta1Experiment.from_dict(copy.deepcopy(unknown)).to_dict() != unknown
    with pytest.raises(ValueError, match="maxTrialCount"):
        V1beta1Experiment.from_dict(edited("random", spec__maxTrialCount="12"))


def test_fields_without_a_value_and_what_a_cluster_adds_are_no_mistakes() -> None:
    document = edited(
        "random",
        metadata__labels=None,
        metadata__creationTimestamp="2026-01-02T15:04:05Z",
        metadata__managedFields=[{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        status={"trials": 3, "conditions": [{"type": "Created", "status": "True"}]},
    )
    assert read_experiment(document).max_trials == 12


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("spec__parameters__0__name", GONE, "a parameter needs a name"),
        ("spec__parameters__1__name", "lr", "spec.parameters[1].name: lr is given twice"),
        ("spec__parameters__0__parameterType", "float", "'float' is not one of double, int, discrete, categorical"),
        ("spec__parameters__0__parameterType", "unknown", "'unknown' is not one of"),
        (f"{SPACE}__distribution", "lognormal", "'lognormal' is not one of"),
        (f"{SPACE}__list", ["1"], "has min and max, no list"),
        (f"{SPACE}__min", GONE, "spec.parameters[0].feasibleSpace.min: a parameter of type double needs min and max"),
        (f"{SPACE}__max", "", "needs min and max"),
        (f"{SPACE}__min", "0.06", "0.06 is more than max, 0.05"),
        (f"{SPACE}__min", "1,5", "'1,5' is not a finite number"),
        (f"{SPACE}__max", "inf", "'inf' is not a finite number"),
        (f"{SPACE}__step", "0", "0 is not above 0"),
        (f"{SPACE}__step", "-0.1", "-0.1 is not above 0"),
        (f"{SPACE}__max", "1_0", "'1_0' is not a finite number"),
        (f"{LAYERS}__min", "2.5", "'2.5' is not a whole number"),
        (f"{LAYERS}__min", "2.0", "'2.0' is not a whole number"),
        (f"{LAYERS}__max", "1e1", "'1e1' is not a whole number"),
        (f"{LAYERS}__step", "0.5", "'0.5' is not a whole number"),
        (SPACE, {"min": "0", "max": "1", "distribution": "logUniform"}, "0 has no logarithm"),
        (SPACE, {"min": "-1", "max": "1", "distribution": "logNormal"}, "-1 has no logarithm"),
        (f"{CHOICE}__feasibleSpace", {}, "needs values"),
        (f"{CHOICE}__feasibleSpace__list", [], "needs values"),
        (f"{CHOICE}__feasibleSpace__list", ["a", "b", "a"], "spec.parameters[2].feasibleSpace.list[2]: 'a' is given"),
        (f"{CHOICE}__feasibleSpace__step", "1", "has a list, no step"),
        (f"{CHOICE}__feasibleSpace__distribution", "normal", "is drawn uniformly from its list"),
        (f"{CHOICE}__parameterType", "discrete", "'sgd' is not a number"),
    ],
)
def test_parameters(change: str, value: Any, said: str) -> None:
    assert said in refusal(edited("random", **{change: value}))


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        (TEMPLATE, GONE, "needs a trial template"),
        (f"{TEMPLATE}__primaryContainerName", GONE, "name the container that trains"),
        (f"{TEMPLATE}__trialParameters", GONE, "the parameters of the trial template are missing"),
        (f"{TEMPLATE}__trialParameters__0__reference", GONE, "needs name and reference"),
        (f"{TEMPLATE}__trialParameters__0__name", "a{b", "has a brace"),
        (f"{TEMPLATE}__trialParameters__1__name", "learningRate", "learningRate is given twice"),
        (f"{TEMPLATE}__trialParameters__1__reference", "lr", "lr is referenced twice"),
        (f"{TEMPLATE}__trialParameters__1__reference", "depth", "depth is no parameter"),
        (f"{TEMPLATE}__trialParameters__1__reference", "${trialSpec.Uid}", "is no parameter"),
        (f"{TEMPLATE}__trialParameters__1__reference", "${trialSpec.Labels}", "is no parameter"),
        (f"{TEMPLATE}__trialParameters__1__name", "depth", "does not use ${trialParameters.depth}"),
        (f"{TEMPLATE}__trialParameters__1", GONE, "the parameter layers is not referenced"),
        (f"{CONTAINER}__args", ["${trialParameters.momentum}"], "${trialParameters.momentum} stands in the trial"),
        (f"{TEMPLATE}__trialSpec", GONE, "has trialSpec or configMap, one of them"),
        (f"{TEMPLATE}__configMap", {"configMapName": "a"}, "has trialSpec or configMap, one of them"),
        (f"{TEMPLATE}__trialSpec__metadata", {"name": "mine"}, "Katib gives every trial its name"),
        (f"{TEMPLATE}__trialSpec__metadata", {"namespace": "mine"}, "Katib gives every trial its namespace"),
        (f"{TEMPLATE}__trialSpec__kind", GONE, "needs apiVersion and kind"),
        (f"{TEMPLATE}__trialSpec__kind", "Workflow", "needs successCondition and failureCondition"),
    ],
)
def test_trial_templates(change: str, value: Any, said: str) -> None:
    assert said in refusal(edited("random", **{change: value}))


def test_config_maps() -> None:
    path = "spec__trialTemplate__configMap"
    assert "are needed" in refusal(edited("configmap", **{f"{path}__templatePath": GONE}))
    said = refusal(edited("configmap"))
    assert "the trial template job.yaml of the ConfigMap kubeflow/templates is not at hand" in said
    assert "Put the ConfigMap into the same file" in said


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"collector": {"kind": "Stdout"}}, "collector.kind: 'Stdout' is not one of"),
        ({"collector": {"kind": "PrometheusMetric"}}, "no image for PrometheusMetric"),
        ({"collector": {"kind": "Custom"}}, "goes with kind: Custom"),
        ({"collector": {"kind": "File", "customCollector": {"name": "c"}}}, "goes with kind: Custom"),
        ({"collector": {"kind": "File"}, "source": {"fileSystemPath": {"path": "a.log"}}}, "'a.log' is not absolute"),
        ({"collector": {"kind": "File"}, "source": {"fileSystemPath": {"kind": "Directory"}}}, "Write File"),
        ({"collector": {"kind": "File"}, "source": {"fileSystemPath": {"format": "CSV"}}}, "'CSV' does not go with"),
        (
            {
                "collector": {"kind": "File"},
                "source": {"fileSystemPath": {"format": "JSON"}, "filter": {"metricsFormat": ["(a)=(b)"]}},
            },
            "a file of JSON lines has no filter",
        ),
        (
            {"collector": {"kind": "TensorFlowEvent"}, "source": {"fileSystemPath": {"format": "TEXT"}}},
            "'TEXT' does not go with a TensorFlowEvent",
        ),
        ({"source": {"fileSystemPath": {"path": "/a"}}}, "a StdOut collector does not use it"),
        ({"source": {"httpGet": {"port": 8080}}}, "a StdOut collector does not use it"),
        ({"source": {"filter": {"metricsFormat": ["("]}}}, "is no regular expression"),
        ({"source": {"filter": {"metricsFormat": ["loss=(.*)"]}}}, "has no two groups"),
        ({"source": {"filter": {"metricsFormat": ["(a);(b)"]}}}, "has a semicolon"),
        ({"source": {"filter": {"metricsFormat": ["(?<=x)(a)=(b)"]}}}, "look-around"),
    ],
)
def test_collectors(spec: dict, said: str) -> None:
    assert said in refusal(edited("random", **{COLLECTOR: spec}))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("random", {"seed": "1"}, "random has no setting 'seed'. There are random_state"),
        ("random", {"random_state": "-1"}, "random_state is '-1', not a whole number from 0 to 4294967295"),
        ("tpe", {"random_state": "4294967296"}, "not a whole number from 0 to 4294967295"),
        ("random", {"random_state": "one"}, "random_state is 'one'"),
        ("tpe", {"gamma": "1"}, "gamma is '1', not a number between 0 and 1"),
        ("tpe", {"prior_weight": "0"}, "not a number above 0"),
        ("tpe", {"n_ei_candidates": "24"}, "Did you mean n_EI_candidates"),
        ("tpe", {"n_startup_trials": "5"}, "tpe has no setting 'n_startup_trials'"),
        ("multivariate-tpe", {"n_startup_trials": "-5"}, "not a whole number, 0 or more"),
        ("bayesianoptimization", {"acq_func": "UCB"}, "not one of gp_hedge"),
        ("bayesianoptimization", {"base_estimator": "SVM"}, "not one of GP, RF, ET, GBRT"),
        ("cmaes", {"restart_strategy": "bopip"}, "not one of ipop"),
        ("cmaes", {"sigma": "nan"}, "sigma is 'nan'"),
        ("sobol", {"random_state": "1"}, "sobol has no setting 'random_state'. It has none"),
        ("hyperband", {"resource_name": "num-epochs"}, "hyperband needs the setting r_l"),
        ("hyperband", {"r_l": "9", "resource_name": "steps"}, "resource_name, steps, is no parameter"),
        ("hyperband", {"r_l": "0", "resource_name": "num-epochs"}, "r_l is '0'"),
        ("hyperband", {"r_l": "27", "resource_name": "num-epochs"}, "need 27 trials at a time"),
        ("hyperband", {"r_l": "9", "resource_name": "num-epochs", "eta": "1"}, "eta is '1'"),
    ],
)
def test_settings_of_algorithms(name: str, settings: dict, said: str) -> None:
    given = [{"name": key, "value": value} for key, value in settings.items()]
    assert said in refusal(edited(name, **{SETTINGS: given}))


@pytest.mark.parametrize("given", [{"name": "random_state"}, {"value": "1"}])
def test_a_setting_has_name_and_value(given: dict) -> None:
    assert "a setting has name and value" in refusal(edited("random", **{SETTINGS: [given]}))


def test_a_setting_is_given_once() -> None:
    given = [{"name": "random_state", "value": "1"}, {"name": "random_state", "value": "2"}]
    assert "random_state is given twice" in refusal(edited("random", **{SETTINGS: given}))


def test_population_based_training_is_checked_though_it_runs_on_katib_alone() -> None:
    settings = {"suggestion_trial_dir": "/opt/katib/data", "n_population": "40", "truncation_threshold": "0.2"}
    for changed, said in (
        ({}, None),
        ({"n_population": "4"}, "not a whole number, 5 or more"),
        ({"truncation_threshold": "2"}, "not a number from 0 to 1"),
        ({"resample_probability": "0.3"}, "pbt has no setting 'resample_probability'"),
    ):
        given = [{"name": key, "value": value} for key, value in {**settings, **changed}.items()]
        document = edited("random", spec__algorithm__algorithmName="pbt", **{SETTINGS: given})
        if said is None:
            assert read_experiment(document).algorithm == "pbt"
        else:
            assert said in refusal(document)


def test_a_grid_needs_steps_and_as_many_points_as_trials() -> None:
    assert "grid needs a step for a double" in refusal(edited("grid", **{f"{SPACE}__step": GONE}))
    # Five learning rates, five momenta, two batch sizes: 5 * 5 * 2 = 50.
    assert read_experiment(edited("grid", spec__maxTrialCount=50)).max_trials == 50
    assert "51 is more than the grid's 50 points" in refusal(edited("grid", spec__maxTrialCount=51))


def test_algorithms_that_cannot_do_with_the_parameters() -> None:
    assert "multivariate-tpe's trials" in refusal(edited("multivariate-tpe", **{f"{SPACE}__distribution": "normal"}))
    assert "0 has none" in refusal(edited("bayesianoptimization", **{f"{SPACE}__min": "0"}))
    one_number = edited("cmaes", **{"spec__parameters__0": {"name": "lr", "parameterType": "categorical"}})
    one_number["spec"]["parameters"][0]["feasibleSpace"] = {"list": ["0.1", "0.2"]}
    assert "cmaes needs two parameters" in refusal(one_number)


def test_what_katibs_hyperband_trips_over() -> None:
    listed = {"name": "lr", "parameterType": "discrete", "feasibleSpace": {"list": ["0.1", "0.2"]}}
    assert "whole numbers alone" in refusal(edited("hyperband", spec__parameters__0=listed))
    assert "spec.maxTrialCount" in refusal(
        edited("hyperband", spec__maxTrialCount=GONE, spec__maxFailedTrialCount=GONE)
    )


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("medianstop", {"min_trials_required": "0"}, "min_trials_required is '0'"),
        ("medianstop", {"start_step": "0"}, "start_step is '0'"),
        ("medianstop", {"start": "4"}, "medianstop has no setting 'start'"),
        ("bandit", {"slack_factor": "0.1", "slack_amount": "0.1"}, "spec.earlyStopping"),
        ("bandit", {"slack_factor": "much"}, "spec.earlyStopping"),
        ("truncation", {}, "spec.earlyStopping"),
        ("asha", {"reduction_factor": "1"}, "spec.earlyStopping"),
        ("median", {"delay": "1"}, "spec.earlyStopping"),
    ],
)
def test_settings_of_early_stopping(name: str, settings: dict, said: str) -> None:
    given = [{"name": key, "value": value} for key, value in settings.items()]
    assert said in refusal(
        edited("medianstop", spec__earlyStopping={"algorithmName": name, "algorithmSettings": given})
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("medianstop", {}),
        ("bandit", {"slack_factor": "0.1", "evaluation_interval": "2", "delay_evaluation": "4"}),
        ("median", {"delay_evaluation": "5"}),
        ("truncation", {"truncation_percentage": "20"}),
        ("asha", {"reduction_factor": "3"}),
    ],
)
def test_services_of_katib_and_of_ours(name: str, settings: dict) -> None:
    given = [{"name": key, "value": value} for key, value in settings.items()]
    spec = {"algorithmName": name, "algorithmSettings": given}
    assert read_experiment(edited("medianstop", spec__earlyStopping=spec)).early_stopping == (name, settings)


@pytest.mark.parametrize("kind", ["TensorFlowEvent", "Push"])
def test_collectors_that_evaluate_no_rules(kind: str) -> None:
    said = refusal(edited("medianstop", **{COLLECTOR: {"collector": {"kind": kind}}}))
    assert f"a {kind} collector evaluates no early-stopping rules" in said


def test_what_katib_does_otherwise_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    read_experiment(edited("medianstop", spec__trialTemplate__retain=False))
    assert "unless trialTemplate.retain is true" in caplog.text
    read_experiment(edited("sobol", **{f"{SPACE}__distribution": "logUniform"}))
    assert "sobol does not know the distribution logUniform of lr" in caplog.text
    read_experiment(edited("bayesianoptimization", **{f"{SPACE}__step": "0.01"}))
    assert "bayesianoptimization ignores the step of lr" in caplog.text


def test_every_error_of_a_file_names_its_line(tmp_path: Path) -> None:
    text = (EXPERIMENTS / "random.yaml").read_text()
    for old, new, said in (
        ('max: "5"', 'max: "1"', '        min: "2"'),
        ("parallelTrialCount: 3", "parallelTrials: 3", "  parallelTrials: 3"),
        ("algorithmName: random", "algorithmName: rnd", "    algorithmName: rnd"),
        ("restartPolicy: Never", "restartpolicy: Never", "            restartpolicy: Never"),
        ("reference: layers", "reference: depth", "        reference: depth"),
    ):
        path = tmp_path / "experiment.yaml"
        path.write_text(text.replace(old, new))
        with pytest.raises(JobError) as error:
            read_experiment(path)
        assert error.value.where == f"{path}, line {path.read_text().split(chr(10)).index(said) + 1}"
