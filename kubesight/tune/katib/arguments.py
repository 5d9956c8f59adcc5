"""A sweep's space as Katib's parameters and as the words of `kubesight train`'s command line.

Katib has no conditional parameters: every trial is given all of them. So a space of several groups becomes one
Experiment whose parameter `group` chooses, beside the parameters of all groups; a trial is given every group's settings
as an `--alternative`, and takes the chosen one. One Experiment a group instead would cut the sweep into several: each
with a trial count, a goal, peers for early termination and a best trial of its own, and not with the draws that
Azure's random sampling makes.
"""

import itertools
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubesight.errors import JobError
from kubesight.hyperparameters.search_space import Choice
from kubesight.sweep.names import GROUP_PARAMETER
from kubesight.sweep.plan import Group, Sweep
from kubesight.tune.katib.space import Setting, setting_of
from kubesight.tune.katib.texts import constant, text_of

COMBINATION_PARAMETER = "combination"
"""The categorical parameter of a grid over several groups: one value a combination."""

_MOST_COMBINATIONS = 10_000
_PLAIN = re.compile(r"[\w.,:/@%+=-]*", re.ASCII)


@dataclass(frozen=True)
class Arguments:
    """What a trial is given.

    Attributes:
        parameters: Katib's `spec.parameters`.
        words: of the command line, quoted for a shell, with `${trialParameters.NAME}` where a parameter goes.
        conditions: for each parameter that counts only in some groups, those values of `group`.
    """

    parameters: tuple[dict[str, Any], ...]
    words: tuple[str, ...]
    conditions: dict[str, list[str]]


def arguments_of(sweep: Sweep) -> Arguments:
    """The parameters of a sweep, and the hyperparameters of its trials' command line.

    Raises:
        JobError: nothing varies, two settings get one name, or a value that Katib cannot put in.
    """
    if sweep.sampling.type == "grid":
        _check_lists(sweep.groups)
    shared = [Setting(name, text_of(value)) for name, value in sweep.fixed.items()]
    if len(sweep.groups) == 1:
        found = _one_group(sweep, shared)
    elif sweep.sampling.type == "grid":
        found = _combinations(sweep.groups, shared)
    else:
        found = _masked(sweep, shared)
    if not found.parameters:
        raise JobError("nothing varies", where="search_space", hint="Give a setting two values or a range.")
    names = [parameter["name"] for parameter in found.parameters]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"two settings of the search space become the parameter {name}", where="search_space")
    return found


def _check_lists(groups: Iterable[Group]) -> None:
    for group in groups:
        for name, distribution in group.parameters.items():
            if not isinstance(distribution, Choice):
                raise JobError(f"grid sampling goes through lists, but {name} has a range", where="search_space")


def _one_group(sweep: Sweep, shared: list[Setting]) -> Arguments:
    settings = [*shared, *_settings(sweep, sweep.groups[0])]
    return Arguments(_parameters(settings), tuple(map(_flag, settings)), {})


def _masked(sweep: Sweep, shared: list[Setting]) -> Arguments:
    """All groups' parameters beside the one that chooses."""
    indices = [str(index) for index in range(len(sweep.groups))]
    parameters = [{"name": GROUP_PARAMETER, "parameterType": "categorical", "feasibleSpace": {"list": indices}}]
    words = list(map(_flag, shared))
    conditions: dict[str, list[str]] = {}
    for index, group in zip(indices, sweep.groups, strict=True):
        settings = _settings(sweep, group, label=group.label)
        words.append(f"--alternative={shlex.quote(_alternative(settings))}")
        parameters += _parameters(settings)
        conditions |= {parameter["name"]: [index] for parameter in _parameters(settings)}
    words.append(f"--choose=${{trialParameters.{GROUP_PARAMETER}}}")
    return Arguments(tuple(parameters), tuple(words), conditions)


def _settings(sweep: Sweep, group: Group, *, label: str = "") -> list[Setting]:
    listed = sweep.sampling.type == "random" and sweep.sampling.rule != "sobol"
    return [
        *(Setting(name, text_of(value)) for name, value in group.fixed.items()),
        *(setting_of(name, each, label=label, listed=listed) for name, each in group.parameters.items()),
    ]


def _combinations(groups: Iterable[Group], shared: list[Setting]) -> Arguments:
    """A grid over several groups: every combination of every group is one value of one parameter."""
    combinations: dict[str, None] = {}
    for group in groups:
        for chosen in itertools.product(*(each.endpoints() for each in group.parameters.values())):
            settings = {**group.fixed, **dict(zip(group.parameters, chosen, strict=True))}
            combinations[" ".join(_word(name, text_of(value)) for name, value in settings.items())] = None
            if len(combinations) > _MOST_COMBINATIONS:
                raise JobError(
                    f"the grid has more than {_MOST_COMBINATIONS} combinations",
                    where="search_space",
                    hint="Shorten its lists, or choose random sampling.",
                )
    parameter = {
        "name": COMBINATION_PARAMETER,
        "parameterType": "categorical",
        "feasibleSpace": {"list": list(combinations)},
    }
    word = f"--alternative='${{trialParameters.{COMBINATION_PARAMETER}}}'"
    return Arguments((parameter,), (*map(_flag, shared), word), {})


def _parameters(settings: Iterable[Setting]) -> tuple[dict[str, Any], ...]:
    return tuple(setting.parameter for setting in settings if setting.parameter)


def _flag(setting: Setting) -> str:
    """`--name=value`: with a space between them a negative value would look like another flag."""
    flag = f"--{setting.name.replace('_', '-')}"
    if not setting.parameter:
        return f"{flag}={constant(setting.text)}"
    quote = "" if all(map(_PLAIN.fullmatch, setting.values)) else "'"
    return f"{flag}={quote}{setting.text}{quote}"


def _alternative(settings: Iterable[Setting]) -> str:
    """`name=value name=value`, which `kubesight train` splits as a shell does."""
    words = []
    for setting in settings:
        for text in setting.values:
            _word(setting.name, text)
        words.append(f"{setting.name}={setting.text if setting.parameter else constant(setting.text)}")
    return " ".join(words)


def _word(name: str, text: str) -> str:
    """`name=value` for a place where nothing can be quoted, since Katib puts it in.

    Raises:
        JobError: the value needs quotes.
    """
    if not text or not _PLAIN.fullmatch(text):
        raise JobError(
            f"{name} cannot vary over {text!r} beside other entries of search_space",
            where="search_space",
            hint="Katib puts such values in as words: use letters, digits and . , : / @ % + = - _ alone.",
        )
    return f"{name}={text}"
