"""Training speed of Keras networks: MobileNetV2 at 96 pixels against plain `model.fit`, and with its backbone frozen.

Each training runs in a process of its own, since TensorFlow's settings are those of a process. They take turns, and the
fastest epoch of each kind counts, so that what else the machine does weighs on all of them alike.
"""

import contextlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE, BATCH, EPOCHS, ROUNDS = 96, 32, 4, 2
MODEL = "keras/mobilenet-v2-035-96"
FULL: dict[str, Any] = {"train_only_top_layer": False}
BACKBONE: dict[str, Any] = {  # augmentation that changes nothing: the backbone then runs each epoch
    "train_only_top_layer": True, "augmentation": True, "augmentation_random_flip": "None",
    "augmentation_random_rotation": 0.0, "augmentation_random_zoom": 0.0,
}  # fmt: skip
HEAD: dict[str, Any] = {"train_only_top_layer": True}


def plain_fit(pictures: Path, frozen: bool) -> list[float]:
    """Images per second of each epoch of Keras' own loop over Keras' own reader of class folders."""
    import keras  # here, since each process has a TensorFlow of its own

    seconds: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            seconds.append(-time.perf_counter())

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds[-1] += time.perf_counter()

    data = keras.utils.image_dataset_from_directory(pictures, image_size=(SIZE, SIZE), batch_size=BATCH, verbose=False)
    backbone = keras.applications.MobileNetV2(
        alpha=0.35, input_shape=(SIZE, SIZE, 3), include_top=False, pooling="avg", weights=None
    )
    backbone.trainable = not frozen
    layers = [keras.layers.Rescaling(1 / 127.5, -1.0), backbone, keras.layers.Dropout(0.2)]
    model = keras.Sequential([*layers, keras.layers.Dense(len(data.class_names))])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(data, epochs=EPOCHS, verbose=0, callbacks=[Clock()])
    return [len(data.file_paths) / one for one in seconds]


def our_training(folder: Path, settings: dict[str, Any]) -> list[float]:
    """Images per second of each epoch of kubesight's training, from its own records."""
    from kubesight.train.trainer import train

    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        os.environ["KUBESIGHT_CACHE"] = str(Path(output) / "cache")
        train(
            training_data=folder / "train", validation_data=folder / "val", output=Path(output) / "model",
            model_name=MODEL, weights="none",
            hyperparameters={
                "training_batch_size": BATCH, "number_of_epochs": EPOCHS, "early_stopping": False, **settings
            },
        )  # fmt: skip
        lines = (Path(output) / "model" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["images_per_second"] for line in lines]


def measured(work: Callable[..., list[float]], *arguments: Any) -> list[float]:
    """Do it in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def fastest(*kinds: tuple[Any, ...]) -> list[tuple[float, float]]:
    """For each kind of training the images per second of its first epoch and of its fastest later one."""
    rounds = [[measured(*kind) for kind in kinds] for _ in range(ROUNDS)]
    return [(max(one[0] for one in runs), max(max(one[1:]) for one in runs)) for runs in zip(*rounds, strict=True)]


def main() -> None:
    """Print the ratios."""
    default = Path(__file__).parents[3] / "shared" / "data"
    source = Path(os.environ.get("KUBESIGHT_DATA", default)) / "grocery10"
    if not source.is_dir():
        sys.exit(f"no pictures at {source}: set KUBESIGHT_DATA")
    with tempfile.TemporaryDirectory() as temporary:
        from kubesight.convert import convert

        folder = Path(temporary)
        for part in ("train", "val"):
            convert(str(source / part), folder / part)
        pictures = source / "train"
        (plain_first, plain), (ours_first, ours) = fastest((plain_fit, pictures, False), (our_training, folder, FULL))
        print(f"MobileNetV2 0.35 at {SIZE}, batch {BATCH}, images/s (goal: at least those of model.fit):")
        print(
            f"  first epoch: model.fit {plain_first:.0f}, ours {ours_first:.0f}: {ours_first / plain_first:.2f} times"
        )
        print(f"  later epochs: model.fit {plain:.0f}, ours {ours:.0f}: {ours / plain:.2f} times")
        (_, plain), (_, backbone), (_, head) = fastest(
            (plain_fit, pictures, True), (our_training, folder, BACKBONE), (our_training, folder, HEAD)
        )
        print("the same with its backbone frozen, later epochs (goal: 15 times):")
        print(
            f"  model.fit {plain:.0f}, ours running the backbone {backbone:.0f}, ours on features {head:.0f}: ", end=""
        )
        print(f"{head / plain:.0f} and {head / backbone:.0f} times")


if __name__ == "__main__":
    main()
