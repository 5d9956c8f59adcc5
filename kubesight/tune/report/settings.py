"""What a trial's assignments mean: the settings of `kubesight train` that they became, or the parameters themselves."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubesight.errors import KubesightError
from kubesight.hyperparameters.coerce import coerce
from kubesight.hyperparameters.table import canonical_spelling, find, is_known
from kubesight.models.names import find_model
from kubesight.tune.katib.objects import Experiment, Parameter
from kubesight.tune.katib.template import trial_command
from kubesight.tune.trials.warm import warm_arguments

MODEL = "model_name"
_MARK = re.compile(r"@(\d+)@")
_COMPLEMENT = re.compile(r"1-(\d\S*)")


@dataclass(frozen=True)
class Setting:
    """A setting that differs between trials.

    Attributes:
        name: of the hyperparameter, or of the parameter where the trials are not ours.
        parameters: those of the Experiment that it comes from; none where alternatives alone differ in it.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()

    @property
    def log(self) -> bool:
        """Whether it is drawn on a logarithmic scale."""
        return any(parameter.distribution in ("logUniform", "logNormal") for parameter in self.parameters)

    @property
    def ranged(self) -> bool:
        """Whether it has a range of numbers rather than a list of values."""
        return any(parameter.low is not None for parameter in self.parameters)


@dataclass(frozen=True)
class Command:
    """A `kubesight train` command, read.

    Attributes:
        flags: names with underscores; a flag without a value has an empty one.
        alternatives: the words of each, as written.
        choice: which alternative counts, as written.
    """

    flags: Mapping[str, str]
    alternatives: tuple[tuple[str, ...], ...] = ()
    choice: str = "0"

    @property
    def settings(self) -> dict[str, str]:
        """Hyperparameters and the model's name, as the training takes them."""
        found = {name: value for name, value in self.flags.items() if name == MODEL or is_known(name)}
        if self.choice.isdigit() and int(self.choice) < len(self.alternatives):
            for word in self.alternatives[int(self.choice)]:
                name, _, value = word.partition("=")
                found[canonical_spelling(name)] = value
        return {name: _plain(value) for name, value in found.items()}


@dataclass(frozen=True)
class Settings:
    """How to read the assignments of one Experiment.

    Attributes:
        experiment: the Experiment.
        swept: the settings that differ between trials, in the Experiment's order.
        ours: whether a trial is a `kubesight train`, whose settings are then known by their own names.
    """

    experiment: Experiment
    swept: tuple[Setting, ...] = field(init=False)
    ours: bool = field(init=False)

    def __post_init__(self) -> None:
        """Follow every parameter through the command by putting a mark in its place."""
        marks = {parameter.name: f"@{index}@" for index, parameter in enumerate(self.experiment.parameters)}
        command = self.command("trial", marks)
        object.__setattr__(self, "ours", command is not None)
        plain = tuple(Setting(parameter.name, (parameter,)) for parameter in self.experiment.parameters)
        object.__setattr__(self, "swept", plain if command is None else self._traced(command))

    def command(self, name: str, assignments: Mapping[str, str]) -> Command | None:
        """The `kubesight train` of a trial; None when it is another command."""
        template = self.experiment.template
        try:
            manifest = template.render(name, self.experiment.namespace or "", assignments)
            words = warm_arguments(trial_command(manifest, template.primary_container).argv)
        except KubesightError:
            return None
        return _read(words[1:]) if words and words[0] == "train" else None

    def of(self, name: str, assignments: Mapping[str, str]) -> dict[str, str]:
        """The settings of a trial, also those that all share; of a foreign trial the assignments that count."""
        command = self.command(name, assignments) if self.ours else None
        if command is not None:
            return command.settings
        conditions = self.experiment.conditions
        group = assignments.get("group", "")
        return {key: value for key, value in assignments.items() if key not in conditions or group in conditions[key]}

    def _traced(self, command: Command) -> tuple[Setting, ...]:
        sources: dict[str, list[Parameter]] = {}
        constants: dict[str, list[str | None]] = {}
        for name, value in command.flags.items():
            if found := self._marked(value):
                sources[name] = found
        for number, words in enumerate(command.alternatives):
            for name, value in self._words(words):
                sources.setdefault(name, []).extend(self._marked(value))
                constants.setdefault(name, [None] * len(command.alternatives))[number] = value
        kept = [
            Setting(name, tuple(sources.get(name, ())))
            for name in dict.fromkeys([*constants, *sources])
            if sources.get(name) or len(set(constants.get(name, ()))) > 1
        ]
        return tuple(sorted(kept, key=lambda setting: setting.name != MODEL))

    def _words(self, words: Sequence[str]) -> list[tuple[str, str]]:
        """Names and values of an alternative; a word that is all mark stands for the words of a parameter's values."""
        pairs = []
        for word in words:
            name, has_value, value = word.partition("=")
            if has_value:
                pairs.append((canonical_spelling(name), value))
            elif found := _MARK.fullmatch(word):
                listed = self.experiment.parameters[int(found[1])].values
                named = dict.fromkeys(each.partition("=")[0] for text in listed for each in text.split())
                pairs += [(canonical_spelling(each), word) for each in named]
        return pairs

    def _marked(self, value: str) -> list[Parameter]:
        return [self.experiment.parameters[int(index)] for index in _MARK.findall(value)]


def typed(settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings of ours as a job file holds them, numbers as numbers; what cannot be read stays text."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        try:
            row = find(name)
            if settings.get(MODEL):
                spec = find_model(settings[MODEL])
                row = row.for_model(spec, sorted(spec.tasks)[0])
            found[name] = coerce(row, value)
        except KubesightError:
            found[name] = value
    return found


def as_flags(settings: Mapping[str, str]) -> list[str]:
    """Words of a command line, `--learning-rate`, `0.01`, ...; the model first."""
    names = sorted(settings, key=lambda name: name != MODEL)
    return [word for name in names for word in (f"--{name.replace('_', '-')}", settings[name])]


def _read(words: Sequence[str]) -> Command:
    flags: dict[str, str] = {}
    alternatives: list[tuple[str, ...]] = []
    rest = list(words)
    while rest:
        flag, has_value, value = rest.pop(0).partition("=")
        if not has_value and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        name = canonical_spelling(flag.removeprefix("--"))
        if name == "alternative":
            alternatives.append(tuple(value.split()))
        else:
            flags[name] = value
    return Command(flags, tuple(alternatives), flags.pop("choose", "0"))


def _plain(value: str) -> str:
    """`1-0.05` as the number that it is."""
    found = _COMPLEMENT.fullmatch(value)
    try:
        return f"{1 - float(found[1]):.12g}" if found else value
    except ValueError:
        return value
