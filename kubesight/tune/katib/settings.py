"""What Katib's suggestion and early-stopping services accept (ValidateAlgorithmSettings of each, Katib 0.19).

Katib asks them only when their pods are up, and then says no more than "Suggestion has failed".
"""

import difflib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubesight.errors import JobError
from kubesight.job.yaml_lines import Keys
from kubesight.tune.katib.objects import Experiment, Parameter
from kubesight.tune.katib.source import Source

log = logging.getLogger("kubesight")


@dataclass(frozen=True)
class Setting:
    """One setting: a text that must parse and lie in a range.

    Attributes:
        parse: from text; raises a ValueError.
        accepts: of the parsed value.
        what: the accepted values, in words.
    """

    parse: Callable[[str], object]
    accepts: Callable[..., bool]
    what: str


def _choice(*values: str) -> Setting:
    return Setting(str, values.__contains__, f"one of {', '.join(values)}")


_SEED = Setting(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")
_NATURAL = Setting(int, lambda value: value >= 0, "a whole number, 0 or more")
_POSITIVE_INT = Setting(int, lambda value: value > 0, "a whole number above 0")
_POSITIVE = Setting(float, lambda value: 0 < value < math.inf, "a number above 0")
_SIGMA = Setting(float, lambda value: 0 <= value < math.inf, "a number, 0 or more")
_SHARE = Setting(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")
_TEXT = Setting(str, bool, "a text")

ALGORITHMS: Mapping[str, Mapping[str, Setting]] = {
    "random": {"random_state": _SEED},
    "tpe": {
        "gamma": Setting(float, lambda value: 0 < value < 1, "a number between 0 and 1"),
        "prior_weight": _POSITIVE,
        "n_EI_candidates": _POSITIVE_INT,
        "random_state": _SEED,
    },
    "grid": {"random_state": _SEED},
    "multivariate-tpe": {"n_startup_trials": _NATURAL, "n_ei_candidates": _NATURAL, "random_state": _SEED},
    "bayesianoptimization": {
        "base_estimator": _choice("GP", "RF", "ET", "GBRT"),
        "n_initial_points": _NATURAL,
        "acq_func": _choice("gp_hedge", "LCB", "EI", "PI", "EIps", "PIps"),
        "acq_optimizer": _choice("auto", "sampling", "lbfgs"),
        "random_state": _SEED,
    },
    "cmaes": {
        "random_state": _SEED,
        "sigma": _SIGMA,
        "restart_strategy": _choice("ipop", "bipop", "none", "None"),
    },
    "sobol": {},
    "hyperband": {"r_l": Setting(float, lambda v: 1 <= v < math.inf, "a number, 1 or more"), "resource_name": _TEXT}
    | {"eta": Setting(float, lambda value: 2 <= value < math.inf, "a number, 2 or more")},
    "pbt": {
        "suggestion_trial_dir": _TEXT,
        "n_population": Setting(int, lambda value: value >= 5, "a whole number, 5 or more"),
        "truncation_threshold": _SHARE,
    },
}
"""By algorithm of Katib's own configuration. A `resample_probability` of pbt is always refused by Katib 0.19."""

_REQUIRED = {
    "hyperband": ("r_l", "resource_name"),
    "pbt": ("suggestion_trial_dir", "n_population", "truncation_threshold"),
}
_MEDIANSTOP = {"min_trials_required": _POSITIVE_INT, "start_step": _POSITIVE_INT}
_OWN_SERVICES = ("bandit", "median", "truncation", "asha")
_WITHOUT_DISTRIBUTIONS = ("grid", "bayesianoptimization", "cmaes", "sobol", "hyperband", "pbt")
_ALGORITHM: Keys = ("spec", "algorithm")
_EARLY: Keys = ("spec", "earlyStopping")


def read_settings(source: Source, keys: Keys) -> tuple[str, dict[str, str]]:
    """The name and the settings of `spec.algorithm` or `spec.earlyStopping`."""
    name = source.get((*keys, "algorithmName"))
    if not name:
        raise source.error((*keys, "algorithmName"), "the algorithm needs a name")
    settings: dict[str, str] = {}
    for index, each in enumerate(source.get((*keys, "algorithmSettings")) or []):
        place: Keys = (*keys, "algorithmSettings", index)
        if not each.get("name") or each.get("value") is None:
            raise source.error(place, "a setting has name and value")
        if each["name"] in settings:
            raise source.error((*place, "name"), f"{each['name']} is given twice")
        settings[each["name"]] = each["value"]
    return name, settings


def check_algorithm(source: Source, experiment: Experiment) -> None:
    """Refuse an algorithm, a setting or a combination with parameters and counts that Katib's service would refuse.

    Raises:
        JobError: naming the setting or field.
    """
    name, settings = experiment.algorithm, experiment.settings
    if name in ("enas", "darts"):
        raise source.error((*_ALGORITHM, "algorithmName"), f"{name} searches architectures, not parameters")
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name, list(ALGORITHMS), 1)
        raise source.error(
            (*_ALGORITHM, "algorithmName"),
            f"Katib has no algorithm {name!r}",
            f"Did you mean {near[0]}?" if near else f"There are {', '.join(ALGORITHMS)}.",
        )
    _check_settings(source, _ALGORITHM, name, settings, ALGORITHMS[name])
    for required in _REQUIRED.get(name, ()):
        if required not in settings:
            raise source.error(_ALGORITHM, f"{name} needs the setting {required}")
    rule = _RULES.get(name)
    if rule:
        rule(source, experiment)
    for parameter in experiment.parameters:
        if parameter.distribution != "uniform" and name in _WITHOUT_DISTRIBUTIONS:
            log.warning(
                "On Katib, %s does not know the distribution %s of %s; here it does where it draws.",
                name,
                parameter.distribution,
                parameter.name,
            )


def check_early_stopping(source: Source, experiment: Experiment) -> None:
    """Refuse an early-stopping service, a setting, or a collector that evaluates no rules.

    Raises:
        JobError: naming the setting or field.
    """
    if experiment.early_stopping is None:
        return
    name, settings = experiment.early_stopping
    if name == "medianstop":
        _check_settings(source, _EARLY, name, settings, _MEDIANSTOP)
    elif name in _OWN_SERVICES:
        from kubesight.tune.katib.policies import policy_of

        try:
            policy_of(name, settings)
        except JobError as error:
            raise source.error(_EARLY, error.message, error.hint) from error
    else:
        services = ", ".join(("medianstop", *_OWN_SERVICES))
        raise source.error((*_EARLY, "algorithmName"), f"there is no service {name!r}", f"There are {services}.")
    if experiment.collector.kind not in ("StdOut", "File"):
        raise source.error(
            _EARLY,
            f"a {experiment.collector.kind} collector evaluates no early-stopping rules",
            "Collect from StdOut or a File.",
        )
    if not experiment.template.retain:
        log.warning(
            "With early stopping, Katib loses the metrics of stopped trials unless trialTemplate.retain is true."
        )


def _check_settings(
    source: Source, keys: Keys, algorithm: str, settings: Mapping[str, str], known: Mapping[str, Setting]
) -> None:
    for index, (name, text) in enumerate(settings.items()):
        place: Keys = (*keys, "algorithmSettings", index)
        if name not in known:
            near = difflib.get_close_matches(name, list(known), 1)
            there = f"There are {', '.join(known)}." if known else "It has none."
            hint = f"Did you mean {near[0]}?" if near else there
            raise source.error((*place, "name"), f"{algorithm} has no setting {name!r}", hint)
        setting = known[name]
        try:
            accepted = setting.accepts(setting.parse(text))
        except ValueError:
            accepted = False
        if not accepted:
            raise source.error((*place, "value"), f"{name} is {text!r}, not {setting.what}")


def _check_grid(source: Source, experiment: Experiment) -> None:
    for index, parameter in enumerate(experiment.parameters):
        if parameter.kind == "double" and parameter.step is None:
            raise source.error(
                ("spec", "parameters", index, "feasibleSpace"), "grid needs a step for a double", "Write step."
            )
    points = math.prod(grid_size(parameter) for parameter in experiment.parameters)
    if experiment.max_trials is not None and experiment.max_trials > points:
        raise source.error(
            ("spec", "maxTrialCount"), f"{experiment.max_trials} is more than the grid's {points} points"
        )


def grid_size(parameter: Parameter) -> int:
    """How many values a parameter with a list or a step has."""
    if parameter.low is None or parameter.high is None or parameter.step is None:
        return len(parameter.values)
    # As in `min + k * step`, where 0.1 + 2 * 0.1 must not miss 0.3.
    return math.floor((parameter.high - parameter.low) / parameter.step + 1e-9) + 1


def _check_multivariate_tpe(source: Source, experiment: Experiment) -> None:
    for index, parameter in enumerate(experiment.parameters):
        if parameter.distribution.lower().endswith("normal"):
            raise source.error(
                ("spec", "parameters", index, "feasibleSpace", "distribution"),
                f"Katib 0.19 drops a parameter with {parameter.distribution} from multivariate-tpe's trials",
                "Use tpe, or another distribution.",
            )


def _check_bayesian(source: Source, experiment: Experiment) -> None:
    for index, parameter in enumerate(experiment.parameters):
        if parameter.kind == "double" and parameter.low is not None and parameter.low <= 0:
            raise source.error(
                ("spec", "parameters", index, "feasibleSpace", "min"),
                f"Katib's bayesianoptimization takes every double by its logarithm: {parameter.low:g} has none",
                "Use tpe, or a min above 0.",
            )
        if parameter.kind == "double" and parameter.step is not None:
            log.warning("On Katib, bayesianoptimization ignores the step of %s; here it counts.", parameter.name)


def _check_cmaes(source: Source, experiment: Experiment) -> None:
    if sum(parameter.kind in ("double", "int") for parameter in experiment.parameters) < 2:
        raise source.error(
            ("spec", "parameters"), "cmaes needs two parameters of type int or double", "Use tpe or random."
        )


def _check_hyperband(source: Source, experiment: Experiment) -> None:
    name = experiment.settings["resource_name"]
    parameter = next((each for each in experiment.parameters if each.name == name), None)
    if parameter is None:
        raise source.error(_ALGORITHM, f"hyperband's resource_name, {name}, is no parameter")
    for index, each in enumerate(experiment.parameters):
        if each.kind == "discrete" and not all(value.lstrip("+-").isdigit() for value in each.values):
            raise source.error(
                ("spec", "parameters", index, "feasibleSpace", "list"),
                "Katib's hyperband takes whole numbers alone in a discrete list",
                "Use parameterType: categorical.",
            )
    if experiment.max_trials is None:
        raise source.error(("spec", "maxTrialCount"), "hyperband needs it: Katib does not end otherwise")
    eta = float(experiment.settings.get("eta", 3))
    # Katib takes the whole part of eta, and the whole part of the logarithm as floats have it.
    needed = math.ceil(int(eta) ** int(math.log(float(experiment.settings["r_l"])) / math.log(int(eta))))
    if experiment.parallel < needed:
        raise source.error(
            ("spec", "parallelTrialCount"), f"hyperband's brackets need {needed} trials at a time or more"
        )


_RULES: Mapping[str, Callable[[Source, Experiment], None]] = {
    "grid": _check_grid,
    "multivariate-tpe": _check_multivariate_tpe,
    "bayesianoptimization": _check_bayesian,
    "cmaes": _check_cmaes,
    "hyperband": _check_hyperband,
}
