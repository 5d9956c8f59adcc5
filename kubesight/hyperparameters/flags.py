"""Hyperparameters as command-line flags: `--learning-rate 0.1 --number_of_epochs=3`, and alternatives to them."""

import shlex
from collections.abc import Sequence

from kubesight.errors import HyperparameterError
from kubesight.hyperparameters.table import canonical_spelling, find, is_known


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Read flags into names and raw values, which `resolve` then checks.

    Args:
        arguments: what is left of a command line: `--name value` or `--name=value`; dashes and underscores are alike.

    Returns:
        Names with underscores, as written otherwise, to values as text.

    Raises:
        HyperparameterError: something that is no flag, an unknown one, one without a value, one given twice, or one
            that another command uses.
    """
    given: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        flag, has_value, value = rest.pop(0).partition("=")
        if not flag.startswith("--") or flag == "--":
            raise HyperparameterError(f"unexpected argument {flag!r}", hint="Write hyperparameters as --name value.")
        name = canonical_spelling(flag[2:])
        if not is_known(name):
            _raise_unknown(flag, name)
        _check_step(name, flag)
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise HyperparameterError(f"{flag} has no value", hint=f"Write {flag} VALUE, or {flag}=VALUE.")
            value = rest.pop(0)
        if name in given:
            raise HyperparameterError(f"{flag} is given twice", hint="Keep one of them.")
        given[name] = value
    return given


def chosen_settings(
    flags: Sequence[str], alternatives: Sequence[str], choose: int | None, *, model_name: str | None = None
) -> tuple[str, dict[str, str]]:
    """The settings of one training, some of them as flags and some in one of several alternatives.

    Katib's search spaces are flat: each trial of a conditional space is given the values of all groups, each group's as
    one alternative, and which of them counts. The others are not looked at.

    Args:
        flags: as `parse_flags` takes them.
        alternatives: texts such as `model_name=seresnext learning_rate=0.01`, quoted as in a shell where needed.
        choose: which of them counts, from 0; None is the first.
        model_name: the model, where it is given apart.

    Returns:
        The model's name, and names with underscores, as written otherwise, to values as text.

    Raises:
        HyperparameterError: as in `parse_flags`; there is no such alternative, a setting is given both ways, or no
            model is named.
    """
    given = parse_flags(flags)
    sources = {find(name).name: f"--{name.replace('_', '-')}" for name in given}
    if model_name is not None:
        sources["model_name"] = "--model-name"
    for name, value in _alternative(alternatives, choose).items():
        if (flag := sources.get(find(name).name)) is not None:
            raise HyperparameterError(
                f"{name} is given by the alternative, and by {flag} too",
                where="--alternative",
                hint="Keep one of them.",
            )
        given[name] = value
    named = [name for name in given if find(name).name == "model_name"]
    if model_name is None:
        if not named:
            raise HyperparameterError(
                "no model is named", hint="Give --model-name NAME; `kubesight models` lists the names."
            )
        model_name = given.pop(named[0])
    return model_name, given


def _alternative(alternatives: Sequence[str], choose: int | None) -> dict[str, str]:
    """The settings of the chosen alternative."""
    if choose is not None and choose not in range(len(alternatives)):
        there = f"there are {len(alternatives)}, counted from 0" if alternatives else "no --alternative is given"
        raise HyperparameterError(f"--choose is {choose}, but {there}", where="--choose")
    if not alternatives:
        return {}
    text = alternatives[choose or 0]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise HyperparameterError(f"{text!r} cannot be split into words: {error}", where="--alternative") from None
    given: dict[str, str] = {}
    written: dict[str, str] = {}
    for word in words:
        spelling, equals, value = word.partition("=")
        if not equals or not spelling:
            raise HyperparameterError(f"{word!r} is not NAME=VALUE", where="--alternative")
        row = find(spelling, place="--alternative")
        _check_step(row.name, spelling)
        if row.name in written:
            also = f", as {written[row.name]} and as {spelling}" if written[row.name] != spelling else ""
            raise HyperparameterError(
                f"{row.name} is given twice{also}", where="--alternative", hint="Keep one of them."
            )
        written[row.name] = spelling
        given[canonical_spelling(spelling)] = value
    return given


def _check_step(name: str, written: str) -> None:
    if find(name).step == "split":
        raise HyperparameterError(
            f"{written} has no effect on a training, which is given its parts",
            hint="Give it to `kubesight split --split-ratio`, or write validation_data_size in the job file.",
        )


def _raise_unknown(flag: str, name: str) -> None:
    try:
        find(name)
    except HyperparameterError as error:
        hint = error.hint or ""
        if hint.startswith("Did you mean "):
            hint = f"Did you mean --{hint.removeprefix('Did you mean ').replace('_', '-')}"
        raise HyperparameterError(f"unknown option {flag}", hint=hint) from None
