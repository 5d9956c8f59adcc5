"""The model ids of SageMaker's "Image Classification - TensorFlow", and what each is in Keras and in timm.

135 ids of its catalogue and one that only its documentation prints, written as the grammar that they follow. Of these
136, keras.applications has the architecture of 84. The others name the nearest network that it has, and the same
architecture in timm where timm has it. Imports no framework.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kubesight.models.keras.apps import APPS

Match = Literal["exact", "architecture", "none"]

_PLAIN = "tensorflow-ic-"
_IMAGENET = "tensorflow-ic-imagenet-"


@dataclass(frozen=True)
class Equivalent:
    """What one model id of SageMaker is here.

    Attributes:
        model_id: SageMaker's name.
        friendly: a short name of it, good as `keras/FRIENDLY`.
        app: the network of keras.applications, or None where there is none of this architecture.
        options: what that network is built with, such as its width `alpha`.
        size: width and height of its pictures, in pixels.
        match: `exact`: same architecture, width, picture size and kind of training. `architecture`: weights of the
            same architecture that were learnt differently. `none`: keras.applications lacks the architecture.
        nearest: the name here (`keras/...`) of the nearest network that Keras has, where it lacks this one.
        timm: the name here (`timm/...`) of the very architecture on torch, where Keras lacks it and timm has it.
    """

    model_id: str
    friendly: str
    app: str | None
    options: tuple[tuple[str, Any], ...]
    size: int
    match: Match
    nearest: str = ""
    timm: str = ""


def _served(
    model_id: str, friendly: str, app: str, size: int = 0, match: Match = "exact", alpha: float | None = None
) -> Equivalent:
    options = () if alpha is None else (("alpha", alpha),)
    return Equivalent(model_id, friendly, app, options, size or APPS[app].size, match)


def _lacking(model_id: str, friendly: str, nearest: str, size: int, timm: str = "") -> Equivalent:
    name = f"timm/{timm}" if timm else ""
    return Equivalent(model_id, friendly, None, (), size, "none", f"keras/{nearest}", name)


def _mobilenets() -> Iterator[Equivalent]:
    for width in (100, 75, 50, 25):
        for size in (224, 192, 160, 128):
            name = f"mobilenet-v1-{width:03}-{size}"
            yield _served(f"{_IMAGENET}{name}-classification-4", name, "MobileNet", size, alpha=width / 100)
    smaller = {35: (192, 160, 128, 96), 50: (192, 160, 128, 96), 75: (192, 160, 128, 96), 100: (192, 160, 96)}
    for width in (35, 50, 75, 100, 130, 140):
        for size in (224, *smaller.get(width, ())):
            name = f"mobilenet-v2-{width:03}-{size}"
            ending = "-classification-4" if size == 224 else ""
            yield _served(f"{_IMAGENET}{name}{ending}", name, "MobileNetV2", size, alpha=width / 100)
    yield _served(f"{_PLAIN}tf2-preview-mobilenet-v2-classification-4", "mobilenet-v2", "MobileNetV2", alpha=1.0)
    for kind in ("large", "small"):
        for width in (100, 75):
            name = f"mobilenet-v3-{kind}-{width:03}"
            yield _served(f"{_IMAGENET}{name}-224", name, f"MobileNetV3{kind.title()}", alpha=width / 100)


def _inceptions() -> Iterator[Equivalent]:
    for version in (1, 2):
        name = f"inception-v{version}"
        yield _lacking(f"{_IMAGENET}{name}-classification-4", name, "InceptionV3", 224)
    yield _served(f"{_IMAGENET}inception-v3-classification-4", "inception-v3", "InceptionV3")
    yield _served(f"{_PLAIN}tf2-preview-inception-v3-classification-4", "inception-v3-preview", "InceptionV3")
    yield _served(f"{_IMAGENET}inception-resnet-v2-classification-4", "inception-resnet-v2", "InceptionResNetV2")


def _resnets() -> Iterator[Equivalent]:
    for depth in (50, 101, 152):
        for version, app in (("v1", f"ResNet{depth}"), ("v2", f"ResNet{depth}V2")):
            name = f"resnet-{version}-{depth}"
            yield _served(f"{_IMAGENET}{name}-classification-4", name, app, match="architecture")
    # The second is what SageMaker's documentation prints for the first.
    for model_id in (f"{_PLAIN}resnet-50-classification-1", f"{_IMAGENET}resnet-50-classification-4"):
        yield _served(model_id, "resnet-50", "ResNet50", match="architecture")


def _efficientnets() -> Iterator[Equivalent]:
    for number in range(8):
        name = f"efficientnet-b{number}"
        yield _served(f"{_PLAIN}{name}-classification-1", name, f"EfficientNetB{number}")
    for number, size in enumerate((224, 240, 260, 280, 300)):
        name = f"efficientnet-lite{number}"
        timm = f"tf_efficientnet_lite{number}"
        yield _lacking(f"{_PLAIN}{name}-classification-2", name, f"EfficientNetB{number}", size, timm)
    second = f"{_PLAIN}efficientnet-v2-"
    for kind in ("b0", "b1", "b2", "b3", "s", "m", "l"):
        name, app = f"efficientnet-v2-{kind}", f"EfficientNetV2{kind.upper()}"
        yield _served(f"{second}imagenet1k-{kind}", name, app)
        yield _served(f"{second}imagenet21k-ft1k-{kind}", f"{name}-21k-ft1k", app, match="architecture")
        yield _served(f"{second}imagenet21k-{kind}", f"{name}-21k", app, match="architecture")
    for training, short in (("imagenet21k-ft1k", "21k-ft1k"), ("imagenet21k", "21k")):
        timm = f"tf_efficientnetv2_xl.in{short.replace('-ft1k', '_ft_in1k')}"
        yield _lacking(f"{second}{training}-xl", f"efficientnet-v2-xl-{short}", "EfficientNetV2L", 512, timm)


def _nasnets() -> Iterator[Equivalent]:
    yield _served(f"{_IMAGENET}nasnet-large", "nasnet-large", "NASNetLarge")
    yield _served(f"{_IMAGENET}nasnet-mobile", "nasnet-mobile", "NASNetMobile")
    yield _lacking(f"{_IMAGENET}pnasnet-large", "pnasnet-large", "NASNetLarge", 331, "pnasnet5large")


def _big_transfers() -> Iterator[Equivalent]:
    """BiT: ResNets with group normalisation and standardised weights, `m` of ImageNet-21k, `s` of ImageNet-1k."""
    for kind, data, ending, tag in (("m", "ilsvrc2012", "", ".goog_in21k_ft_in1k"),
                                    ("m", "imagenet21k", "-21k", ".goog_in21k"),
                                    ("s", "ilsvrc2012", "", "")):  # fmt: skip
        for depth, width in ((50, 1), (50, 3), (101, 1), (101, 3)):
            name = f"bit-{kind}-r{depth}x{width}"
            timm = f"resnetv2_{depth}x{width}_bit{tag}"
            yield _lacking(f"{_PLAIN}{name}-{data}-classification-1", name + ending, f"ResNet{depth}V2", 224, timm)
        name = f"bit-{kind}-r152x4-{data}"
        yield _lacking(f"{_PLAIN}{name}", name, "ResNet152V2", 224, f"resnetv2_152x4_bit{tag}")


def _transformers() -> Iterator[Equivalent]:
    """Vision transformers, whose nearest is the ConvNeXt of the nearest number of weights."""
    for name, nearest in (
        ("cait-xxs24-224", "Tiny"), ("cait-xxs24-384", "Tiny"), ("cait-xxs36-224", "Tiny"), ("cait-xxs36-384", "Tiny"),
        ("cait-xs24-384", "Tiny"), ("cait-s24-224", "Small"), ("cait-s24-384", "Small"), ("cait-s36-384", "Base"),
        ("cait-m36-384", "XLarge"), ("cait-m48-448", "XLarge"),
        ("deit-tiny-distilled-patch16-224", "Tiny"), ("deit-small-distilled-patch16-224", "Tiny"),
        ("deit-base-distilled-patch16-224", "Base"), ("deit-base-distilled-patch16-384", "Base"),
        ("deit-tiny-patch16-224", "Tiny"), ("deit-small-patch16-224", "Tiny"), ("deit-base-patch16-224", "Base"),
        ("deit-base-patch16-384", "Base"),
        ("swin-tiny-patch4-window7-224", "Tiny"), ("swin-small-patch4-window7-224", "Small"),
        ("swin-base-patch4-window7-224", "Base"), ("swin-base-patch4-window12-384", "Base"),
        ("swin-large-patch4-window7-224", "Large"), ("swin-large-patch4-window12-384", "Large"),
        ("swin-s3-tiny-224", "Tiny"), ("swin-s3-small-224", "Small"), ("swin-s3-base-224", "Base"),
    ):  # fmt: skip
        size = int(name.rpartition("-")[2])
        yield _lacking(f"{_PLAIN}{name}", name, f"ConvNeXt{nearest}", size, name.replace("-", "_"))


_FAMILIES = (_mobilenets, _inceptions, _resnets, _efficientnets, _nasnets, _big_transfers, _transformers)

SAGEMAKER: dict[str, Equivalent] = {one.model_id: one for family in _FAMILIES for one in family()}
"""Every model id of SageMaker's, and what it is here."""

FRIENDLY: dict[str, Equivalent] = {one.friendly: one for one in reversed(SAGEMAKER.values())}
"""The same by short name; the id of the catalogue where two share a name."""
