"""How trials are drawn from the space."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kubesight.section import Section


class Sampling(Section):
    """How values are drawn from the search space."""

    type: Literal["random", "grid", "bayesian", "hyperband"] = "random"
    seed: int | None = Field(default=None, ge=0)
    rule: Literal["random", "sobol"] | None = None
    logbase: float | Literal["e"] | None = None

    @model_validator(mode="after")
    def _rule_of_random(self) -> Self:
        if self.type != "random" and (self.rule or self.logbase):
            raise PydanticCustomError("contradiction", "rule and logbase are for random sampling alone", {})
        return self
