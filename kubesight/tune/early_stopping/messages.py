"""The messages of Katib's gRPC API that early stopping needs, made from their field numbers.

Generated code would bind the image to one release of protobuf; descriptors made here work with any. Numbers and names
are those of Katib 0.19's package `api.v1.beta1`; fields that nobody here reads are left out, which the wire allows.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "api.v1.beta1"

_ENUMS = {
    "ObjectiveType": ("UNKNOWN", "MINIMIZE", "MAXIMIZE"),
    "ComparisonType": ("UNKNOWN_COMPARISON", "EQUAL", "LESS", "GREATER"),
    "TrialConditionType": (
        "CREATED", "RUNNING", "SUCCEEDED", "KILLED", "FAILED", "METRICSUNAVAILABLE", "EARLYSTOPPED", "UNKNOWN",
    ),
}  # fmt: skip

# One line a message: fields as name:type=number, a star before the type of a repeated one.
_MESSAGES = """
ObjectiveSpec type:ObjectiveType=1 goal:double=2 objective_metric_name:string=3 additional_metric_names:*string=4
EarlyStoppingSetting name:string=1 value:string=2
EarlyStoppingSpec algorithm_name:string=1 algorithm_settings:*EarlyStoppingSetting=2
ExperimentSpec objective:ObjectiveSpec=2 early_stopping:EarlyStoppingSpec=4
Experiment name:string=1 spec:ExperimentSpec=2
TrialStatus start_time:string=1 completion_time:string=2 condition:TrialConditionType=3
Trial name:string=1 status:TrialStatus=3
Metric name:string=1 value:string=2
MetricLog time_stamp:string=1 metric:Metric=2
ObservationLog metric_logs:*MetricLog=1
GetObservationLogRequest trial_name:string=1 metric_name:string=2 start_time:string=3 end_time:string=4
GetObservationLogReply observation_log:ObservationLog=1
EarlyStoppingRule name:string=1 value:string=2 comparison:ComparisonType=3 start_step:int32=4
GetEarlyStoppingRulesRequest experiment:Experiment=1 trials:*Trial=2 db_manager_address:string=3
GetEarlyStoppingRulesReply early_stopping_rules:*EarlyStoppingRule=1
ValidateEarlyStoppingSettingsRequest early_stopping:EarlyStoppingSpec=1
ValidateEarlyStoppingSettingsReply
SetTrialStatusRequest trial_name:string=1
SetTrialStatusReply
"""

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _FIELD.TYPE_STRING, "double": _FIELD.TYPE_DOUBLE, "int32": _FIELD.TYPE_INT32}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="katib.proto", package=PACKAGE, syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            # Values of a package share one room of names, and UNKNOWN stands in two enumerations.
            enum.value.add(name=value if value != "UNKNOWN" else f"{name.upper()}_UNKNOWN", number=number)
    for line in _MESSAGES.split("\n"):
        if line:
            name, *fields = line.split()
            message = file.message_type.add(name=name)
            for field in fields:
                _add_field(message, field)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    name, _, rest = text.partition(":")
    kind, _, number = rest.partition("=")
    field = message.field.add(name=name, number=int(number))
    field.label = _FIELD.LABEL_REPEATED if kind.startswith("*") else _FIELD.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _FIELD.TYPE_ENUM if kind in _ENUMS else _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"


# A pool of its own: a process may hold Katib's generated messages of the same names as well.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())  # type: ignore[no-untyped-call]


def message(name: str) -> Any:
    """The class of a message.

    Raises:
        KeyError: there is none of that name here.
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def number(enum: str, value: str) -> int:
    """The number of an enumeration's value.

    Raises:
        ValueError: there is none of that name.
    """
    return _ENUMS[enum].index(value)


def method(service: str, name: str) -> str:
    """The path of a method."""
    return f"/{PACKAGE}.{service}/{name}"
