"""How trials are drawn from the space."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kubesight.section import Section

_FOR: dict[str, tuple[str, ...]] = {
    "rule": ("random",),
    "logbase": ("random",),
    "multivariate": ("bayesian", "tpe"),
    "n_startup_trials": ("bayesian", "tpe"),
    "n_ei_candidates": ("bayesian", "tpe"),
    "gamma": ("bayesian", "tpe"),
    "prior_weight": ("bayesian", "tpe"),
    "sigma": ("cmaes",),
    "restart_strategy": ("cmaes",),
    "max_resource": ("hyperband",),
    "min_resource": ("hyperband",),
    "reduction_factor": ("hyperband",),
}
"""The types that each setting is for; the others would ignore it."""


class Sampling(Section):
    """How values are drawn from the search space.

    Attributes:
        type: `random`; `grid`, each combination of lists once; `bayesian`, which is `tpe`, a tree of Parzen estimators
            (unlike Azure's it takes any distribution and conditional spaces); `cmaes`, covariance matrix adaptation;
            `hyperband`, which gives the best of many short trainings more epochs.
        seed: of everything that is drawn.
        rule: `sobol` draws the points of a Sobol sequence instead of random ones.
        logbase: the base that the ends of loguniform and lognormal are logarithms to (10, or e, which is the default).
        multivariate: draw settings together and not each by itself; not with normal distributions.
        n_startup_trials: random trials before the first that learns; for multivariate alone, as in Katib.
        n_ei_candidates: draws among which expected improvement chooses.
        gamma: the share of trials that counts as good; not for multivariate, as in Katib.
        prior_weight: weight of the space itself beside the trials; likewise.
        sigma: the first spread of cmaes, as a share of each range.
        restart_strategy: what cmaes does when it is stuck.
        max_resource: the epochs of the longest trials of hyperband; none: the number of epochs of the job.
        min_resource: the epochs of its shortest; none: what `reduction_factor` leaves of `max_resource`, 1 or more.
        reduction_factor: one in so many trials goes on, with so many times the epochs.
    """

    type: Literal["random", "grid", "bayesian", "tpe", "cmaes", "hyperband"] = "random"
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    rule: Literal["random", "sobol"] | None = None
    logbase: Annotated[float, Field(gt=1, allow_inf_nan=False)] | Literal["e"] | None = None
    multivariate: bool | None = None
    n_startup_trials: int | None = Field(default=None, ge=0)
    n_ei_candidates: int | None = Field(default=None, ge=1)
    gamma: float | None = Field(default=None, gt=0, lt=1)
    prior_weight: float | None = Field(default=None, gt=0)
    sigma: float | None = Field(default=None, gt=0)
    restart_strategy: Literal["ipop", "bipop", "none"] | None = None
    max_resource: int | None = Field(default=None, ge=2)
    min_resource: int | None = Field(default=None, ge=1)
    reduction_factor: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _settings_of_the_type(self) -> Self:
        for name, types in _FOR.items():
            if getattr(self, name) is not None and self.type not in types:
                raise PydanticCustomError(
                    "contradiction",
                    "{key} is for {types} sampling alone, not for {type}",
                    {"key": name, "types": " and ".join(types), "type": self.type, "hint": "Remove it."},
                )
        for name, wanted in (("n_startup_trials", True), ("gamma", False), ("prior_weight", False)):
            if getattr(self, name) is not None and bool(self.multivariate) is not wanted:
                raise PydanticCustomError(
                    "contradiction",
                    "Katib has {key} for {kind} sampling alone",
                    {
                        "key": name,
                        "kind": "multivariate" if wanted else "univariate",
                        "hint": "Add `multivariate: true`." if wanted else "Remove it, or multivariate.",
                    },
                )
        return self
