"""Detectors by name: what is built, frozen, learnt and found, at the sizes of stamps so that it is quick."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops.misc import FrozenBatchNorm2d

from kubesight.dataset.detections import Detections, full_mask
from kubesight.dataset.rows import Task
from kubesight.errors import ModelError
from kubesight.models.backbones import TimmPyramid
from kubesight.models.detectors import build_detector, detect_batch, set_inference
from kubesight.models.head import head_prefixes
from kubesight.models.names import MODELS, find_model

SETTINGS: dict[str, Any] = {
    "min_size": 96, "max_size": 160, "nms_iou_threshold": 0.5, "box_detections_per_image": 30, "layers_to_freeze": None,
    "image_mean": None, "image_std": None,
}  # fmt: skip
CLASSES = ["blue", "green", "red"]
BOXES = "fasterrcnn_timm/test_resnet"  # timm's own network for tests
MASKS = "maskrcnn_timm/test_resnet"
SHAPES = [BOXES, MASKS, "fasterrcnn_resnet18_fpn", "maskrcnn_resnet18_fpn", "retinanet_resnet50_fpn",
          "torchvision/fcos_resnet50_fpn", "torchvision/ssdlite320_mobilenet_v3_large",
          "torchvision/fasterrcnn_mobilenet_v3_large_fpn", "maskrcnn_timm/swin_tiny_patch4_window7_224",
          "fasterrcnn_timm/convnext_atto"]  # fmt: skip


def built(name: str, weights: str = "none", **settings: Any) -> Any:
    torch.manual_seed(0)
    return build_detector(find_model(name), CLASSES, weights=weights, settings=SETTINGS | settings)


def network(name: str, **settings: Any) -> Any:
    """A detector that looks at fewer regions than it is made to, to be quick."""
    module = built(name, **settings).module
    if isinstance(module, FasterRCNN):
        module.roi_heads.fg_bg_sampler.batch_size_per_image = 32
        module.rpn._pre_nms_top_n = module.rpn._post_nms_top_n = {"training": 200, "testing": 100}
    return module


def scene(masks: bool = False) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Two pictures: a blue and a red square, a green one; and a third of nothing."""
    colour = {1: 2, 2: 1, 3: 0}  # the channel of each label
    objects = [[(1, 10, 12, 50, 60), (3, 70, 30, 110, 70)], [(2, 20, 8, 64, 48)], []]
    pictures, targets = [], []
    for (height, width), found in zip([(96, 120), (88, 100), (96, 96)], objects, strict=True):
        picture = torch.full((3, height, width), 0.5)
        mask = torch.zeros(len(found), height, width, dtype=torch.uint8)
        for place, (label, x0, y0, x1, y1) in enumerate(found):
            picture[:, y0:y1, x0:x1] = 0.0
            picture[colour[label], y0:y1, x0:x1] = 1.0
            mask[place, y0:y1, x0:x1] = 1
        target = {
            "boxes": torch.tensor([box for _, *box in found], dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([label for label, *_ in found], dtype=torch.int64),
        }
        pictures.append(picture)
        targets.append(target | ({"masks": mask} if masks else {}))
    return pictures, targets


def bytes_of(picture: torch.Tensor) -> torch.Tensor:
    return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


@pytest.mark.parametrize("name", SHAPES)
def test_losses_and_answers_have_the_promised_shapes(name: str) -> None:
    module = network(name)
    masks = find_model(name).tasks == {Task.SEGMENTATION}
    pictures, targets = scene(masks)
    losses = module(pictures, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert ("loss_mask" in losses) == masks
    sum(losses.values()).backward()
    # Every parameter is reached: processes that train together would otherwise wait for each other for ever.
    assert not [key for key, one in module.named_parameters() if one.requires_grad and one.grad is None]
    found = detect_batch(module.eval(), [bytes_of(picture) for picture in pictures])
    assert len(found) == 3
    for one in found:
        assert 0 < len(one) <= 30
        assert one.boxes.dtype == one.scores.dtype == np.float32
        assert one.labels.dtype == np.int64
        assert one.boxes.shape == (len(one), 4)
        assert one.boxes.min() >= 0
        assert one.boxes.max() <= 1
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert set(one.labels) <= {0, 1, 2}
        assert (np.diff(one.scores) <= 0).all()
        if masks:
            assert one.masks.dtype == np.float32
            assert one.masks.shape == (len(one), 28, 28)
            assert 0 <= one.masks.min() <= one.masks.max() <= 1
        else:
            assert one.masks is None


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.library == "torchvision"])
def test_the_named_models_are_what_their_names_say(name: str) -> None:
    with torch.device("meta"):
        module = network(name)
    depth = int(name.split("resnet")[1].split("_")[0])
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in module.backbone.body.modules())
    # A ResNet's depth counts convolutions outside of short cuts, and the classifier, which is not there.
    assert convolutions == depth - 1 + (4 if depth >= 50 else 3)
    assert isinstance(module, MaskRCNN) == name.startswith("maskrcnn")
    assert isinstance(module, FasterRCNN) == (not name.startswith("retinanet"))
    assert module.backbone.out_channels == 256
    assert (module.transform.min_size, module.transform.max_size) == ((96,), 160)


def test_torchvision_puts_the_same_networks_together() -> None:
    with torch.device("meta"):
        ours = network("fasterrcnn_resnet50_fpn").state_dict()
        theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=4
        )
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


def test_a_few_steps_learn_pictures_by_heart() -> None:
    module = network(MASKS, min_size=64)
    pictures, targets = (part[:2] for part in scene(masks=True))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.02, momentum=0.9)
    history = []
    for _ in range(12):
        loss = sum(module(pictures, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert all(np.isfinite(history))
    assert np.mean(history[-3:]) < 0.5 * history[0]


def certain_of(module: nn.Module, label: int) -> nn.Module:
    """Make a detector say this class, whose index in the network is given, of everything."""
    heads = [module.get_submodule(name) for name in head_prefixes(module)]
    with torch.no_grad():
        for head in [getattr(head, "cls_score", head) for head in heads if not isinstance(head, nn.ConvTranspose2d)]:
            head.weight.zero_()
            biases = head.bias.view(-1, 3 if module.transform.first_label == 0 else 4)
            biases.fill_(-4.0)
            biases[:, label] = 4.0
    return module


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (BOXES, 1), ("fasterrcnn_resnet18_fpn", 1), ("torchvision/ssdlite320_mobilenet_v3_large", 1),
        ("retinanet_resnet50_fpn", 0), ("torchvision/fcos_resnet50_fpn", 0),
    ],
)  # fmt: skip
def test_labels_outside_start_at_0_and_targets_at_1(name: str, first: int) -> None:
    """Whether or not the network itself has a class for the background, which is an affair of its own."""
    pictures, targets = scene()
    for label in (0, 2):
        module = certain_of(network(name), first + label)
        module.score_thresh = 0.5  # not the classes that it is certain are not there
        if isinstance(module, FasterRCNN):
            module.roi_heads.score_thresh = 0.5
        found = detect_batch(module.eval(), [bytes_of(pictures[0])])[0]
        assert len(found)
        assert set(found.labels) == {label}
    module.train()
    losses = []
    for told in (1, 3):  # the network is certain of the class 2, which targets call 3
        torch.manual_seed(0)
        loss = module(pictures[:1], [{**targets[0], "labels": torch.full((2,), told)}])
        losses.append(
            float((loss["loss_classifier"] if "loss_classifier" in loss else loss["classification"]).detach())
        )
    assert losses[1] < losses[0]


def test_boxes_are_fractions_of_each_picture_whatever_its_size() -> None:
    """A network that resizes gives the same answer of a picture twice as large, in fractions."""
    module = network(BOXES).eval()
    picture = bytes_of(scene()[0][0])
    large = picture.repeat_interleave(2, 0).repeat_interleave(2, 1)
    alone, twice = detect_batch(module, [picture])[0], detect_batch(module, [large])[0]
    together = detect_batch(module, [picture, large])
    assert twice.boxes.max() <= 1
    np.testing.assert_allclose(together[0].boxes, alone.boxes, atol=1e-4)
    np.testing.assert_allclose(together[1].scores, twice.scores, atol=1e-5)
    raw = module([picture.permute(2, 0, 1).float() / 255])[0]["boxes"].detach().numpy()
    np.testing.assert_allclose(alone.boxes * [120, 96, 120, 96], raw, atol=1e-3)


def test_no_box_is_left_out_for_its_score_and_none_is_empty() -> None:
    module = certain_of(network(BOXES), 0).eval()  # certain of the background
    found = detect_batch(module, [bytes_of(scene()[0][0])])[0]
    assert len(found) == 30
    assert found.scores.max() < 0.01

    class Empty(nn.Linear):
        def forward(self, images: Any) -> Any:
            boxes = torch.tensor([[5.0, 5, 5, 9], [1, 1, 3, 3], [-9, -9, -2, -2], [2, 2, 99, 99]])
            return [
                {"boxes": boxes, "labels": torch.tensor([1, 2, 3, 1]), "scores": torch.tensor([0.9, 0.3, 0.8, 0.4])}
            ]

    cleaned = detect_batch(Empty(1, 1), [torch.zeros(10, 20, 3, dtype=torch.uint8)])[0]
    np.testing.assert_allclose(cleaned.boxes, [[0.1, 0.2, 1, 1], [0.05, 0.1, 0.15, 0.3]], rtol=1e-6)
    assert cleaned.labels.tolist() == [0, 1]
    assert cleaned.scores.tolist() == pytest.approx([0.4, 0.3])


def test_the_same_bytes_give_the_same_answer_in_any_order_of_memory() -> None:
    module = network(MASKS).eval()
    picture = bytes_of(scene()[0][0])
    turned = picture.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert turned.stride() != picture.stride()
    one, other = detect_batch(module, [picture])[0], detect_batch(module, [turned])[0]
    for name in ("boxes", "labels", "scores", "masks"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_masks_are_not_pasted_and_agree_with_torchvision_when_they_are() -> None:
    module = network(MASKS).eval()
    picture = scene()[0][1]
    raw = module([picture])[0]
    assert raw["masks"].shape[1:] == (1, 28, 28)
    found = detect_batch(module, [bytes_of(picture)])[0]
    pasted = paste_masks_in_image(raw["masks"][:1], raw["boxes"][:1], (88, 100))[0, 0].detach().numpy() >= 0.5
    ours = full_mask(found.masks[0], found.pixel_boxes(88, 100)[0], 88, 100, 0.5)
    # torchvision rounds boxes to whole pixels before it lays the mask on them.
    assert (ours != pasted).mean() < 0.1


@pytest.mark.parametrize("name", ["torchvision/ssdlite320_mobilenet_v3_large", BOXES, MASKS])
def test_a_batch_of_one_picture_and_one_without_objects_can_be_learnt(name: str) -> None:
    module = network(name)
    pictures, targets = scene(masks=True)
    for place in (0, 2):
        assert all(
            torch.isfinite(one) for one in module(pictures[place : place + 1], targets[place : place + 1]).values()
        )


def test_inference_settings_can_be_changed() -> None:
    for name in (BOXES, "torchvision/ssdlite320_mobilenet_v3_large", "torchvision/fcos_resnet50_fpn"):
        module = network(name).eval()
        pictures = [bytes_of(scene()[0][0])]

        def overlaps(found: Detections) -> float:
            boxes, labels = torch.from_numpy(found.boxes), torch.from_numpy(found.labels)
            overlap = torchvision.ops.box_iou(boxes, boxes) * (labels[:, None] == labels)
            return float(overlap.fill_diagonal_(0).max())

        assert overlaps(detect_batch(module, pictures)[0]) <= 0.5 + 1e-4
        set_inference(module, nms_iou_threshold=0.1)
        assert overlaps(detect_batch(module, pictures)[0]) <= 0.1 + 1e-4
        set_inference(module, nms_iou_threshold=0.9, box_detections_per_image=7)
        strict = detect_batch(module, pictures)[0]
        assert len(strict) <= 7
        set_inference(module, box_detections_per_image=25)
        assert len(detect_batch(module, pictures)[0]) > len(strict)


def test_channels_last_changes_nothing() -> None:
    for name in (MASKS, "torchvision/ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn"):
        module = network(name, min_size=64)
        pictures, targets = (part[:2] for part in scene(masks=True))
        torch.manual_seed(1)
        plain = {key: float(value.detach()) for key, value in module(pictures, targets).items()}
        module.to(memory_format=torch.channels_last)
        torch.manual_seed(1)
        losses = module(pictures, targets)
        assert {key: float(value.detach()) for key, value in losses.items()} == pytest.approx(plain, rel=1e-3)
        sum(losses.values()).backward()
        assert len(detect_batch(module.eval(), [bytes_of(pictures[0])])[0])


def test_sizes_of_a_pyramid_follow_the_network() -> None:
    narrow = TimmPyramid("test_resnet")
    assert (narrow.strides, narrow.out_channels) == ((4, 8, 16, 32), 128)
    with torch.no_grad():
        levels = narrow(torch.zeros(1, 3, 64, 128))
    assert [tuple(one.shape[1:]) for one in levels.values()] == [
        (128, 16, 32), (128, 8, 16), (128, 4, 8), (128, 2, 4), (128, 1, 2),
    ]  # fmt: skip
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert TimmPyramid("selecsls42").out_channels == 256
    module = network(BOXES)
    assert module.rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert network(MASKS).roi_heads.mask_predictor.mask_fcn_logits.in_channels == 128


def test_maps_with_channels_at_the_end_are_turned() -> None:
    """Also where the map's height is by chance the number of channels: 96 rows of the 96 channels of stride 4."""
    pyramid = TimmPyramid("swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        assert pyramid(torch.zeros(1, 3, 384, 128))["0"].shape == (1, 128, 96, 32)


def test_random_weights_follow_the_seed_and_are_all_trained(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kubesight")
    first, again = built("fasterrcnn_resnet18_fpn"), built("fasterrcnn_resnet18_fpn")
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), again.module.parameters(), strict=True))
    assert first.weights == {"source": "none", "detail": "random", "batch_norm": "learnt"}
    assert all(one.requires_grad for one in first.module.parameters())
    assert isinstance(first.module.backbone.body.bn1, nn.BatchNorm2d)
    assert not any(isinstance(layer, FrozenBatchNorm2d) for layer in first.module.modules())
    assert "batch normalisation learns" in caplog.text
    assert built("fasterrcnn_timm/convnext_atto").weights["batch_norm"] == "none"


def test_colours_are_the_networks_unless_they_are_set() -> None:
    plain = built("fasterrcnn_timm/tf_efficientnetv2_b0")
    assert (plain.mean, plain.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert built("torchvision/ssdlite320_mobilenet_v3_large").mean == (0.5, 0.5, 0.5)
    own = built(BOXES, image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
    assert (own.mean, own.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    batch, _ = own.module.transform([torch.full((3, 96, 96), 0.75)])
    torch.testing.assert_close(batch.tensors, torch.ones(1, 3, 96, 96))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fasterrcnn_timm/vit_tiny_patch16_224", ["strides 16, 16, 16", "resnet18"]),
        ("maskrcnn_timm/maxvit_tiny_rw_224", ["does not take pictures of any size"]),
        ("fasterrcnn_timm/inception_v4", ["its feature maps of a picture of 96 by 160 pixels"]),
        (
            "fasterrcnn_timm/efficientnet_lit0",
            ["knows no model 'efficientnet_lit0'", "fasterrcnn_timm/efficientnet_lite0"],
        ),
        ("maskrcnn_timm/resnet18.nosuch", ["no weights 'nosuch' of resnet18", "a1_in1k"]),
        ("torchvision/fasterrcnn_resnet50_fpm", ["knows no detector", "torchvision/fasterrcnn_resnet50_fpn"]),
        ("torchvision/keypointrcnn_resnet50_fpn", ["key points"]),
        ("torchvision/resnet50", ["no detector of torchvision", "fasterrcnn_", "timm/NAME"]),
        ("fasterrcnn_tim/resnet18", ["unknown model name", "fasterrcnn_timm/resnet18"]),
        ("maskrcnn_resnet51_fpn", ["unknown model name", "maskrcnn_resnet50_fpn"]),
        ("fasterrcnn_timm/", ["unknown model name"]),
    ],
)
def test_names_that_cannot_be_built_say_why(name: str, words: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        network(name)
    assert error.value.where == "model_name"
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "task", "family", "size"),
    [
        ("torchvision/maskrcnn_resnet50_fpn_v2", Task.SEGMENTATION, "maskrcnn", None),
        ("torchvision/retinanet_resnet50_fpn_v2", Task.DETECTION, "retinanet", None),
        ("torchvision/fcos_resnet50_fpn", Task.DETECTION, "fcos", None),
        ("torchvision/ssd300_vgg16", Task.DETECTION, "ssd", 300),
        ("torchvision/ssdlite320_mobilenet_v3_large", Task.DETECTION, "ssd", 320),
        ("maskrcnn_timm/resnet18", Task.SEGMENTATION, "maskrcnn", None),
        ("fasterrcnn_timm/resnet18", Task.DETECTION, "fasterrcnn", None),
    ],
)
def test_a_name_tells_the_task(name: str, task: Task, family: str, size: int | None) -> None:
    spec = find_model(name)
    assert (spec.tasks, spec.family, spec.size, spec.framework) == ({task}, family, size, "torch")
