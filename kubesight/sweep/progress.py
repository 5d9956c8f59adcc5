"""Whether a sweep still gets better: the rules that Katib has no field for."""

from collections.abc import Sequence

CONVERGENCE_WINDOW = 10
"""Ended trials over which improvement is looked at; SageMaker does not say how many it takes."""

CONVERGENCE_GAIN = 0.01
"""Improvement over the window that is insignificant, as a share of the best before it (SageMaker: 1 % or less)."""


def stalled(
    values: Sequence[float | None],
    *,
    maximize: bool,
    no_improvement_trials: int | None = None,
    convergence: bool = False,
) -> str | None:
    """Why a sweep should end now, or None when it should go on.

    Args:
        values: the objective of every ended trial in the order they ended; None for one that has none. A trial
            without a value has not improved anything.
        maximize: whether greater is better.
        no_improvement_trials: end when so many trials in a row were not better than the best before them.
        convergence: end when the last 10 trials together improved the best by 1 % or less.
    """
    best, since = _best_and_since(values, maximize)
    if no_improvement_trials is not None and since >= no_improvement_trials:
        return f"no improvement in {since} trials"
    before, _ = _best_and_since(values[:-CONVERGENCE_WINDOW], maximize)
    if convergence and best is not None and before is not None:
        gain = abs(best - before)
        if gain <= CONVERGENCE_GAIN * abs(before):
            return f"converged: the last {CONVERGENCE_WINDOW} trials improved the best by {gain:.2g}"
    return None


def _best_and_since(values: Sequence[float | None], maximize: bool) -> tuple[float | None, int]:
    """The best value, and how many trials ended after the one that has it."""
    best, since = None, 0
    for value in values:
        since += 1
        if value is not None and (best is None or (value > best if maximize else value < best)):
            best, since = value, 0
    return best, since
