"""What building a network gives, be it a classifier or a detector."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from kubesight.modelcard import Triple


@dataclass
class BuiltModel:
    """A network ready to be trained.

    `mean` and `std` (one value a channel, of values in [0, 1]) are those that its weights expect. `weights` says where
    the weights came from: `source` (none, default, path, url, model), `detail`, and `sha256` of the file. Of a detector
    it also says `batch_norm`: frozen or learnt, or none when its body has no such layers; and `batch_norm_eps` where
    the weights were trained with another one than the architecture's.
    """

    module: nn.Module
    mean: Triple
    std: Triple
    weights: dict[str, Any]
