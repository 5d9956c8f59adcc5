"""Paths of a container replaced inside commands; shell texts are judged by a real shell."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesight.errors import JobError
from kubesight.tune.trials.paths import check_volumes, local_paths, localize, replace_paths

PLACES = {"/data": Path("/mnt/pictures"), "/var/log/katib/metrics.log": Path("/t/metrics.log")}


@dataclass
class Command:
    volumes: dict[str, str] = field(default_factory=dict)


@dataclass
class Collector:
    kind: str = "StdOut"
    path: str | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", "/mnt/pictures"),
        ("/data/", "/mnt/pictures/"),
        ("--training-data=/data/train", "--training-data=/mnt/pictures/train"),
        ("/data:/data/x", "/mnt/pictures:/mnt/pictures/x"),
        ("file:///data/x", "file:///mnt/pictures/x"),
        ("see /data.", "see /mnt/pictures."),
        ("/database", "/database"),
        ("/data-old", "/data-old"),
        ("/data.old/x", "/data.old/x"),
        ("/my/data", "/my/data"),
        ("./data ~/data $HOME/data ${HOME}/data", "./data ~/data $HOME/data ${HOME}/data"),
        ("s3://bucket/data/x", "s3://bucket/data/x"),
        ("https://example.com//data", "https://example.com//data"),
        ("/var/log/katib/metrics.log", "/t/metrics.log"),
        ("/var/log/katib/metrics.log.1", "/var/log/katib/metrics.log.1"),
        (">/var/log/katib/metrics.log;", ">/t/metrics.log;"),
    ],
)
def test_whole_paths_alone(text: str, expected: str) -> None:
    assert replace_paths(text, PLACES) == expected


def test_the_longest_wins_and_nothing_is_replaced_twice() -> None:
    places = {"/data": Path("/scratch"), "/data/cache": Path("/data"), "/scratch": Path("/other")}
    assert replace_paths("/data/cache/x /data/y /scratch/z", places) == "/data/x /scratch/y /other/z"
    assert replace_paths("/data", {}) == "/data"


@pytest.mark.parametrize(
    "place", ["/plain/x", "/with blank", "/it's", '/a"b', "/a$HOME`b", "/a\\b", "/;rm -r x&", "/ü(1)"]
)
@pytest.mark.parametrize(
    "script",
    [
        "echo /data/x",
        "echo '/data/x'",
        'echo "/data/x"',
        "echo $(echo /data/x)",
        "echo \"$(echo '/data/x')\"",
        'echo "$(printf %s "/data/x")"',
        "A=/data/x; echo \"$A\"",
        "echo 'it'\\''s' >/dev/null; echo \"\\\"\" >/dev/null; echo /data/x",
    ],
)  # fmt: skip
def test_a_shell_reads_the_path_as_it_is(place: str, script: str) -> None:
    argv = localize(("bash", "-c", script), {"/data": Path(place)})  # the echo of other shells reads backslashes
    if script.startswith("echo $(") and " " in place:
        argv[2] = argv[2].replace("echo $(", "IFS=; echo $(")  # else the shell itself splits what it was told
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == f"{place}/x\n"


def test_only_a_shells_text_is_quoted() -> None:
    places = {"/data": Path("/my data")}
    assert localize(("python", "-c", "print('/data')"), places) == ["python", "-c", "print('/my data')"]
    assert localize(("/bin/bash", "-ec", "ls /data", "/data"), places) == [
        "/bin/bash",
        "-ec",
        r"ls /my\ data",
        "/my data",
    ]
    assert localize(("sh", "/data/run.sh"), places) == ["sh", "/my data/run.sh"]
    assert localize(("sh", "-c"), places) == ["sh", "-c"]


def test_where_each_volume_lies(tmp_path: Path) -> None:
    command = Command(
        {
            "/claim": "pictures",
            "/sub": "pictures/year/one",
            "/scratch/": "emptyDir",
            "/dev/shm": "emptyDir",
            "/tmp": "there",
        }
    )
    found = local_paths(command, Collector("File", "/var/log/metrics"), tmp_path / "t", {"pictures": tmp_path})
    assert found == {
        "/claim": tmp_path,
        "/sub": tmp_path / "year" / "one",
        "/scratch": tmp_path / "t" / "volumes" / "scratch",
        "/var/log/metrics": tmp_path / "t" / "metrics.log",
    }  # /tmp exists here, so that it may stay
    check_volumes(command, {"pictures": tmp_path})


def test_volumes_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="--volume pictures=FOLDER"):
        local_paths(Command({"/nowhere/at/all": "pictures/x"}), Collector(), tmp_path, {})
    with pytest.raises(JobError, match="They mount pictures"):
        check_volumes(Command({"/a": "pictures"}), {"photos": tmp_path})
    with pytest.raises(JobError, match="They mount none"):
        check_volumes(Command({"/a": "emptyDir"}), {"photos": tmp_path})


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=12).filter(lambda t: "/" not in t))
def test_any_folder_name_reaches_the_program(name: str) -> None:
    place = Path("/x") / name
    for script in ("printf %s /data/y", "printf %s '/data/y'", 'printf %s "/data/y"'):
        argv = localize(("sh", "-c", script), {"/data": place})
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == f"{place}/y"
