"""The demonstration's pictures and job: the handwritten digits that come with scikit-learn."""

from pathlib import Path

JOB = """\
# Handwritten digits, 64 x 64 pixels: `kubesight run {folder}/job.yaml --output {folder}/results`
task: image_classification
primary_metric: accuracy
training_data: digits
validation_data_size: 0.2
test_data_size: 0.2
training_parameters:
  model_name: resnet18
  number_of_epochs: 8
  learning_rate: 0.02
  training_batch_size: 32
  training_crop_size: 48
  validation_resize_size: 48
  validation_crop_size: 48
  # A digit is not the same digit mirrored, and half of one is none.
  horizontal_flip: false
  color_jitter: false
  random_resized_crop_min_scale: 0.7
kubesight:
  source:
    format: folder
  model:
    weights: none
"""


def write_digits(folder: Path) -> int:
    """Write the digits as 64 x 64 grey PNG files, one folder a class, and say how many.

    Args:
        folder: gets `0/` to `9/`. Files that are there with the right content stay as they are.
    """
    import cv2
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        # 8 x 8 pixels of 17 shades.
        grey = np.round(image * (255 / 16)).astype(np.uint8)
        large = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_CUBIC)
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", large)[1].tobytes())
    return len(digits.target)


def write_demo(folder: Path) -> Path:
    """Write the pictures and `job.yaml`, and give the job's path."""
    write_digits(folder / "digits")
    job = folder / "job.yaml"
    job.write_text(JOB.format(folder=folder), encoding="utf-8")
    return job
