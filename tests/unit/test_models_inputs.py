"""Normalisation against torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from kubesight.models.inputs import normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_torchvision(channels_last: bool) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    expected = torch.stack([functional.normalize(functional.to_tensor(one), list(MEAN), list(STD)) for one in pictures])
    given = torch.from_numpy(pictures)
    inputs = normalise(given, MEAN, STD, channels_last=channels_last)
    torch.testing.assert_close(inputs, expected, rtol=1e-5, atol=1e-6)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    assert inputs.is_contiguous(memory_format=memory)
    assert given.numpy().tobytes() == pictures.tobytes()
