"""Freezing the first layers of detectors: the published groups, for every kind of body."""

import logging
from typing import Any

import pytest
import torch
import torchvision

from kubesight.models.detectors import build_detector
from kubesight.models.freeze import freeze_detector, freeze_groups, frozen_modules, is_backbone_frozen
from kubesight.models.head import has_prefix
from kubesight.models.names import find_model

SETTINGS = {"min_size": 96, "max_size": 160, "nms_iou_threshold": 0.5, "box_detections_per_image": 30}
BOXES = "fasterrcnn_timm/test_resnet"  # timm's own network for tests


def network(name: str) -> Any:
    return build_detector(find_model(name), ["a", "b", "c"], settings=SETTINGS).module


STAGES = {
    BOXES: [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]],
    "fasterrcnn_resnet18_fpn": [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]],
    "maskrcnn_resnet50_fpn": [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]],
    "fasterrcnn_timm/efficientnet_lite0": [
        ["conv_stem", "bn1"], ["blocks.0"], ["blocks.1"], ["blocks.2"], ["blocks.3", "blocks.4"],
        ["blocks.5", "blocks.6"],
    ],
    "fasterrcnn_timm/convnext_atto": [["stem_0", "stem_1"], ["stages_0"], ["stages_1"], ["stages_2"], ["stages_3"]],
    # torchvision freezes it at the blocks 0, 2, 4, 7, 13 and 16.
    "torchvision/fasterrcnn_mobilenet_v3_large_fpn": [
        ["0", "1"], ["2", "3"], ["4", "5", "6"], ["7", "8", "9", "10", "11", "12"], ["13", "14", "15"], ["16"],
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_freezing_counts_the_stem_and_the_stages(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kubesight")
    spec, module = find_model(name), network(name)
    caplog.clear()
    stages = [[f"backbone.body.{part}" for part in stage] for stage in STAGES[name]]
    assert freeze_groups(spec, module) == stages
    for parameter, _ in module.named_parameters():
        holders = sum(has_prefix(parameter, stage) for stage in stages)
        assert holders == parameter.startswith("backbone.body."), parameter

    def frozen() -> set[str]:
        return {key for key, one in module.named_parameters() if not one.requires_grad}

    def below(count: int) -> set[str]:
        prefixes = [prefix for stage in stages[:count] for prefix in stage]
        return {key for key, _ in module.named_parameters() if has_prefix(key, prefixes)}

    freeze_detector(spec, module, None, pretrained=True)
    assert frozen() == below(len(stages) - 3)
    freeze_detector(spec, module, 1, pretrained=True)  # un-freezes what the default froze
    assert frozen() == below(1)
    freeze_detector(spec, module, 0, pretrained=True)
    assert not frozen()
    assert "random" not in caplog.text
    freeze_detector(spec, module, 99, pretrained=True)
    assert frozen() == below(len(stages))
    assert f"layers_to_freeze is 99 and {name} has {len(stages)} groups" in caplog.text
    freeze_detector(spec, module, None, pretrained=False)
    assert not frozen()
    freeze_detector(spec, module, 2, pretrained=False)
    assert frozen() == below(2)
    assert "the frozen layers have random weights" in caplog.text


@pytest.mark.parametrize(
    ("name", "trainable", "groups"),
    [("torchvision/ssd300_vgg16", 4, 5), ("torchvision/ssdlite320_mobilenet_v3_large", 6, 6)],
)
def test_ssds_are_frozen_as_torchvision_freezes_them(
    name: str, trainable: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_model(name)
    with torch.device("meta"):
        module = network(name)
    make = getattr(torchvision.models.detection, spec.library_name)
    assert len(freeze_groups(spec, module)) == groups
    for asked in range(groups + 1):
        freeze_detector(spec, module, groups - asked, pretrained=True)
        ours = {key for key, one in module.named_parameters() if one.requires_grad and key.startswith("backbone")}
        theirs = theirs_trainable(make, asked, monkeypatch)
        assert ours - {"backbone.scale_weight"} == theirs - {"backbone.scale_weight"}
    freeze_detector(spec, module, None, pretrained=True)
    default = {key for key, one in module.named_parameters() if one.requires_grad}
    freeze_detector(spec, module, groups - trainable, pretrained=True)
    assert default == {key for key, one in module.named_parameters() if one.requires_grad}


def theirs_trainable(make: Any, trainable: int, patch: pytest.MonkeyPatch) -> set[str]:
    """What torchvision leaves trainable in the backbone of a detector that has learnt."""
    for part in ("ssd", "ssdlite"):
        patch.setattr(f"torchvision.models.detection.{part}._validate_trainable_layers", lambda *_: trainable)
    with torch.device("meta"):
        module = make(weights=None, weights_backbone=None, num_classes=4)
    return {key for key, one in module.named_parameters() if one.requires_grad and key.startswith("backbone")}


def test_frozen_parts_are_found_and_stay_the_same_in_training() -> None:
    spec, module = find_model(BOXES), network(BOXES)
    freeze_detector(spec, module, 2, pretrained=False)
    frozen = frozen_modules(module)
    names = {name for name, part in module.named_modules() if any(part is one for one in frozen)}
    assert names == {"backbone.body.conv1", "backbone.body.bn1", "backbone.body.layer1"}
    assert not is_backbone_frozen(module)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.train()
    for part in frozen:
        part.eval()
    pictures = [torch.rand(3, 96, 120), torch.rand(3, 88, 100)]
    targets = [{"boxes": torch.tensor([[9.0, 9, 50, 60]]), "labels": torch.tensor([1])}] * 2
    optimizer = torch.optim.SGD([one for one in module.parameters() if one.requires_grad], lr=0.1)
    sum(module(pictures, targets).values()).backward()
    optimizer.step()
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert not [key for key in changed if has_prefix(key, sorted(names))]
    assert "backbone.body.layer2.0.bn1.running_mean" in changed
