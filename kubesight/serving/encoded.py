"""A classifier whose SavedModel decodes and resizes pictures itself."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kubesight.errors import DatasetError
from kubesight.models.keras.pictures import encoded_picture, repaired_picture
from kubesight.models.keras.saved_model import load_saved_model

Encoded = tuple[str, bytes]  # a picture's address, and its file

_log = logging.getLogger("kubesight")


class EncodedNetwork:
    """The SavedModel of a model folder as a `kubesight.serving.networks.Network`.

    Args:
        model_dir: the model folder.
        device: see `load_saved_model`.
    """

    def __init__(self, model_dir: Path, device: str | None = None) -> None:
        """Load it."""
        self._run = load_saved_model(model_dir, device)

    def read(self, url: str) -> Encoded:
        """See `Network`: the file's bytes, with its address."""
        return url, encoded_picture(url)

    def probabilities(self, batch: Sequence[Encoded]) -> np.ndarray:
        """See `Network`."""
        try:
            return self._run([data for _, data in batch])
        except DatasetError:
            # It does not say which picture it was.
            return np.concatenate([self._alone(url, data) for url, data in batch])

    def _alone(self, url: str, data: bytes) -> np.ndarray:
        try:
            return self._run([data])
        except DatasetError as error:
            repaired = repaired_picture(url)
            _log.warning("%s: %s; another decoder can", url, error)
        return self._run([repaired])
