"""Katib's EarlyStopping API with our policies: rules for new trials, and the mark on a trial that was stopped."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from kubesight.errors import ClusterError, JobError
from kubesight.sweep.names import STOP_METRIC
from kubesight.sweep.policies import Rule
from kubesight.tune.early_stopping.messages import PACKAGE, message, method, number
from kubesight.tune.katib.policies import POLICIES, is_live, policy_of

log = logging.getLogger("kubesight")

SERVICE = "EarlyStopping"
DATABASE_SECONDS = 30
"""How long the DB manager may take; Katib itself waits 60 s for the rules."""

_ENDED = {number("TrialConditionType", name) for name in ("SUCCEEDED", "EARLYSTOPPED")}
_COMPARISONS = {"less": number("ComparisonType", "LESS"), "greater": number("ComparisonType", "GREATER")}
_STOP_RULE = message("EarlyStoppingRule")(
    name=STOP_METRIC, value="1", comparison=number("ComparisonType", "EQUAL"), start_step=0
)


class EarlyStopping:
    """Answers Katib's controller and its metrics collectors. One process serves one Experiment, as Katib starts it.

    Args:
        mark_stopped: writes the condition EarlyStopped to a trial of that name; raises ClusterError.
    """

    def __init__(self, mark_stopped: Callable[[str], None]) -> None:
        """No trial is known yet."""
        self._mark_stopped = mark_stopped
        self._curves: dict[str, list[float]] = {}

    def get_rules(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The rule for the trials about to be made (katib: GetEarlyStoppingRules); none while there is no history."""
        spec = request.experiment.spec
        settings = _checked(spec.early_stopping, context)
        reply = message("GetEarlyStoppingRulesReply")
        if is_live(settings):
            return reply(early_stopping_rules=[_STOP_RULE])
        policy = policy_of(spec.early_stopping.algorithm_name, settings)
        history = self._history(request, context)
        maximize = spec.objective.type == number("ObjectiveType", "MAXIMIZE")
        rule = policy.frozen_rule(history, maximize=maximize)
        metric = spec.objective.objective_metric_name
        log.info("%s: %s", request.experiment.name, _told(spec.early_stopping.algorithm_name, metric, rule, history))
        return reply(early_stopping_rules=[_rule_message(metric, rule)] if rule else [])

    def validate(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refuse an unknown algorithm or setting, or a value out of range (ValidateEarlyStoppingSettings)."""
        _checked(request.early_stopping, context)
        return message("ValidateEarlyStoppingSettingsReply")()

    def set_status(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Mark a trial that its collector has stopped (SetTrialStatus)."""
        try:
            self._mark_stopped(request.trial_name)
        except ClusterError as error:
            log.error("%s", error)
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        log.info("%s is marked as early stopped", request.trial_name)
        return message("SetTrialStatusReply")()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        methods = {
            "GetEarlyStoppingRules": self.get_rules,
            "ValidateEarlyStoppingSettings": self.validate,
            "SetTrialStatus": self.set_status,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                answer,
                request_deserializer=message(f"{name}Request").FromString,
                response_serializer=lambda reply: reply.SerializeToString(),
            )
            for name, answer in methods.items()
        }
        return grpc.method_handlers_generic_handler(f"{PACKAGE}.{SERVICE}", handlers)

    def _history(self, request: Any, context: grpc.ServicerContext) -> Mapping[str, list[float]]:
        """The objective's reports of the trials that have ended; each is asked for once, since it changes no more."""
        ended = {trial.name for trial in request.trials if trial.status.condition in _ENDED}
        missing = ended - self._curves.keys()
        if missing:
            with grpc.insecure_channel(request.db_manager_address) as channel:
                try:
                    for name in sorted(missing):
                        self._curves[name] = _reports(channel, name, request.experiment.spec.objective)
                except grpc.RpcError as error:
                    reason = f"Katib's DB manager at {request.db_manager_address} does not answer: {error}"
                    log.error("%s", reason)
                    context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        return {name: self._curves[name] for name in sorted(ended)}


def _reports(channel: grpc.Channel, trial: str, objective: Any) -> list[float]:
    """What a trial has reported of the objective, in order of time; what is no finite number is left out."""
    ask = channel.unary_unary(
        method("DBManager", "GetObservationLog"),
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message("GetObservationLogReply").FromString,
    )
    name = objective.objective_metric_name
    reply = ask(message("GetObservationLogRequest")(trial_name=trial, metric_name=name), timeout=DATABASE_SECONDS)
    # The database sorts by time, but leaves equal times as they come; sorting again keeps that order.
    logs = sorted(reply.observation_log.metric_logs, key=lambda each: each.time_stamp)
    values = (_finite(each.metric.value) for each in logs if each.metric.name == name)
    return [value for value in values if value is not None]


def _finite(text: str) -> float | None:
    """A number, or None for `unavailable`, nothing, and what is not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _checked(spec: Any, context: grpc.ServicerContext) -> dict[str, str]:
    """The settings, when they are in order; else the call ends with INVALID_ARGUMENT."""
    settings = {setting.name: setting.value for setting in spec.algorithm_settings}
    try:
        if spec.algorithm_name not in POLICIES:
            raise JobError(f"{spec.algorithm_name!r} is not served here", hint=f"There are {', '.join(POLICIES)}.")
        policy_of(spec.algorithm_name, settings)
    except JobError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    return settings


def _rule_message(metric: str, rule: Rule) -> Any:
    return message("EarlyStoppingRule")(
        name=metric, value=repr(rule.value), comparison=_COMPARISONS[rule.comparison], start_step=rule.start_step
    )


def _told(policy: str, metric: str, rule: Rule | None, history: Mapping[str, list[float]]) -> str:
    """One sentence for the log: what was decided, and from how much."""
    if rule is None:
        return f"{policy}: no rule yet, {len(history)} trials have ended"
    what = f"stop at report {rule.start_step} when the best {metric} so far is {rule.comparison} than {rule.value:.6g}"
    return f"{policy}: {what}; from {len(history)} ended trials"
