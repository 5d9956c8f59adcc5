"""The loop over epochs that every engine shares: judging, stopping, telling, and when to write a checkpoint."""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kubesight.errors import DatasetError, ModelError
from kubesight.storage.files import remove_partials
from kubesight.sweep.curves import HISTORY_FILE, curve_of
from kubesight.sweep.names import STOP_METRIC
from kubesight.train.early_termination import EarlyTermination
from kubesight.train.metric_log import MetricLog
from kubesight.train.progress import BEST_FILE, CHECKPOINT_FOLDER, Progress
from kubesight.train.stop import Interrupted, StopSignal

log = logging.getLogger("kubesight")

# Within an epoch a checkpoint is written this often; between epochs, unless the last one is younger than that. Epochs
# on cached features take milliseconds, and a flush to disk takes as long.
SECONDS_BETWEEN_CHECKPOINTS = 600.0
SECONDS_BETWEEN_EPOCH_CHECKPOINTS = 0.5


class Loop(ABC):
    """Trains epoch by epoch, and can go on after any interruption.

    An engine of a framework brings `_train_epoch`, `_validate`, `_save_weights`, `_save_state` and `_learning_rate`,
    and calls `_begin` once it has read its checkpoint.

    Attributes:
        settings: the resolved hyperparameters.
        checkpoints: the folder of weights and checkpoint.
        progress: how far training has come.
        seed: `random_seed`.
        primary_metric: what decides which epoch is best; greater is better.
        stop: whether SIGTERM has come; there while `fit` runs and after it.

    Args:
        settings: the resolved hyperparameters.
        output: where `checkpoints/` and `metrics.jsonl` are kept.
        primary_metric: a name that `_validate` gives a value for.
        is_main: whether this process writes files and metric lines.
        processes: how many processes train together; each counts its own samples.
        metrics_file: where metric lines go; None is standard output.
        termination: the sweep's policy, asked after each evaluation unless training ends there anyway.
    """

    stop: StopSignal

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        output: Path,
        primary_metric: str,
        is_main: bool = True,
        processes: int = 1,
        metrics_file: Path | None = None,
        termination: EarlyTermination | None = None,
    ) -> None:
        """Remember these, and remove what a killed process left half-written."""
        self.settings, self.primary_metric = settings, primary_metric
        self.is_main, self.processes = is_main, processes
        self.checkpoints = output / CHECKPOINT_FOLDER
        self.seed: int = settings["random_seed"]
        self.termination = termination
        self.progress = Progress()
        self._files = output / HISTORY_FILE, metrics_file
        self._log: MetricLog | None = None
        self._saved_at = time.monotonic()
        if is_main:
            remove_partials(self.checkpoints)

    @abstractmethod
    def _train_epoch(self) -> None:
        """Train from `progress.step` to the epoch's end.

        It adds to `progress.loss_sum`, `samples` and `step`. After each step it raises `Interrupted` when
        `self._any(self.stop.asked)`, and saves when `self._is_due(SECONDS_BETWEEN_CHECKPOINTS)`.
        """

    @abstractmethod
    def _validate(self) -> dict[str, float]:
        """All metrics of the validation part, the same in every process."""

    @abstractmethod
    def _save_weights(self, name: str) -> None:
        """Write what was just validated as `checkpoints/NAME`; called in the main process."""

    @abstractmethod
    def _save_state(self) -> None:
        """Write the checkpoint, atomically; called in the main process."""

    @abstractmethod
    def _learning_rate(self) -> float:
        """The learning rate of the last step."""

    def _score(self, metrics: dict[str, float]) -> float | None:
        """What decides which epoch is best, greater is better; None when it is undefined."""
        return metrics.get(self.primary_metric)

    def _trained(self) -> dict[str, float]:
        """What the running epoch's training has measured."""
        return {"training_loss": self.progress.loss_sum / max(1, self.progress.samples)}

    def _sentence(self, metrics: dict[str, float], score: float, speed: dict[str, float]) -> str:
        """An evaluation, told to people.

        Args:
            metrics: those of the validation part, what `_trained` says, and `learning_rate`.
            score: the primary metric.
            speed: `seconds` of the epoch's training, and `images_per_second`.
        """
        said = (
            f"epoch {self.progress.epoch}: {self.primary_metric} {score:.4f}, "
            f"training loss {metrics['training_loss']:.4f}, {speed['images_per_second']:.1f} images/s"
        )
        if self.progress.stopped_early:
            said += f"; no improvement for {self.progress.no_improvement} evaluations, stopping"
        return said

    def _divergence(self, loss: float, names: Sequence[str]) -> ModelError:
        """The error of a training loss that is no number. It is raised before anything of its step is kept.

        Args:
            loss: of a step.
            names: the addresses of the step's pictures.
        """
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return ModelError(
            f"the training loss became {loss} in epoch {self.progress.epoch}, in the batch of "
            f"{', '.join(names[:8])}{more}",
            hint="Lower learning_rate, set gradient_clip_norm, or look at the labels of these pictures. The weights "
            "from before this batch are as they were: the last checkpoint and the best epoch's stay good.",
        )

    def _any(self, flag: bool) -> bool:
        """Whether `flag` holds in some of the processes that train together."""
        return flag

    def _agree(self, value: Any) -> Any:
        """The main process's `value`, given to all of them."""
        return value

    def _barrier(self) -> None:  # noqa: B027 - alone there is nobody to wait for
        """Wait until all of them are here."""

    def _begin(self, found: Progress | None) -> None:
        """Go on from a checkpoint's progress, or start; either way the histories hold what it says, and no more."""
        if found is not None:
            self.progress = found
            log.info("going on from the checkpoint: epoch %d, step %d", found.epoch, found.step)
        if self.is_main:
            self._log = MetricLog(*self._files, self.progress.history)

    def fit(self) -> Progress:
        """Train to the last epoch, to early stopping, or to where the sweep's policy ends it.

        Returns:
            how it went; the best epoch's weights are in `checkpoints/best.safetensors`.

        Raises:
            Interrupted: SIGTERM came; a checkpoint was written.
            DatasetError: a picture cannot be read; a checkpoint was written.
            ModelError: the loss is no number any more, or the device's memory does not hold one picture.
        """
        with StopSignal() as self.stop:
            try:
                while self.progress.epoch < self.settings["number_of_epochs"] and not self._is_ended:
                    self._run_epoch()
            except (Interrupted, DatasetError) as error:
                # A picture can be mended and training go on; other processes would not know of it and wait for ever.
                if isinstance(error, Interrupted) or self.processes == 1:
                    self._save()
                raise
            self._save()
        return self.progress

    def _run_epoch(self) -> None:
        progress, settings = self.progress, self.settings
        started, done_before = time.monotonic(), progress.samples
        self._train_epoch()
        seconds = time.monotonic() - started
        rate = (progress.samples - done_before) * self.processes / max(seconds, 1e-9)
        if self._is_last or progress.epoch % settings.get("evaluation_frequency", 1) == 0:
            self._judge(self._validate(), {"seconds": round(seconds, 3), "images_per_second": round(rate, 2)})
        every = settings.get("checkpoint_frequency")
        if every and (progress.epoch + 1) % every == 0 and self.is_main:
            self._save_weights(f"epoch_{progress.epoch}.safetensors")
        progress.next_epoch()
        if self._is_due(SECONDS_BETWEEN_EPOCH_CHECKPOINTS):
            self._save()

    def _judge(self, metrics: dict[str, float], speed: dict[str, float]) -> None:
        """Keep the best weights, count towards early stopping, and tell. Ties go to the later epoch."""
        progress, settings = self.progress, self.settings
        score = self._score(metrics)
        if score is None:
            raise ModelError(
                f"{self.primary_metric} is not defined on this validation part",
                where="primary_metric",
                hint="Every class needs validation pictures for it; or judge by another metric.",
            )
        self._count(score)
        if progress.best_score is None or score >= progress.best_score:
            progress.best_score, progress.best_epoch, progress.best_metrics = score, progress.epoch, metrics
            if self.is_main:
                self._save_weights(BEST_FILE)
        progress.stopped_early = bool(
            settings["early_stopping"] and progress.no_improvement >= settings["early_stopping_patience"]
        )
        progress.termination = self._termination(score)
        self._tell(metrics, score, speed)

    def _count(self, score: float) -> None:
        """Count evaluations without improvement, from the delay on.

        An improvement is one by more than `early_stopping_min_delta` over the last evaluation that was one, as in
        Keras: small steps that add up to more than it count as one once they have.
        """
        progress, reference = self.progress, self.progress.stopping_score
        improved = reference is None or score - self.settings.get("early_stopping_min_delta", 0.0) > reference
        if improved:
            progress.stopping_score = score
        if progress.epoch >= self.settings.get("early_stopping_delay", 0):
            progress.no_improvement = 0 if improved else progress.no_improvement + 1

    def _termination(self, score: float) -> dict[str, Any] | None:
        """The decision that ends training here, None to go on. The main process asks, and all do as it is told."""
        progress, name = self.progress, self.primary_metric
        own = curve_of([*progress.history, {name: score}], name)
        if self.termination is None or self._is_last or progress.stopped_early or not math.isfinite(score):
            return None
        if not self.termination.due(len(own)):
            return None
        decision = self._agree(asdict(self.termination.decide(own)) if self.is_main else None)
        return decision if decision["stop"] else None

    def _tell(self, metrics: dict[str, float], score: float, speed: dict[str, float]) -> None:
        """Append an evaluation to the history, and tell of it: a metric line, and a sentence for people."""
        progress = self.progress
        told = {**metrics, **self._trained(), "learning_rate": self._learning_rate()}
        stopping = {} if progress.termination is None else {STOP_METRIC: 1.0}
        record = {"epoch": progress.epoch, **told, **stopping, **speed}
        progress.history.append(record)
        if self._log is not None:
            self._log.append(record)
        log.info("%s", self._sentence(told, score, speed))

    @property
    def _is_last(self) -> bool:
        """Whether the running epoch is the last one asked for."""
        return bool(self.progress.epoch == self.settings["number_of_epochs"] - 1)

    @property
    def _is_ended(self) -> bool:
        """Whether training has come to its end before the last epoch."""
        return self.progress.stopped_early or self.progress.termination is not None

    def _is_due(self, seconds: float) -> bool:
        """Whether the last checkpoint is older than that, in some process; all decide alike, since all take part."""
        return self._any(time.monotonic() - self._saved_at > seconds)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self.is_main:
            self._save_state()
        self._barrier()
