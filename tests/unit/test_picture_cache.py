"""Decoded pictures kept on disk: the same pixels, without decoding, for many processes, up to a limit."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from kubesight.dataset.images import read_image
from kubesight.dataset.picture_cache import PictureCache, open_cache
from kubesight.errors import DatasetError
from kubesight.storage.files import read_json
from kubesight.sweep.names import CACHE_FILE
from kubesight.train.cache_counts import counted_caches

Use = Callable[..., Path]


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Name a folder for decoded pictures, new in each test."""

    def name(gigabytes: str | None = None) -> Path:
        folder = tmp_path / "kept"
        monkeypatch.setenv("KUBESIGHT_PICTURES", str(folder))
        if gigabytes is not None:
            monkeypatch.setenv("KUBESIGHT_PICTURES_GB", gigabytes)
        return folder

    monkeypatch.delenv("KUBESIGHT_PICTURES", raising=False)
    monkeypatch.delenv("KUBESIGHT_PICTURES_GB", raising=False)
    return name


def write_jpeg(path: Path, width: int = 90, height: int = 60, seed: int = 0, **options: object) -> str:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="JPEG", quality=90, **options)
    return str(path)


def spoil(path: Path) -> None:
    """Other content of the same size, with the same time of change."""
    status = path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def kept_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("??/*") if path.is_file()]


def test_nothing_is_kept_unless_a_folder_is_named(tmp_path: Path, use: Use) -> None:
    read_image(write_jpeg(tmp_path / "a.jpg"))
    assert open_cache() is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_a_kept_picture_is_not_decoded_again(tmp_path: Path, use: Use) -> None:
    url = write_jpeg(tmp_path / "a.jpg")
    expected = read_image(url)
    use()
    first = read_image(url)
    spoil(tmp_path / "a.jpg")
    second = read_image(url)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert second.dtype == np.uint8
    second[:] = 0  # callers may write into what they get, as into decoded pixels, without changing what is kept
    np.testing.assert_array_equal(read_image(url), expected)


@pytest.mark.parametrize("min_size", [None, 20, 30, 60])
@pytest.mark.parametrize("kind", ["turned", "grey", "palette", "odd"])
def test_pixels_are_those_of_decoding(tmp_path: Path, use: Use, kind: str, min_size: int | None) -> None:
    path = tmp_path / "a"
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        write_jpeg(path, exif=exif)
    elif kind == "grey":
        Image.fromarray(np.arange(6000, dtype=np.uint8).reshape(60, 100)).save(path, format="JPEG")
    elif kind == "palette":
        Image.fromarray(np.arange(6000, dtype=np.uint8).reshape(60, 100)).convert("P").save(path, format="PNG")
    else:
        write_jpeg(path, width=61, height=97)
    expected = read_image(str(path), min_size=min_size)
    use()
    read_image(str(path), min_size=min_size)
    spoil(path)
    np.testing.assert_array_equal(read_image(str(path), min_size=min_size), expected)


def test_sizes_are_kept_apart(tmp_path: Path, use: Use) -> None:
    use()
    url = write_jpeg(tmp_path / "a.jpg", width=256, height=128)
    shapes = [read_image(url, min_size=size).shape[:2] for size in (None, 64, 32, None, 64, 32)]
    assert shapes == [(128, 256), (64, 128), (32, 64)] * 2


def test_a_changed_picture_is_decoded_again(tmp_path: Path, use: Use) -> None:
    use()
    url = write_jpeg(tmp_path / "a.jpg", seed=0)
    before = read_image(url)
    write_jpeg(tmp_path / "a.jpg", seed=1)
    os.utime(url, ns=(1, 1))
    assert not np.array_equal(read_image(url), before)


def test_a_picture_that_is_gone_is_an_error_all_the_same(tmp_path: Path, use: Use) -> None:
    use()
    url = write_jpeg(tmp_path / "a.jpg")
    read_image(url)
    Path(url).unlink()
    with pytest.raises(DatasetError, match="No such file"):
        read_image(url)


@pytest.mark.parametrize("damage", ["short", "long", "empty", "pixel", "size"])
def test_a_damaged_file_is_replaced(tmp_path: Path, use: Use, damage: str) -> None:
    folder = use()
    url = write_jpeg(tmp_path / "a.jpg")
    expected = read_image(url)
    (kept,) = kept_files(folder)
    data = bytearray(kept.read_bytes())
    if damage == "pixel":
        data[len(data) // 2] ^= 4
    elif damage == "size":
        data[0] ^= 1
    kept.write_bytes(bytes({"short": data[:-1], "long": data + b"x", "empty": b""}.get(damage, data)))
    np.testing.assert_array_equal(read_image(url), expected)
    spoil(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(url), expected)


def test_no_more_is_added_once_the_limit_is_reached(tmp_path: Path, use: Use) -> None:
    folder = use("0.0002")  # 200,000 bytes: three pictures of 120 x 180 x 3 = 64,800 bytes, each a block of 65,536
    urls = [write_jpeg(tmp_path / f"{n}.jpg", width=180, height=120, seed=n) for n in range(5)]
    first = [read_image(url) for url in urls]
    assert len(kept_files(folder)) == 3
    store = open_cache()
    assert store is not None
    assert store.used() == 3 * 65536
    for url, expected in zip(urls, first, strict=True):
        np.testing.assert_array_equal(read_image(url), expected)


def test_the_default_limit_leaves_most_of_the_disk_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"free": 30_000_000_000}
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), sizes))
    assert PictureCache(tmp_path / "a").limit == 3_000_000_000
    sizes["free"] = 900_000_000_000
    assert PictureCache(tmp_path / "b").limit == 8_000_000_000


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, use: Use, text: str) -> None:
    use(text)
    with pytest.raises(DatasetError, match="not a positive number"):
        read_image(write_jpeg(tmp_path / "a.jpg"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_jpeg(tmp_path / "a.jpg")
    monkeypatch.setenv("KUBESIGHT_PICTURES", f"{url}/kept")
    with pytest.raises(DatasetError, match="cannot be kept here") as caught:
        read_image(url)
    assert caught.value.where == f"{url}/kept"


def test_a_disk_that_fails_ends_the_keeping_only(tmp_path: Path, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use()
    url = write_jpeg(tmp_path / "a.jpg")

    def fail(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", fail)
    assert read_image(url).shape == (60, 90, 3)
    assert read_image(url).shape == (60, 90, 3)


class _Pictures(Dataset):
    def __init__(self, urls: list[str]) -> None:
        self.urls = urls

    def __len__(self) -> int:
        return len(self.urls)

    def __getitem__(self, index: int) -> int:
        return int(read_image(self.urls[index]).sum())


def test_loader_workers_share_pixels_and_counts(tmp_path: Path, use: Use) -> None:
    urls = [write_jpeg(tmp_path / f"{n}.jpg", seed=n) for n in range(12)]
    expected = [int(read_image(url).sum()) for url in urls]
    use()
    with counted_caches(tmp_path):
        for _ in range(3):
            found = [int(value) for value in DataLoader(_Pictures(urls), batch_size=None, num_workers=2)]
            assert found == expected
    counts = {"features_hits": 0, "features_misses": 0, "picture_hits": 24, "picture_misses": 12}
    assert read_json(tmp_path / CACHE_FILE) == counts
    with contextlib.suppress(KeyError), counted_caches(tmp_path):
        read_image(urls[0])
        raise KeyError
    assert read_json(tmp_path / CACHE_FILE) == {**counts, "picture_hits": 25}


def test_what_is_read_once_is_not_kept(tmp_path: Path, use: Use) -> None:
    folder = use()
    url = write_jpeg(tmp_path / "a.jpg")
    expected = read_image(url, keep=False)
    assert not kept_files(folder)
    read_image(url)
    spoil(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(url, keep=False), expected)


def _read_all(urls: list[str], folder: str, answer: "multiprocessing.Queue[list[int]]") -> None:
    os.environ["KUBESIGHT_PICTURES"] = folder
    answer.put([int(read_image(url).sum()) for _ in range(3) for url in urls])


def test_processes_that_write_the_same_pictures_at_once(tmp_path: Path, use: Use) -> None:
    urls = [write_jpeg(tmp_path / f"{n}.jpg", seed=n) for n in range(20)]
    expected = [int(read_image(url).sum()) for url in urls] * 3
    folder = use()
    answers: multiprocessing.Queue[list[int]] = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=_read_all, args=(urls, str(folder), answers)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == [expected] * 4
    for process in processes:
        process.join()
    assert len(kept_files(folder)) == 20
    assert not list(folder.glob("??/.*"))
