"""An exported detector finds what the trained one finds, at every size of picture."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_detectors import CLASSES, scene, scene_files, small_detector

from kubesight.dataset import Box, DatasetWriter, DetectionRow, Task
from kubesight.dataset.detections import Detections
from kubesight.errors import ModelError
from kubesight.export.agreement import agreement
from kubesight.export.detection import DetectorExport
from kubesight.export.onnx import describe, export
from kubesight.modelcard import WEIGHTS_FILE, ModelCard
from kubesight.models.build import load_trained
from kubesight.models.detectors import detect_batch
from kubesight.models.weights import save_weights
from kubesight.serving.detector import onnx_detections
from kubesight.serving.predictor import load_predictor

SIZES = [(150, 200), (200, 150), (96, 96), (37, 301), (366, 452), (5, 5), (1, 1), (1, 340)]
"""Height and width; of 366 x 452, torchvision's rule makes other sizes in a network than in its exported graph."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[Task, Path]:
    """A model folder of either task, exported."""
    root = tmp_path_factory.mktemp("exported")
    folders = {task: small_detector(root / task, task) for task in (Task.DETECTION, Task.SEGMENTATION)}
    for folder in folders.values():
        export(folder, samples=3)
    return folders


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_it_finds_what_the_trained_one_finds(task, exported, tmp_path) -> None:
    files = scene_files(tmp_path, SIZES)
    ours = list(load_predictor(exported[task], device="cpu").all_detections(files))
    theirs = list(load_predictor(exported[task], device="cpu", backend="onnx").all_detections(files))
    shares = []
    for mine, other, size in zip(ours, theirs, SIZES, strict=True):
        assert (other.boxes.dtype, other.labels.dtype, other.scores.dtype) == (np.float32, np.int64, np.float32)
        assert (np.diff(other.scores) <= 0).all()
        assert task is Task.DETECTION or other.masks.shape == (len(other), 28, 28)
        shares.append(agreement([mine], [other], [size], threshold=0.0)["agreement"])
    # In a random network's crowd of boxes two may overlap by just the threshold; in most pictures none do.
    assert min(shares) > 0.5, shares
    assert np.mean(shares) > 0.95, shares
    assert np.median(shares) == 1, shares
    assert np.std([one.scores[0] for one in ours]) > 0.01  # pictures do matter


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_the_record_and_the_folder(task, exported) -> None:
    record = ModelCard.load(exported[task]).onnx
    assert record["agreement"] == 1.0
    assert record["samples"] == 3
    assert record["detections"] >= 60
    assert 0 < record["max_box_difference"] < 0.01
    assert (record["max_mask_difference"] > 0) is (task is Task.SEGMENTATION)
    assert record["input"]["shape"] == ["height", "width", 3]
    names = ["boxes", "labels", "scores", "masks"]
    assert [one["name"] for one in record["outputs"]] == names[: 4 if task is Task.SEGMENTATION else 3]
    assert record["data"] == "random pixels, no real pictures"
    assert record["inference"] == {"nms_iou_threshold": 0.5, "box_detections_per_image": 20}
    assert describe(record).startswith("on 3 pictures 100.0% of ")
    assert sorted(p.name for p in exported[task].iterdir()) == [
        "labels.json", "model.onnx", "modelcard.json", WEIGHTS_FILE,
    ]  # fmt: skip
    graph = onnx.load(exported[task] / "model.onnx")
    assert [entry.version for entry in graph.opset_import if not entry.domain] == [record["opset"]]
    assert {node.op_type for node in graph.graph.node} >= {"RoiAlign", "Resize"}
    assert b"NonMaxSuppression" in (exported[task] / "model.onnx").read_bytes()  # in a branch: there may be no box


def test_the_file_runs_with_onnxruntime_alone(exported) -> None:
    program = (
        "import json, sys, numpy as np, onnxruntime as ort\n"
        "s = ort.InferenceSession(sys.argv[1])\n"
        "x = np.load(sys.argv[2])\n"
        "assert not {'torch', 'torchvision', 'kubesight'} & set(sys.modules)\n"
        "print(json.dumps([[o.tolist() for o in s.run(None, {'image': x})], s.get_modelmeta().custom_metadata_map,"
        " [(i.name, i.type, i.shape) for i in s.get_inputs()], [o.name for o in s.get_outputs()]]))\n"
    )
    folder = exported[Task.DETECTION]
    picture = scene(9, (120, 160))
    np.save(folder.parent / "picture.npy", picture)
    command = [sys.executable, "-c", program, str(folder / "model.onnx"), str(folder.parent / "picture.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (boxes, labels, scores), facts, inputs, outputs = json.loads(done.stdout)
    assert inputs == [["image", "tensor(uint8)", ["height", "width", 3]]]
    assert outputs == ["boxes", "labels", "scores"]
    assert json.loads(facts["classes"]) == CLASSES
    assert json.loads(facts["preprocessing"])["min_size"] == 96
    assert facts["task"] == "image_object_detection"
    assert len(boxes) == len(labels) == len(scores) == 20
    assert set(labels) <= {0, 1, 2}
    assert 0 <= np.min(boxes) < np.max(boxes) <= 1


def see_background_in(module: torch.nn.Module, flat: np.ndarray, other: np.ndarray) -> None:
    """Make a network that finds nothing in the one picture and something in the other.

    The background's logit becomes 200 at least in all regions of the first picture, and -200 in some of the second:
    the other classes' probabilities, exp(-200), are 0 in 32 bits.
    """
    features: list[torch.Tensor] = []
    hook = module.roi_heads.box_head.register_forward_hook(lambda _, __, result: features.append(result))
    detect_batch(module, [torch.from_numpy(flat)])
    detect_batch(module, [torch.from_numpy(other)])
    hook.remove()
    direction = features[0].mean(dim=0) - features[1].mean(dim=0)
    low, lower = (float((one @ direction).min()) for one in features)
    assert lower < low
    scores = module.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        scores.weight[0] = direction * 400 / (low - lower)
        scores.bias[0] = -(low + lower) / 2 * 400 / (low - lower)


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_nothing_found_is_an_answer(task, tmp_path) -> None:
    folder = small_detector(tmp_path / "model", task)
    module, _ = load_trained(folder)
    pictures = [np.full((100, 140, 3), 90, np.uint8), scene(1, (96, 96))]
    see_background_in(module, *pictures)
    save_weights(module, folder / WEIGHTS_FILE)
    export(folder, samples=3)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    nothing, something = (onnx_detections(session, picture) for picture in pictures)
    assert len(detect_batch(module, [torch.from_numpy(pictures[0])])[0]) == len(nothing) == 0
    assert len(detect_batch(module, [torch.from_numpy(pictures[1])])[0]) == len(something) > 0
    empty = Detections.empty(masks=task is Task.SEGMENTATION)
    assert [nothing.boxes.shape, nothing.labels.shape] == [empty.boxes.shape, empty.labels.shape]
    assert (nothing.masks is None) is (task is Task.DETECTION)
    assert nothing.masks is None or nothing.masks.shape == (0, 28, 28)


def test_pictures_of_a_data_set_are_compared(exported, tmp_path) -> None:
    folder = small_detector(tmp_path / "model")
    with DatasetWriter(tmp_path / "set", Task.DETECTION) as writer:
        for file in scene_files(tmp_path, [(120, 160)] * 5):
            writer.write(DetectionRow(image_url=file, label=[Box("cat", 0.1, 0.1, 0.5, 0.5)]))
    record = export(folder, data=tmp_path / "set", samples=4)
    assert record["data"].startswith(f"4 pictures of {tmp_path / 'set'} (")
    assert record["samples"] == 6  # the first one turned, and a part of it, too


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_resnet18_fpn", "retinanet_resnet50_fpn", "torchvision/fcos_resnet50_fpn",
        "torchvision/ssdlite320_mobilenet_v3_large",
    ],
)  # fmt: skip
def test_other_architectures(name, tmp_path) -> None:
    folder = small_detector(tmp_path / "model", name=name)
    record = export(folder, samples=2)
    assert record["agreement"] == 1.0
    assert record["detections"] > 20
    files = scene_files(tmp_path, [(70, 300), (230, 110)])
    for mine, other in zip(
        load_predictor(folder, device="cpu").all_detections(files),
        load_predictor(folder, device="cpu", backend="onnx").all_detections(files),
        strict=True,
    ):
        np.testing.assert_allclose(mine.scores[:5], other.scores[:5], atol=1e-4)


def test_a_file_that_disagrees_is_not_written(tmp_path, monkeypatch) -> None:
    folder = small_detector(tmp_path / "model")
    write = DetectorExport.write

    def write_another(self, file):
        write(self, file)
        graph = onnx.load(file)
        bias = next(one for one in graph.graph.initializer if one.name.endswith("box_predictor.cls_score.bias"))
        bias.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32([0.1, 0, 0, 0]), bias.name)
        )
        onnx.save(graph, file)

    monkeypatch.setattr(DetectorExport, "write", write_another)
    with pytest.raises(ModelError, match=r"only \d+\.\d% of \d+ boxes .* agree, less than 95% .*it was not written"):
        export(folder, samples=2)
    assert not [p for p in folder.iterdir() if "onnx" in p.name]
    assert ModelCard.load(folder).onnx is None


def test_a_network_that_cannot_be_exported_is_named(tmp_path, monkeypatch) -> None:
    folder = small_detector(tmp_path / "model")

    class Stubborn(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(image.float().mean(dim=2)[:3, :3]).abs()

    monkeypatch.setattr(DetectorExport, "deployed", lambda self: Stubborn())
    with pytest.raises(ModelError, match=r"fasterrcnn_timm/test_resnet: torch .* cannot export this network"):
        export(folder, samples=2)


def test_settings_that_are_fixed_inside_cannot_be_overridden(exported, tmp_path) -> None:
    folder = exported[Task.DETECTION]
    with pytest.raises(ModelError, match=r"nms_iou_threshold is 0\.7, but model\.onnx was exported with 0\.5"):
        load_predictor(folder, backend="onnx", overrides={"nms_iou_thresh": "0.7"})
    with pytest.raises(ModelError, match=r"box_detections_per_image is 30, but model\.onnx was exported with 20"):
        load_predictor(folder, backend="onnx", overrides={"box_detections_per_image": 30})
    (file,) = scene_files(tmp_path, [(150, 200)])
    few = load_predictor(folder, device="cpu", backend="onnx", overrides={"box_detections_per_image": 7})
    network = load_predictor(folder, device="cpu", overrides={"box_detections_per_image": 7})
    np.testing.assert_allclose(few.detections(file).scores, network.detections(file).scores, atol=1e-5)
    assert len(few.detections(file)) == 7
