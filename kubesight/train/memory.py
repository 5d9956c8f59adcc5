"""The machine's memory: how much is free, and to keep what is freed, since the next step asks for the same again."""

import ctypes
import os
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Tell glibc not to hand large blocks back to the system.

    Otherwise every step's activations are fresh pages, which the kernel clears one by one: measured on two cores, a
    tenth of the time of a ResNet-18's training step. The process keeps its peak until it ends. Other C libraries are
    left alone.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: what the machine has available, or what its container's limit leaves.

    Files that the kernel keeps in memory and can drop count as free, as Kubernetes counts them for its limits.

    Args:
        root: where `proc` and `sys` are.
    """
    try:
        meminfo = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        free = int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    group = root / "sys/fs/cgroup"
    for folder, limit, used, droppable in (
        (group, "memory.max", "memory.current", "inactive_file"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            taken = int((folder / used).read_text()) - int(statistics.get(droppable, 0))
            free = min(free, max(0, int((folder / limit).read_text()) - taken))
        except (OSError, ValueError):  # no such version of control groups, or "max": no limit
            continue
    return free
