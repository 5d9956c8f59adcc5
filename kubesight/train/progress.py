"""How far a training has come, and what its folder of checkpoints holds, whatever framework trains."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubesight.errors import ModelError

CHECKPOINT_FOLDER = "checkpoints"
BEST_FILE = "best.safetensors"


@dataclass
class Progress:
    """How far training has come, in numbers.

    `epoch` counts finished epochs; `step` the mini-batches done in the running one (as many as an epoch has while its
    validation is due). `loss_sum` and `samples` make the running epoch's mean training loss, `right` and `samples` its
    training accuracy, where an engine counts what is predicted right. `stopping_score` is what an evaluation must
    exceed, by `early_stopping_min_delta`, to count as an improvement. `stopped_early` says that the training's own
    patience has ended it, `termination` which decision of a sweep's policy has. Random numbers need no state of their
    own: all are drawn from (seed, epoch, step or picture), and so is the sampler's order.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    right: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    stopping_score: float | None = None
    no_improvement: int = 0
    stopped_early: bool = False
    termination: dict[str, Any] | None = None
    batch_parts: int = 1
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Checkpoints from before there was a least improvement hold the best score alone."""
        if self.stopping_score is None:
            self.stopping_score = self.best_score

    def next_epoch(self) -> None:
        """The running epoch is done."""
        self.epoch += 1
        self.step, self.loss_sum, self.samples, self.right = 0, 0.0, 0, 0


def difference(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that differ, as `name: was X, now Y`; empty when none does."""
    names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    return "; ".join(f"{name}: was {earlier.get(name)!r}, now {now.get(name)!r}" for name in names)


def check_resumable(path: Path, earlier: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint of a training with other settings.

    Args:
        path: the checkpoint.
        earlier: its fingerprint.
        now: the fingerprint of the training that would go on from it.

    Raises:
        ModelError: they differ; the settings are named.
    """
    if differing := difference(earlier, now):
        raise ModelError(
            f"the checkpoint here belongs to a training with other settings ({differing})",
            where=str(path),
            hint="Name another --output, or remove that folder to start over.",
        )
