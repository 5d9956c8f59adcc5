"""The folder that a trial's training writes to: its own, unless its command says otherwise."""

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from kubesight.tune.trials.paths import script_index

_OPTION = "--output"
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
            named = _named(words[place + 1 :])
            return cwd / named if named and "$" not in named and "`" not in named else folder
    return folder


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


def _named(words: Sequence[str]) -> str | None:
    """What follows `--output`, up to the end of this command; the last one counts, as in the command line itself."""
    found = None
    for place, word in enumerate(words):
        if word and set(word) <= set(_ENDS):
            break
        if word.startswith(f"{_OPTION}="):
            found = word.removeprefix(f"{_OPTION}=")
        elif word == _OPTION and place + 1 < len(words):
            found = words[place + 1]
    return found
