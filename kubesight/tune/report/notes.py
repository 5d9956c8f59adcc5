"""What a reader of a sweep should doubt, in words."""

import math
from collections.abc import Sequence

from kubesight.report.page import number, plural
from kubesight.tune.report.importance import LEAST_TRIALS
from kubesight.tune.report.settings import Setting
from kubesight.tune.report.sweep import SweepRecord

_FEW_PER_SETTING = 10
_EDGE = 0.05
_TIED = 0.01

Note = tuple[str, str]


def doubts(sweep: SweepRecord) -> list[Note]:
    """Remarks on how far the result can be trusted, and what to try next: a short name and a sentence each."""
    found = [*_unfinished(sweep)]
    if sweep.best is None:
        return found
    found.append(
        (
            "Chosen on the validation part",
            f"The best of {plural(_scored(sweep), 'value')} was picked on the very data that gave it, so it is "
            "optimistic, the more so the more trials there were. Evaluate the best model on a test part that no trial "
            "has seen before reporting a number.",
        )
    )
    return [*found, *_few(sweep), *_ties(sweep), *_edges(sweep), *_still_rising(sweep), *_stopped(sweep)]


def _scored(sweep: SweepRecord) -> int:
    return sum(trial.value is not None for trial in sweep.trials)


def _unfinished(sweep: SweepRecord) -> list[Note]:
    condition, reason = sweep.state
    running = sweep.counts["Running"] + sweep.counts["Created"]
    if condition == "Failed":
        return [("The sweep failed", f"{reason or 'No reason is known'}. What had ended before is kept below.")]
    if running or condition not in ("Succeeded", ""):
        return [("Not finished", f"{plural(running, 'trial')} had not ended when this page was written.")]
    return []


def _few(sweep: SweepRecord) -> list[Note]:
    scored, settings = _scored(sweep), len(sweep.swept)
    if scored < LEAST_TRIALS:
        return [
            (
                "Very few trials",
                f"{plural(scored, 'trial')} with a value say little about {plural(settings, 'setting')}: take the best "
                "one as a start, not as an optimum.",
            )
        ]
    if scored < _FEW_PER_SETTING * settings:
        return [
            (
                "Few trials",
                f"{scored} values for {plural(settings, 'setting')}, fewer than {_FEW_PER_SETTING} each: large parts "
                "of the space have not been looked at, and the importance of settings is rough.",
            )
        ]
    return []


def _ties(sweep: SweepRecord) -> list[Note]:
    """Trials so near the best that another seed might put them first."""
    best = sweep.best
    assert best is not None
    assert best.value is not None
    values = [trial.value for trial in sweep.trials if trial.value is not None]
    room = _TIED * max(abs(best.value), 1e-12)
    near = sum(abs(value - best.value) <= room for value in values) - 1
    if near < 1 or len(values) < 3:
        return []
    return [
        (
            "Near ties",
            f"{plural(near, 'other trial')} came within {_TIED:.0%} of the best value. One training each does not tell "
            "them apart: another random seed may change their order.",
        )
    ]


def _edges(sweep: SweepRecord) -> list[Note]:
    """Settings whose best value lies at an end of their range."""
    assert sweep.best is not None
    index = sweep.trials.index(sweep.best)
    found = []
    for setting in sweep.swept:
        value = sweep.column(setting)[index]
        if isinstance(value, str) or value is None:
            continue
        if side := _side(setting, sweep.trials[index].assignments, value):
            found.append(f"{setting.name} = {number(value)} ({side} end)")
    if not found:
        return []
    return [
        (
            "At the edge",
            f"The best trial lies within {_EDGE:.0%} of an end of its range in {', '.join(found)}. A wider range may "
            "hold better values.",
        )
    ]


def _side(setting: Setting, assignments: dict[str, str], value: float) -> str:
    for parameter in setting.parameters:
        if parameter.low is None or parameter.high is None or parameter.step or parameter.name not in assignments:
            continue
        low, high, here = parameter.low, parameter.high, float(assignments[parameter.name])
        if setting.log and low > 0 and here > 0:
            low, high, here = math.log(low), math.log(high), math.log(here)
        place = (here - low) / (high - low) if high > low else 0.5
        # A parameter that is one minus the setting runs the other way.
        place = place if math.isclose(float(assignments[parameter.name]), value, rel_tol=1e-6) else 1 - place
        if place < _EDGE or place > 1 - _EDGE:
            return "lower" if place < _EDGE else "upper"
    return ""


def _still_rising(sweep: SweepRecord) -> list[Note]:
    best = sweep.best
    assert best is not None
    if len(best.curve) < 3 or best.condition != "Succeeded":
        return []
    top = (max if sweep.experiment.maximize else min)(best.curve)
    if best.curve.index(top) + 1 < len(best.curve):
        return []
    return [
        (
            "Still improving",
            f"The best trial's best report was its last ({len(best.curve)}): more epochs may give more.",
        )
    ]


def _stopped(sweep: SweepRecord) -> list[Note]:
    stopped = [trial for trial in sweep.trials if trial.condition == "EarlyStopped"]
    if not stopped:
        return []
    return [
        (
            "Stopped trials",
            f"{plural(len(stopped), 'value')} {_are(stopped)} of trials that were stopped early: what they had reached "
            "by then. Some might have come out well.",
        )
    ]


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"
