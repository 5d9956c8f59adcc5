"""Trials drawn by Optuna from a model of what has been told: TPE, Gaussian processes, CMA-ES.

Optuna is given shares of the declared distributions (`kubesight.tune.sampling.quantiles`), so that `normal` and a step
count with every algorithm. Where this differs from Katib's services:

- `tpe` is Optuna's with one parameter at a time, Katib's is hyperopt's; `gamma` and `prior_weight` mean what they do
  there.
- `bayesianoptimization` is Optuna's Gaussian process (TPE where torch is not installed) and follows the declared
  distribution; Katib's skopt takes every double by its logarithm. Of its settings `n_initial_points` and `random_state`
  count here.
- `cmaes` is Optuna's; goptuna's restart strategies are not in it.
"""

import importlib.util
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import optuna

from kubesight.sweep.names import GROUP_PARAMETER
from kubesight.tune.katib.objects import Experiment, Parameter
from kubesight.tune.sampling.quantiles import quantile, share

if TYPE_CHECKING:
    from kubesight.tune.sampling.space import Observation, Space

log = logging.getLogger("kubesight")


class ModelSampler:
    """An Optuna study that is asked and told.

    Args:
        experiment: algorithm, settings and direction.
        space: its parameters.
        seed: of every draw.
        history: trials of earlier sweeps, all of this space.
    """

    def __init__(self, experiment: Experiment, space: "Space", seed: int, history: "Sequence[Observation]") -> None:
        """Make the study and tell it the history."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._trials: dict[int, optuna.Trial] = {}
        past = [self._past(observation) for observation in history]
        with warnings.catch_warnings():  # of options that are experimental or go with a later version
            warnings.simplefilter("ignore")
            sampler = _SAMPLERS[experiment.algorithm](dict(experiment.settings), seed, past)
            direction = (
                optuna.study.StudyDirection.MAXIMIZE if experiment.maximize else optuna.study.StudyDirection.MINIMIZE
            )
            self._study = optuna.create_study(direction=direction, sampler=sampler)
            self._study.add_trials(past)

    def ask(self, number: int) -> dict[str, str]:
        """Draw the parameters that count; the others are constants and unknown to the model."""
        trial = self._study.ask()
        self._trials[number] = trial
        values: dict[str, str] = {}
        for parameter in self._space.parameters:
            if not self._space.counts(parameter, values.get(GROUP_PARAMETER)):
                values[parameter.name] = quantile(parameter, 0.5)
            elif parameter.kind == "categorical":
                values[parameter.name] = trial.suggest_categorical(parameter.name, parameter.values)
            else:
                values[parameter.name] = quantile(parameter, trial.suggest_float(parameter.name, 0.0, 1.0))
        return values

    def tell(self, number: int, value: float | None) -> None:
        """The objective, or a failure, from which nothing is learnt."""
        trial = self._trials.pop(number)
        if value is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, value)

    def _past(self, observation: "Observation") -> optuna.trial.FrozenTrial:
        group = observation.assignments.get(GROUP_PARAMETER)
        counting = [parameter for parameter in self._space.parameters if self._space.counts(parameter, group)]
        return optuna.trial.create_trial(
            params={each.name: _coordinate(each, observation.assignments[each.name]) for each in counting},
            distributions={each.name: _distribution(each) for each in counting},
            value=observation.value,
        )


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    if parameter.kind == "categorical":
        return optuna.distributions.CategoricalDistribution(parameter.values)
    return optuna.distributions.FloatDistribution(0.0, 1.0)


def _coordinate(parameter: Parameter, text: str) -> str | float | None:
    return text if parameter.kind == "categorical" else share(parameter, text)


_Settings = dict[str, str]
_Past = Sequence[optuna.trial.FrozenTrial]


def _tpe(settings: _Settings, seed: int, past: _Past) -> optuna.samplers.BaseSampler:
    options: dict[str, Any] = {}
    if "n_EI_candidates" in settings:
        options["n_ei_candidates"] = int(settings["n_EI_candidates"])
    if "prior_weight" in settings:
        options["prior_weight"] = float(settings["prior_weight"])
    if "gamma" in settings:
        gamma = float(settings["gamma"])
        # hyperopt's share of good trials, which grows with the root of their number and stays below 25.
        options["gamma"] = lambda trials: min(math.ceil(gamma * math.sqrt(trials)), 25)
    return optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=True, **options)


def _multivariate_tpe(settings: _Settings, seed: int, past: _Past) -> optuna.samplers.BaseSampler:
    names = ("n_startup_trials", "n_ei_candidates")
    options: dict[str, Any] = {name: int(settings[name]) for name in names if name in settings}
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True, **options)


def _bayesian(settings: _Settings, seed: int, past: _Past) -> optuna.samplers.BaseSampler:
    startup = int(settings.get("n_initial_points", 10))
    ignored = sorted(set(settings) - {"n_initial_points", "random_state"})
    if ignored:
        log.warning("The settings %s of bayesianoptimization count on Katib alone.", ", ".join(ignored))
    if importlib.util.find_spec("torch") is None:
        log.warning("bayesianoptimization needs torch; without it, tpe draws the trials.")
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=startup, constant_liar=True)
    return optuna.samplers.GPSampler(
        seed=seed,
        n_startup_trials=startup,
        warn_independent_sampling=False,
        independent_sampler=optuna.samplers.RandomSampler(seed=seed),
    )


def _cmaes(settings: _Settings, seed: int, past: _Past) -> optuna.samplers.BaseSampler:
    if settings.get("restart_strategy", "none") not in ("none", "None"):
        log.warning("The setting restart_strategy of cmaes counts on Katib alone.")
    sigma = float(settings.get("sigma", 0)) or None
    warm = sigma is None and len(past) >= _CMAES_LEAST
    if past and not warm:
        log.warning("cmaes begins from earlier trials when there are %d and no sigma: not here.", _CMAES_LEAST)
    return optuna.samplers.CmaEsSampler(
        seed=seed,
        sigma0=sigma,
        warn_independent_sampling=False,
        source_trials=[_numbers(trial) for trial in past] if warm else None,
        independent_sampler=optuna.samplers.RandomSampler(seed=seed),
    )


_CMAES_LEAST = 10  # it begins from the best tenth of them


def _numbers(trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """The trial's numbers, which are all that CMA-ES knows."""
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: distribution
        for name, distribution in trial.distributions.items()
        if isinstance(distribution, optuna.distributions.FloatDistribution)
    }
    params = {name: trial.params[name] for name in distributions}
    return optuna.trial.create_trial(params=params, distributions=distributions, value=trial.value)


_SAMPLERS: Mapping[str, Callable[[_Settings, int, _Past], optuna.samplers.BaseSampler]] = {
    "tpe": _tpe,
    "multivariate-tpe": _multivariate_tpe,
    "bayesianoptimization": _bayesian,
    "cmaes": _cmaes,
}
