"""Published weights put where Keras looks: from a mirror, from what is there, or with a quick and clear refusal."""

import hashlib
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import serving

from kubesight.errors import ModelError
from kubesight.models.keras.mirror import mirror
from kubesight.models.keras.official import OFFICIAL
from kubesight.models.keras.weights import keras_models_folder, place_weights, writable_models_folder
from kubesight.models.names import find_model

SPEC = find_model("keras/mobilenet-v2-035-96")
FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"
NASNET = "nasnet_mobile_no_top.h5"
CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Keras's folder, as for a Keras that is not imported yet, and no way out of this machine."""
    monkeypatch.delitem(sys.modules, "keras.src.backend.config", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBESIGHT_KERAS_WEIGHTS", raising=False)
    for part in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(part, "http://127.0.0.1:9")  # nothing answers there
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # The standard library reads the proxies once a process; later tests are to read their own.
    monkeypatch.setattr(urllib.request, "_opener", None)
    return tmp_path / "keras" / "models"


@pytest.fixture
def mirrored(tmp_path, monkeypatch) -> Path:
    """A mirror's folder with two files, one of which has a published hash."""
    monkeypatch.setitem(OFFICIAL, NASNET, replace(OFFICIAL[NASNET], hash=hashlib.md5(CONTENT).hexdigest()))
    site = tmp_path / "site"
    site.mkdir()
    for name in (FILE, NASNET):
        (site / name).write_bytes(CONTENT)
    mirror([FILE, NASNET], tmp_path / "mirror", str(site))
    return tmp_path / "mirror"


def test_from_a_folder(home, mirrored, monkeypatch) -> None:
    monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", str(mirrored))
    path, record = place_weights(SPEC, 96)
    assert path == home / FILE
    assert path.read_bytes() == CONTENT
    assert record == {
        "source": "default", "detail": FILE, "sha256": SHA256, "licence": "Apache-2.0",
        "checked": f"the sha256 of {mirrored}",
    }  # fmt: skip
    assert place_weights(find_model("keras/NASNetMobile"), 224)[1]["checked"].endswith(
        "and the hash that Keras publishes"
    )


def test_from_a_server_once(home, mirrored, monkeypatch) -> None:
    with serving(mirrored) as served:
        monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", f"{served.url}/")
        assert place_weights(SPEC, 96)[0].read_bytes() == CONTENT
        assert place_weights(SPEC, 96)[1]["sha256"] == SHA256
        assert (served.times(FILE), served.times("index.json")) == (1, 2)
        (home / FILE).write_bytes(CONTENT[:-1])  # as a download that was killed leaves it
        assert place_weights(SPEC, 96)[0].read_bytes() == CONTENT
        assert served.times(FILE) == 2
    with pytest.raises(ModelError, match=r"index\.json: cannot be downloaded"):
        place_weights(SPEC, 96)


def test_processes_that_need_the_same_file_fetch_it_once(home, mirrored, monkeypatch) -> None:
    code = (
        "from kubesight.models.keras.weights import place_weights; from kubesight.models.names import find_model;"
        "print(place_weights(find_model('keras/mobilenet-v2-035-96'), 96)[1]['sha256'])"
    )
    with serving(mirrored) as served:
        environment = os.environ | {"KUBESIGHT_KERAS_WEIGHTS": served.url}
        running = [
            subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        assert [process.communicate(timeout=60)[0].strip() for process in running] == [SHA256] * 4
        assert served.times(FILE) == 1
    assert sorted(path.name for path in home.iterdir()) == [f".{FILE}.lock", FILE]


def test_a_mirror_that_is_wrong_is_refused(home, mirrored, monkeypatch) -> None:
    monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", str(mirrored))
    (mirrored / FILE).write_bytes(b"spoilt")
    with pytest.raises(ModelError, match=rf"{mirrored}/{FILE}: the weights of .*its sha256 .* and the mirror's index"):
        place_weights(SPEC, 96)
    assert not (home / FILE).exists()
    with pytest.raises(ModelError, match=rf"the mirror has no mobilenet_v2_.*run `kubesight weights .* {mirrored}`"):
        place_weights(SPEC, 128)
    (mirrored / "index.json").unlink()
    with pytest.raises(ModelError, match=r"index\.json: cannot be read.*`kubesight weights MODEL"):
        place_weights(SPEC, 96)
    for address, message in ((str(mirrored / "no"), "no folder here"), ("s3://bucket/x", "cannot be read from s3://")):
        monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", address)
        with pytest.raises(ModelError, match=message):
            place_weights(SPEC, 96)


def test_what_is_in_keras_cache_serves_without_a_mirror(home, mirrored, caplog) -> None:
    home.mkdir(parents=True)
    (home / FILE).write_bytes(CONTENT)
    path, record = place_weights(SPEC, 96)
    assert (path, record["sha256"]) == (home / FILE, SHA256)
    assert record["checked"] == "nothing: Keras publishes no hash of this file"
    (home / NASNET).write_bytes(CONTENT)
    assert place_weights(find_model("keras/NASNetMobile"), 224)[1]["checked"] == "the hash that Keras publishes"
    (home / NASNET).write_bytes(b"older")
    with pytest.raises(ModelError, match="cannot be downloaded"):
        place_weights(find_model("keras/NASNetMobile"), 224)
    assert "it is not used" in caplog.text
    assert (home / NASNET).read_bytes() == b"older"


def test_without_a_mirror_and_a_network_it_says_what_to_do(home) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        place_weights(SPEC, 96)
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert message.startswith(f"{OFFICIAL[FILE].url}: the weights of keras/mobilenet-v2-035-96, {FILE}: cannot be")
    assert "run `kubesight weights keras/mobilenet-v2-035-96 --output DIR`" in message
    assert "set KUBESIGHT_KERAS_WEIGHTS to that folder" in message
    assert "weights to none, or to a file of weights" in message
    # Of another size than the model's own, the name of the file is what fetches the right one.
    with pytest.raises(ModelError, match=r"run `kubesight weights mobilenet_v2_\S*_0\.35_128_no_top\.h5 --output DIR`"):
        place_weights(SPEC, 128)
    assert not list(home.glob("*.h5"))


def test_the_network_is_the_last_way(home, mirrored, monkeypatch) -> None:
    with serving(mirrored) as served:
        monkeypatch.setitem(OFFICIAL, FILE, replace(OFFICIAL[FILE], url=f"{served.url}/{FILE}"))
        assert place_weights(SPEC, 96)[0].read_bytes() == CONTENT
        assert served.requests == [f"HEAD /{FILE}", f"GET /{FILE}"]


def test_where_keras_keeps_its_weights(home, tmp_path, monkeypatch) -> None:
    assert keras_models_folder() == home
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_models_folder() == tmp_path / ".keras" / "models"
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    assert keras_models_folder() == Path("/tmp/.keras/models")


def test_a_folder_that_cannot_be_written_gives_way_to_ours(home, mirrored, tmp_path, monkeypatch, caplog) -> None:
    """Keras ignores a folder that it may read and not write, whatever lies in it."""
    caplog.set_level("INFO", "kubesight")
    home.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(home.parent)))
    monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", str(mirrored))
    path, record = place_weights(SPEC, 96)
    assert path == tmp_path / "cache" / "keras" / "models" / FILE
    assert record["sha256"] == SHA256
    assert os.environ["KERAS_HOME"] == str(tmp_path / "cache" / "keras")
    assert "is not writable, weights are put into" in caplog.text


def test_a_right_file_in_a_folder_that_cannot_be_written_is_used_there(home, mirrored, monkeypatch) -> None:
    from types import SimpleNamespace

    home.mkdir(parents=True)
    (home / FILE).write_bytes(CONTENT)
    # A Keras that is imported has settled on its folder.
    config = SimpleNamespace(keras_home=lambda: str(home.parent))
    monkeypatch.setitem(sys.modules, "keras.src.backend.config", config)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(home.parent)))
    monkeypatch.setenv("KUBESIGHT_KERAS_WEIGHTS", str(mirrored))
    assert place_weights(SPEC, 96)[0] == home / FILE
    (home / FILE).write_bytes(b"old")
    assert place_weights(SPEC, 96)[0].read_bytes() == CONTENT


def test_no_place_at_all(home, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ModelError, match="Set KERAS_HOME or KUBESIGHT_CACHE to a folder that can"):
        writable_models_folder()
