"""Hyperparameters as command-line flags: `--learning-rate 0.1 --number_of_epochs=3`."""

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
        if find(name).step == "split":
            raise HyperparameterError(
                f"{flag} has no effect on a training, which is given its parts",
                hint="Give it to `kubesight split --split-ratio`, or write validation_data_size in the job file.",
            )
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise HyperparameterError(f"{flag} has no value", hint=f"Write {flag} VALUE, or {flag}=VALUE.")
            value = rest.pop(0)
        if name in given:
            raise HyperparameterError(f"{flag} is given twice", hint="Keep one of them.")
        given[name] = value
    return given


def _raise_unknown(flag: str, name: str) -> None:
    try:
        find(name)
    except HyperparameterError as error:
        hint = error.hint or ""
        if hint.startswith("Did you mean "):
            hint = f"Did you mean --{hint.removeprefix('Did you mean ').replace('_', '-')}"
        raise HyperparameterError(f"unknown option {flag}", hint=hint) from None
