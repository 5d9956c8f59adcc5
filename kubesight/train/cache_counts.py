"""What a training found in the caches that trainings share: `cache.json` in its output folder."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from kubesight.dataset.picture_cache import open_cache
from kubesight.errors import StorageError
from kubesight.storage.files import read_json, write_json
from kubesight.sweep.names import CACHE_FILE
from kubesight.train import feature_cache

log = logging.getLogger("kubesight")


@contextlib.contextmanager
def counted_caches(output: Path | None) -> Iterator[None]:
    """Count how often what the block asks the caches for is there (hits) and is not (misses), and write it down.

    However the block ends, the counts are added to those of earlier attempts at the same training: `features_hits` and
    `features_misses`, of the features of a part of the data; `picture_hits` and `picture_misses`, of decoded pictures,
    counted each time that one is read. To be entered before loader workers are forked: they count in memory that they
    inherit.

    Args:
        output: the training's output folder; None (from a process that is not the main one) writes nothing.
    """
    before = _counters()
    try:
        yield
    finally:
        counts = {name: value - before[name] for name, value in _counters().items()}
        if output is not None and output.is_dir():
            write_json(output / CACHE_FILE, {name: _earlier(output).get(name, 0) + counts[name] for name in counts})
        if any(counts.values()):
            log.info("caches: %s", ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts.items()))


def _earlier(output: Path) -> dict[str, int]:
    with contextlib.suppress(StorageError):
        found: dict[str, int] = read_json(output / CACHE_FILE)
        return found
    return {}


def _counters() -> dict[str, int]:
    pictures = open_cache()
    return {
        "features_hits": feature_cache.lookups["hits"],
        "features_misses": feature_cache.lookups["misses"],
        "picture_hits": pictures.hits if pictures else 0,
        "picture_misses": pictures.misses if pictures else 0,
    }
