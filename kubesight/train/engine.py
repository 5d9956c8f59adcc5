"""The torch engine: optimiser steps, several processes, mixed precision. Tasks bring data, loss and metrics."""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kubesight.errors import ModelError
from kubesight.models.weights import save_weights
from kubesight.train.checkpoint import load_checkpoint, save_checkpoint
from kubesight.train.distributed import World
from kubesight.train.early_termination import EarlyTermination
from kubesight.train.loop import SECONDS_BETWEEN_CHECKPOINTS, Loop
from kubesight.train.optimizer import make_optimizer, set_learning_rate
from kubesight.train.order import epoch_batches
from kubesight.train.precision import autocast_type
from kubesight.train.progress import Progress
from kubesight.train.schedule import learning_rate_factor
from kubesight.train.seeds import seed_torch
from kubesight.train.stop import Interrupted
from kubesight.train.tasks.base import Outputs, TrainingTask

log = logging.getLogger("kubesight")


class Engine(Loop):
    """Trains a task's module.

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
        super().__init__(
            settings, output=output, primary_metric=task.primary_metric, is_main=world.is_main, processes=world.size,
            metrics_file=metrics_file, termination=termination,
        )  # fmt: skip
        self.task, self.world, self.fingerprint = task, world, fingerprint
        # With more processes a step sees more pictures; the rate grows with them, as in the hosted service.
        self.learning_rate = settings["learning_rate"] * world.size
        self.optimizer = make_optimizer(task.module, settings, learning_rate=self.learning_rate)
        decay = settings["ema_decay"]
        averaging = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(task.module, multi_avg_fn=averaging, use_buffers=True) if decay else None
        self.autocast = autocast_type(settings["mixed_precision"], world.device)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.autocast is torch.float16)
        self._begin(self._restored())
        self.forward = self._wrapped(task.module)

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
            if self._any(self.stop.asked):
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
            raise self._divergence(loss, [name for batch in window for name in self.task.names(batch)])
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

    @property
    def scored_module(self) -> nn.Module:
        """What is validated and shipped: the moving average when there is one."""
        return self.task.module if self.average is None else self.average.module

    def _save_weights(self, name: str) -> None:
        save_weights(self.scored_module, self.checkpoints / name)

    def _save_state(self) -> None:
        save_checkpoint(self.checkpoints, progress=self.progress, fingerprint=self.fingerprint, states=self._states())

    def _score(self, metrics: dict[str, float]) -> float | None:
        return self.task.score(metrics)

    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _any(self, flag: bool) -> bool:
        return self.world.any_true(flag)

    def _agree(self, value: Any) -> Any:
        return self.world.gather(value)[0]

    def _barrier(self) -> None:
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

    def _restored(self) -> Progress | None:
        """The checkpoint's progress, its states taken over; None when training starts here."""
        found = load_checkpoint(self.checkpoints, self.fingerprint)
        if found is None:
            return None
        progress, states = found
        self.task.module.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        self.scaler.load_state_dict(states["scaler"])
        if self.average is not None:
            self.average.load_state_dict(states["average"])
        return progress

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
