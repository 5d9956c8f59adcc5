"""Which commands a warm worker may run: those where a shell would do nothing but take the words apart."""

import json
import shlex
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.tune.trials.warm import warm_arguments

TELL = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"


def shells_words(arguments: str) -> list[str]:
    """What a real shell makes of the text behind the command's name."""
    done = subprocess.run(["sh", "-c", f"{TELL} {arguments}"], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["kubesight", "train", "--output", "a b; c"], ["train", "--output", "a b; c"]),
        (["kubesight"], []),
        (["sh", "-c", "kubesight train --learning-rate 0.01"], ["train", "--learning-rate", "0.01"]),
        (["/bin/bash", "-c", "  kubesight train\n"], ["train"]),
        (["sh", "-c", "kubesight train --a='x y' \"b c\"'d'e \\\n   --f ''"], ["train", "--a=x y", "b cde", "--f", ""]),
        (["sh", "-c", 'kubesight train --early-termination \'{"type": "bandit"}\''],
         ["train", "--early-termination", '{"type": "bandit"}']),
    ],
)  # fmt: skip
def test_plain_commands_are_taken(argv: list[str], expected: list[str]) -> None:
    assert warm_arguments(argv) == expected


@pytest.mark.parametrize(
    "text",
    [
        "kubesight train; rm -r x", "kubesight train | tee log", "kubesight train && echo", "kubesight train &",
        "kubesight train > log", "kubesight train 2>&1", "kubesight train < in", "kubesight train $HOME",
        'kubesight train "$HOME"', "kubesight train `pwd`", 'kubesight train "`pwd`"', "kubesight train\necho",
        "kubesight train a\\ b", 'kubesight train "a\\"b"', "kubesight train *.json", "kubesight train ?",
        "kubesight train ~/x", "kubesight train {a,b}", "kubesight train # note", "kubesight train 'a", "(kubesight)",
        "A=1 kubesight train", "exec kubesight train", "/usr/bin/kubesight train", "kubesights", "python x.py", "", " ",
        "kubesight train [a]", f"kubesight {'a' * 5000};",
    ],
)  # fmt: skip
def test_a_shell_keeps_what_only_a_shell_can_do(text: str) -> None:
    assert warm_arguments(["sh", "-c", text]) is None


@pytest.mark.parametrize(
    "argv",
    [
        [], ["python", "kubesight"], ["sh", "kubesight"], ["sh", "-c"], ["sh", "-c", "kubesight", "train"],
        ["sh", "-x", "kubesight train"], ["zsh", "-c", "kubesight train"], ["./kubesight"],
    ],
)  # fmt: skip
def test_other_commands_are_not_taken(argv: list[str]) -> None:
    assert warm_arguments(argv) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12), max_size=4)
)
def test_quoted_words_are_those_of_a_shell(words: list[str]) -> None:
    text = shlex.join(words)
    assert warm_arguments(["sh", "-c", f"kubesight {text}"]) == words
    assert shells_words(text) == words


@settings(max_examples=150, deadline=None)
@given(st.text("ab =,.-'\"\\\n$`;*~#{}!", max_size=10))
def test_whatever_is_taken_is_what_a_shell_makes_of_it(text: str) -> None:
    found = warm_arguments(["sh", "-c", f"kubesight {text}"])
    if found is not None:
        assert found == shells_words(text.strip())
