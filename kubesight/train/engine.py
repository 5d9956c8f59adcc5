"""The one training loop. Tasks bring data, loss and metrics; the engine brings everything else."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kubesight.errors import DatasetError, ModelError
from kubesight.models.weights import save_weights
from kubesight.storage.files import remove_partials
from kubesight.sweep.curves import HISTORY_FILE, curve_of
from kubesight.sweep.names import STOP_METRIC
from kubesight.train.checkpoint import BEST_FILE, CHECKPOINT_FOLDER, Progress, load_checkpoint, save_checkpoint
from kubesight.train.distributed import World
from kubesight.train.early_termination import EarlyTermination
from kubesight.train.metric_log import MetricLog
from kubesight.train.optimizer import make_optimizer, set_learning_rate
from kubesight.train.order import epoch_batches
from kubesight.train.precision import autocast_type
from kubesight.train.schedule import learning_rate_factor
from kubesight.train.seeds import seed_torch
from kubesight.train.stop import Interrupted, StopSignal
from kubesight.train.tasks.base import Outputs, TrainingTask

log = logging.getLogger("kubesight")

# Within an epoch a checkpoint is written this often; between epochs, unless the last one is younger than that. Epochs
# on cached features take milliseconds, and a flush to disk takes as long.
SECONDS_BETWEEN_CHECKPOINTS = 600.0
SECONDS_BETWEEN_EPOCH_CHECKPOINTS = 0.5


class Engine:
    """Trains a task's module, epoch by epoch, and can go on after any interruption.

    Args:
        task: data, loss and metrics.
        settings: the resolved hyperparameters.
        world: this process's place.
        output: where `checkpoints/` and `metrics.jsonl` are kept.
        fingerprint: settings that a resumed run must share.
        metrics_file: where metric lines go; None is standard output.
        termination: the sweep's policy, asked after each evaluation unless training ends there anyway.
    """

    def __init__(
        self,
        task: TrainingTask,
        settings: dict[str, Any],
        world: World,
        *,
        output: Path,
        fingerprint: dict[str, Any],
        metrics_file: Path | None = None,
        termination: EarlyTermination | None = None,
    ) -> None:
        """Prepare optimiser, moving average and wrappers, and read the checkpoint when there is one."""
        self.task, self.settings, self.world = task, settings, world
        self.checkpoints = output / CHECKPOINT_FOLDER
        self.fingerprint = fingerprint
        self.termination = termination
        self.seed = settings["random_seed"]
        # With more processes a step sees more pictures; the rate grows with them, as in the hosted service.
        self.learning_rate = settings["learning_rate"] * world.size
        self.optimizer = make_optimizer(task.module, settings, learning_rate=self.learning_rate)
        decay = settings["ema_decay"]
        averaging = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(task.module, multi_avg_fn=averaging, use_buffers=True) if decay else None
        self.autocast = autocast_type(settings["mixed_precision"], world.device)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.autocast is torch.float16)
        self.progress = Progress()
        if world.is_main:
            remove_partials(self.checkpoints)
        self._resume()
        self.log = MetricLog(output / HISTORY_FILE, metrics_file, self.progress.history) if world.is_main else None
        self.forward = self._wrapped(task.module)
        self._saved_at = time.monotonic()

    def fit(self) -> Progress:
        """Train to the last epoch, to early stopping, or to where the sweep's policy ends it.

        Returns:
            how it went; the best epoch's weights are in `checkpoints/best.safetensors`.

        Raises:
            Interrupted: SIGTERM came; a checkpoint was written.
            ModelError: the loss is no number any more, or the GPU's memory does not hold one picture.
        """
        with StopSignal() as self.stop:
            try:
                while self.progress.epoch < self.settings["number_of_epochs"] and not self._is_ended:
                    self._run_epoch()
            except (Interrupted, DatasetError) as error:
                # A picture can be mended and training go on; other processes would not know of it and wait for ever.
                if isinstance(error, Interrupted) or self.world.size == 1:
                    self._save()
                raise
            self._save()
        return self.progress

    def _run_epoch(self) -> None:
        progress, settings = self.progress, self.settings
        started, done_before = time.monotonic(), progress.samples
        self._train_epoch()
        seconds = time.monotonic() - started
        rate = (progress.samples - done_before) * self.world.size / max(seconds, 1e-9)
        last = progress.epoch == settings["number_of_epochs"] - 1
        if last or progress.epoch % settings["evaluation_frequency"] == 0:
            self._judge(self._validate(), {"seconds": round(seconds, 3), "images_per_second": round(rate, 2)})
        every = settings["checkpoint_frequency"]
        if every and (progress.epoch + 1) % every == 0 and self.world.is_main:
            self._save_weights(f"epoch_{progress.epoch}.safetensors")
        progress.epoch, progress.step, progress.loss_sum, progress.samples = progress.epoch + 1, 0, 0.0, 0
        if self._is_due(SECONDS_BETWEEN_EPOCH_CHECKPOINTS):
            self._save()

    def _train_epoch(self) -> None:
        progress = self.progress
        batches = epoch_batches(
            self.task.train_size,
            self.settings["training_batch_size"],
            seed=self.seed,
            epoch=progress.epoch,
            rank=self.world.rank,
            world=self.world.size,
        )
        self.steps_per_epoch = len(batches)
        self.task.train_mode()
        loaded = self.task.train_batches(progress.epoch, batches[progress.step :])
        for window in _windows(loaded, self.settings["gradient_accumulation_step"]):
            self._update(window)
            if self.world.any_true(self.stop.asked):
                raise Interrupted
            if self._is_due(SECONDS_BETWEEN_CHECKPOINTS):
                self._save()

    def _update(self, window: list[Any]) -> None:
        """One optimiser step over the batches of an accumulation window, in smaller parts when memory is short."""
        progress = self.progress
        last_step = progress.epoch * self.steps_per_epoch + progress.step + len(window) - 1
        factor = learning_rate_factor(self.settings, step=last_step, steps_per_epoch=self.steps_per_epoch)
        set_learning_rate(self.optimizer, self.learning_rate * factor)
        while True:
            try:
                loss = self._gradients(window)
                break
            except torch.OutOfMemoryError as error:
                self._halve(window, error)
        if not math.isfinite(loss):
            raise self._diverged(loss, window)
        if self.settings["gradient_clip_norm"]:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.module.parameters(), self.settings["gradient_clip_norm"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.task.module)
        samples = sum(self.task.size(batch) for batch in window)
        progress.loss_sum += loss * samples
        progress.samples += samples
        progress.step += len(window)

    def _gradients(self, window: list[Any]) -> float:
        """Fill the gradients with those of the window's mean loss, and return it."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.world.device)
        parts = [
            (step, part, share / len(window))
            for step, batch in enumerate(window, start=self.progress.step)
            for part, share in self.task.split(batch, self.progress.batch_parts)
        ]
        for number, (step, part, share) in enumerate(parts):
            # Random numbers of the device depend on the step alone, so that a resumed run draws the same.
            seed_torch(_mix(self.seed, self.progress.epoch, step, self.world.rank, number), self.world.device)
            with self._synchronised(number == len(parts) - 1), self._precision():
                loss = self.task.loss(self.forward, part) * share
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return float(total)

    def _diverged(self, loss: float, window: list[Any]) -> ModelError:
        """The error of a loss that is no number: nothing of this step is kept, and its pictures are named."""
        names = [name for batch in window for name in self.task.names(batch)]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return ModelError(
            f"the training loss became {loss} in epoch {self.progress.epoch}, in the batch of "
            f"{', '.join(names[:8])}{more}",
            hint="Lower learning_rate, set gradient_clip_norm, or look at the labels of these pictures. The weights "
            "from before this batch are as they were: the last checkpoint and the best epoch's stay good.",
        )

    def _halve(self, window: list[Any], error: BaseException) -> None:
        """After running out of memory: go on with half the pictures at a time and twice the accumulation."""
        largest = max(self.task.size(batch) for batch in window)
        parts = self.progress.batch_parts * 2
        if self.world.size > 1 or parts > largest:
            raise ModelError(
                f"out of memory with {largest} pictures a batch: {error}".splitlines()[0],
                hint="Lower training_batch_size, or the crop sizes.",
            ) from error
        self.progress.batch_parts = parts
        self.optimizer.zero_grad(set_to_none=True)
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("out of memory: each batch of %d now goes through in %d parts", largest, parts)

    def _validate(self) -> dict[str, float]:
        """All metrics of the validation part, the same in every process; each picture counts once."""
        module = self.scored_module
        self.world.broadcast_buffers(module)
        module.eval()
        own = range(self.world.rank, self.task.validation_size, self.world.size)
        size = self.settings["validation_batch_size"]
        batches = [list(own[start : start + size]) for start in range(0, len(own), size)]
        found: list[Outputs] = []
        with torch.inference_mode():
            for batch in self.task.validation_batches(batches):
                found.append(self.task.predict(module, batch))
                # With several processes the others wait in the gathering below: stop there, not here.
                if self.stop.asked and self.world.size == 1:
                    raise Interrupted
        return self.task.metrics([one for found_by_one in self.world.gather(found) for one in found_by_one])

    def _judge(self, metrics: dict[str, float], speed: dict[str, float]) -> None:
        """Keep the best weights, count towards early stopping, and tell. Ties go to the later epoch."""
        progress, settings = self.progress, self.settings
        score = self.task.score(metrics)
        if score is None:
            raise ModelError(
                f"{self.task.primary_metric} is not defined on this validation part",
                where="primary_metric",
                hint="Every class needs validation pictures for it; or judge by another metric.",
            )
        improved = progress.best_score is None or score > progress.best_score
        if progress.epoch >= settings["early_stopping_delay"]:
            progress.no_improvement = 0 if improved else progress.no_improvement + 1
        if improved or score == progress.best_score:
            progress.best_score, progress.best_epoch, progress.best_metrics = score, progress.epoch, metrics
            if self.world.is_main:
                self._save_weights(BEST_FILE)
        progress.stopped_early = bool(
            settings["early_stopping"] and progress.no_improvement >= settings["early_stopping_patience"]
        )
        progress.termination = self._termination(score)
        self._tell(metrics, score, speed)

    def _termination(self, score: float) -> dict[str, Any] | None:
        """The decision that ends training here, None to go on. The main process asks, and all do as it is told."""
        progress, name = self.progress, self.task.primary_metric
        last = progress.epoch == self.settings["number_of_epochs"] - 1
        own = curve_of([*progress.history, {name: score}], name)
        if self.termination is None or last or progress.stopped_early or not math.isfinite(score):
            return None
        if not self.termination.due(len(own)):
            return None
        decision = asdict(self.termination.decide(own)) if self.world.is_main else None
        decision = self.world.gather(decision)[0]
        return decision if decision["stop"] else None

    def _tell(self, metrics: dict[str, float], score: float, speed: dict[str, float]) -> None:
        """Append an evaluation to the history, and tell of it: a metric line, and a sentence for people."""
        progress = self.progress
        told = {
            **metrics,
            "training_loss": progress.loss_sum / max(1, progress.samples),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }
        if progress.termination is not None:
            told[STOP_METRIC] = 1.0
        record = {"epoch": progress.epoch, **told, **speed}
        progress.history.append(record)
        if self.log is not None:
            self.log.append(record)
        log.info(
            "epoch %d: %s %.4f, training loss %.4f, %.1f images/s%s",
            progress.epoch,
            self.task.primary_metric,
            score,
            told["training_loss"],
            speed["images_per_second"],
            f"; no improvement for {progress.no_improvement} evaluations, stopping" if progress.stopped_early else "",
        )

    @property
    def _is_ended(self) -> bool:
        """Whether training has come to its end before the last epoch."""
        return self.progress.stopped_early or self.progress.termination is not None

    @property
    def scored_module(self) -> nn.Module:
        """What is validated and shipped: the moving average when there is one."""
        return self.task.module if self.average is None else self.average.module

    def _save_weights(self, name: str) -> None:
        save_weights(self.scored_module, self.checkpoints / name)

    def _is_due(self, seconds: float) -> bool:
        """Whether the last checkpoint is older than that, in some process; all decide alike, since all take part."""
        return self.world.any_true(time.monotonic() - self._saved_at > seconds)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self.world.is_main:
            save_checkpoint(
                self.checkpoints, progress=self.progress, fingerprint=self.fingerprint, states=self._states()
            )
        self.world.barrier()

    def _states(self) -> dict[str, Any]:
        states = {
            "model": self.task.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.average is not None:
            states["average"] = self.average.state_dict()
        return states

    def _resume(self) -> None:
        found = load_checkpoint(self.checkpoints, self.fingerprint)
        if found is None:
            return
        self.progress, states = found
        self.task.module.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        self.scaler.load_state_dict(states["scaler"])
        if self.average is not None:
            self.average.load_state_dict(states["average"])
        log.info("going on from the checkpoint: epoch %d, step %d", self.progress.epoch, self.progress.step)

    def _wrapped(self, module: nn.Module) -> Any:
        forward: Any = torch.compile(module) if self.settings.get("compile") else module
        if self.world.size > 1:
            cuda = self.world.device.type == "cuda"
            return DistributedDataParallel(forward, device_ids=[self.world.device.index] if cuda else None)
        return forward

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Several processes exchange gradients once an optimiser step, at its last part."""
        if last or not isinstance(self.forward, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.forward.no_sync()

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, dtype=self.autocast)


def _windows(batches: Iterator[Any], length: int) -> Iterator[list[Any]]:
    """Groups of `length` batches; the last may be shorter."""
    window: list[Any] = []
    for batch in batches:
        window.append(batch)
        if len(window) == length:
            yield window
            window = []
    if window:
        yield window


def _mix(*numbers: int) -> int:
    """A seed that depends on all the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
