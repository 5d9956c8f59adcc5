"""What a Katib Experiment says, read and with its defaults filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kubesight.tune.katib.template import Template

Kind = Literal["double", "int", "discrete", "categorical"]
Distribution = Literal["uniform", "logUniform", "normal", "logNormal"]


@dataclass(frozen=True)
class Parameter:
    """One parameter and its feasible space.

    Attributes:
        name: as the trial template references it.
        kind: `double` and `int` have a range, `discrete` (numbers) and `categorical` (texts) a list.
        low: the least value, included; None with a list.
        high: the greatest value, included; None with a list.
        step: the distance of allowed values, counted from `low`; always given for `int`, None: any value.
        values: the list, as it was written; empty with a range.
        distribution: of the values. `normal` has its mean in the middle of the range and a sixth of the range for its
            standard deviation, `logNormal` the same in the logarithm (Katib's hyperopt service).
    """

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    step: float | None = None
    values: tuple[str, ...] = ()
    distribution: Distribution = "uniform"


@dataclass(frozen=True)
class Collector:
    """Where a trial's metrics are read.

    Attributes:
        kind: StdOut, File, TensorFlowEvent, Custom or Push.
        path: of the file or folder in the container; None for StdOut, Custom without one, and Push.
        format: of a file's lines.
        filters: regular expressions of Go's RE2 with two groups, name and value; empty: Katib's default.
    """

    kind: str = "StdOut"
    path: str | None = None
    format: Literal["TEXT", "JSON"] = "TEXT"
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExtraLimits:
    """Limits that Katib has no field for, from the annotation `kubesight/limits`.

    Attributes:
        timeout_seconds: of the whole sweep.
        no_improvement_trials: end the sweep when so many trials in a row have not improved the best.
        convergence: end the sweep when its best has settled.
    """

    timeout_seconds: float | None = None
    no_improvement_trials: int | None = None
    convergence: bool = False


@dataclass(frozen=True)
class Experiment:
    """A sweep as Katib is told of it.

    Attributes:
        name: also the first part of every trial's name.
        namespace: as the document says; None: the caller's.
        parameters: in the document's order.
        metric: the objective's name.
        maximize: whether more is better.
        goal: the sweep ends when the objective has reached it.
        additional_metrics: other metrics to collect.
        strategies: for the objective and every additional metric, which of its values counts: min, max or latest.
        algorithm: Katib's name of the sampler.
        settings: the sampler's, all texts.
        early_stopping: name and settings of an early-stopping service.
        parallel: how many trials run at a time.
        max_trials: how many there are in all; None: until the goal is reached or too many have failed.
        max_failed: so many failed trials fail the sweep; None: any number may.
        collector: where metrics are read.
        template: what a trial runs.
        limits: those that Katib has no field for.
        conditions: for a parameter that counts only with some values of the parameter `group`, those values.
        document: the Experiment as it was written.
    """

    name: str
    namespace: str | None
    parameters: tuple[Parameter, ...]
    metric: str
    maximize: bool
    goal: float | None
    additional_metrics: tuple[str, ...]
    strategies: Mapping[str, str]
    algorithm: str
    settings: Mapping[str, str]
    early_stopping: tuple[str, dict[str, str]] | None
    parallel: int
    max_trials: int | None
    max_failed: int | None
    collector: Collector
    template: Template
    limits: ExtraLimits = ExtraLimits()
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
