"""TensorFlow's start: quiet, and on the right library."""

import os
import subprocess
import sys

import pytest

from kubesight.errors import ModelError
from kubesight.models.keras import load_tensorflow


@pytest.mark.parametrize("inherited", [{}, {"TF_CPP_MIN_LOG_LEVEL": "3"}], ids=["plain", "of a parent like this"])
def test_tensorflow_starts_without_a_word_on_standard_error(inherited: dict[str, str]) -> None:
    code = (
        "from kubesight.models.keras import load_tensorflow as f; f(); import sys; print('tensorflow' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], env=env | inherited, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_another_library_under_keras_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(ModelError, match="on jax") as error:
        load_tensorflow()
    assert error.value.where == "environment KERAS_BACKEND"
