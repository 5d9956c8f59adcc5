"""What all tests share: real data when it is there, and small data sets made on the spot."""

import contextlib
import os
from pathlib import Path

import pytest

# torch loads triton when it first needs it. Loaded after TensorFlow, triton brings the process down (triton 3.8 and
# tensorflow 2.21 each carry an LLVM), and tests of both frameworks share processes; loaded before, it does no harm.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real labelled pictures, or a skip that says how to name it."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("KUBESIGHT_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}: set KUBESIGHT_DATA to the folder that holds bccd_voc, grocery10, ...")
    return path
