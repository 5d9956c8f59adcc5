"""Files and folders that are there whole or not at all."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubesight.errors import StorageError
from kubesight.storage.files import (
    atomic_file,
    atomic_folder,
    read_json,
    remove_partials,
    sha256_file,
    write_json,
)


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with atomic_file(path) as stream:
        stream.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~_umask())
    with atomic_file(path, "w") as stream:
        stream.write("zwei ä")
    assert path.read_text(encoding="utf-8") == "zwei ä"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_earlier_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_file(path) as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "old")]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"), atomic_file(tmp_path / "file" / "a"):
        pass
    with pytest.raises(StorageError, match="file"), atomic_folder(tmp_path / "file" / "a", marker="m"):
        pass


FULL = """
import resource, sys
from kubesight.errors import StorageError
from kubesight.storage.files import atomic_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    with atomic_file(sys.argv[1]) as stream:
        stream.write(b"x" * 100_000)
except StorageError as error:
    print(error)
"""


def test_a_file_that_does_not_fit_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.txt", "old")]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with atomic_folder(path, marker="m.json") as folder:
        (folder / "m.json").touch()
        assert not path.exists()
    assert (path / "m.json").exists()
    with atomic_folder(path, marker="m.json") as folder:
        (folder / "m.json").write_text("new")
    assert (path / "m.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_only_folders_of_the_kind_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty", marker="m") as folder:
        (folder / "m").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    (tmp_path / "file").touch()
    for name in ("other", "file"):
        with pytest.raises(StorageError, match="not replaced"), atomic_folder(tmp_path / name, marker="m"):
            pass
    assert (tmp_path / "other" / "mine").exists()


KILLED = """
import os, signal, sys
from kubesight.storage.files import atomic_folder
with atomic_folder(sys.argv[1], marker="m") as folder:
    (folder / "m").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_final_name(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "set")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".kept").write_text("1")
    (tmp_path / "a.partial").write_text("1")
    (tmp_path / ".best.safetensors.x1.partial").write_text("1")
    (tmp_path / ".model.x2.partial" / "deep").mkdir(parents=True)
    remove_partials(tmp_path)
    remove_partials(tmp_path / "none")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".kept", "a.partial"]


def test_json_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 2.5, None], "a": "ä", "nan": float("nan")})
    assert read_json(path) == {"b": [1, 2.5, None], "a": "ä", "nan": None}
    assert list(read_json(path)) == ["b", "a", "nan"]
    path.write_text('{\n"a": }')
    with pytest.raises(StorageError, match=r"a\.json, line 2: not JSON"):
        read_json(path)
    with pytest.raises(StorageError, match="No such file"):
        read_json(tmp_path / "none.json")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
