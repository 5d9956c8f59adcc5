"""When a trial is ended early."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kubesight.section import Section


class Policy(Section):
    """When a policy is applied: at every multiple of `evaluation_interval` that is `delay_evaluation` or later."""

    evaluation_interval: int = Field(default=1, ge=1)
    delay_evaluation: int = Field(default=0, ge=0)


class Bandit(Policy):
    """Stop a trial whose metric is worse than the best one's by a factor or an amount."""

    type: Literal["bandit"]
    slack_factor: float | None = Field(default=None, gt=0)
    slack_amount: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_slack(self) -> Self:
        if (self.slack_factor is None) == (self.slack_amount is None):
            raise PydanticCustomError("slack", "bandit needs slack_factor or slack_amount, one of them", {})
        return self


class MedianStopping(Policy):
    """Stop a trial whose best metric is worse than the median of all trials' running averages."""

    type: Literal["median_stopping"]


class TruncationSelection(Policy):
    """Stop the worst share of the trials."""

    type: Literal["truncation_selection"]
    truncation_percentage: int = Field(ge=1, le=99)
    exclude_finished_jobs: bool = False


AnyPolicy = Annotated[Bandit | MedianStopping | TruncationSelection, Field(discriminator="type")]
"""Any of the policies, told apart by `type`."""
