"""A mapping in a file of the user's: its keys are checked, and what is wrong is said in this project's words."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kubesight.errors import JobError

Keys = tuple[int | str, ...]
"""The way to a value: keys of mappings and places in lists."""


class Section(BaseModel):
    """A mapping of the job file. Keys that it does not know are errors; a key without a value is not given.

    Attributes:
        elsewhere: keys that people look for here, and where they are.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())
    elsewhere: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
                raise PydanticCustomError(
                    "unknown_key", "unknown key '{key}'", {"key": key, "hint": cls.hint_for(str(key)) or hint}
                )
        return {key: each for key, each in value.items() if each is not None}

    @classmethod
    def hint_for(cls, key: str) -> str | None:
        """Where a key that does not belong here does belong."""
        return cls.elsewhere.get(key)


def problem(error: ValidationError, value: Mapping[str, Any], place: Callable[[Keys], str | None]) -> JobError:
    """The first thing that pydantic found, in this project's words.

    Args:
        error: what pydantic raised.
        value: what it validated.
        place: where a key is written, such as its line.
    """
    found = error.errors(include_url=False)
    first = found[0]
    context = first.get("ctx", {})
    keys = _real_keys(first["loc"], value, missing=first["type"] == "missing")
    if "key" in context:
        keys = (*keys, context["key"])
    name = ".".join(map(str, keys))
    if first["type"] == "missing":
        message = f"{name} is missing"
    elif first["msg"].startswith("Input should be"):
        message = f"{name} is {_shown(first['input'])}, but must be{first['msg'].removeprefix('Input should be')}"
        message = re.sub("a valid dictionary.*", "a mapping of keys to values", message)
        message = message.replace("a valid list", "a list of mappings")
    elif first["type"] == "union_tag_invalid":
        message = f"{name}.type is {context['tag']!r}, but must be one of {context['expected_tags']}"
        keys = (*keys, "type")
    elif first["type"] == "union_tag_not_found":
        message = f"{name}.type is missing"
    elif first["type"] == "unknown_key":
        message = first["msg"] if len(keys) == 1 else f"{first['msg']} in {'.'.join(map(str, keys[:-1]))}"
    else:
        message = f"{name}: {first['msg']}" if name else first["msg"]
    if len(found) > 1:
        message += f" (and {len(found) - 1} more)"
    return JobError(message, where=place(keys), hint=context.get("hint"))


def _real_keys(loc: tuple[int | str, ...], value: Any, *, missing: bool) -> Keys:
    """The parts of pydantic's location that the file has; it also names the members of unions."""
    keys: list[int | str] = []
    for part in loc[:-1] if missing else loc:
        if (isinstance(value, Mapping) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            keys.append(part)
            value = value[part]  # type: ignore[index]
    return (*keys, loc[-1]) if missing else tuple(keys)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
