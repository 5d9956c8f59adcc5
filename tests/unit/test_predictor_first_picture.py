"""What a detector finds in a picture does not depend on the pictures before it."""

import numpy as np
import pytest
from small_detectors import scene_files, small_detector

from kubesight.dataset import Task
from kubesight.serving.predictor import load_predictor


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_a_long_strip_changes_no_later_answer(task, tmp_path) -> None:
    # 12 x 400 pixels become 4 x 160, padded to 32 x 160: scales guessed from it would be eight times too large.
    model = small_detector(tmp_path / "model", task)
    strip, *others = scene_files(tmp_path, [(12, 400), (150, 200), (96, 130)])
    plain = list(load_predictor(model, device="cpu").all_detections(others))
    after = list(load_predictor(model, device="cpu").all_detections([strip, *others]))[1:]
    for one, other in zip(plain, after, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        if task is Task.SEGMENTATION:
            np.testing.assert_array_equal(one.masks, other.masks)
