"""Pictures of Keras classifiers in batches: which, in what order, read how often, and what becomes of bad ones."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pictures import digit, digit_scenes_dataset, digits_dataset
from PIL import Image

from kubesight.dataset import Dataset
from kubesight.errors import DatasetError, StorageError
from kubesight.modelcard import StretchPreprocessing
from kubesight.split import split
from kubesight.train.keras import data
from kubesight.train.keras.augment import Augmentation, warp
from kubesight.train.keras.data import Pictures
from kubesight.train.order import epoch_batches
from kubesight.train.table import PictureTable, read_table

SIZE = 32
PREPROCESSING = StretchPreprocessing(size=SIZE)
AUGMENTATION = Augmentation("horizontal_and_vertical", 0.2, 0.1, seed=5)
BATCHES = [[3, 1, 4], [0, 2], [5, 6, 7, 8]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Dataset:
    return digits_dataset(tmp_path_factory.mktemp("digits"), 0, 12, classes=3)


@pytest.fixture
def own(tmp_path) -> PictureTable:
    """Pictures that a test may spoil."""
    return read_table(digits_dataset(tmp_path / "own", 0, 12, classes=3), ["0", "1", "2"])


def table_of(dataset: Dataset) -> PictureTable:
    return read_table(dataset, ["0", "1", "2"])


def shown(table: PictureTable, index: int) -> np.ndarray:
    """What Pillow reads, which resizing to its own size must not change."""
    return np.array(Image.open(table.url(index)).convert("RGB"))


def pixels(source: Pictures, epoch: int, batches=BATCHES) -> list[np.ndarray]:
    return [batch.pixels.numpy() for batch in source.batches(epoch, batches)]


def remove(table: PictureTable) -> None:
    for index in range(len(table)):
        Path(table.url(index)).unlink()


def test_batches_come_in_the_order_and_sizes_that_were_asked_for_with_the_labels_of_their_pictures(digits):
    table = table_of(digits)
    found = list(Pictures(table, PREPROCESSING).batches(0, BATCHES))
    assert [batch.index.tolist() for batch in found] == BATCHES
    for batch in found:
        assert batch.pixels.dtype == tf.uint8
        np.testing.assert_array_equal(batch.labels, table.labels[batch.index])
        np.testing.assert_array_equal(batch.pixels, [shown(table, index) for index in batch.index])


def test_labels_of_several_classes_a_picture_come_as_rows(tmp_path):
    dataset = digit_scenes_dataset(tmp_path, 0, 3)
    table = read_table(dataset, [str(number) for number in range(10)])
    (batch,) = Pictures(table, PREPROCESSING).batches(0, [[2, 0]])
    assert batch.pixels.shape == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(batch.labels, table.labels[[2, 0]])
    assert batch.labels.sum() >= 2


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION])
def test_later_epochs_decode_nothing_and_give_what_decoding_would(own, augmentation):
    source = Pictures(own, PREPROCESSING, augmentation=augmentation)
    first = pixels(source, 0)
    second = pixels(Pictures(own, PREPROCESSING, augmentation=augmentation), 1)
    remove(own)
    for found, expected in zip(pixels(source, 0) + pixels(source, 1), first + second, strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(DatasetError):  # of these none was ever read
        pixels(source, 2, [[9, 10]])


@pytest.mark.parametrize("keep", [True, False])
def test_what_does_not_fit_or_is_not_to_be_kept_is_decoded_each_epoch(own, monkeypatch, caplog, keep):
    free = 8 * len(own) * SIZE * SIZE * 3 - (1 if keep else 0)  # one byte less than is needed, or just enough
    monkeypatch.setattr(data, "free_memory", lambda: free)
    source = Pictures(own, PREPROCESSING, keep=keep)
    with caplog.at_level(logging.INFO, "kubesight"):
        assert len(pixels(source, 0)) == len(pixels(source, 1)) == 3
    assert caplog.text.count("decoded each epoch") == keep
    remove(own)
    with pytest.raises(DatasetError):
        pixels(source, 2)


def test_just_enough_memory_is_enough(own, monkeypatch):
    monkeypatch.setattr(data, "free_memory", lambda: 8 * len(own) * SIZE * SIZE * 3)
    source = Pictures(own, PREPROCESSING)
    pixels(source, 0)
    remove(own)
    assert len(pixels(source, 1)) == 3


def test_an_epoch_left_early_does_not_disturb_the_next(own):
    source = Pictures(own, PREPROCESSING, augmentation=AUGMENTATION)
    started = source.batches(0, BATCHES)
    next(started)
    started.close()
    expected = pixels(Pictures(own, PREPROCESSING, augmentation=AUGMENTATION), 1)
    for found, view in zip(pixels(source, 1), expected, strict=True):
        np.testing.assert_array_equal(found, view)


def test_views_are_warps_of_the_pixels_and_do_not_depend_on_the_batch(digits):
    table = table_of(digits)
    source = Pictures(table, PREPROCESSING, augmentation=AUGMENTATION)
    views = {
        index: view
        for batch in source.batches(3, BATCHES)
        for index, view in zip(batch.index, batch.pixels, strict=True)
    }
    for index, view in views.items():
        assert view.dtype == tf.float32
        expected = warp(shown(table, index)[None], AUGMENTATION.transforms(3, [index], SIZE))
        np.testing.assert_array_equal(view, expected[0])
    alone = pixels(source, 3, [[4]])
    np.testing.assert_array_equal(alone[0][0], views[4])
    assert not np.array_equal(pixels(source, 4, [[4]])[0][0], views[4])


def test_a_picture_that_cannot_be_read_is_named_and_batches_before_it_come(own):
    path = Path(own.url(2))
    path.write_bytes(path.read_bytes()[:-200])
    found = []
    with pytest.raises(DatasetError) as raised:
        found.extend(batch.index.tolist() for batch in Pictures(own, PREPROCESSING).batches(0, BATCHES))
    assert found == BATCHES[:1]
    assert str(path) in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("no picture")])
def test_a_missing_file_and_one_of_words_are_named(own, spoil):
    path = Path(own.url(6))
    spoil(path)
    with pytest.raises(DatasetError, match=path.name):
        pixels(Pictures(own, PREPROCESSING, augmentation=AUGMENTATION), 0)


def test_an_address_on_another_machine_is_refused_by_its_own_name():
    table = PictureTable(np.array([b"s3://bucket/a.png"]), np.array([0]))
    with pytest.raises(StorageError, match=r"a\.png"):
        pixels(Pictures(table, PREPROCESSING), 0, [[0]])


def test_what_only_kubesights_decoder_reads_is_trained_on_too(own):
    # Two PNGs with a wrong checksum of their pixels' chunk, which Pillow does not look at.
    for index in (1, 2):
        path = Path(own.url(index))
        png = bytearray(path.read_bytes())
        png[-16] ^= 0xFF  # before the last chunk of 12 bytes
        path.write_bytes(png)
        with pytest.raises(tf.errors.OpError):
            tf.io.decode_image(bytes(png))
    source = Pictures(own, PREPROCESSING)
    for _ in range(2):
        found = list(source.batches(0, BATCHES))
        assert [batch.index.tolist() for batch in found] == BATCHES
        for batch in found:
            np.testing.assert_array_equal(batch.pixels, [shown(own, index) for index in batch.index])


def test_no_validation_picture_is_ever_trained_on_and_each_training_picture_comes_once_an_epoch(tmp_path):
    """The fault of `image_dataset_from_directory` with `take` and `skip`: shuffled anew, they part otherwise each time.

    Pictures are told by their bytes, so that whatever comes out of the pipeline counts, not what it says it is.
    """

    def seen(batches) -> list[str]:
        return [hashlib.sha256(view.numpy().tobytes()).hexdigest() for batch in batches for view in batch.pixels]

    parts = split(digits_dataset(tmp_path, 0, 60, classes=3).path, tmp_path / "parts", split_ratio=0.3, seed=1)
    training, validation = table_of(parts["train"]), table_of(parts["validation"])
    plain, held_out = Pictures(training, PREPROCESSING), Pictures(validation, PREPROCESSING)
    expected = sorted(hashlib.sha256(shown(training, index).tobytes()).hexdigest() for index in range(len(training)))
    judged, orders = set(), set()
    for epoch in range(4):
        trained = seen(plain.batches(epoch, epoch_batches(len(training), 7, seed=3, epoch=epoch)))
        assert sorted(trained) == expected
        orders.add(tuple(trained))
        judged.update(seen(held_out.batches(epoch, epoch_batches(len(validation), 7, seed=3, epoch=0))))
        assert not judged & set(trained)
    assert len(judged) == len(validation)
    assert len(training) + len(validation) == 60
    assert len(orders) == 4


def test_turned_and_odd_files_come_upright(tmp_path):
    path = tmp_path / "turned.jpg"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 255  # white on the left as it is stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: white at the top as it is shown
    Image.fromarray(picture).save(path, quality=95, exif=exif)
    Image.fromarray(digit(3)).save(tmp_path / "odd.tif")
    table = PictureTable(np.array([str(path).encode(), str(tmp_path / "odd.tif").encode()]), np.array([0, 1]))
    (batch,) = Pictures(table, PREPROCESSING).batches(0, [[0, 1]])
    turned = batch.pixels[0].numpy().astype(int)
    assert turned[:12].min() > 240
    assert turned[20:].max() < 15
    np.testing.assert_array_equal(batch.pixels[1], digit(3))
