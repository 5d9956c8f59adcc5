"""What one row of the table says: type, range, defaults, where it applies, and what it needs to have an effect."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from kubesight.dataset.rows import Task
from kubesight.models.names import CLASSIFICATION_TASKS, Family, ModelSpec

Kind = Literal["int", "float", "bool", "choice", "str", "json", "grid", "triple"]
Origin = Literal["azure", "sagemaker", "kubesight"]


@dataclass(frozen=True)
class Range:
    """An interval of numbers; an end that is None is open to infinity."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether a finite number lies in the interval."""
        above = self.low is None or value > self.low or (value == self.low and not self.open_low)
        return above and (self.high is None or value < self.high or (value == self.high and not self.open_high))

    def __str__(self) -> str:
        """`in [0, 1)`, `>= 1`, `256`; nothing when every number is allowed."""
        if self.low is not None and self.low == self.high:
            return f"{self.low:g}"
        if self.low is not None and self.high is not None:
            return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:.12g}{')' if self.open_high else ']'}"
        if self.low is not None:
            return f"{'>' if self.open_low else '>='} {self.low:g}"
        return "" if self.high is None else f"{'<' if self.open_high else '<='} {self.high:g}"


POSITIVE = Range(low=1)
NOT_NEGATIVE = Range(low=0)
UNIT = Range(0, 1)
BELOW_ONE = Range(0, 1, open_high=True)


@dataclass(frozen=True)
class Scope:
    """The models and tasks that something applies to; None means all of them."""

    label: str
    tasks: frozenset[Task] | None = None
    families: frozenset[str] | None = None
    framework: Literal["torch", "tensorflow"] | None = None
    names: frozenset[str] | None = None

    def holds(self, spec: ModelSpec, task: Task) -> bool:
        """Whether the scope takes in this model, trained for this task."""
        return (
            (self.tasks is None or task in self.tasks)
            and (self.families is None or spec.family in self.families)
            and (self.framework is None or spec.framework == self.framework)
            and (self.names is None or spec.name in self.names)
        )

    def __str__(self) -> str:
        """The words for messages and the reference page."""
        return self.label


ANY = Scope("all models")
TORCH = Scope("all models but keras/*", framework="torch")
KERAS = Scope("keras/* models", framework="tensorflow")
CLASSIFICATION = Scope("image classification, multi-class and multilabel", tasks=CLASSIFICATION_TASKS)
TORCH_CLASSIFICATION = Scope("image classification but keras/*", tasks=CLASSIFICATION_TASKS, framework="torch")
MULTILABEL = Scope("multilabel classification", tasks=frozenset({Task.MULTILABEL}))
BOXES = Scope("object detection and instance segmentation", tasks=frozenset({Task.DETECTION, Task.SEGMENTATION}))
DETECTION = Scope("object detection", tasks=frozenset({Task.DETECTION}))
SEGMENTATION = Scope("instance segmentation (maskrcnn models)", tasks=frozenset({Task.SEGMENTATION}))
RESIZING = Scope(
    "object detection and instance segmentation but yolov5 and torchvision/ssd*",
    families=frozenset({"fasterrcnn", "retinanet", "fcos", "maskrcnn"}),
)
DETECTORS = Scope(
    "object detection and instance segmentation but yolov5",
    families=frozenset({"fasterrcnn", "retinanet", "fcos", "ssd", "maskrcnn"}),
)
YOLOV5 = Scope("yolov5", families=frozenset({"yolov5"}))
NORMALISING = Scope(
    "all models but keras/* and yolov5",
    families=frozenset(get_args(Family)) - {"keras", "yolov5"},
)


def family(name: str, *, multilabel: bool = False) -> Scope:
    """The scope of one family, or of one family trained for multilabel classification."""
    label = f"{name} multilabel" if multilabel else name
    return Scope(label, tasks=frozenset({Task.MULTILABEL}) if multilabel else None, families=frozenset({name}))


@dataclass(frozen=True)
class Case:
    """Where a row's default differs, and perhaps its choices or range; `reason` says why they are narrower."""

    scope: Scope
    default: Any
    choices: tuple[Any, ...] | None = None
    range: Range | None = None
    reason: str = ""


@dataclass(frozen=True)
class Needs:
    """What another setting must be for this one to have an effect; `values` None means that it must be given."""

    setting: str
    values: tuple[Any, ...] | None = None

    def met_by(self, value: Any) -> bool:
        """Whether this value of the other setting lets the row have an effect."""
        return value is not None if self.values is None else value in self.values


@dataclass(frozen=True)
class Hyperparameter:
    """One row of the table.

    Attributes:
        name: the canonical name (Azure AutoML's second version where it has one).
        kind: how a value is read; `grid` is `COLUMNSxROWS`, `triple` three numbers, one a channel.
        help: one line of what it does.
        default: for the models that no case speaks of; None means "not set".
        aliases: other names that are accepted, with underscores (dashes are read as underscores).
        range: of a number, or of each number of a triple.
        choices: what a `choice` may be, or the keys of a `json` object.
        spellings: other spellings of a choice.
        cases: other defaults, the first that holds wins.
        applies: which models and tasks.
        needs: what other settings must be for it to have an effect; all of them.
        stated_defaults: other values that a published full set of defaults states for it. Stating a default of a
            setting that has no effect is no mistake.
        step: which step of a run uses it.
        origin: whose documents name it.
        note: the choice made where documents and service disagree, or where the meaning here differs.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    aliases: tuple[str, ...] = ()
    range: Range = field(default_factory=Range)
    choices: tuple[Any, ...] = ()
    spellings: tuple[tuple[str, Any], ...] = ()
    cases: tuple[Case, ...] = ()
    applies: Scope = ANY
    needs: tuple[Needs, ...] = ()
    stated_defaults: tuple[Any, ...] = ()
    step: Literal["train", "split"] = "train"
    origin: tuple[Origin, ...] = ("azure",)
    note: str = ""
    reason: str = ""

    def for_model(self, spec: ModelSpec, task: Task) -> Self:
        """The row as it is for one model and task: its one default, its choices and its range."""
        case = next((case for case in self.cases if case.scope.holds(spec, task)), None)
        if case is None:
            return dataclasses.replace(self, cases=())
        return dataclasses.replace(
            self,
            cases=(),
            default=case.default,
            choices=self.choices if case.choices is None else case.choices,
            range=self.range if case.range is None else case.range,
            reason=case.reason,
        )

    def allowed(self) -> str:
        """What a value must be, in words that follow "must be"."""
        text = _ALLOWED[self.kind](self)
        if self.default is None and not self.cases:
            text += " (or none)"
        return f"{text}: {self.reason}" if self.reason else text


def _fixed(row: Hyperparameter) -> bool:
    return row.range.low is not None and row.range.low == row.range.high


_ALLOWED: dict[Kind, Callable[[Hyperparameter], str]] = {
    "int": lambda row: str(row.range) if _fixed(row) else f"an integer {row.range}".strip(),
    "float": lambda row: f"a number {row.range}".strip(),
    "bool": lambda row: "true or false (1 or 0)",
    "choice": lambda row: f"one of {', '.join(map(str, row.choices))}",
    "str": lambda row: "a text",
    "json": lambda row: f"a JSON object with the keys {', '.join(row.choices)}",
    "grid": lambda row: "a grid such as 3x2, other than 1x1",
    "triple": lambda row: f"three numbers {row.range} such as 0.5,0.5,0.5".replace("  ", " "),
}
