"""The files of weights that Keras publishes for its networks: which is whose, and how to tell a right one.

`weights.json` lists the 88 without a classifier as Keras 3.15.1 names them: the name in its cache, the address (whose
last part differs for NASNet), and the hash: MD5, SHA-256 for ConvNeXt, none for MobileNet and MobileNetV2. Imports no
framework.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kubesight.errors import ModelError
from kubesight.models.names import ModelSpec

# What Keras takes for pictures of a size that it has no weights of.
_USUAL_SIZE = 224

_TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("weights.json").read_text("utf-8"))


@dataclass(frozen=True)
class OfficialFile:
    """One file of weights without a classifier.

    Attributes:
        file: its name in Keras's cache.
        app: the function of keras.applications that it is for.
        url: where Keras publishes it.
        hash: what Keras publishes to check it by, MD5 or SHA-256 in hexadecimal; None where it publishes nothing.
        alpha: the network's width.
        minimalistic: whether it is for the plainer kind of MobileNetV3.
        size: width and height of the pictures that it was learnt on, in pixels, where there are files of several.
    """

    file: str
    app: str
    url: str
    hash: str | None = None
    alpha: float = 1.0
    minimalistic: bool = False
    size: int | None = None

    @property
    def licence(self) -> str:
        """As Keras's documentation or the project that the weights come from states it (SPDX)."""
        return next(name for start, name in _TABLE["licences"].items() if self.app.startswith(start))


OFFICIAL: dict[str, OfficialFile] = {row["file"]: OfficialFile(**row) for row in _TABLE["files"]}
"""By name in Keras's cache."""


def official_file(spec: ModelSpec, size: int) -> OfficialFile:
    """The file that Keras loads into a network for `weights="imagenet"`.

    Args:
        spec: the network.
        size: width and height of the pictures, in pixels. For MobileNet and MobileNetV2 there are weights of several;
            for other sizes Keras takes those of 224.

    Raises:
        ModelError: there are none for this network.
    """
    options = {"alpha": 1.0, "minimalistic": False, **dict(spec.options)}
    found = {
        one.size: one
        for one in OFFICIAL.values()
        if (one.app, one.alpha, one.minimalistic) == (spec.library_name, options["alpha"], options["minimalistic"])
    }
    official = found.get(size) or found.get(_USUAL_SIZE) or found.get(None)
    if official is None:
        raise ModelError(
            f"Keras publishes no weights for {spec.name} ({spec.library_name}, alpha {options['alpha']})",
            where="weights", hint="Set weights to none to start from random ones, or to a file of weights.",
        )  # fmt: skip
    return official


def check(stream: IO[bytes], official: OfficialFile, recorded: str | None, where: str) -> str:
    """Make sure that a file is what it should be.

    Args:
        stream: the file, open at its start.
        official: what it should be.
        recorded: the SHA-256 that a mirror has of it.
        where: what to call it in messages.

    Returns:
        Its SHA-256, in hexadecimal.

    Raises:
        ModelError: a hash differs.
    """
    digests = [hashlib.sha256()]
    if official.hash is not None and len(official.hash) == 32:
        digests.append(hashlib.md5(usedforsecurity=False))
    while block := stream.read(1 << 20):
        for digest in digests:
            digest.update(block)
    found = {digest.name: digest.hexdigest() for digest in digests}
    for wanted, whose in ((recorded, "the mirror's index.json"), (official.hash, "Keras")):
        name = "md5" if wanted is not None and len(wanted) == 32 else "sha256"
        if wanted is not None and found[name] != wanted:
            raise ModelError(
                f"not the file that it should be: its {name} is {found[name]}, and {whose} says {wanted}", where=where
            )
    return found["sha256"]
