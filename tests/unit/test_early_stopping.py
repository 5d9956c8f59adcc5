"""The early stopping service on the wire: a real server, a DB manager and a Kubernetes API that stand on loopback."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kubesight.errors import ClusterError
from kubesight.tune.early_stopping.__main__ import make_server
from kubesight.tune.early_stopping.messages import message, method, number
from kubesight.tune.early_stopping.service import EarlyStopping
from kubesight.tune.katib.policies import KatibMedian


class Database:
    """A DB manager with given logs: trial -> [(time, metric, value)]. It counts how often each trial is asked for."""

    def __init__(self, logs):
        self.logs, self.asked = logs, []
        self.server = grpc.server(ThreadPoolExecutor(max_workers=2))
        handler = grpc.unary_unary_rpc_method_handler(
            self.answer,
            request_deserializer=message("GetObservationLogRequest").FromString,
            response_serializer=lambda reply: reply.SerializeToString(),
        )
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("api.v1.beta1.DBManager", {"GetObservationLog": handler}),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def answer(self, request, context):
        self.asked.append(request.trial_name)
        log, metric = message("MetricLog"), message("Metric")
        found = [
            log(time_stamp=time, metric=metric(name=name, value=value))
            for time, name, value in self.logs[request.trial_name]
            if name == request.metric_name
        ]
        return message("GetObservationLogReply")(observation_log=message("ObservationLog")(metric_logs=found))


def reports(*values, metric="acc"):
    return [(f"2026-01-02T15:04:{index:02d}.000000Z", metric, str(value)) for index, value in enumerate(values)]


@pytest.fixture
def served():
    """A running service; what it marked as stopped is in `marked`."""
    marked = []
    server, port = make_server(EarlyStopping(marked.append), "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, marked
    server.stop(None)


def call(channel, name, request):
    reply = "".join((name, "Reply"))
    return channel.unary_unary(
        method("EarlyStopping", name),
        request_serializer=lambda each: each.SerializeToString(),
        response_deserializer=message(reply).FromString,
    )(request, timeout=20)


def stopping(algorithm, **settings):
    setting = message("EarlyStoppingSetting")
    return message("EarlyStoppingSpec")(
        algorithm_name=algorithm,
        algorithm_settings=[setting(name=name, value=value) for name, value in settings.items()],
    )


def ask(channel, database, conditions, algorithm, kind="MAXIMIZE", **settings):
    trial, status = message("Trial"), message("TrialStatus")
    request = message("GetEarlyStoppingRulesRequest")(
        experiment=message("Experiment")(
            name="mnist",
            spec=message("ExperimentSpec")(
                objective=message("ObjectiveSpec")(type=number("ObjectiveType", kind), objective_metric_name="acc"),
                early_stopping=stopping(algorithm, **settings),
            ),
        ),
        trials=[
            trial(name=name, status=status(condition=number("TrialConditionType", condition)))
            for name, condition in conditions.items()
        ],
        db_manager_address=database.address if database else "127.0.0.1:1",
    )
    return list(call(channel, "GetEarlyStoppingRules", request).early_stopping_rules)


def test_messages_are_the_bytes_of_protobufs_own_rules():
    # Field 1 as text (tag 0x0a), field 2 as text (0x12), field 3 as varint (0x18), field 4 as varint (0x20).
    rule = message("EarlyStoppingRule")(name="acc", value="0.5", comparison=2, start_step=4)
    assert rule.SerializeToString() == b"\x0a\x03acc\x12\x030.5\x18\x02\x20\x04"
    # Unknown fields, here TrialSpec as field 2 of a Trial, are passed over.
    trial = message("Trial").FromString(b"\x0a\x01t\x12\x02\x12\x00\x1a\x02\x18\x06")
    assert (trial.name, trial.status.condition) == ("t", number("TrialConditionType", "EARLYSTOPPED"))


def test_bandit_gives_the_rule_of_the_first_due_report(served):
    channel, _ = served
    # Interval 2 and delay 3: the first report is 4. Bests of the first four: 0.7 and 0.6; 0.7 / 1.2 = 0.58333.
    database = Database({"a": reports(0.1, 0.7, 0.2, 0.3, 0.99), "b": reports(0.2, 0.3, 0.5, 0.6)})
    (rule,) = ask(
        channel,
        database,
        {"a": "SUCCEEDED", "b": "EARLYSTOPPED", "c": "RUNNING", "d": "FAILED", "e": "METRICSUNAVAILABLE"},
        "bandit",
        slack_factor="0.2",
        evaluation_interval="2",
        delay_evaluation="3",
    )
    assert (rule.name, rule.comparison, rule.start_step) == ("acc", number("ComparisonType", "LESS"), 4)
    assert float(rule.value) == pytest.approx(0.7 / 1.2)
    assert sorted(database.asked) == ["a", "b"]


def test_a_trial_that_has_ended_is_asked_for_once(served):
    channel, _ = served
    database = Database({"a": reports(0.5), "b": reports(0.6)})
    ask(channel, database, {"a": "SUCCEEDED"}, "bandit", slack_amount="0.1")
    (rule,) = ask(channel, database, {"a": "SUCCEEDED", "b": "SUCCEEDED"}, "bandit", slack_amount="0.1")
    assert database.asked == ["a", "b"]
    assert float(rule.value) == pytest.approx(0.6 - 0.1)


def test_median_is_a_median_where_katibs_is_a_mean(served):
    channel, _ = served
    database = Database({"a": reports(1), "b": reports(2), "c": reports(9)})
    (rule,) = ask(channel, database, dict.fromkeys("abc", "SUCCEEDED"), "median", kind="MINIMIZE")
    assert (float(rule.value), rule.comparison) == (2.0, number("ComparisonType", "GREATER"))
    assert KatibMedian(start_step=1).frozen_rule({"a": [1], "b": [2], "c": [9]}, maximize=False).value == 4.0


def test_reports_are_ordered_by_time_and_what_is_no_number_is_left_out(served):
    channel, _ = served
    logs = [
        ("2026-01-02T15:04:05.000002Z", "acc", "0.2"),
        ("2026-01-02T15:04:05.000001Z", "acc", "0.9"),
        ("2026-01-02T15:04:05.000003Z", "acc", "unavailable"),
        ("2026-01-02T15:04:05.000004Z", "acc", ""),
        ("2026-01-02T15:04:05.000005Z", "acc", "nan"),
    ]
    database = Database({"a": logs})
    (rule,) = ask(channel, database, {"a": "SUCCEEDED"}, "bandit", slack_amount="0.1", delay_evaluation="1")
    assert float(rule.value) == pytest.approx(0.8)  # the first in time is 0.9
    assert ask(channel, database, {"a": "SUCCEEDED"}, "bandit", slack_amount="0.1", delay_evaluation="3") == []


def test_no_history_no_rule(served):
    channel, _ = served
    assert ask(channel, None, {"a": "RUNNING"}, "asha") == []


def test_live_says_the_stop_metric_from_the_first_trial_on(served):
    channel, _ = served
    (rule,) = ask(channel, None, {}, "bandit", slack_factor="0.2", live="true")
    assert (rule.name, rule.value, rule.comparison, rule.start_step) == (
        "es_stop", "1", number("ComparisonType", "EQUAL"), 0,
    )  # fmt: skip


def test_a_database_that_does_not_answer_is_an_error_of_the_call(served):
    channel, _ = served
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, None, {"a": "SUCCEEDED"}, "asha")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "DB manager at 127.0.0.1:1" in caught.value.details()


@pytest.mark.parametrize(
    ("algorithm", "settings", "words"),
    [
        ("bandit", {}, "slack_factor or slack_amount"),
        ("bandit", {"slack_factor": "0.1", "slack_amount": "0.1"}, "one of them"),
        ("bandit", {"slack_factor": "lots"}, "must be a valid number"),
        ("bandit", {"slack_factor": "0.1", "evaluation_interval": "0"}, "greater than or equal to 1"),
        ("median", {"delay": "3"}, "unknown key 'delay'"),
        ("truncation", {}, "truncation_percentage is missing"),
        ("truncation", {"truncation_percentage": "20", "exclude_finished_jobs": "true"}, "nothing to compare with"),
        ("asha", {"reduction_factor": "1"}, "greater than or equal to 2"),
        ("asha", {"live": "perhaps"}, "true or false"),
        ("medianstop", {}, "not served here"),
    ],
)
def test_bad_settings_are_invalid_arguments(served, algorithm, settings, words):
    channel, _ = served
    request = message("ValidateEarlyStoppingSettingsRequest")(early_stopping=stopping(algorithm, **settings))
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ValidateEarlyStoppingSettings", request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_good_settings_are_answered(served):
    channel, _ = served
    for name, settings in (("bandit", {"slack_factor": "0.1"}), ("median", {}), ("asha", {"reduction_factor": "4"})):
        request = message("ValidateEarlyStoppingSettingsRequest")(early_stopping=stopping(name, **settings))
        assert call(channel, "ValidateEarlyStoppingSettings", request) is not None


def test_health(served):
    channel, _ = served
    checks = health_pb2_grpc.HealthStub(channel)
    for service in ("", "api.v1.beta1.EarlyStopping"):
        answer = checks.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_taken_port_is_an_error():
    server, port = make_server(EarlyStopping(lambda name: None), "127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(ClusterError, match="cannot listen"):
            make_server(EarlyStopping(lambda name: None), f"127.0.0.1:{port}")
    finally:
        server.stop(None)


def test_a_refusal_reaches_the_collector():
    def refuse(name):
        raise ClusterError("no", where=name)

    server, port = make_server(EarlyStopping(refuse), "127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
            call(channel, "SetTrialStatus", message("SetTrialStatusRequest")(trial_name="t1"))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop(None)


def test_a_trial_is_marked_by_its_name(served):
    channel, marked = served
    call(channel, "SetTrialStatus", message("SetTrialStatusRequest")(trial_name="mnist-abc"))
    assert marked == ["mnist-abc"]


def test_the_process_serves_and_ends_on_sigterm():
    command = [sys.executable, "-m", "kubesight.tune.early_stopping", "--port", "0", "--no-cluster"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        port = int(line.rsplit(" ", 1)[1])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            (rule,) = ask(channel, None, {}, "asha", live="true")
        assert rule.name == "es_stop"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_outside_a_cluster_the_process_says_so():
    command = [sys.executable, "-m", "kubesight.tune.early_stopping", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not in a pod" in done.stderr
