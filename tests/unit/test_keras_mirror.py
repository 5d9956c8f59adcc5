"""A mirror of Keras's weights: which files, checked by what, and how it grows."""

import hashlib
import importlib.util
import io
import json
import re
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from file_server import serving
from typer.testing import CliRunner

from kubesight.cli import weights as command
from kubesight.errors import ModelError
from kubesight.models.keras import mirror as module
from kubesight.models.keras.apps import APPS
from kubesight.models.keras.mirror import mirror
from kubesight.models.keras.official import OFFICIAL, check, official_file
from kubesight.models.names import ModelSpec, find_model

V2 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5"  # Keras publishes no hash of it
NASNET = "nasnet_mobile_no_top.h5"
CONVNEXT = "convnext_tiny_notop.h5"
CONTENT = {V2: b"two" * 1000, NASNET: b"nasnet" * 500, CONVNEXT: b"next" * 700}


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """Files with other content than Keras's, and the hashes of that content in the table."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    md5 = hashlib.md5(CONTENT[NASNET]).hexdigest()
    monkeypatch.setitem(OFFICIAL, NASNET, replace(OFFICIAL[NASNET], hash=md5))
    sha256 = hashlib.sha256(CONTENT[CONVNEXT]).hexdigest()
    monkeypatch.setitem(OFFICIAL, CONVNEXT, replace(OFFICIAL[CONVNEXT], hash=sha256))
    return folder


@pytest.fixture
def offline(monkeypatch) -> None:
    for part in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(part, "http://127.0.0.1:9")  # nothing answers there
    # The standard library reads the proxies once a process; later tests are to read their own.
    monkeypatch.setattr(urllib.request, "_opener", None)


def keras_source(name: str) -> str:
    keras = importlib.util.find_spec("keras")
    return (Path(keras.origin).parent / "src" / "applications" / f"{name}.py").read_text()


MODULES = {
    "EfficientNetV2": "efficientnet_v2", "EfficientNet": "efficientnet", "ConvNeXt": "convnext", "DenseNet": "densenet",
    "InceptionRes": "inception_resnet_v2", "Inception": "inception_v3", "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3", "MobileNet": "mobilenet", "NASNet": "nasnet", "ResNet": "resnet", "VGG16": "vgg16",
    "VGG19": "vgg19", "Xception": "xception",
}  # fmt: skip


def test_the_table_says_what_keras_says() -> None:
    assert len(OFFICIAL) == 88
    assert {one.app for one in OFFICIAL.values()} == set(APPS)
    for one in OFFICIAL.values():
        source = keras_source(next(module for start, module in MODULES.items() if one.app.startswith(start)))
        joined = re.sub(r'"\s*"', "", source)  # addresses are written in pieces
        base = re.search(r'"(https://storage\.googleapis\.com/[^"{]*applications/)', joined)[1]
        assert one.url.startswith(base), one
        if one.app in ("MobileNet", "MobileNetV2"):
            assert one.hash is None
            assert f"{one.size}" in one.file
            assert "file_hash" not in source
        else:
            assert f'"{one.hash}"' in source, one
        assert one.url.rpartition("/")[2] == one.file or one.app.startswith("NASNet")
    for kind in ("mobile", "large"):
        assert f'"nasnet_{kind}_no_top.h5"' in keras_source("nasnet")
        assert OFFICIAL[f"nasnet_{kind}_no_top.h5"].url.endswith(f"/nasnet/NASNet-{kind}-no-top.h5")
    assert {official_file(find_model(f"keras/{name}"), 224).licence for name in ("VGG16", "Xception", "ResNet50")} == {
        "CC-BY-4.0", "MIT",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size", "file"),
    [
        ("keras/mobilenet-v2-035-96", 96, V2),
        ("keras/MobileNetV2", 160, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"),
        ("keras/MobileNetV2", 300, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
        ("keras/mobilenet-v1-025-128", 128, "mobilenet_2_5_128_tf_no_top.h5"),
        # Keras has MobileNetV2 at 96 pixels, and MobileNet not.
        ("keras/mobilenet-v1-075-192", 96, "mobilenet_7_5_224_tf_no_top.h5"),
        ("keras/mobilenet-v3-small-075", 160, "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5"),
        ("keras/NASNetMobile", 224, NASNET),
        ("keras/efficientnet-b3", 64, "efficientnetb3_notop.h5"),
        ("tensorflow-ic-imagenet-resnet-v2-101-classification-4", 224,
         "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ],
)  # fmt: skip
def test_which_file_keras_takes(name: str, size: int, file: str) -> None:
    assert official_file(find_model(name), size).file == file


def test_widths_without_weights() -> None:
    spec = replace(find_model("keras/MobileNetV2"), options=(("alpha", 0.6),))
    with pytest.raises(ModelError, match=r"no weights for keras/MobileNetV2 \(MobileNetV2, alpha 0.6\)"):
        official_file(spec, 224)
    plain = replace(find_model("keras/MobileNetV3Small"), options=(("minimalistic", True),))
    assert "minimalistic" in official_file(plain, 224).file


def test_a_mirror_of_a_folder_grows_and_fetches_nothing_twice(site, tmp_path, monkeypatch) -> None:
    output = tmp_path / "mirror"
    first = mirror(["keras/mobilenet-v2-035-96"], output, str(site))
    assert [(one.file, one.fetched) for one in first] == [(V2, True)]
    monkeypatch.setattr(module, "fetch_official", pytest.fail)
    assert [one.fetched for one in mirror([V2], output, str(site))] == [False]
    monkeypatch.undo()
    (output / V2).touch()
    for name, one in ((NASNET, OFFICIAL[NASNET]), (CONVNEXT, OFFICIAL[CONVNEXT])):
        digest = hashlib.new("md5" if len(one.hash) == 32 else "sha256", CONTENT[name]).hexdigest()
        monkeypatch.setitem(OFFICIAL, name, replace(one, hash=digest))
    again = mirror(["keras/NASNetMobile", "keras/mobilenet-v2-035-96", "keras/ConvNeXtTiny"], output, str(site))
    assert [(one.file, one.fetched) for one in again] == [(NASNET, True), (V2, False), (CONVNEXT, True)]
    index = json.loads((output / "index.json").read_text())
    assert index == {
        name: {
            "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "url": OFFICIAL[name].url,
            "licence": {V2: "Apache-2.0", NASNET: "Apache-2.0", CONVNEXT: "MIT"}[name],
        }
        for name, content in CONTENT.items()
    }  # fmt: skip
    assert {path.name for path in output.iterdir()} == {*CONTENT, "index.json", ".lock"}


def test_a_mirror_of_a_mirror_over_http(site, tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    mirror(list(CONTENT), first, str(site))
    with serving(first) as served:
        mirror([V2, NASNET], second, f"{served.url}/?signature=abc")
        assert f"GET /{V2}?signature=abc" in served.requests
        kept = {
            name: json.loads((folder / "index.json").read_text())[name] for folder in (first, second) for name in (V2,)
        }
        assert kept[V2]["sha256"] == hashlib.sha256(CONTENT[V2]).hexdigest()
        (first / V2).write_bytes(b"spoilt on the way")  # its own index gives it away
        with pytest.raises(ModelError, match=r"not the file that it should be: its sha256 .* index\.json says"):
            mirror([V2], tmp_path / "third", served.url)
        assert not list((tmp_path / "third").glob("*.h5*"))
        (first / CONVNEXT).unlink()
        with pytest.raises(ModelError, match=rf"{served.url}/{CONVNEXT}: cannot be downloaded: HTTP Error 404"):
            mirror(["keras/ConvNeXtTiny"], second, served.url)


def test_wrong_files_are_errors_and_stay(site, tmp_path) -> None:
    output = tmp_path / "mirror"
    mirror([NASNET, V2], output, str(site))
    for name, whose in ((V2, "index.json"), (NASNET, "index.json")):
        (output / name).write_bytes(b"wrong")
        with pytest.raises(ModelError, match=rf"{name}: not the file .* {whose} says .* Remove this file"):
            mirror([name], output, str(site))
        assert (output / name).read_bytes() == b"wrong"
    (site / CONVNEXT).write_bytes(b"wrong")
    with pytest.raises(ModelError, match=r"its sha256 is \w+, and Keras says"):
        mirror([CONVNEXT], output, str(site))
    (site / NASNET).write_bytes(b"wrong")
    with pytest.raises(ModelError, match=r"its md5 is \w+, and Keras says"):
        mirror([NASNET], tmp_path / "other", str(site))


def test_a_file_that_nothing_vouches_for_is_fetched_anew(site, tmp_path, caplog) -> None:
    """A command that was killed between a file and its entry: Keras publishes no hash of this one."""
    output = tmp_path / "mirror"
    output.mkdir()
    (output / V2).write_bytes(b"from who knows where")
    (output / NASNET).write_bytes(CONTENT[NASNET])  # of this one it does
    (output / f".{V2}.abc.partial").write_bytes(b"half of it")
    caplog.set_level("INFO", "kubesight")
    assert [one.fetched for one in mirror([V2, NASNET], output, str(site))] == [True, False]
    assert (output / V2).read_bytes() == CONTENT[V2]
    assert not list(output.glob(".*.partial"))
    assert f"{V2}: Keras publishes no hash of this file" in caplog.text


def test_what_is_no_model_of_keras_is_refused_before_anything_is_fetched(site, tmp_path) -> None:
    for names, message in (
        ([V2, "resnet18"], "resnet18 is no model of keras.applications"),
        ([V2, "keras/MobileNetV9"], "unknown model name 'keras/MobileNetV9'"),
    ):
        with pytest.raises(ModelError, match=message):
            mirror(names, tmp_path / "mirror", str(site))
    for source, message in (("s3://b/weights", "cannot be read from s3://"), (str(tmp_path / "no"), "no folder here")):
        with pytest.raises(ModelError, match=message):
            mirror([V2], tmp_path / "mirror", source)
    assert not (tmp_path / "mirror").exists()


def test_a_broken_index(site, tmp_path) -> None:
    output = tmp_path / "mirror"
    mirror([V2], output, str(site))
    for text, message in (
        ("{", "not JSON"),
        ('{"a.h5": {"bytes": 3}}', "every entry needs a sha256"),
        ("[]", "index of"),
    ):
        (output / "index.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            mirror([V2], output, str(site))


def test_without_a_network(offline, tmp_path) -> None:
    with pytest.raises(ModelError, match=rf"{V2}: cannot be downloaded"):
        mirror([V2], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_connection_that_breaks_leaves_nothing(tmp_path, monkeypatch) -> None:
    class Short:
        headers = {"Content-Length": "10"}  # noqa: RUF012

        def __init__(self) -> None:
            self.left = [b"seven b", b""]

        def read(self, _: int) -> bytes:
            return self.left.pop(0)

        def __enter__(self) -> "Short":
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(module, "probe", lambda _: None)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Short())
    with pytest.raises(ModelError, match="the connection ended after 7 of 10 bytes"):
        mirror([V2], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_command(site, tmp_path) -> None:
    app = typer.Typer()
    command.register(app)
    words = ["keras/NASNetMobile", V2, "--output", str(tmp_path / "m"), "--source", str(site)]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    assert f"{NASNET}: 3,000 bytes, fetched\n{V2}: 3,000 bytes, fetched\n2 files in" in outcome.output
    assert f"KUBESIGHT_KERAS_WEIGHTS={tmp_path / 'm'}" in outcome.output
    everything = module._wanted(["all"])
    assert len(everything) == 88


def test_a_right_file_is_known_by_every_hash() -> None:
    # FIPS 180-2's and RFC 1321's own examples.
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    md5 = "900150983cd24fb0d6963f7d28e17f72"
    for published, recorded in ((None, None), (md5, None), (sha256, sha256), (md5, sha256)):
        one = replace(OFFICIAL[V2], hash=published)
        assert check(io.BytesIO(b"abc"), one, recorded, "here") == sha256
    for published, recorded in ((md5[::-1], None), (None, sha256[::-1]), (sha256, sha256[::-1]), (md5[::-1], sha256)):
        one = replace(OFFICIAL[V2], hash=published)
        with pytest.raises(ModelError, match="here: not the file"):
            check(io.BytesIO(b"abc"), one, recorded, "here")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_keras_asks_for_these_very_files(monkeypatch) -> None:
    """Every network of the table, built by Keras up to the point where it would look for its weights."""
    import keras
    from keras.src.utils import file_utils

    class Asked(Exception):
        pass

    def get_file(fname: str, origin: str, cache_subdir: str, file_hash: str | None = None) -> None:
        raise Asked(fname, origin, cache_subdir, file_hash)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    narrowest = {app: min(one.alpha for one in OFFICIAL.values() if one.app == app) for app in APPS}
    for one in OFFICIAL.values():
        if one.size not in (None, 224) and one.alpha > narrowest[one.app]:
            continue  # the sizes of one width will do
        options = {"alpha": one.alpha} if one.app.startswith("MobileNet") else {}
        options |= {"minimalistic": True} if one.minimalistic else {}
        spec: ModelSpec = replace(find_model(f"keras/{one.app}"), options=tuple(options.items()))
        size = one.size or APPS[one.app].minimum
        with pytest.raises(Asked) as asked:
            getattr(keras.applications, one.app)(
                include_top=False, weights="imagenet", input_shape=(size, size, 3), pooling="avg", **options
            )
        assert asked.value.args == (one.file, one.url, "models", one.hash)
        assert official_file(spec, size) == one
        keras.backend.clear_session()
