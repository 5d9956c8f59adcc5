"""A mapping in a file of the user's: its keys are checked, and unknown ones named."""

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


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
