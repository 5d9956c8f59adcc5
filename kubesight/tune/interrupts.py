"""SIGINT and SIGTERM asked for, answered by whoever looks: trials are to be ended in order first."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While the block runs, SIGINT and SIGTERM are only counted. They reach the main thread alone.

    Attributes:
        count: how many came; the second one means that patience is over.
    """

    def __init__(self) -> None:
        """None has come."""
        self.count = 0
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take them over."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
