"""Networks by name: what is built, what it says when it cannot be."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.modelcard import WEIGHTS_FILE, CropPreprocessing, ModelCard
from kubesight.models.build import build_model, load_trained
from kubesight.models.freeze import freeze_groups
from kubesight.models.head import forward_features, has_prefix, head, head_prefixes, head_stands_alone
from kubesight.models.names import CLASSIFICATION_TASKS, MODELS, ModelSpec, find_model
from kubesight.models.weights import save_weights

NAMED = [spec.name for spec in MODELS.values() if spec.tasks == CLASSIFICATION_TASKS]
SMALL = "timm/test_resnet"  # timm's own network for tests, half a million numbers


@pytest.mark.parametrize(
    "name", [*NAMED, "timm/convnext_atto", "timm/swin_tiny_patch4_window7_224", "timm/regnety_002"]
)
def test_every_name_gives_the_logits_asked_for_and_groups_of_all_layers_but_the_head(name: str) -> None:
    spec = find_model(name)
    with torch.device("meta"):
        built = build_model(spec, 7)
        logits = built.module.eval()(torch.zeros(2, 3, 224, 224))
    assert logits.shape == (2, 7)
    assert built.weights["source"] == "none"
    groups = freeze_groups(spec, built.module)
    heads = head_prefixes(built.module)
    assert heads
    for parameter, _ in built.module.named_parameters():
        holders = sum(has_prefix(parameter, group) for group in groups)
        assert holders == (0 if has_prefix(parameter, heads) else 1), parameter


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv2", "vits16r224", "timm/efficientnet_lite0", "seresnext", "timm/convnext_atto"]
)
def test_head_of_the_features_is_the_network(name: str) -> None:
    torch.manual_seed(0)
    module = build_model(find_model(name), 5).module.eval()
    images = torch.randn(3, 3, 224, 224)
    with torch.no_grad():
        features = forward_features(module, images)
        assert features.ndim == 2
        torch.testing.assert_close(head(module)(features), module(images))
    assert head_stands_alone(module, 224)


def test_two_classifiers_have_no_head_alone() -> None:
    module = build_model(find_model("timm/deit_tiny_distilled_patch16_224"), 5).module
    assert head_prefixes(module) == ["head", "head_dist"]
    with pytest.raises(ModelError, match="2 classifier layers"):
        head(module)
    assert not head_stands_alone(module, 224)
    assert module.training


def test_preprocessing_is_that_of_the_architecture() -> None:
    assert build_model(find_model("resnet18"), 2).mean == (0.485, 0.456, 0.406)
    vit = build_model(find_model("vits16r224"), 2)
    assert (vit.mean, vit.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_random_weights_follow_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_model(find_model(SMALL), 2).module.state_dict()["conv1.0.weight"]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (find_model("timm/resnet81"), r"no model 'resnet81'.*timm/resnet18"),
        (find_model("timm/resnet18.nope"), r"no weights 'nope' of resnet18.*a1_in1k"),
        (MODELS["yolov5"], "yolov5 has no trainer for image classification in this installation"),
        (MODELS["maskrcnn_resnet50_fpn"], "no trainer for image classification"),
        (find_model("keras/ResNet50"), "no trainer for image classification"),
    ],
)
def test_what_cannot_be_built_is_said(spec: ModelSpec, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(spec, 2)


def test_sizes() -> None:
    with pytest.raises(
        ModelError, match=r"vits16r224 takes pictures of 224 by 224 pixels, not 256.*training_crop_size"
    ):
        build_model(find_model("vits16r224"), 2, image_size=256)
    build_model(find_model("vits16r224"), 2, image_size=224)
    wide = build_model(find_model("timm/vit_tiny_patch16_224"), 2, image_size=96).module
    assert wide(torch.zeros(1, 3, 96, 96)).shape == (1, 2)
    with pytest.raises(ModelError, match=r"maxvit_rmlp_pico_rw_256 does not take pictures of 230 .*to 256"):
        build_model(find_model("timm/maxvit_rmlp_pico_rw_256"), 2, image_size=230)


@pytest.mark.timeout(45)  # the library alone tries for 50 s
def test_library_weights_without_a_network_fail_soon_and_name_the_way_out(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ModelError, match=r"cannot be downloaded.*weights to none.*weights: /path/to/file"):
        build_model(find_model("resnet18"), 2, weights="default")


def cached_weights(cache: Path, name: str) -> dict[str, torch.Tensor]:
    """Put weights where the hub's client keeps those that it has downloaded."""
    state = timm.create_model(name).state_dict()
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / "0123").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    safetensors.torch.save_file(state, folder / "snapshots" / "0123" / "model.safetensors")
    return state


def test_library_weights_are_taken_from_the_hub_cache_with_another_classifier(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    source = cached_weights(tmp_path, "test_resnet")
    built = build_model(find_model(SMALL), 3, weights="default")
    assert built.weights["source"] == "default"
    assert built.weights["detail"] == "timm/test_resnet.r160_in1k"
    assert len(built.weights["sha256"]) == 64
    state = built.module.state_dict()
    assert state["fc.weight"].shape[0] == 3
    assert not state["fc.weight"].any()
    assert not state["fc.bias"].any()
    same = build_model(find_model(SMALL), 1000, weights="default").module.state_dict()
    assert torch.equal(same["fc.weight"], source["fc.weight"])
    assert all(torch.equal(value, state[key]) for key, value in source.items() if not key.startswith("fc"))


def test_library_weights_of_a_vit_at_another_size(monkeypatch, tmp_path) -> None:
    """Its published file is for another loader unless it comes from the hub; position embeddings are resampled."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    source = cached_weights(tmp_path, "vit_tiny_patch16_224")
    built = build_model(find_model("timm/vit_tiny_patch16_224"), 3, weights="default", image_size=96)
    state = built.module.state_dict()
    assert torch.equal(state["blocks.5.mlp.fc1.weight"], source["blocks.5.mlp.fc1.weight"])
    assert state["pos_embed"].shape == (1, 37, 192)
    assert built.module(torch.zeros(1, 3, 96, 96)).shape == (1, 3)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download asks for."""

    content = b""

    def do_GET(self) -> None:
        found = self.path == "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
        self.send_response(200 if found else 404)
        self.send_header("ETag", '"' + hashlib.sha256(self.content).hexdigest() + '"')
        self.send_header("X-Repo-Commit", "0123456789" * 4)
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()
        if found and self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_library_weights_are_downloaded_from_the_hub(tmp_path) -> None:
    Hub.content = safetensors.torch.save(timm.create_model("test_resnet").state_dict())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = (
        "from kubesight.models.build import build_model; from kubesight.models.names import find_model;"
        f"print(build_model(find_model('{SMALL}'), 3, weights='default').weights['sha256'])"
    )
    # The client reads these when it is imported, hence the process of its own.
    places = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **places}, capture_output=True, text=True, timeout=120
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.stdout.strip() == hashlib.sha256(Hub.content).hexdigest(), done.stderr


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(ModelError, match="timm publishes no weights for botnet50ts_256"):
        build_model(find_model("timm/botnet50ts_256"), 2, weights="default")


@pytest.fixture
def model_folder(tmp_path):
    torch.manual_seed(3)
    built = build_model(find_model(SMALL), 2)
    card = ModelCard(
        task=Task.CLASSIFICATION, model_name=SMALL, classes=["cat", "dog"],
        preprocessing=CropPreprocessing(resize_size=40, crop_size=32, mean=(0.1, 0.2, 0.3)),
    )  # fmt: skip
    save_weights(built.module, tmp_path / WEIGHTS_FILE)
    card.save(tmp_path)
    return tmp_path, built.module


def test_load_trained(model_folder) -> None:
    folder, module = model_folder
    loaded, card = load_trained(folder)
    assert not loaded.training
    assert card.classes == ["cat", "dog"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), module.eval()(images))
    card.classes.append("emu")
    card.save(folder)
    with pytest.raises(ModelError, match=r"do not fit the network: fc.weight is \[2, \d+\], not \[3, "):
        load_trained(folder)


def test_going_on_from_a_model_folder(model_folder) -> None:
    folder, module = model_folder
    before = module.state_dict()
    same = build_model(find_model(SMALL), 2, weights=str(folder), classes=["cat", "dog"])
    assert same.mean == (0.1, 0.2, 0.3)
    assert same.weights["source"] == "model"
    assert all(torch.equal(value, before[key]) for key, value in same.module.state_dict().items())
    other = build_model(find_model(SMALL), 2, weights=str(folder), classes=["cat", "emu"])
    after = other.module.state_dict()
    assert not torch.equal(after["fc.weight"], before["fc.weight"])
    assert torch.equal(after["conv1.0.weight"], before["conv1.0.weight"])
    assert "starts anew" in other.weights["fit"]
    assert not after["fc.weight"].any()
    more = build_model(find_model(SMALL), 3, weights=str(folder), classes=["cat", "dog", "emu"])
    assert more.module.state_dict()["fc.weight"].shape[0] == 3
    with pytest.raises(ModelError, match="the model to go on from is a timm/test_resnet, not a resnet18"):
        build_model(find_model("resnet18"), 2, weights=str(folder), classes=["cat", "dog"])
