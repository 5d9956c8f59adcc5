"""The TensorFlow engine on a small network of its own: steps, resuming, best epoch, early stopping."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import orjson
import pytest
import tensorflow as tf

from kubesight.errors import ModelError
from kubesight.hyperparameters import resolve
from kubesight.train.keras import engine as engine_module
from kubesight.train.keras.checkpoint import LAST_FILE, load_variables
from kubesight.train.keras.data import Batch
from kubesight.train.keras.engine import KerasEngine, Trained
from kubesight.train.keras.losses import Loss
from kubesight.train.keras.optimizer import make_optimizer
from kubesight.train.keras.step import TrainingStep
from kubesight.train.progress import BEST_FILE
from kubesight.train.stop import Interrupted
from kubesight.train.table import PictureTable

CLASSES = ["a", "b", "c"]
STEPS = 7  # 50 points in batches of 8, the last of which has 2


class Killed(Exception):
    """In place of kill -9: nothing is saved on it."""


class Blobs:
    """Three clouds of points; training points have noise that depends on (epoch, point) alone."""

    def __init__(self, *, noise: float = 0.1) -> None:
        generator = np.random.default_rng(0)
        labels = np.arange(50) % 3
        self.points = (generator.normal(size=(50, 4)) + labels[:, None]).astype(np.float32)
        self.noise = noise
        self.table = PictureTable(np.array([f"point{number}".encode() for number in range(50)]), labels)
        self.on_batch: Callable[[int], None] = lambda number: None
        self.given = 0

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        for batch in batches:
            drawn = np.stack([np.random.default_rng((epoch, i)).normal(size=4) for i in batch]).astype(np.float32)
            self.given += 1
            self.on_batch(self.given)
            index = np.asarray(batch)
            yield Batch(index, self.points[index] + self.noise * drawn, self.table.labels[index])


def network() -> keras.Model:
    keras.utils.set_random_seed(5)
    points = keras.Input((4,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(16)(points))
    kept = keras.layers.Dropout(0.3)(keras.layers.ReLU()(hidden))
    return keras.Model(points, keras.layers.Dense(3, name="classification")(kept))


def prepared(output: Path, training: Blobs | None = None, **changes: Any) -> KerasEngine:
    given = {"epochs": 4, "batch_size": 8, "learning_rate": 0.02, "learning_rate_scheduler": "warmup_cosine"}
    settings = resolve("keras/MobileNet", "image_classification", {**given, **changes})
    model = network()
    return KerasEngine(
        Trained(model, model, model, model.get_layer("classification").kernel, model),
        Loss("categorical", 3, settings["label_smoothing"]),
        (training or Blobs(), Blobs(noise=0.0)),
        settings,
        classes=CLASSES,
        strategy=tf.distribute.get_strategy(),
        output=output,
        primary_metric="accuracy",
        fingerprint={"epochs": settings["number_of_epochs"]},
        metrics_file=output / "metrics.log",
    )


def history(output: Path) -> list[dict[str, Any]]:
    records = [orjson.loads(line) for line in (output / "metrics.jsonl").read_bytes().splitlines()]
    return [
        {key: value for key, value in one.items() if key not in ("seconds", "images_per_second")} for one in records
    ]


def assert_same(found: KerasEngine, expected: KerasEngine) -> None:
    for one, other in zip(found._kept, expected._kept, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    folders = [engine.checkpoints.parent for engine in (found, expected)]
    assert history(folders[0]) == history(folders[1])
    assert (folders[0] / "checkpoints" / BEST_FILE).read_bytes() == (
        folders[1] / "checkpoints" / BEST_FILE
    ).read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> KerasEngine:
    engine = prepared(tmp_path_factory.mktemp("unbroken"))
    engine.fit()
    return engine


def test_training_learns(unbroken: KerasEngine) -> None:
    records = history(unbroken.checkpoints.parent)
    assert len(records) == 4
    assert records[-1]["validation_loss"] < records[0]["validation_loss"]
    assert records[-1]["training_accuracy"] > records[0]["training_accuracy"]
    assert unbroken.progress.best_score == max(record["accuracy"] for record in records)
    assert records[0]["learning_rate"] == pytest.approx(0.02 * 6 / 14)  # the last step of the first of two warm epochs


@pytest.mark.parametrize("stop_at", [STEPS, 2 * STEPS + 3])
def test_a_training_that_is_stopped_ends_as_an_unbroken_one(
    unbroken: KerasEngine, tmp_path: Path, stop_at: int
) -> None:
    training = Blobs()
    training.on_batch = lambda number: os.kill(os.getpid(), signal.SIGTERM) if number == stop_at else None
    with pytest.raises(Interrupted):
        prepared(tmp_path, training).fit()
    resumed = prepared(tmp_path)
    assert resumed.progress.epoch * STEPS + resumed.progress.step == stop_at
    resumed.fit()
    assert_same(resumed, unbroken)


@pytest.mark.parametrize(("kill_at", "seconds"), [(2 * STEPS + 3, 0.0), (3 * STEPS, 600.0)])
def test_a_training_that_is_killed_ends_as_an_unbroken_one(
    unbroken: KerasEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, seconds: float
) -> None:
    monkeypatch.setattr(engine_module, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    monkeypatch.setattr("kubesight.train.loop.SECONDS_BETWEEN_EPOCH_CHECKPOINTS", seconds)
    training = Blobs()

    def kill(number: int) -> None:
        if number == kill_at:
            raise Killed

    training.on_batch = kill
    with pytest.raises(Killed):
        prepared(tmp_path, training).fit()
    resumed = prepared(tmp_path)
    assert resumed.progress.epoch * STEPS + resumed.progress.step == (kill_at - 1 if not seconds else 0)
    resumed.fit()
    assert_same(resumed, unbroken)


def test_the_best_epochs_weights_are_kept(unbroken: KerasEngine) -> None:
    model = network()
    load_variables(unbroken.checkpoints / BEST_FILE, model.variables)
    points = Blobs()
    predicted = model.predict(points.points, verbose=0).argmax(1)
    assert np.mean(predicted == points.table.labels) == pytest.approx(unbroken.progress.best_score)


def test_a_checkpoint_of_other_settings_or_another_network_is_refused(unbroken: KerasEngine, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / LAST_FILE
    file.parent.mkdir()
    file.write_bytes((unbroken.checkpoints / LAST_FILE).read_bytes())
    with pytest.raises(ModelError, match=r"other settings \(epochs: was 4, now 5\)"):
        prepared(tmp_path, epochs=5)
    with pytest.raises(ModelError, match="weights of another network"):
        load_variables(file, network().variables)
    file.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"not a checkpoint.*Remove it"):
        prepared(tmp_path)


def test_a_loss_that_is_no_number_ends_training_and_names_the_pictures(tmp_path: Path) -> None:
    training = Blobs()
    training.points[7] = np.nan
    with pytest.raises(ModelError, match=r"training loss became nan in epoch 0.*point7\b"):
        prepared(tmp_path, training, batch_size=50).fit()
    assert not (tmp_path / "checkpoints" / LAST_FILE).exists()


def test_a_device_without_memory_says_which_setting_to_lower(tmp_path: Path) -> None:
    training = Blobs()

    def exhaust(number: int) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    training.on_batch = exhaust
    with pytest.raises(ModelError, match=r"training_batch_size: out of memory: OOM when.*Lower it"):
        prepared(tmp_path, training).fit()


def test_training_stops_early_when_nothing_improves_by_the_least_difference(tmp_path: Path) -> None:
    engine = prepared(tmp_path, epochs=9, early_stopping=True, early_stopping_patience=2, early_stopping_min_delta=0.9)
    progress = engine.fit()
    assert (progress.epoch, progress.stopped_early) == (3, True)


def test_the_sentence_is_keras_line(unbroken: KerasEngine, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level("INFO", "kubesight"):
        prepared(tmp_path, epochs=1, learning_rate_scheduler="constant").fit()
    assert any(one.startswith("epoch 0: 7/7 - ") and " - val_accuracy: 0." in one for one in caplog.messages)


def step_of(**changes: Any) -> tuple[TrainingStep, keras.Model]:
    """A step of plain gradient descent on a network of one layer, from weights of ones."""
    given = {"optimizer": "sgd", "momentum": 0, "learning_rate": 1.0, "label_smoothing": 0.0, **changes}
    settings = resolve("keras/MobileNet", "image_classification", given)
    inputs = keras.Input((2,))
    layer = keras.layers.Dense(2, kernel_initializer="ones", name="classification")
    model = keras.Model(inputs, layer(inputs))
    optimizer = make_optimizer(settings, model.trainable_variables, half=False)
    step = TrainingStep(
        model, model.trainable_variables, layer.kernel, loss=Loss("categorical", 2), optimizer=optimizer,
        strategy=tf.distribute.get_strategy(), l2=settings["regularizers_l2"],
        clip_norm=settings["gradient_clip_norm"],
    )  # fmt: skip
    return step, model


POINT, LABEL = np.array([[3.0, 4.0]], np.float32), np.array([0])


def test_a_step_worked_by_hand() -> None:
    # Equal logits: probabilities 1/2, so the gradient of the logits is (-1/2, 1/2), and of the kernel x times that.
    step, model = step_of(regularizers_l2=0)
    loss, right = step(POINT, LABEL)
    assert (loss, right) == (pytest.approx(np.log(2)), 1)
    np.testing.assert_allclose(model.get_weights()[0], [[2.5, -0.5], [3.0, -1.0]], rtol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], [0.5, -0.5], rtol=1e-6)


def test_l2_is_of_the_heads_kernel_alone() -> None:
    # 0.1 times the sum of four squares of 1 is 0.4; its gradient is 2 * 0.1 * 1 for each.
    step, model = step_of(regularizers_l2=0.1)
    loss, _ = step(POINT, LABEL)
    assert loss == pytest.approx(np.log(2) + 0.4)
    np.testing.assert_allclose(model.get_weights()[0], [[2.3, -0.7], [2.8, -1.2]], rtol=1e-5)
    np.testing.assert_allclose(model.get_weights()[1], [0.5, -0.5], rtol=1e-6)


def test_gradients_are_clipped_together() -> None:
    # The plain gradients are -0.5 (3, 4, 1) and 0.5 (3, 4, 1): a norm of sqrt(26 / 2), to be made 1.
    step, model = step_of(regularizers_l2=0, gradient_clip_norm=1.0)
    step(POINT, LABEL)
    share = 1 / np.sqrt(13)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], 1 + share * np.array([1.5, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], [share / 2, -share / 2], rtol=1e-6)


def test_a_loss_that_is_no_number_leaves_the_weights() -> None:
    step, model = step_of()
    before = model.get_weights()
    loss, _ = step(np.array([[np.inf, 1.0]], np.float32), LABEL)
    assert not np.isfinite(loss)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(step.optimizer.iterations) == 0


def test_batches_of_all_sizes_share_one_trace() -> None:
    step, _ = step_of()
    for rows in (3, 1, 5):
        step(np.repeat(POINT, rows, axis=0), np.repeat(LABEL, rows))
    assert step._run._traced.experimental_get_tracing_count() == 1
