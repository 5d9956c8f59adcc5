"""Reading Experiments: what is understood of well-formed ones, with defaults, from files and mappings."""

import json
from pathlib import Path

import pytest
import yaml
from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment

from kubesight.errors import JobError
from kubesight.tune.katib.experiment import Collector, ExtraLimits, Parameter, read_experiment

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ALL = sorted(EXPERIMENTS.glob("*.yaml"))


def document(name: str = "random") -> dict:
    return next(yaml.safe_load_all((EXPERIMENTS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_shape_is_read_from_its_file_and_as_a_mapping(path: Path) -> None:
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    assert experiment.document["spec"]["objective"]["objectiveMetricName"] == experiment.metric
    if "configMap" not in experiment.document["spec"]["trialTemplate"]:
        assert read_experiment(document(path.stem)) == experiment


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_katibs_models_read_the_same_documents_without_loss(path: Path) -> None:
    written = read_experiment(path).document
    assert V1beta1Experiment.from_dict(written).to_dict() == written


def test_what_is_read_of_a_random_search() -> None:
    experiment = read_experiment(EXPERIMENTS / "random.yaml")
    assert experiment.parameters == (
        Parameter("lr", "double", 0.01, 0.05),
        Parameter("layers", "int", 2.0, 5.0, 1.0),
        Parameter("optimizer", "categorical", values=("sgd", "adam", "ftrl")),
    )
    assert (experiment.namespace, experiment.metric, experiment.maximize, experiment.goal) == (
        "kubeflow",
        "loss",
        False,
        0.001,
    )
    assert (experiment.algorithm, experiment.settings, experiment.early_stopping) == ("random", {}, None)
    assert (experiment.parallel, experiment.max_trials, experiment.max_failed) == (3, 12, 3)
    assert [(each.name, each.reference) for each in experiment.template.parameters] == [
        ("learningRate", "lr"),
        ("numberLayers", "layers"),
        ("optimizer", "optimizer"),
    ]
    assert experiment.template.primary_container == "training-container"
    assert experiment.limits == ExtraLimits()


def test_defaults_are_katibs() -> None:
    bare = document()
    for key in ("parallelTrialCount", "maxTrialCount", "maxFailedTrialCount"):
        del bare["spec"][key]
    del bare["spec"]["objective"]["goal"]
    experiment = read_experiment(bare)
    assert (experiment.parallel, experiment.max_trials, experiment.max_failed, experiment.goal) == (3, None, None, None)
    assert experiment.collector == Collector("StdOut", None, "TEXT", ())
    assert experiment.strategies == {"loss": "min"}
    assert experiment.template.retain is False
    assert experiment.template.success_condition == 'status.conditions.#(type=="Complete")#|#(status=="True")#'
    assert experiment.template.failure_condition == 'status.conditions.#(type=="Failed")#|#(status=="True")#'
    pytorch = read_experiment(EXPERIMENTS / "pytorchjob.yaml").template
    assert pytorch.success_condition == 'status.conditions.#(type=="Succeeded")#|#(status=="True")#'


def test_strategies_of_all_metrics_follow_the_objectives_type_unless_they_are_given() -> None:
    wanted = document("tpe")
    assert read_experiment(wanted).strategies == {"validation-accuracy": "max", "training-accuracy": "max"}
    wanted["spec"]["objective"]["metricStrategies"] = [{"name": "training-accuracy", "value": "latest"}]
    assert read_experiment(wanted).strategies == {"validation-accuracy": "max", "training-accuracy": "latest"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, Collector("StdOut")),
        ({"collector": {"kind": "File"}}, Collector("File", "/var/log/katib/metrics.log")),
        (
            {
                "collector": {"kind": "File"},
                "source": {
                    "fileSystemPath": {"path": "/a/b.log", "kind": "File", "format": "TEXT"},
                    "filter": {"metricsFormat": ["([a-z]+)=(.*)"]},
                },
            },
            Collector("File", "/a/b.log", "TEXT", ("([a-z]+)=(.*)",)),
        ),
        ({"collector": {"kind": "TensorFlowEvent"}}, Collector("TensorFlowEvent", "/var/log/katib/tfevent/")),
        (
            {
                "collector": {"kind": "Custom", "customCollector": {"name": "c", "image": "example.org/c"}},
                "source": {"fileSystemPath": {"path": "/katib/out", "kind": "Directory"}},
            },
            Collector("Custom", "/katib/out"),
        ),
        ({"collector": {"kind": "Push"}}, Collector("Push")),
    ],
)
def test_collectors(spec: dict, expected: Collector) -> None:
    wanted = document()
    wanted["spec"]["metricsCollectorSpec"] = spec
    assert read_experiment(wanted).collector == expected


def test_json_lines_and_median_stopping() -> None:
    experiment = read_experiment(EXPERIMENTS / "medianstop.yaml")
    assert experiment.collector == Collector("File", "/katib/training.json", "JSON")
    assert experiment.early_stopping == ("medianstop", {"min_trials_required": "1", "start_step": "2"})
    assert experiment.template.retain


def test_a_template_in_a_config_map_of_the_same_file() -> None:
    experiment = read_experiment(EXPERIMENTS / "configmap.yaml")
    assert experiment.template == read_experiment(EXPERIMENTS / "random.yaml").template


def test_the_only_experiment_among_other_documents_is_meant(tmp_path: Path) -> None:
    other = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: vision\n---\n"
    path = tmp_path / "all.yaml"
    path.write_text(other + (EXPERIMENTS / "random.yaml").read_text())
    assert read_experiment(path).name == "random"
    path.write_text(path.read_text().replace('min: "0.01"', 'min: "0.1"'))
    with pytest.raises(JobError) as error:
        read_experiment(path)
    line = path.read_text().split("\n").index('        min: "0.1"') + 1
    assert error.value.where == f"{path}, line {line}"


def test_json_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(document(), indent="\t"))
    assert read_experiment(path) == read_experiment(document())


def test_annotations_carry_what_katib_has_no_field_for() -> None:
    wanted = document()
    wanted["spec"]["parameters"].append(
        {"name": "group", "parameterType": "categorical", "feasibleSpace": {"list": ["0", "1"]}}
    )
    template = wanted["spec"]["trialTemplate"]
    template["trialParameters"].append({"name": "group", "reference": "group"})
    command = template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"]
    command.append("${trialParameters.group}")
    wanted["metadata"]["annotations"] = {
        "kubesight/limits": '{"timeout_seconds": 90, "convergence": true}',
        "kubesight/conditions": '{"lr": ["1"]}',
        "somebody/else": "text",
    }
    experiment = read_experiment(wanted)
    assert experiment.limits == ExtraLimits(timeout_seconds=90, convergence=True)
    assert experiment.conditions == {"lr": ("1",)}


@pytest.mark.parametrize(
    ("annotation", "text", "said"),
    [
        ("limits", "{", "not JSON"),
        ("limits", "[]", "not a mapping"),
        ("limits", '{"timeout_second": 1}', "unknown key 'timeout_second'"),
        ("limits", '{"timeout_seconds": 0}', "timeout_seconds"),
        ("limits", '{"no_improvement_trials": "3"}', "no_improvement_trials"),
        ("conditions", '{"lr": ["1"]}', "a categorical parameter group"),
    ],
)
def test_annotations_that_cannot_be_read(annotation: str, text: str, said: str) -> None:
    wanted = document()
    wanted["metadata"]["annotations"] = {f"kubesight/{annotation}": text}
    with pytest.raises(JobError, match=said):
        read_experiment(wanted)


@pytest.mark.parametrize("conditions", ['{"momentum": ["0"]}', '{"lr": ["2"]}', '{"lr": []}', '{"group": ["0"]}'])
def test_conditions_must_be_of_known_parameters_and_values(conditions: str) -> None:
    wanted = document()
    wanted["spec"]["parameters"][2] = {
        "name": "group",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["0", "1"]},
    }
    wanted["spec"]["trialTemplate"]["trialParameters"][2]["reference"] = "group"
    wanted["metadata"]["annotations"] = {"kubesight/conditions": conditions}
    with pytest.raises(JobError, match="kubesight/conditions"):
        read_experiment(wanted)


def test_the_document_is_a_copy() -> None:
    wanted = document()
    experiment = read_experiment(wanted)
    experiment.document["spec"]["maxTrialCount"] = 99
    assert wanted["spec"]["maxTrialCount"] == 12
