"""The features that trainings share: computed once, kept, mended, and known by their pictures."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kubesight.train.feature_cache import cache_folder, kept_or_computed, lookups, table_digest
from kubesight.train.table import PictureTable

FEATURES = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBESIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def never() -> np.ndarray:
    raise AssertionError("computed again")


def counted() -> tuple[int, int]:
    return lookups["hits"], lookups["misses"]


def test_features_are_computed_once(folder: Path) -> None:
    hits, misses = counted()
    assert cache_folder() == folder
    first = kept_or_computed("key", (4, 2), lambda: FEATURES)
    np.testing.assert_array_equal(first, FEATURES)
    assert isinstance(first, np.memmap)
    again = kept_or_computed("key", (4, 2), never)
    np.testing.assert_array_equal(again, FEATURES)
    assert again.dtype == np.float32
    assert counted() == (hits + 1, misses + 1)
    np.testing.assert_array_equal(kept_or_computed("other", (4, 2), lambda: FEATURES + 1), FEATURES + 1)
    assert sorted(path.name for path in folder.iterdir()) == ["key.npy", "other.npy"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY damaged", None])
def test_damaged_features_are_computed_again(
    folder: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(parents=True)
    if content is None:
        np.save(folder / "key.npy", FEATURES[:3])
    else:
        (folder / "key.npy").write_bytes(content)
    np.testing.assert_array_equal(kept_or_computed("key", (4, 2), lambda: FEATURES), FEATURES)
    assert "damaged" in caplog.text
    kept_or_computed("key", (4, 2), never)


def test_a_failure_leaves_nothing(folder: Path) -> None:
    with pytest.raises(AssertionError, match="computed again"):
        kept_or_computed("key", (4, 2), never)
    assert list(folder.glob("*")) == []


RACE = """
import sys, time
import numpy as np
from kubesight.train.feature_cache import kept_or_computed
def compute():
    print("computed")
    time.sleep(0.5)
    return np.zeros((4, 2, 3), np.float32)
kept_or_computed("race", (4, 2), compute)
"""


def test_of_two_processes_one_computes() -> None:
    pair = [subprocess.Popen([sys.executable, "-c", RACE], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert "".join(process.communicate()[0] for process in pair) == "computed\n"


def digest_of(*urls: str) -> str:
    digest = hashlib.sha256()
    table_digest(digest, PictureTable(np.array([url.encode() for url in urls]), np.zeros(len(urls), np.int64)))
    return digest.hexdigest()


def test_pictures_count_by_address_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 1))
    before = digest_of(str(path), "s3://bucket/b.png")
    assert digest_of(str(path), "s3://bucket/b.png") == before
    assert digest_of(str(path), "s3://bucket/c.png") != before
    assert digest_of("s3://bucket/b.png", str(path)) != before
    os.utime(path, ns=(1, 2))
    assert digest_of(str(path), "s3://bucket/b.png") != before
    path.write_bytes(b"123456")
    os.utime(path, ns=(1, 1))
    assert digest_of(str(path), "s3://bucket/b.png") != before
    path.unlink()
    assert digest_of(str(path)) == hashlib.sha256(str(path).encode()).hexdigest()
