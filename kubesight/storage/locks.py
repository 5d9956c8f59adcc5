"""One process at a time: for files that several processes of a sweep may make at once."""

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from kubesight.errors import StorageError

_log = logging.getLogger("kubesight")


@contextlib.contextmanager
def locked(lock: Path, waiting: str) -> Iterator[None]:
    """Hold a lock, waiting for it while another process has it.

    The system lets go of it when its holder dies. The lock's file stays: were it removed, a third process could lock a
    new one while the second has the old. Where the file system has no locks, as some network file systems, nobody
    waits; so what is made inside is best put in place by a rename.

    Args:
        lock: a file that stands for what is made; made when it is missing, with its folder.
        waiting: what is logged before a wait.

    Raises:
        StorageError: the lock's file cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = open(lock, "ab")  # noqa: SIM115
    except OSError as error:
        raise StorageError(error.strerror or str(error), where=str(lock)) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("%s", waiting)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            _log.debug("no lock for %s: %s", lock, error)
        yield
