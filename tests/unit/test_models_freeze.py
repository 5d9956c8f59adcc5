"""Freezing: the published groups, and layers that then compute the same for ever."""

import pytest
import torch

from kubesight.models.build import build_model
from kubesight.models.freeze import freeze, freeze_backbone, freeze_groups, frozen_modules, is_backbone_frozen
from kubesight.models.head import forward_features, has_prefix
from kubesight.models.names import find_model

RESNET = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
VIT = [["cls_token", "pos_embed", "patch_embed"], *([f"blocks.{i}"] for i in range(11)), ["blocks.11", "norm"]]


@pytest.mark.parametrize(
    ("name", "groups"),
    [("resnet18", RESNET), ("resnest50", RESNET), ("seresnext", RESNET), ("vits16r224", VIT), ("vitb16r224", VIT)],
)
def test_groups_are_the_published_ones(name: str, groups: list[list[str]]) -> None:
    with torch.device("meta"):
        assert freeze_groups(find_model(name), build_model(find_model(name), 2).module) == groups


def test_mobilenet_has_the_19_features_of_the_published_table() -> None:
    """Output channels of the 19 layers: table 2 of Sandler et al., 2018."""
    spec = find_model("mobilenetv2")
    module = build_model(spec, 2).module
    groups = freeze_groups(spec, module)
    assert (groups[0], groups[-1]) == (["conv_stem", "bn1"], ["conv_head", "bn2"])
    last = {}
    for name, parameter in module.named_parameters():
        for index, group in enumerate(groups):
            if has_prefix(name, group):
                last[index] = parameter.shape[0]
    repeats = {16: 1, 24: 2, 32: 3, 64: 4, 96: 3, 160: 3, 320: 1}
    assert list(last.values()) == [32, *(c for c, n in repeats.items() for _ in range(n)), 1280]


def test_freeze_counts_groups_and_frees_the_rest(caplog) -> None:
    spec = find_model("resnet18")
    module = build_model(spec, 2).module

    def learning() -> set[str]:
        return {name.partition(".")[0] for name, parameter in module.named_parameters() if parameter.requires_grad}

    assert freeze(spec, module, 2) == ["conv1", "bn1", "layer1"]
    assert learning() == {"layer2", "layer3", "layer4", "fc"}
    freeze(spec, module, 1)
    assert "layer1" in learning()
    assert not is_backbone_frozen(module)
    assert not caplog.text
    freeze(spec, module, 9)
    assert learning() == {"fc"}
    assert is_backbone_frozen(module)
    assert "layers_to_freeze is 9 and resnet18 has 5 groups" in caplog.text
    freeze(spec, module, 0)
    assert frozen_modules(module) == []
    freeze_backbone(module)
    assert learning() == {"fc"}


def test_frozen_layers_keep_computing_the_same() -> None:
    spec = find_model("timm/test_resnet")
    module = build_model(spec, 2).module
    freeze(spec, module, 2)
    frozen = freeze_groups(spec, module)[:2]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.train()
    for part in frozen_modules(module):
        part.eval()
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    module(torch.randn(4, 3, 64, 64) + 2).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    prefixes = [prefix for group in frozen for prefix in group]
    assert changed
    assert not [key for key in changed if has_prefix(key, prefixes)]
    free_batch_norms = [key for key in before if key.endswith("running_mean") and not has_prefix(key, prefixes)]
    assert set(free_batch_norms) <= changed


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "timm/test_efficientnet", "timm/test_convnext"])
def test_a_frozen_backbone_gives_the_same_features_in_training(name: str) -> None:
    """Dropout, stochastic depth and batch statistics are all off, or features could not be cached."""
    module = build_model(find_model(name), 2).module
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    freeze_backbone(module)
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        expected = forward_features(module.eval(), images)
        module.train()
        for part in frozen_modules(module):
            part.eval()
        assert torch.equal(forward_features(module, images), expected)
    assert any(part.training for part in module.modules())
