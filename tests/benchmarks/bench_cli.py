"""How long the program takes to answer, and what the pipeline itself costs in a run."""

import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

JOB = """
task: image_classification
training_data: pictures
training_parameters:
  {model_name: timm/resnet10t, number_of_epochs: 1, training_batch_size: 16, number_of_workers: 0,
   training_crop_size: 32, validation_resize_size: 32, validation_crop_size: 32}
kubesight: {source: {format: folder}, model: {weights: none}}
"""


def main() -> None:
    """Print the seconds of `--help` and of a whole run without its steps' own work."""
    print(f"kubesight --help: {min(_seconds(['--help']) for _ in range(5)):.2f} s (target 0.5)")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            (folder / "pictures" / name).mkdir(parents=True)
            for number in range(20):
                pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")
        (folder / "job.yaml").write_text(JOB)
        whole = _seconds(["run", str(folder / "job.yaml"), "--output", str(folder / "out")])
        work = _work((folder / "out" / "run.log").read_text())
    print(f"kubesight run: {whole:.1f} s, of which the steps work {work:.1f} s: {whole - work:.1f} s over (target 20)")


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "kubesight.cli.main", *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def _work(log: str) -> float:
    """Seconds between the start and the end of the steps' functions, as kfp's executor logs them."""
    found = re.findall(r"KFP Executor ([\d-]+ [\d:,]+) INFO]: (?:Got executor_input|Wrote executor output)", log)
    times = [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f") for stamp in found]
    return sum((end - start).total_seconds() for start, end in zip(times[::2], times[1::2], strict=True))


if __name__ == "__main__":
    main()
