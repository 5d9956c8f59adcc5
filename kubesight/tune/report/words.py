"""How trials and numbers are told, on the page and in the terminal."""

import math

WORDS = {
    "Succeeded": "succeeded",
    "EarlyStopped": "stopped early",
    "Failed": "failed",
    "MetricsUnavailable": "without metrics",
    "Killed": "killed",
    "Running": "running",
    "Created": "waiting",
}
"""A trial's condition as a reader says it."""


def duration(seconds: float) -> str:
    """`4.5 s`, `45 s`, `12m 5s`, `3h 20m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(0.0, seconds):.1f} s" if seconds < 9.95 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m {rest}s" if minutes < 60 else f"{minutes // 60:,}h {minutes % 60}m"


def short(value: str) -> str:
    """A number of many digits with four; anything else unchanged."""
    try:
        return f"{float(value):.4g}" if len(value) > 6 and math.isfinite(float(value)) else value
    except ValueError:
        return value
