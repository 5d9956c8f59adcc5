"""What a trial's command says of its training: where it writes, and which framework trains."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from kubesight.errors import KubesightError
from kubesight.hyperparameters.table import find
from kubesight.models.names import find_model
from kubesight.tune.trials.paths import script_index

_MODULE = "kubesight.cli.main"
_ENDS = ";|&()<>"


def output_of(argv: Sequence[str], cwd: Path, folder: Path) -> Path:
    """Where `kubesight train` writes, when that is what a trial runs.

    Args:
        argv: the trial's command with this machine's paths; `kubesight train ...` alone, or inside a shell's text.
        cwd: the folder that it runs in.
        folder: the trial's own.

    Returns:
        what `--output` names; `folder` when it is another program, or when only a shell could tell (variables).
    """
    words = _words(argv)
    for place in range(1, len(words)):
        if words[place] == "train" and _is_ours(words[place - 1]):
            named = dict(_options(words[place + 1 :])).get("--output")  # the last one counts
            return cwd / named if named and "$" not in named and "`" not in named else folder
    return folder


def framework_of(arguments: Sequence[str]) -> str:
    """What trains the model that `kubesight ARGUMENTS` names: `torch` or `tensorflow`; torch where it names none.

    Args:
        arguments: `train ...`; the model is named by its flag, or in the `--alternative` that `--choose` takes.
    """
    named, alternatives, chosen = "", [], "0"
    for option, value in _options(arguments):
        if option == "--alternative":
            alternatives.append(value)
        elif option == "--choose":
            chosen = value
        elif _is_model_name(option.removeprefix("--")):
            named = value
    with suppress(ValueError, IndexError):
        for word in shlex.split(alternatives[int(chosen)]):
            name, _, value = word.partition("=")
            named = value if _is_model_name(name) else named
    with suppress(KubesightError):
        return find_model(named).framework
    return "torch"


def _is_model_name(name: str) -> bool:
    with suppress(KubesightError):
        return find(name).name == "model_name"
    return False


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options and their values, `--name=value` or `--name value`, up to the end of the command."""
    for place, word in enumerate(words):
        if word and set(word) <= set(_ENDS):
            return
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            yield option, value if equals else next(iter(words[place + 1 :]), "")


def _is_ours(word: str) -> bool:
    return word == _MODULE or PurePosixPath(word).name == "kubesight"


def _words(argv: Sequence[str]) -> list[str]:
    """The command's words, those of a shell's text taken apart; signs between commands are words of their own."""
    script = script_index(tuple(argv))
    if script is None:
        return list(argv)
    text = argv[script].replace("\\\n", " ").replace("\n", " ; ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_ENDS)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:  # quotes that do not end
        return []
