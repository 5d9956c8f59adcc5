"""The names of Keras networks and the model ids of SageMaker, against a table typed from its published list."""

import subprocess
import sys
from collections import Counter

import pytest

from kubesight.errors import ModelError
from kubesight.models.keras.apps import APPS
from kubesight.models.keras.sagemaker import FRIENDLY, SAGEMAKER, Equivalent
from kubesight.models.names import CLASSIFICATION_TASKS, MODELS, ModelSpec, find_model, keras_names

IMAGENET, PLAIN = "tensorflow-ic-imagenet-", "tensorflow-ic-"

FAMILIES = {  # how the ids of a family begin: how many there are, and how many of them keras.applications has
    f"{IMAGENET}mobilenet-v1-": (16, 16),
    f"{IMAGENET}mobilenet-v2-": (21, 21),
    f"{PLAIN}tf2-preview-": (2, 2),
    f"{IMAGENET}mobilenet-v3-": (4, 4),
    f"{IMAGENET}inception-": (4, 2),
    f"{IMAGENET}resnet-": (7, 7),
    f"{PLAIN}resnet-": (1, 1),
    f"{PLAIN}efficientnet-b": (8, 8),
    f"{PLAIN}efficientnet-lite": (5, 0),
    f"{PLAIN}efficientnet-v2-imagenet1k-": (7, 7),
    f"{PLAIN}efficientnet-v2-imagenet21k-": (16, 14),
    f"{IMAGENET}nasnet-": (2, 2),
    f"{IMAGENET}pnasnet-": (1, 0),
    f"{PLAIN}bit-": (15, 0),
    f"{PLAIN}cait-": (10, 0),
    f"{PLAIN}deit-": (8, 0),
    f"{PLAIN}swin-": (9, 0),
}

SERVED = [  # id, short name, network, alpha, pixels, match
    (f"{IMAGENET}mobilenet-v1-100-224-classification-4", "mobilenet-v1-100-224", "MobileNet", 1.0, 224, "exact"),
    (f"{IMAGENET}mobilenet-v1-025-128-classification-4", "mobilenet-v1-025-128", "MobileNet", 0.25, 128, "exact"),
    (f"{IMAGENET}mobilenet-v2-140-224-classification-4", "mobilenet-v2-140-224", "MobileNetV2", 1.4, 224, "exact"),
    (f"{IMAGENET}mobilenet-v2-035-96", "mobilenet-v2-035-96", "MobileNetV2", 0.35, 96, "exact"),
    (f"{IMAGENET}mobilenet-v2-100-160", "mobilenet-v2-100-160", "MobileNetV2", 1.0, 160, "exact"),
    (f"{PLAIN}tf2-preview-mobilenet-v2-classification-4", "mobilenet-v2", "MobileNetV2", 1.0, 224, "exact"),
    (f"{IMAGENET}mobilenet-v3-small-075-224", "mobilenet-v3-small-075", "MobileNetV3Small", 0.75, 224, "exact"),
    (f"{IMAGENET}inception-v3-classification-4", "inception-v3", "InceptionV3", None, 299, "exact"),
    (f"{PLAIN}tf2-preview-inception-v3-classification-4", "inception-v3-preview", "InceptionV3", None, 299, "exact"),
    (f"{IMAGENET}inception-resnet-v2-classification-4", "inception-resnet-v2", "InceptionResNetV2", None, 299, "exact"),
    (f"{IMAGENET}resnet-v1-101-classification-4", "resnet-v1-101", "ResNet101", None, 224, "architecture"),
    (f"{IMAGENET}resnet-v2-152-classification-4", "resnet-v2-152", "ResNet152V2", None, 224, "architecture"),
    (f"{PLAIN}resnet-50-classification-1", "resnet-50", "ResNet50", None, 224, "architecture"),
    (f"{IMAGENET}resnet-50-classification-4", "resnet-50", "ResNet50", None, 224, "architecture"),
    (f"{PLAIN}efficientnet-b3-classification-1", "efficientnet-b3", "EfficientNetB3", None, 300, "exact"),
    (f"{PLAIN}efficientnet-b7-classification-1", "efficientnet-b7", "EfficientNetB7", None, 600, "exact"),
    (f"{PLAIN}efficientnet-v2-imagenet1k-s", "efficientnet-v2-s", "EfficientNetV2S", None, 384, "exact"),
    (f"{PLAIN}efficientnet-v2-imagenet21k-b1", "efficientnet-v2-b1-21k", "EfficientNetV2B1", None, 240, "architecture"),
    (
        f"{PLAIN}efficientnet-v2-imagenet21k-ft1k-l", "efficientnet-v2-l-21k-ft1k", "EfficientNetV2L", None, 480,
        "architecture",
    ),
    (f"{IMAGENET}nasnet-large", "nasnet-large", "NASNetLarge", None, 331, "exact"),
    (f"{IMAGENET}nasnet-mobile", "nasnet-mobile", "NASNetMobile", None, 224, "exact"),
]  # fmt: skip

LACKING = [  # id, short name, pixels, nearest, the architecture in timm
    (f"{IMAGENET}inception-v1-classification-4", "inception-v1", 224, "InceptionV3", None),
    (f"{IMAGENET}inception-v2-classification-4", "inception-v2", 224, "InceptionV3", None),
    (
        f"{PLAIN}efficientnet-lite3-classification-2", "efficientnet-lite3", 280, "EfficientNetB3",
        "tf_efficientnet_lite3",
    ),
    (
        f"{PLAIN}efficientnet-v2-imagenet21k-xl", "efficientnet-v2-xl-21k", 512, "EfficientNetV2L",
        "tf_efficientnetv2_xl.in21k",
    ),
    (f"{IMAGENET}pnasnet-large", "pnasnet-large", 331, "NASNetLarge", "pnasnet5large"),
    (
        f"{PLAIN}bit-m-r50x1-ilsvrc2012-classification-1", "bit-m-r50x1", 224, "ResNet50V2",
        "resnetv2_50x1_bit.goog_in21k_ft_in1k",
    ),
    (
        f"{PLAIN}bit-m-r101x3-imagenet21k-classification-1", "bit-m-r101x3-21k", 224, "ResNet101V2",
        "resnetv2_101x3_bit.goog_in21k",
    ),
    (f"{PLAIN}bit-s-r101x1-ilsvrc2012-classification-1", "bit-s-r101x1", 224, "ResNet101V2", "resnetv2_101x1_bit"),
    (f"{PLAIN}bit-s-r152x4-ilsvrc2012", "bit-s-r152x4-ilsvrc2012", 224, "ResNet152V2", "resnetv2_152x4_bit"),
    (f"{PLAIN}cait-xxs24-384", "cait-xxs24-384", 384, "ConvNeXtTiny", "cait_xxs24_384"),
    (f"{PLAIN}cait-m48-448", "cait-m48-448", 448, "ConvNeXtXLarge", "cait_m48_448"),
    (
        f"{PLAIN}deit-base-distilled-patch16-384", "deit-base-distilled-patch16-384", 384, "ConvNeXtBase",
        "deit_base_distilled_patch16_384",
    ),
    (
        f"{PLAIN}swin-large-patch4-window12-384", "swin-large-patch4-window12-384", 384, "ConvNeXtLarge",
        "swin_large_patch4_window12_384",
    ),
    (f"{PLAIN}swin-s3-small-224", "swin-s3-small-224", 224, "ConvNeXtSmall", "swin_s3_small_224"),
]  # fmt: skip


def test_all_136_ids_are_known_and_84_of_them_are_networks_of_keras() -> None:
    assert len(SAGEMAKER) == 136
    found = {start: [one for name, one in SAGEMAKER.items() if name.startswith(start)] for start in FAMILIES}
    assert {start: (len(ones), sum(one.app is not None for one in ones)) for start, ones in found.items()} == FAMILIES
    assert sum(map(len, found.values())) == 136  # no id is in two families
    assert Counter(one.match for one in SAGEMAKER.values()) == {"exact": 62, "architecture": 22, "none": 52}
    assert len(FRIENDLY) == 135  # resnet-50 is what two ids are called


@pytest.mark.parametrize("kind", ["m-r50x1", "m-r50x3", "m-r101x1", "m-r101x3"])
@pytest.mark.parametrize("data", ["ilsvrc2012", "imagenet21k"])
def test_big_transfer_models_of_both_trainings_are_known(kind: str, data: str) -> None:
    assert f"{PLAIN}bit-{kind}-{data}-classification-1" in SAGEMAKER


@pytest.mark.parametrize("one", SAGEMAKER.values(), ids=SAGEMAKER)
def test_an_id_is_found_with_and_without_prefix_and_names_a_network_that_exists(one: Equivalent) -> None:
    spec = find_model(one.model_id)
    assert spec.name == one.model_id  # as it was given
    prefixed = find_model(f"keras/{one.model_id}")
    assert prefixed.name == f"keras/{one.model_id}"
    assert {**vars(prefixed), "name": ""} == {**vars(spec), "name": ""}
    assert (spec.framework, spec.family, spec.tasks) == ("tensorflow", "keras", CLASSIFICATION_TASKS)
    assert spec.library_name in APPS
    assert spec.size == one.size >= APPS[spec.library_name].minimum
    assert (spec.match == "none") == bool(spec.nearest) == (one.app is None)
    if spec.nearest:
        assert spec.library_name == find_model(spec.nearest).library_name
    else:
        assert spec.timm == ""


@pytest.mark.parametrize(("model_id", "friendly", "app", "alpha", "size", "match"), SERVED)
def test_what_keras_has(model_id: str, friendly: str, app: str, alpha: float | None, size: int, match: str) -> None:
    options = () if alpha is None else (("alpha", alpha),)
    for name in (model_id, f"keras/{friendly}"):
        spec = find_model(name)
        assert (spec.name, spec.library_name, spec.options, spec.size) == (name, app, options, size)
        assert (spec.match, spec.nearest, spec.timm) == (match, "", "")


@pytest.mark.parametrize(("model_id", "friendly", "size", "nearest", "timm"), LACKING)
def test_what_keras_lacks(model_id: str, friendly: str, size: int, nearest: str, timm: str | None) -> None:
    for name in (model_id, f"keras/{friendly}"):
        spec = find_model(name)
        assert (spec.match, spec.nearest, spec.size) == ("none", f"keras/{nearest}", size)
        assert spec.timm == (f"timm/{timm}" if timm else "")


def test_what_timm_has_instead_is_in_timm() -> None:
    timm = pytest.importorskip("timm")
    named = {one.timm.removeprefix("timm/") for one in SAGEMAKER.values() if one.timm}
    assert len(named) == 50  # of 52 without an equivalent; Inception V1 and V2 have none there either
    assert named <= {*timm.list_models(), *timm.list_pretrained()}


def test_networks_of_keras_applications_by_their_own_names() -> None:
    assert len(APPS) == 40
    spec = find_model("keras/EfficientNetB4")
    assert spec == ModelSpec(
        "keras/EfficientNetB4", CLASSIFICATION_TASKS, "keras", "keras", "EfficientNetB4", 380, match="exact"
    )
    sizes = {"VGG16": 224, "Xception": 299, "NASNetLarge": 331, "EfficientNetV2S": 384, "EfficientNetB7": 600}
    assert {name: find_model(f"keras/{name}").size for name in sizes} == sizes
    minimum = {name: app.minimum for name, app in APPS.items() if app.minimum != 32}
    assert minimum == {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}


def test_a_name_means_one_thing() -> None:
    names = keras_names()
    assert len(names) == len(set(names)) == 175
    assert not {name.lower() for name in APPS} & FRIENDLY.keys()  # a slip of case is no other network
    assert not MODELS.keys() & SAGEMAKER.keys()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("keras/mobilenetv2", "keras/MobileNetV2"),
        ("keras/EfficientNetB9", "keras/EfficientNetB"),
        ("keras/resnet-v1-51", "keras/resnet-v1-50"),
        ("EfficientNetB0", "keras/EfficientNetB0"),
        ("mobilenet-v2-035-96", "keras/mobilenet-v2-035-96"),
        ("tensorflow-ic-imagenet-mobilenet-v2-100-128", f"{IMAGENET}mobilenet-v2-100-192"),
        ("tensorflow-ic-efficientnet-b9-classification-1", f"{PLAIN}efficientnet-b"),
        ("keras/tensorflow-ic-bit-m-r50x2-ilsvrc2012", f"keras/{PLAIN}bit-m-r"),
        ("timn/resnet18", "timm/resnet18"),
        ("resnet51", "resnet50"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ModelError, match="unknown model name") as failure:
        find_model(name)
    assert repr(name) in failure.value.message
    assert f"Did you mean {near}" in str(failure.value)


@pytest.mark.parametrize("name", ["keras/", "tensorflow-ic-", "keras/qqqqqqqq", "qqqqqqqq"])
def test_a_name_near_to_nothing_is_refused_too(name: str) -> None:
    with pytest.raises(ModelError, match="unknown model name"):
        find_model(name)


def test_names_need_no_framework() -> None:
    code = (
        "import sys; from kubesight.models.names import find_model; find_model('keras/VGG16'); "
        "print([name for name in ('keras', 'tensorflow', 'torch', 'timm', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
