"""Reading pictures ahead of a network that works on them in turn."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")


def read_ahead(
    urls: Iterable[str], read: Callable[[str], _T], *, threads: int, batch_size: int
) -> Iterator[list[tuple[str, _T]]]:
    """Read pictures in threads, and give them in their order.

    At most one batch and one picture a thread are read before they are asked for, so that memory stays small and an
    endless list of addresses will do.

    Args:
        urls: the pictures' addresses.
        read: what turns an address into what the network takes.
        threads: how many read at once.
        batch_size: how many come together; the last batch may be smaller.

    Raises:
        Whatever `read` raises, when the turn of that picture comes.
    """
    remaining = iter(urls)
    ahead: deque[tuple[str, Future[_T]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
    try:
        while True:
            for url in islice(remaining, 2 * batch_size + threads - len(ahead)):
                ahead.append((url, pool.submit(read, url)))
            if not ahead:
                return
            batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
            yield [(url, future.result()) for url, future in batch]
    finally:
        pool.shutdown(cancel_futures=True)
