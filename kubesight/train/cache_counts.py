"""What a training found in the caches that trainings share: `cache.json` in its output folder."""

import logging
from pathlib import Path

from kubesight.dataset.picture_cache import open_cache
from kubesight.storage.files import write_json
from kubesight.train import features

log = logging.getLogger("kubesight")

CACHE_FILE = "cache.json"


class CacheCounts:
    """Counts from when it is made.

    To be made before loader workers are forked: they count decoded pictures in memory that they inherit.
    """

    def __init__(self) -> None:
        """Note where the counters stand."""
        self._before = _counters()

    def now(self) -> dict[str, int]:
        """How often what was asked for was there (hits) and was not (misses).

        Returns:
            `features_hits`, `features_misses`: of the features of a part of the data; `picture_hits`,
            `picture_misses`: of decoded pictures, counted each time that one is read.
        """
        return {name: value - self._before[name] for name, value in _counters().items()}

    def write(self, output: Path) -> None:
        """Write `cache.json` into a training's output folder, and say it in the log when a cache was in use."""
        counts = self.now()
        write_json(output / CACHE_FILE, counts)
        if any(counts.values()):
            log.info("cache: %s", ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in counts.items()))


def _counters() -> dict[str, int]:
    pictures = open_cache()
    return {
        "features_hits": features.lookups["hits"],
        "features_misses": features.lookups["misses"],
        "picture_hits": pictures.hits if pictures else 0,
        "picture_misses": pictures.misses if pictures else 0,
    }
