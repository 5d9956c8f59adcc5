"""Sleeping until one of several processes ends."""

import os
import select
import time
from collections.abc import Collection
from contextlib import suppress


class Waiter:
    """Wakes up when a watched process ends; where the system cannot tell, it looks every 20 ms."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._descriptors: dict[int, int] = {}
        self._poll = select.poll()

    def wait(self, pids: Collection[int], seconds: float) -> None:
        """Sleep until one of the processes ends, or for that long, or until a signal comes.

        Args:
            pids: processes that run, or have ended without having been reaped; not necessarily children.
            seconds: how long at the most.
        """
        for pid in [pid for pid in self._descriptors if pid not in pids]:
            self._forget(pid)
        blind = not all(self._watch(pid) for pid in pids)
        if blind or not pids:
            time.sleep(min(seconds, 0.02) if blind else seconds)
        else:
            # Known to have ended, but not yet to its parent (a server of warm workers): give that a moment.
            if self._poll.poll(0):
                time.sleep(0.002)
            self._poll.poll(seconds * 1000)

    def close(self) -> None:
        """Watch nothing any more."""
        for pid in list(self._descriptors):
            self._forget(pid)

    def _watch(self, pid: int) -> bool:
        if pid in self._descriptors:
            return True
        with suppress(OSError, AttributeError):  # reaped already; not Linux
            descriptor = os.pidfd_open(pid)
            self._descriptors[pid] = descriptor
            self._poll.register(descriptor, select.POLLIN)
            return True
        return False

    def _forget(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid)
        self._poll.unregister(descriptor)
        os.close(descriptor)
