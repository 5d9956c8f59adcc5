"""One process or many, started by `torchrun`: the same calls work in both."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class World:
    """This process's place among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and metric lines."""
        return self.rank == 0

    def any_true(self, value: bool) -> bool:
        """Whether `value` holds in some process; cheap enough for every step."""
        if self.size == 1:
            return value
        flag = torch.tensor(float(value), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def gather(self, value: Any) -> list[Any]:
        """Each process's `value`, in order of rank, given to all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give every process the main one's buffers (batch-norm statistics), so that all validate the same model."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def join_world(device: str | None = None, *, distributed: bool = True) -> World:
    """Join the processes that `torchrun` started, or stand alone.

    Args:
        device: `cpu`, `cuda`, `cuda:1`; None takes a GPU when there is one.
        distributed: False stands alone whatever the environment says.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if distributed else 1
    cuda = torch.cuda.is_available() and (device is None or device.startswith("cuda"))
    if size == 1:
        return World(0, 1, torch.device(device or ("cuda" if cuda else "cpu")))
    local = int(os.environ["LOCAL_RANK"])
    where = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(where)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return World(dist.get_rank(), size, where)


def leave_world() -> None:
    """End the process group, when there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
