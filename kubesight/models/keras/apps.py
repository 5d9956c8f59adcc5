"""The networks of keras.applications: input size, pixel scaling and width of each. Imports no framework."""

from dataclasses import dataclass
from typing import Literal

Scaling = Literal["built_in", "tf", "caffe", "torch"]
"""How a network wants pixels of 0..255: it scales them itself; x / 127.5 - 1; blue, green, red minus their means over
ImageNet; or x / 255 standardised by the means and deviations of ImageNet (keras.applications' own `mode`s)."""


@dataclass(frozen=True)
class App:
    """One network of keras.applications.

    Attributes:
        name: its function there, such as `EfficientNetB0`.
        size: width and height of the pictures that its weights were learnt on, in pixels.
        scaling: what has to be done to pixels before it.
        features: how many numbers it makes of a picture (of its full width, for those with an `alpha`).
        minimum: the least width and height that it takes, in pixels.
    """

    name: str
    size: int
    scaling: Scaling
    features: int
    minimum: int = 32


_APPS = (
    App("ConvNeXtTiny", 224, "built_in", 768),
    App("ConvNeXtSmall", 224, "built_in", 768),
    App("ConvNeXtBase", 224, "built_in", 1024),
    App("ConvNeXtLarge", 224, "built_in", 1536),
    App("ConvNeXtXLarge", 224, "built_in", 2048),
    App("DenseNet121", 224, "torch", 1024),
    App("DenseNet169", 224, "torch", 1664),
    App("DenseNet201", 224, "torch", 1920),
    App("EfficientNetB0", 224, "built_in", 1280),
    App("EfficientNetB1", 240, "built_in", 1280),
    App("EfficientNetB2", 260, "built_in", 1408),
    App("EfficientNetB3", 300, "built_in", 1536),
    App("EfficientNetB4", 380, "built_in", 1792),
    App("EfficientNetB5", 456, "built_in", 2048),
    App("EfficientNetB6", 528, "built_in", 2304),
    App("EfficientNetB7", 600, "built_in", 2560),
    App("EfficientNetV2B0", 224, "built_in", 1280),
    App("EfficientNetV2B1", 240, "built_in", 1280),
    App("EfficientNetV2B2", 260, "built_in", 1408),
    App("EfficientNetV2B3", 300, "built_in", 1536),
    App("EfficientNetV2S", 384, "built_in", 1280),
    App("EfficientNetV2M", 480, "built_in", 1280),
    App("EfficientNetV2L", 480, "built_in", 1280),
    App("InceptionResNetV2", 299, "tf", 1536, minimum=75),
    App("InceptionV3", 299, "tf", 2048, minimum=75),
    App("MobileNet", 224, "tf", 1024),
    App("MobileNetV2", 224, "tf", 1280),
    App("MobileNetV3Large", 224, "built_in", 960),
    App("MobileNetV3Small", 224, "built_in", 576),
    App("NASNetLarge", 331, "tf", 4032),
    App("NASNetMobile", 224, "tf", 1056),
    App("ResNet50", 224, "caffe", 2048),
    App("ResNet101", 224, "caffe", 2048),
    App("ResNet152", 224, "caffe", 2048),
    App("ResNet50V2", 224, "tf", 2048),
    App("ResNet101V2", 224, "tf", 2048),
    App("ResNet152V2", 224, "tf", 2048),
    App("VGG16", 224, "caffe", 512),
    App("VGG19", 224, "caffe", 512),
    App("Xception", 299, "tf", 2048, minimum=71),
)

APPS: dict[str, App] = {app.name: app for app in _APPS}
