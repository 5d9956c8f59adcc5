"""SIGTERM and SIGINT asked for, answered at the next safe place."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(Exception):
    """Training was asked to stop; its checkpoint is written."""


class StopSignal:
    """While the block runs, SIGTERM only sets a flag.

    Signals reach Python's main thread alone; in another one the flag stays down.
    """

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self.asked = False
        self._earlier: Any = None

    def __enter__(self) -> Self:
        """Take over SIGTERM."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give SIGTERM back."""
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, self._earlier)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
