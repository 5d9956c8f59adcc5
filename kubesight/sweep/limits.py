"""How much a sweep may spend."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kubesight.section import Section


class Limits(Section):
    """How much a sweep may spend; the ranges and defaults are Azure's (timeouts in minutes, up to 60 days)."""

    timeout_minutes: int = Field(default=7 * 24 * 60, ge=1, le=60 * 24 * 60)
    trial_timeout_minutes: int | None = Field(default=None, ge=1, le=60 * 24 * 60)
    max_trials: int = Field(default=1, ge=1, le=1000)
    max_concurrent_trials: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _concurrent_in_all(self) -> Self:
        if self.max_concurrent_trials > self.max_trials:
            raise PydanticCustomError(
                "contradiction",
                "max_concurrent_trials {some} is more than max_trials {all}",
                {
                    "some": self.max_concurrent_trials,
                    "all": self.max_trials,
                    "key": "max_concurrent_trials",
                    "hint": "Raise max_trials, or lower it.",
                },
            )
        return self
