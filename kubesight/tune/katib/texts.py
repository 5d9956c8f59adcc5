"""Values as texts that reach `kubesight train` whole: through Katib's substitution, Kubernetes and a shell."""

import json
import re
import shlex
from decimal import Decimal
from typing import Any

from kubesight.errors import JobError

_BREAKS_JSON = re.compile(r"[\"\\\x00-\x1f]")


def text_of(value: Any) -> str:
    """A setting's value as its flag takes it; reading it again gives an equal value.

    `true`, `0.001`, `0.5,0.5,0.5`, `3x2`, `{"stream_image_files":true}`, `none`.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list | tuple):
        return ",".join(map(text_of, value))
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else str(value)


def number(value: int | float | Decimal) -> str:
    """A number without loss and without exponent: `0.00001`, not `1e-05`, which people misread and filters cut."""
    return str(value) if isinstance(value, int) else format(Decimal(str(value)), "f")


def constant(text: str) -> str:
    """A text of the user's within a pod's command.

    A shell reads the command, and before it Kubernetes, to which `$$` is a dollar and `$(NAME)` a variable.

    Raises:
        JobError: the text has what Katib would take for a parameter.
    """
    if "${trialParameters." in text:
        raise JobError(f"{text!r} holds a placeholder of Katib's", hint="Name it otherwise.")
    return shlex.quote(text.replace("$", "$$"))


def check_substitutable(name: str, text: str) -> None:
    """Refuse what Katib cannot put in for a parameter: it replaces text within JSON, which a shell then reads.

    Raises:
        JobError: naming the setting.
    """
    if _BREAKS_JSON.search(text) or "'" in text or "$" in text:
        raise JobError(
            f"{name} cannot vary over {text!r}",
            where="search_space",
            hint="Katib puts values into the trial as plain text: use none with quotes, $, backslashes or line ends.",
        )
