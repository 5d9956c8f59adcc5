"""The service against a client and a DB manager made from the stubs that Katib itself publishes.

Those bind protobuf below 5, so they live in an environment of their own, made here with pip.
"""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The stubs need neither the models nor the Kubernetes client that their package asks for.
PACKAGES = (("--no-deps", "kubeflow-katib==0.19.0"), ("grpcio", "protobuf<5"))

CLIENT = '''
"""Ask the service at argv[1] with Katib's generated code, and print what it says as JSON."""
import json, sys
from concurrent.futures import ThreadPoolExecutor
import grpc
import types, importlib.machinery, pathlib, site
root = next(p for p in map(pathlib.Path, site.getsitepackages()) if (p / "kubeflow/katib").exists())
# The package's own __init__ imports a Kubernetes client that is not needed for the messages.
for name in ("kubeflow", "kubeflow.katib"):
    module = types.ModuleType(name)
    module.__path__ = [str(root / name.replace(".", "/"))]
    sys.modules[name] = module
from kubeflow.katib import katib_api_pb2 as pb, katib_api_pb2_grpc as rpc

class Database(rpc.DBManagerServicer):
    def GetObservationLog(self, request, context):
        values = {"a": [0.1, 0.7], "b": [0.2, 0.6], "c": [0.3, 0.9]}[request.trial_name]
        logs = [pb.MetricLog(time_stamp=f"2026-01-02T15:04:0{i}.000001Z", metric=pb.Metric(name="acc", value=str(v)))
                for i, v in enumerate(values)]
        assert request.metric_name == "acc"
        return pb.GetObservationLogReply(observation_log=pb.ObservationLog(metric_logs=logs))

server = grpc.server(ThreadPoolExecutor(2))
rpc.add_DBManagerServicer_to_server(Database(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
stub = rpc.EarlyStoppingStub(grpc.insecure_channel(sys.argv[1]))

def spec(name, settings):
    return pb.EarlyStoppingSpec(algorithm_name=name, algorithm_settings=[
        pb.EarlyStoppingSetting(name=k, value=v) for k, v in settings.items()])

def full_experiment(stopping):
    """Every field of an Experiment that Katib's controller fills, also those that the service does not read."""
    space = pb.FeasibleSpace(min="0.1", max="1", step="0.1", list=["x"], distribution=pb.LOG_UNIFORM)
    parameter = pb.ParameterSpec(name="lr", parameter_type=pb.DOUBLE, feasible_space=space)
    return pb.Experiment(name="e", spec=pb.ExperimentSpec(
        parameter_specs=pb.ExperimentSpec.ParameterSpecs(parameters=[parameter]),
        objective=pb.ObjectiveSpec(type=pb.MAXIMIZE, goal=0.99, objective_metric_name="acc",
        additional_metric_names=["loss"]),
        algorithm=pb.AlgorithmSpec(algorithm_name="random"), early_stopping=stopping,
        parallel_trial_count=2, max_trial_count=12))

def trial(name, condition):
    assignments = pb.TrialSpec.ParameterAssignments(assignments=[pb.ParameterAssignment(name="lr", value="0.1")])
    return pb.Trial(name=name, spec=pb.TrialSpec(parameter_assignments=assignments, labels={"a": "b"}),
                    status=pb.TrialStatus(start_time="s", completion_time="c", condition=condition,
                    observation=pb.Observation(metrics=[pb.Metric(name="acc", value="0.7")])))

ended, stopped = pb.TrialStatus.SUCCEEDED, pb.TrialStatus.EARLYSTOPPED
trials = [trial("a", ended), trial("b", stopped), trial("c", ended), trial("r", pb.TrialStatus.RUNNING)]
said = {}
for name, settings in json.loads(sys.argv[2]).items():
    stub.ValidateEarlyStoppingSettings(pb.ValidateEarlyStoppingSettingsRequest(early_stopping=spec(name, settings)))
    reply = stub.GetEarlyStoppingRules(pb.GetEarlyStoppingRulesRequest(
        experiment=full_experiment(spec(name, settings)), trials=trials, db_manager_address=f"127.0.0.1:{port}"))
    said[name] = [[rule.name, rule.value, pb.ComparisonType.Name(rule.comparison), rule.start_step]
                  for rule in reply.early_stopping_rules]
try:
    stub.ValidateEarlyStoppingSettings(pb.ValidateEarlyStoppingSettingsRequest(early_stopping=spec("bandit", {})))
except grpc.RpcError as error:
    said["refused"] = error.code().name
try:
    stub.SetTrialStatus(pb.SetTrialStatusRequest(trial_name="t"))
except grpc.RpcError as error:
    said["status"] = error.details()
print(json.dumps(said))
'''


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A Python that has Katib's stubs."""
    folder = tmp_path_factory.mktemp("stubs")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    for packages in PACKAGES:
        command = [str(python), "-m", "pip", "install", "--quiet", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Katib's stubs cannot be installed here: {done.stderr[-300:]}")
    return python


def test_katibs_own_client_is_answered(official, tmp_path):
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    command = [sys.executable, "-m", "kubesight.tune.early_stopping", "--port", "0", "--no-cluster"]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    asked = {
        "bandit": {"slack_factor": "0.5", "delay_evaluation": "2"},
        "median": {"delay_evaluation": "2"},
        "truncation": {"truncation_percentage": "34", "delay_evaluation": "2"},
        "asha": {"reduction_factor": "2", "minimum_interval": "1"},
    }
    try:
        address = f"127.0.0.1:{service.stderr.readline().rsplit(' ', 1)[1].strip()}"
        done = subprocess.run(
            [str(official), str(script), address, json.dumps(asked)], capture_output=True, text=True, check=False
        )
    finally:
        service.terminate()
        service.wait(20)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    # Bests of the first two reports: 0.7, 0.6, 0.9; means: 0.4, 0.4, 0.6. Bandit: 0.9 / 1.5.
    # Truncation: floor(3 * 34 %) = 1 goes, so the lowest that stays is 0.7.
    # ASHA at report 1: the newcomer makes four, the top two stay: the second best of 0.1, 0.2, 0.3 is 0.2.
    expected = {"bandit": (0.6, 2), "median": (0.4, 2), "truncation": (0.7, 2), "asha": (0.2, 1)}
    for name, (value, step) in expected.items():
        ((metric, text, comparison, start_step),) = said[name]
        assert (metric, comparison, start_step) == ("acc", "LESS", step)
        assert float(text) == pytest.approx(value)
    assert said["refused"] == "INVALID_ARGUMENT"
    assert "--no-cluster" in said["status"]
